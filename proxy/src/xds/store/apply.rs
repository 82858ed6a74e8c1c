//! One resource of each kind: decoded, checked against what is there, and begun to warm.

use std::sync::Arc;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::cluster::v3::Cluster as ClusterProto;
use ferromesh_proto::envoy::config::core::v3::TypedExtensionConfig;
use ferromesh_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ferromesh_proto::envoy::config::listener::v3::Listener as ListenerProto;
use ferromesh_proto::envoy::config::route::v3::RouteConfiguration as RouteProto;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3::Secret as SecretProto;
use ferromesh_proto::istio::networking::nds::v1::NameTable;
use ferromesh_proto::prost::Message;
use tokio::time::Instant;

use super::{Held, Store, TABLE_WAITS, WaitingTable};
use crate::cluster::Cluster;
use crate::config::{At, ConfigError};
use crate::http::filters;
use crate::listener::Listener;
use crate::route::{RouteConfiguration, destinations};
use crate::tls::{Origin, Secret};
use crate::xds::Kind;
use crate::xds::dump::State;

impl Store {
    pub(super) fn apply_cluster(&mut self, name: &str, any: &Any, is_static: bool) -> Result<State, ConfigError> {
        if let Some(held) = self.clusters.get(name) {
            if held.bytes == any.value {
                return Ok(if held.warming_since.is_some() { State::Warming } else { State::Active });
            }
            if held.is_static && !is_static {
                return Err(ConfigError::new("name", format!("{name:?} is a static cluster of the bootstrap")));
            }
        }
        let proto: ClusterProto = decode(any)?;
        let cluster = Cluster::decode(&proto, &self.context.for_clusters())?;
        if let Some(bytes) = cluster.eds_service_name().and_then(|service| self.assignments.get(service)) {
            let any = Any { type_url: Kind::Endpoint.type_url(), value: bytes.clone() };
            cluster.update_endpoints(&decode(&any)?)?;
        }
        cluster.start(&tokio::runtime::Handle::current());
        cluster.tell_when_warm(self.woken.clone());
        let since = Some(Instant::now());
        let held = Held { value: cluster, bytes: any.value.clone(), is_static, warming_since: since };
        self.forget_cluster(name);
        if let Some(service) = held.value.eds_service_name().filter(|service| *service != name) {
            self.aliases.entry(service.to_owned()).or_default().insert(name.to_owned());
        }
        // What is published is an older form, or the same name again.
        self.cluster_numbers.applied(!self.published.contains_key(name));
        self.clusters.insert(name.to_owned(), held);
        Ok(State::Warming)
    }

    /// Takes a cluster out, and out of those that follow the endpoints of another name.
    pub(super) fn forget_cluster(&mut self, name: &str) {
        self.services_changed = true;
        let Some(service) =
            self.clusters.remove(name).and_then(|held| held.value.eds_service_name().map(str::to_owned))
        else {
            return;
        };
        if let Some(names) = self.aliases.get_mut(&service) {
            names.remove(name);
            if names.is_empty() {
                self.aliases.remove(&service);
            }
        }
    }

    /// The clusters that follow the endpoints of this name.
    pub(super) fn users_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Arc<Cluster>> {
        let others = self.aliases.get(service).into_iter().flatten().map(String::as_str);
        let named = others.chain([service]).filter_map(|name| self.clusters.get(name));
        named.map(|held| &held.value).filter(move |cluster| cluster.eds_service_name() == Some(service))
    }

    pub(super) fn apply_endpoints(&mut self, any: &Any) -> Result<State, ConfigError> {
        let assignment: ClusterLoadAssignment = decode(any)?;
        for cluster in self.users_of(&assignment.cluster_name) {
            cluster.update_endpoints(&assignment)?;
        }
        self.assignments.insert(assignment.cluster_name, any.value.clone());
        Ok(State::Active)
    }

    pub(super) fn apply_listener(&mut self, name: &str, any: &Any, is_static: bool) -> Result<State, ConfigError> {
        if let Some(held) = self.listeners.get(name) {
            if held.bytes == any.value {
                return Ok(if held.warming_since.is_some() { State::Warming } else { State::Active });
            }
            if held.is_static && !is_static {
                return Err(ConfigError::new("name", format!("{name:?} is a static listener of the bootstrap")));
            }
        }
        let proto: ListenerProto = decode(any)?;
        destinations::check_inline(any, &|cluster| self.clusters.contains_key(cluster))?;
        let before = self.listeners.get(name).map(|held| held.value.as_ref());
        let listener = Listener::decode_after(&proto, &self.context, before)?;
        self.workers.prepare(&listener)?;
        let held = Held { value: listener, bytes: any.value.clone(), is_static, warming_since: Some(Instant::now()) };
        let before = self.listeners.insert(name.to_owned(), held);
        self.listener_numbers.applied(before.is_none());
        Ok(State::Warming)
    }

    pub(super) fn apply_route(&mut self, any: &Any) -> Result<State, ConfigError> {
        let proto: RouteProto = decode(any)?;
        destinations::check(&proto, false, &|cluster| self.clusters.contains_key(cluster))?;
        let (name, clusters) = (proto.name.clone(), crate::xds::routed::clusters(&proto));
        let filter_config = |any: &Any| filters::decode_route(any, &self.context);
        let table = Arc::new(RouteConfiguration::decode(proto, &filter_config)?);
        let until = Instant::now() + TABLE_WAITS;
        self.waiting_routes.insert(name, WaitingTable { table, clusters, until });
        self.woken.notify_one();
        Ok(State::Active)
    }

    pub(super) fn apply_secret(&mut self, any: &Any, version: &str, is_static: bool) -> Result<State, ConfigError> {
        let proto: SecretProto = decode(any)?;
        let (name, secret) = Secret::decode(&proto)?;
        let origin = if is_static { Origin::Static } else { Origin::Sds };
        self.context.secrets.set(&name, secret, origin, version);
        Ok(State::Active)
    }

    pub(super) fn apply_extension(&mut self, any: &Any) -> Result<State, ConfigError> {
        let proto: TypedExtensionConfig = decode(any)?;
        let config = crate::config::required(proto.typed_config, "typed_config")?;
        self.context.extensions.set(&proto.name, config, &self.context).at("typed_config")?;
        self.woken.notify_one();
        Ok(State::Active)
    }

    pub(super) fn apply_names(&self, any: &Any) -> Result<(), ConfigError> {
        decode::<NameTable>(any).map_err(|error| error.of_type(&any.type_url))?;
        if let Some(names) = &self.names {
            names.send_replace(Some(any.value.clone()));
        }
        Ok(())
    }
}

fn decode<M: Message + Default>(any: &Any) -> Result<M, ConfigError> {
    M::decode(any.value.clone()).map_err(|error| ConfigError::new("", error.to_string()))
}
