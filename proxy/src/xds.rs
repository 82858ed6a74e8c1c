//! The xDS client: from the control plane's stream to published configuration.
//!
//! ```text
//! client (connect, stream, back-off) -> session (pure: versions, nonces, interest) -> store (decode, warm, publish)
//! ```
//!
//! One ADS stream, delta or state of the world, carries every type. A response that is refused in part is NACKed
//! with the first errors; its valid resources apply, and the last good form of the others goes on serving.
//! Source of the protocol: Envoy, "xDS REST and gRPC protocol".

pub mod client;
pub mod dump;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod routed;
pub mod session;
pub mod store;
mod wire;

use std::sync::Arc;

use ferromesh_proto::prost::Name;
use tokio::sync::watch;

/// Where the newest name table (NDS) goes, encoded: to the DNS proxy beside this one.
pub type NameTables = Arc<watch::Sender<Option<bytes::Bytes>>>;

/// The resource types, in the order in which a make-before-break update applies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Clusters (CDS).
    Cluster,
    /// Endpoints (EDS).
    Endpoint,
    /// Secrets (SDS).
    Secret,
    /// Listeners (LDS).
    Listener,
    /// Route tables (RDS).
    Route,
    /// Filter configurations (ECDS).
    Extension,
    /// Names of the mesh (Istio's NDS).
    NameTable,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Self; 7] =
        [Self::Cluster, Self::Endpoint, Self::Secret, Self::Listener, Self::Route, Self::Extension, Self::NameTable];

    /// The type URL of its resources.
    pub fn type_url(self) -> String {
        use ferromesh_proto::envoy::config;
        match self {
            Self::Cluster => config::cluster::v3::Cluster::type_url(),
            Self::Endpoint => config::endpoint::v3::ClusterLoadAssignment::type_url(),
            Self::Secret => ferromesh_proto::envoy::extensions::transport_sockets::tls::v3::Secret::type_url(),
            Self::Listener => config::listener::v3::Listener::type_url(),
            Self::Route => config::route::v3::RouteConfiguration::type_url(),
            Self::Extension => config::core::v3::TypedExtensionConfig::type_url(),
            Self::NameTable => ferromesh_proto::istio::networking::nds::v1::NameTable::type_url(),
        }
    }

    /// The kind of a type URL.
    pub fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// Whether the client asks for all resources of this kind (else for named ones).
    pub fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::NameTable)
    }
}
