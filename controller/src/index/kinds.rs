//! The kinds that the controller reads: to read one more, add a line to the table below and a field to `View`.

use super::{Key, ObjectRef, Table, View};
use ferromesh_api::gateway_api::{Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
use ferromesh_api::istio::{EnvoyFilter, PeerAuthentication};
use ferromesh_api::{Metadata, ObjectMeta};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// A type that the view has a table of.
pub trait Stored: Metadata<Ty = ObjectMeta> + Clone + PartialEq + Into<Object> {
    /// Its kind.
    const STORED: Kind;
    /// Its table.
    fn table(view: &View) -> &Table<Self>;
    /// Its table, to write to.
    fn table_mut(view: &mut View) -> &mut Table<Self>;
}

macro_rules! kinds {
    ($($name:ident($type:ty) in $table:ident: $kind:literal, $group:literal, [$($version:literal),+], $namespaced:literal;)+) => {
        /// A kind that the controller reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = concat!("`", $kind, "`.")] $name,)+
        }

        /// An object of one of the kinds.
        #[derive(Clone, PartialEq)]
        pub enum Object {
            $(#[doc = concat!("`", $kind, "`.")] $name(Arc<$type>),)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),+];

            /// The kind, as a document writes it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $kind,)+ }
            }

            /// The API group; empty is core.
            pub fn group(self) -> &'static str {
                match self { $(Self::$name => $group,)+ }
            }

            /// The plural in small letters, as paths of the API write it.
            pub fn plural(self) -> &'static str {
                match self { $(Self::$name => <$type as ferromesh_api::Resource>::URL_PATH_SEGMENT,)+ }
            }

            /// The versions that are read, the preferred one first.
            pub fn versions(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($version),+],)+ }
            }

            /// Whether its objects are in namespaces.
            pub fn namespaced(self) -> bool {
                match self { $(Self::$name => $namespaced,)+ }
            }
        }

        impl Object {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name,)+ }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$name(object) => object.metadata(),)+ }
            }

            /// Its metadata, to write to.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$name(object) => Arc::make_mut(object).metadata_mut(),)+ }
            }

            /// The object as JSON (a Secret with its values).
            pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
                match self { $(Self::$name(object) => serde_json::to_value(&**object),)+ }
            }

            /// Reads one object of a known kind with `reader`, which is given the type.
            pub fn read<R: Reader>(kind: Kind, reader: R) -> Result<Self, R::Error> {
                match kind { $(Kind::$name => reader.read::<$type>().map(Self::from),)+ }
            }
        }

        $(
            impl From<$type> for Object {
                fn from(object: $type) -> Self {
                    Self::$name(Arc::new(object))
                }
            }

            impl Stored for $type {
                const STORED: Kind = Kind::$name;
                fn table(view: &View) -> &Table<Self> {
                    &view.$table
                }
                fn table_mut(view: &mut View) -> &mut Table<Self> {
                    &mut view.$table
                }
            }
        )+

        impl View {
            /// Puts an object into its table; false if it was there already and is the same.
            pub(super) fn put(&mut self, object: Object) -> bool {
                match object { $(Object::$name(object) => self.put_into(object),)+ }
            }

            /// Takes an object out of its table; false if it was not there.
            pub(super) fn take(&mut self, reference: &ObjectRef) -> bool {
                match reference.kind { $(Kind::$name => self.take_from::<$type>(&reference.key),)+ }
            }

            /// One object of any kind.
            pub fn object(&self, reference: &ObjectRef) -> Option<Object> {
                match reference.kind {
                    $(Kind::$name => self.$table.get(&reference.key).map(|object| Object::$name(object.clone())),)+
                }
            }

            /// All objects of one kind, by namespace and name.
            pub fn objects(&self, kind: Kind) -> Vec<Object> {
                match kind {
                    $(Kind::$name => self.$table.values().map(|object| Object::$name(object.clone())).collect(),)+
                }
            }
        }
    };
}

kinds! {
    Namespace(Namespace) in namespaces: "Namespace", "", ["v1"], false;
    Service(Service) in services: "Service", "", ["v1"], true;
    EndpointSlice(EndpointSlice) in endpoint_slices: "EndpointSlice", "discovery.k8s.io", ["v1"], true;
    Pod(Pod) in pods: "Pod", "", ["v1"], true;
    Deployment(Deployment) in deployments: "Deployment", "apps", ["v1"], true;
    ServiceAccount(ServiceAccount) in service_accounts: "ServiceAccount", "", ["v1"], true;
    ConfigMap(ConfigMap) in config_maps: "ConfigMap", "", ["v1"], true;
    Secret(Secret) in secrets: "Secret", "", ["v1"], true;
    GatewayClass(GatewayClass) in gateway_classes: "GatewayClass", "gateway.networking.k8s.io", ["v1", "v1beta1"], false;
    Gateway(Gateway) in gateways: "Gateway", "gateway.networking.k8s.io", ["v1", "v1beta1"], true;
    HttpRoute(HttpRoute) in http_routes: "HTTPRoute", "gateway.networking.k8s.io", ["v1", "v1beta1"], true;
    GrpcRoute(GrpcRoute) in grpc_routes: "GRPCRoute", "gateway.networking.k8s.io", ["v1"], true;
    ReferenceGrant(ReferenceGrant) in reference_grants: "ReferenceGrant", "gateway.networking.k8s.io", ["v1", "v1beta1"], true;
    EnvoyFilter(EnvoyFilter) in envoy_filters: "EnvoyFilter", "networking.istio.io", ["v1alpha3"], true;
    PeerAuthentication(PeerAuthentication) in peer_authentications:
        "PeerAuthentication", "security.istio.io", ["v1", "v1beta1"], true;
}

/// Reads a document as the type that it is asked for.
pub trait Reader {
    /// Why it could not.
    type Error;
    /// Reads.
    fn read<T: DeserializeOwned>(self) -> Result<T, Self::Error>;
}

impl Kind {
    /// The kind with this group (without version) and name.
    pub fn named(group: &str, kind: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == kind && known.group() == group)
    }

    /// The kind with this name, whatever its group and the case of its letters (`httproute`); singular or plural.
    pub fn loosely(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.iter().copied().find(|known| {
            let name = known.as_str().to_ascii_lowercase();
            name == word || format!("{name}s") == word || format!("{name}es") == word
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Object {
    /// Namespace and name.
    pub fn key(&self) -> Key {
        let meta = self.metadata();
        let namespace = if self.kind().namespaced() { meta.namespace.as_deref().unwrap_or_default() } else { "" };
        Key::new(namespace, meta.name.as_deref().unwrap_or_default())
    }

    /// Kind, namespace and name.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef { kind: self.kind(), key: self.key() }
    }
}

/// Shows the name only: a Secret must not get into a log.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reference())
    }
}
