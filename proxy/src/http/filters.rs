//! The HTTP filters: one file each, all listed in [`FILTERS`].
//!
//! A filter sees the request's head in the order of the configuration and the response's head in the reverse order.
//! To add one: write its file, name it in `FILTERS`, add its messages to its own `SUPPORTED` rows below.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ferromesh_proto::envoy::config::route::v3::FilterConfig;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use ferromesh_proto::prost::Message;
use ferromesh_proto::{Any, json};

use super::{FilterChain, LocalReply, ResponseHead};
use crate::body::Body;
use crate::config::supported::Table;
use crate::config::{At, Awaited, ConfigError, unpack};
use crate::context::Context;
use crate::http::stream::Stream;

pub use crate::route::FilterConfig as RouteConfig;

pub mod alpn;
pub mod compressor;
pub mod cors;
pub mod discovered;
pub mod fault;
pub mod grpc_stats;
pub mod header_mutation;
pub mod health_check;
pub mod istio_stats;
pub mod local_ratelimit;
pub mod peer_metadata;
pub mod rbac;

/// Fields of the filters' messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name typed_config config_discovery is_optional disabled",
    ),
    ("envoy.extensions.filters.http.router.v3.Router", "start_child_span"),
];

/// What a filter wants to happen next.
pub enum Flow {
    /// The next filter.
    Next,
    /// No further filter; this answer goes back through the filters that the request has passed.
    Respond(Box<LocalReply>),
    /// First this; it decides then.
    Wait(Pin<Box<dyn Future<Output = Flow>>>),
}

/// A configured filter; shared by all workers.
pub trait HttpFilter: Send + Sync {
    /// Sees (and may change) the request's head and body before they go on.
    fn on_request(&self, _stream: &mut Stream, _body: &mut Body) -> Flow {
        Flow::Next
    }

    /// Sees (and may change) the response's head and body before they go on to the client.
    fn on_response(&self, _stream: &mut Stream, _head: &mut ResponseHead, _body: &mut Body) {}

    /// The exchange is over: every byte is sent, or it broke off. The filter may not have seen its request, if another
    /// answered before it or the request could not be read; Envoy's filters that log are told of those, too.
    fn on_complete(&self, _stream: &Stream) {}

    /// What it waits for (its configuration by ECDS), as long as it has not come.
    fn awaits(&self) -> Option<Awaited> {
        None
    }
}

/// A filter in a connection manager's list.
pub struct Entry {
    /// Its name in the configuration; the key of `typed_per_filter_config`.
    pub name: String,
    /// Off unless a route turns it on.
    pub disabled: bool,
    /// The filter.
    pub filter: Arc<dyn HttpFilter>,
    /// Of what the filter is made of; tells whether an update changes it.
    fingerprint: u64,
}

impl Entry {
    /// Whether the filter runs for this stream: routes may turn it on and off.
    pub fn applies(&self, stream: &Stream) -> bool {
        match stream.route.as_ref().and_then(|route| route.filter_config(&self.name)) {
            Some(config) => config.is_some(),
            None => !self.disabled,
        }
    }
}

/// What a filter is made of.
pub struct Build<'a> {
    /// Its configuration.
    pub config: &'a Any,
    /// Its name in the list; the key of its per-route configurations.
    pub name: &'a str,
    /// The connection manager's `stat_prefix`.
    pub stat_prefix: &'a str,
    /// What the proxy's threads share.
    pub context: &'a Context,
}

impl Build<'_> {
    /// The scope of the connection manager's metrics: `http.<stat_prefix>.`.
    pub fn stats(&self) -> crate::stats::Scope {
        let tag = "envoy_http_conn_manager_prefix";
        self.context.stats.root().scope("http").tagged(tag, self.stat_prefix)
    }

    /// The configuration as an `M`.
    ///
    /// # Errors
    /// If its bytes are not an `M`.
    pub fn unpack<M: ferromesh_proto::prost::Message + ferromesh_proto::prost::Name + Default>(
        &self,
    ) -> Result<M, ConfigError> {
        unpack(self.config)
    }
}

/// A kind of filter.
pub struct FilterType {
    /// Full name of its configuration message.
    pub message: &'static str,
    /// Makes a filter of its configuration.
    pub build: BuildFilter,
    /// Full name of its per-route configuration, if it has one.
    pub route_message: Option<&'static str>,
    /// Makes a per-route configuration; the filter finds it by `Stream::route` and its entry's name.
    pub build_route: Option<BuildRoute>,
}

/// Every kind of filter; the router is the end of each list and is not among them.
pub static FILTERS: &[FilterType] = &[
    kind(alpn::MESSAGE, alpn::build, None),
    kind(compressor::MESSAGE, compressor::build, Some((compressor::ROUTE_MESSAGE, compressor::build_route))),
    kind(cors::MESSAGE, cors::build, Some((cors::ROUTE_MESSAGE, cors::build_route))),
    kind(fault::MESSAGE, fault::build, Some((fault::MESSAGE, fault::build_route))),
    kind(grpc_stats::MESSAGE, grpc_stats::build, None),
    kind(
        header_mutation::MESSAGE,
        header_mutation::build,
        Some((header_mutation::ROUTE_MESSAGE, header_mutation::build_route)),
    ),
    kind(health_check::MESSAGE, health_check::build, None),
    kind(istio_stats::MESSAGE, istio_stats::build, None),
    kind(
        local_ratelimit::MESSAGE,
        local_ratelimit::build,
        Some((local_ratelimit::MESSAGE, local_ratelimit::build_route)),
    ),
    kind(peer_metadata::MESSAGE, peer_metadata::build, None),
    kind(rbac::MESSAGE, rbac::build, Some((rbac::ROUTE_MESSAGE, rbac::build_route))),
];

type BuildFilter = fn(&Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError>;
type BuildRoute = fn(&Any, &Context) -> Result<RouteConfig, ConfigError>;

const fn kind(message: &'static str, build: BuildFilter, route: Option<(&'static str, BuildRoute)>) -> FilterType {
    match route {
        Some((route, build_route)) => {
            FilterType { message, build, route_message: Some(route), build_route: Some(build_route) }
        }
        None => FilterType { message, build, route_message: None, build_route: None },
    }
}

/// The last filter of each list.
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

/// Filters of the version before, which go on with their state (rate limit buckets) where nothing changes them.
struct Known<'a>(Vec<&'a Entry>);

impl Known<'_> {
    /// Gives each filter once: two with the same configuration stay two.
    fn take(&mut self, fingerprint: u64) -> Option<Arc<dyn HttpFilter>> {
        let place = self.0.iter().position(|entry| entry.fingerprint == fingerprint)?;
        Some(self.0.remove(place).filter.clone())
    }
}

/// Decodes a connection manager's list, which must end with the router; the router is not in the result. Filters of
/// `before` that have not changed are kept.
///
/// # Errors
/// Names the filter that is not implemented, or whose configuration is wrong.
pub fn decode_list(
    filters: &[hcm::HttpFilter],
    stat_prefix: &str,
    context: &Context,
    before: &[Entry],
) -> Result<FilterChain, ConfigError> {
    let mut known = Known(before.iter().collect());
    let mut entries = Vec::with_capacity(filters.len());
    let mut router = false;
    for (index, filter) in filters.iter().enumerate() {
        let at = || format!("http_filters[{index}]");
        if router {
            return Err(ConfigError::new(at(), "follows the router, which must be the last filter"));
        }
        match decode_filter(filter, stat_prefix, context, &mut known).at(at())? {
            Decoded::Filter(entry) => entries.push(entry),
            Decoded::Router => router = true,
            Decoded::Skipped => {}
        }
    }
    if !router {
        return Err(ConfigError::new("http_filters", "must end with the router filter"));
    }
    Ok(entries.into())
}

enum Decoded {
    Filter(Entry),
    Router,
    Skipped,
}

fn decode_filter(
    filter: &hcm::HttpFilter,
    stat_prefix: &str,
    context: &Context,
    known: &mut Known<'_>,
) -> Result<Decoded, ConfigError> {
    use hcm::http_filter::ConfigType;
    let (config_name, disabled) = (filter.name.clone(), filter.disabled);
    let config = match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => resolve(any)?,
        Some(ConfigType::ConfigDiscovery(source)) => {
            let fingerprint = fingerprint("config_discovery", &source.encode_to_vec(), &filter.name, stat_prefix);
            let filter = match known.take(fingerprint) {
                Some(kept) => kept,
                None => discovered::decode(source, &filter.name, stat_prefix, context).at("config_discovery")?,
            };
            return Ok(Decoded::Filter(Entry { name: config_name, disabled, filter, fingerprint }));
        }
        None => return Err(ConfigError::new("typed_config", "must be set")),
    };
    if config.type_name() == ROUTER {
        return Ok(Decoded::Router);
    }
    let Some(kind) = FILTERS.iter().find(|kind| kind.message == config.type_name()) else {
        if filter.is_optional {
            return Ok(Decoded::Skipped);
        }
        return Err(unknown(&config).at("typed_config"));
    };
    let fingerprint = fingerprint(config.type_name(), &config.value, &filter.name, stat_prefix);
    let made = match known.take(fingerprint) {
        Some(kept) => kept,
        None => {
            let build = Build { config: &config, name: &filter.name, stat_prefix, context };
            (kind.build)(&build).at("typed_config")?
        }
    };
    Ok(Decoded::Filter(Entry { name: config_name, disabled, filter: made, fingerprint }))
}

fn fingerprint(kind: &str, config: &[u8], name: &str, stat_prefix: &str) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for part in [kind.as_bytes(), config, name.as_bytes(), stat_prefix.as_bytes()] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest()
}

fn unknown(any: &Any) -> ConfigError {
    ConfigError::new("", format!("HTTP filter {:?} is not implemented", any.type_url))
}

fn resolve(any: &Any) -> Result<Any, ConfigError> {
    json::resolve_typed_struct(any).map_err(|error| ConfigError::new("typed_config", error.to_string()))
}

/// Decodes one value of `typed_per_filter_config`: `None` if it may be skipped, `Some(None)` if it disables the filter.
///
/// # Errors
/// Names the type that is not implemented, or the field that is wrong.
pub fn decode_route(any: &Any, context: &Context) -> Result<Option<Option<RouteConfig>>, ConfigError> {
    let any = resolve(any)?;
    if !any.is::<FilterConfig>() {
        return build_route(&any, context).map(|config| Some(Some(config)));
    }
    let wrapper: FilterConfig = unpack(&any)?;
    if wrapper.disabled {
        return Ok(Some(None));
    }
    let Some(config) = wrapper.config else {
        // It only turns a filter on that is disabled in the list.
        return Ok(Some(Some(Arc::new(()))));
    };
    let config = resolve(&config).at("config")?;
    if wrapper.is_optional && !FILTERS.iter().any(|kind| kind.route_message == Some(config.type_name())) {
        return Ok(None);
    }
    build_route(&config, context).at("config").map(|config| Some(Some(config)))
}

fn build_route(any: &Any, context: &Context) -> Result<RouteConfig, ConfigError> {
    FILTERS
        .iter()
        .find(|kind| kind.route_message == Some(any.type_name()))
        .and_then(|kind| kind.build_route)
        .ok_or_else(|| unknown(any))
        .and_then(|build| build(any, context))
}

/// The configuration that a route has for the filter named `name`, if it is a `T`.
pub fn route_config<T: Send + Sync + 'static>(stream: &Stream, name: &str) -> Option<Arc<T>> {
    stream.route.as_ref()?.filter_config(name)??.clone().downcast().ok()
}

#[cfg(test)]
mod tests;
