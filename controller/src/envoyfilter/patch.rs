//! An EnvoyFilter's spec, as JSON, goes in; patches with their values already read come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferromesh_api::istio::EnvoyFilter;
use ferromesh_proto::json::{self, JsonError};
use ferromesh_proto::{Any, rules};
use prost::{Message, Name};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::matching::{ClusterMatch, ListenerMatch, Proxy, RouteConfigurationMatch};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`.")] $variant,)*
        }
        impl $name {
            /// The word, as the API writes it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
            fn parse(word: &str) -> Option<Self> {
                match word { $($text => Some(Self::$variant),)* _ => None }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a patch changes.
    ApplyTo {
        Listener = "LISTENER", FilterChain = "FILTER_CHAIN", NetworkFilter = "NETWORK_FILTER", HttpFilter = "HTTP_FILTER",
        RouteConfiguration = "ROUTE_CONFIGURATION", VirtualHost = "VIRTUAL_HOST", HttpRoute = "HTTP_ROUTE",
        Cluster = "CLUSTER", ExtensionConfig = "EXTENSION_CONFIG", Bootstrap = "BOOTSTRAP",
        ListenerFilter = "LISTENER_FILTER",
    }
}

words! {
    /// How a patch changes it.
    Operation {
        Merge = "MERGE", Add = "ADD", Remove = "REMOVE", InsertBefore = "INSERT_BEFORE", InsertAfter = "INSERT_AFTER",
        InsertFirst = "INSERT_FIRST", Replace = "REPLACE", MergeAndReplaceList = "MERGE_AND_REPLACE_LIST",
    }
}

words! {
    /// Which side of which proxy.
    Context {
        Any = "ANY", SidecarInbound = "SIDECAR_INBOUND", SidecarOutbound = "SIDECAR_OUTBOUND", Gateway = "GATEWAY",
        Waypoint = "WAYPOINT",
    }
}

words! {
    /// Where an added filter stands among those that the controller makes (`patch.filterClass`).
    FilterClass { Unspecified = "UNSPECIFIED", Authn = "AUTHN", Authz = "AUTHZ", Stats = "STATS" }
}

impl ApplyTo {
    /// Full name of the message that the patch's value is.
    fn message(self) -> String {
        use ferromesh_proto::envoy::config as c;
        match self {
            Self::Listener => c::listener::v3::Listener::full_name(),
            Self::FilterChain => c::listener::v3::FilterChain::full_name(),
            Self::NetworkFilter => c::listener::v3::Filter::full_name(),
            Self::ListenerFilter => c::listener::v3::ListenerFilter::full_name(),
            Self::HttpFilter => super::http::HttpFilter::full_name(),
            Self::RouteConfiguration => c::route::v3::RouteConfiguration::full_name(),
            Self::VirtualHost => c::route::v3::VirtualHost::full_name(),
            Self::HttpRoute => c::route::v3::Route::full_name(),
            Self::Cluster => c::cluster::v3::Cluster::full_name(),
            Self::ExtensionConfig => c::core::v3::TypedExtensionConfig::full_name(),
            Self::Bootstrap => c::bootstrap::v3::Bootstrap::full_name(),
        }
    }
}

/// One entry of `configPatches`.
#[derive(Debug)]
pub struct Patch {
    /// Its place in `configPatches`.
    pub index: usize,
    /// What it changes; absent if the word is unknown.
    pub apply_to: Option<ApplyTo>,
    /// How.
    pub operation: Operation,
    /// Where `ADD` puts a filter; other operations have a place of their own, and pass over it as Istio does.
    pub filter_class: FilterClass,
    /// Which side.
    pub context: Context,
    /// `match.proxy.proxyVersion`.
    pub proxy_version: Option<Regex>,
    /// `match.proxy.metadata`.
    pub proxy_metadata: BTreeMap<String, String>,
    /// `match.listener`.
    pub listener: Option<ListenerMatch>,
    /// `match.routeConfiguration`.
    pub route_configuration: Option<RouteConfigurationMatch>,
    /// `match.cluster`.
    pub cluster: Option<ClusterMatch>,
    /// The value, of the message that `apply_to` means.
    pub value: Option<Any>,
    /// Why this patch cannot be used at all.
    pub broken: Option<String>,
}

impl Patch {
    /// The value as an `M`.
    ///
    /// # Errors
    /// If there is none.
    pub fn typed<M: Message + Default>(&self) -> Result<M, String> {
        M::decode(self.packed()?.value.clone()).map_err(|error| error.to_string())
    }

    /// The value, for a merge.
    ///
    /// # Errors
    /// If there is none.
    pub fn packed(&self) -> Result<&Any, String> {
        self.value.as_ref().ok_or_else(|| format!("{} needs patch.value", self.operation))
    }

    /// Whether it is a merge of one or the other kind.
    pub fn is_merge(&self) -> bool {
        matches!(self.operation, Operation::Merge | Operation::MergeAndReplaceList)
    }
}

/// An EnvoyFilter whose values are read.
#[derive(Debug)]
pub struct CompiledFilter {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its patches.
    pub patches: Vec<Patch>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    config_patches: Vec<RawPatch>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPatch {
    apply_to: Option<String>,
    #[serde(rename = "match")]
    matching: Option<RawMatch>,
    patch: Option<RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawMatch {
    context: Option<String>,
    proxy: Option<RawProxy>,
    listener: Option<ListenerMatch>,
    route_configuration: Option<RouteConfigurationMatch>,
    cluster: Option<ClusterMatch>,
    waypoint: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawProxy {
    proxy_version: String,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawValue {
    operation: Option<String>,
    value: Option<Value>,
    filter_class: Option<String>,
}

impl CompiledFilter {
    /// Reads an EnvoyFilter's spec.
    ///
    /// # Errors
    /// If the spec as a whole does not have the shape of one; a single bad patch is kept and says why it is broken.
    pub fn new(namespace: &str, name: &str, spec: &Value) -> Result<Self, String> {
        let spec = Spec::deserialize(spec).map_err(|error| error.to_string())?;
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            patches: spec.config_patches.into_iter().enumerate().map(|(index, raw)| compile(index, raw)).collect(),
        })
    }
}

/// Why patches of an EnvoyFilter cannot be used on any proxy, by index.
pub fn broken(filter: &EnvoyFilter) -> BTreeMap<usize, String> {
    let spec = serde_json::to_value(&filter.spec).map_err(|error| error.to_string());
    match spec.and_then(|spec| CompiledFilter::new("", "", &spec)) {
        Ok(compiled) => {
            let patches = compiled.patches.into_iter();
            patches.filter_map(|patch| Some((patch.index, patch.broken?))).collect()
        }
        Err(why) => BTreeMap::from([(0, why)]),
    }
}

/// The patches that select one proxy, in the order in which they run.
#[derive(Clone, Debug, Default)]
pub struct PatchSet {
    /// Filters, in order.
    pub filters: Vec<Arc<CompiledFilter>>,
}

impl PatchSet {
    /// Whether nothing would be patched.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Every patch, in order.
    pub fn patches(&self) -> impl Iterator<Item = (&CompiledFilter, &Patch)> {
        self.filters.iter().flat_map(|filter| filter.patches.iter().map(move |patch| (&**filter, patch)))
    }
}

impl Patch {
    /// Whether this patch is meant for this proxy in this context.
    pub fn is_for(&self, proxy: &Proxy) -> bool {
        self.proxy_version.as_ref().is_none_or(|version| version.is_match(&proxy.version))
            && self.proxy_metadata.iter().all(|(key, value)| proxy.metadata.get(key) == Some(value))
    }
}

fn compile(index: usize, raw: RawPatch) -> Patch {
    let mut broken = None;
    let mut fail = |why: String| {
        broken.get_or_insert(why);
    };
    let matching = raw.matching.unwrap_or_default();
    let body = raw.patch.unwrap_or_default();
    let word = raw.apply_to.as_deref().unwrap_or_default();
    let apply_to = ApplyTo::parse(word);
    if apply_to.is_none() {
        fail(format!("applyTo {word:?} is not known"));
    }
    let word = body.operation.as_deref().unwrap_or_default();
    let operation = Operation::parse(word).unwrap_or_else(|| {
        fail(format!("patch.operation {word:?} is not known"));
        Operation::Merge
    });
    let word = matching.context.as_deref().unwrap_or("ANY");
    let context = Context::parse(word).unwrap_or_else(|| {
        fail(format!("match.context {word:?} is not known"));
        Context::Any
    });
    if matching.waypoint.is_some() || context == Context::Waypoint {
        fail("waypoint proxies are not supported".to_owned());
    }
    if let Some(word) = matching.route_configuration.as_ref().and_then(RouteConfigurationMatch::odd_action) {
        fail(format!("match.routeConfiguration.vhost.route.action {word:?} is not known"));
    }
    let word = body.filter_class.as_deref().unwrap_or("UNSPECIFIED");
    let filter_class = FilterClass::parse(word).unwrap_or_else(|| {
        fail(format!("patch.filterClass {word:?} is not known"));
        FilterClass::Unspecified
    });
    let proxy = matching.proxy.unwrap_or_default();
    let proxy_version = (!proxy.proxy_version.is_empty())
        .then(|| {
            Regex::new(&proxy.proxy_version).map_err(|error| fail(format!("match.proxy.proxyVersion: {error}"))).ok()
        })
        .flatten();
    let value = apply_to.and_then(|apply_to| {
        let value = body.value.filter(|value| !value.is_null())?;
        read(apply_to, value).map_err(|error| fail(format!("patch.value: {error}"))).ok()
    });
    let merges = matches!(operation, Operation::Merge | Operation::MergeAndReplaceList);
    // What is merged is checked where it is merged: it need not be whole by itself.
    if let Some(broken) = value.as_ref().filter(|_| !merges).and_then(|value| rules::check_any(value).err()) {
        fail(format!("patch.value: {broken}"));
    }
    if value.is_none() && operation != Operation::Remove {
        fail(format!("{operation} needs patch.value"));
    }
    if let Some(apply_to) = apply_to.filter(|apply_to| !allowed(*apply_to, operation)) {
        fail(format!("{operation} is not possible for {apply_to}"));
    }
    Patch {
        index,
        apply_to,
        operation,
        filter_class,
        context,
        proxy_version,
        proxy_metadata: proxy.metadata,
        listener: matching.listener,
        route_configuration: matching.route_configuration,
        cluster: matching.cluster,
        value,
        broken,
    }
}

/// Which operations the API has for what.
fn allowed(apply_to: ApplyTo, operation: Operation) -> bool {
    use Operation as O;
    let merge = matches!(operation, O::Merge | O::MergeAndReplaceList);
    let insert = matches!(operation, O::InsertBefore | O::InsertAfter | O::InsertFirst);
    let add = operation == O::Add;
    let remove = operation == O::Remove;
    match apply_to {
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::Cluster => merge || add || remove,
        ApplyTo::VirtualHost => merge || add || remove || operation == O::Replace,
        ApplyTo::NetworkFilter | ApplyTo::HttpFilter => true,
        ApplyTo::ListenerFilter => !merge,
        ApplyTo::RouteConfiguration | ApplyTo::Bootstrap => merge,
        ApplyTo::HttpRoute => merge || insert || add || remove,
        ApplyTo::ExtensionConfig => add,
    }
}

fn read(apply_to: ApplyTo, mut value: Value) -> Result<Any, JsonError> {
    resolve_typed_structs(&mut value);
    let message = apply_to.message();
    Ok(Any { value: json::encode(&message, &value)?.into(), type_url: message })
}

/// Replaces, at any depth, a `TypedStruct` that names a known message by that message; others are passed as given.
fn resolve_typed_structs(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(resolve_typed_structs),
        Value::Object(object) => {
            if let Some(inner) = typed_struct(object) {
                *object = inner;
            }
            object.values_mut().for_each(resolve_typed_structs);
        }
        _ => {}
    }
}

fn typed_struct(object: &serde_json::Map<String, Value>) -> Option<serde_json::Map<String, Value>> {
    let kind = object.get("@type")?.as_str()?;
    if !kind.ends_with("udpa.type.v1.TypedStruct") && !kind.ends_with("xds.type.v3.TypedStruct") {
        return None;
    }
    let type_url = object.get("type_url").or_else(|| object.get("typeUrl"))?.as_str()?;
    if !json::is_known(type_url) {
        return None;
    }
    let mut inner = match object.get("value") {
        Some(Value::Object(fields)) => fields.clone(),
        Some(_) => return None,
        None => serde_json::Map::new(),
    };
    inner.insert("@type".to_owned(), Value::String(type_url.to_owned()));
    Some(inner)
}
