//! What a request or connection leaves behind on its way: its upstream's part, and values of filters (parts of Envoy's
//! StreamInfo).

use std::any::{Any, TypeId};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Cluster, Host};
use crate::connection::TlsInfo;
use crate::text::Text;

/// What happened upstream.
#[derive(Default)]
pub struct Upstream {
    /// The cluster that was chosen.
    pub cluster: Option<Arc<Cluster>>,
    /// The cluster's name, also if it does not exist.
    pub cluster_name: Option<Text>,
    /// The host of the last try.
    pub host: Option<Arc<Host>>,
    /// Our address on its connection.
    pub local: Option<SocketAddr>,
    /// TLS facts of its connection.
    pub tls: Option<Rc<TlsInfo>>,
    /// HTTP version of its connection.
    pub version: Option<http::Version>,
    /// Why TLS or the connect failed.
    pub transport_failure: Option<String>,
    /// Tries made, 1 for the first.
    pub attempts: u32,
    /// From the last byte of the request head to the first of the response.
    pub service_time: Option<Duration>,
    /// ALPN that `istio.alpn` asks for.
    pub alpn_override: Option<Arc<[Vec<u8>]>>,
}

/// Values by type, few of them.
#[derive(Default)]
pub struct FilterState(smallvec::SmallVec<[(TypeId, Rc<dyn Any>); 4]>);

impl FilterState {
    /// Sets the value of its type.
    pub fn set<T: 'static>(&mut self, value: T) {
        let id = TypeId::of::<T>();
        self.0.retain(|(found, _)| *found != id);
        self.0.push((id, Rc::new(value)));
    }

    /// Forgets the values of all other types.
    pub fn keep(&mut self, types: &[TypeId]) {
        self.0.retain(|(found, _)| types.contains(found));
    }

    /// The value of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        self.0.iter().find(|(found, _)| *found == id).and_then(|(_, value)| value.downcast_ref())
    }
}
