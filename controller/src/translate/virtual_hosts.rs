//! The Services that a sidecar sees go in; its outbound route configurations come out: one for each HTTP port, one for
//! each port of unknown protocol, and `http_proxy`.

use std::collections::{BTreeMap, BTreeSet};

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost, route::Action};

use prost::{Message, Name};

use super::gateway::bound_routes;
use super::http_route::sorted;
use super::names;
use super::protocol::Protocol;
use super::resource::Resource;
use super::route::{decorator, default_retries, everything, to_cluster, unknown_hosts};
use super::service::{Port, Reach, ServiceInfo};
use crate::index::attachment::{Bound, Parent, all_routes, parents};
use crate::index::references::Callers;
use crate::index::{Key, View};

/// Mesh routes (GAMMA), by Service.
#[derive(Default)]
pub struct MeshRoutes(BTreeMap<Key, Vec<(Bound, Option<u16>)>>);

impl MeshRoutes {
    /// All of them, by precedence.
    pub fn of(view: &View) -> Self {
        let mut found = BTreeMap::<Key, Vec<_>>::new();
        for bound in all_routes(view) {
            for parent in parents(view, &bound.route()) {
                if let Parent::Service { service, port, outcome: Ok(()) } = parent {
                    found.entry(service).or_default().push((bound.clone(), port));
                }
            }
        }
        Self(found)
    }

    /// Those for a port of a Service, for a client in `namespace`: a route in another namespace than the Service's is
    /// for clients in its own namespace only (GEP-1324: consumer routes).
    fn for_port<'a>(&'a self, service: &Key, port: u16, namespace: &str) -> Vec<&'a Bound> {
        let all = self.0.get(service).into_iter().flatten().filter(|(_, wanted)| wanted.is_none_or(|p| p == port));
        let (mut consumer, mut producer) = (Vec::new(), Vec::new());
        for (bound, _) in all {
            let own = &bound.route().key.namespace;
            if **own == *service.namespace {
                producer.push(bound);
            } else if **own == *namespace {
                consumer.push(bound);
            }
        }
        if consumer.is_empty() { producer } else { consumer }
    }
}

/// What a route configuration is made from.
pub struct Outbound<'a> {
    /// The cluster as known.
    pub view: &'a View,
    /// The Services that the client sees.
    pub services: &'a [&'a ServiceInfo],
    /// Mesh routes.
    pub mesh_routes: &'a MeshRoutes,
    /// The client's namespace.
    pub namespace: &'a str,
}

/// One route configuration: `80`, `<host>:<port>` or `http_proxy`.
pub fn route_configuration(outbound: &Outbound<'_>, name: &str) -> Option<Resource> {
    if name == names::HTTP_PROXY_ROUTES {
        return Some(http_proxy(outbound, name));
    }
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) => (Some(host), port.parse::<u16>().ok()?),
        None => (None, name.parse::<u16>().ok()?),
    };
    let mut table = Table::new(name, true);
    let mut taken = BTreeSet::new();
    let mut only = None;
    for service in outbound.services {
        let Some(found) = service.port(port) else { continue };
        let wanted = match host {
            Some(host) => service.host == host && found.protocol == Protocol::Auto,
            None => found.protocol.is_http(),
        };
        if wanted {
            let domains = domains(service, outbound.namespace);
            let made = virtual_host(outbound, service, found, domains, &mut taken);
            if host.is_some() {
                only = made.or(only);
            } else {
                made.iter().for_each(|made| table.push(made));
            }
        }
    }
    if host.is_some() {
        // The listener is the Service's own address: whatever the host says, it is meant.
        table.push(&VirtualHost { domains: vec!["*".to_owned()], ..only? });
    } else {
        table.push(&unknown_hosts(&outbound.view.mesh, true));
    }
    Some(table.finish())
}

/// A route configuration that is encoded host by host: as a whole it would take ten times the room.
struct Table {
    name: String,
    bytes: Vec<u8>,
}

impl Table {
    /// Number of the field `virtual_hosts`.
    const VIRTUAL_HOSTS: u32 = 2;

    fn new(name: &str, ignore_port: bool) -> Self {
        let config = RouteConfiguration {
            name: name.to_owned(),
            validate_clusters: Some(false),
            ignore_port_in_host_matching: ignore_port,
            max_direct_response_body_size_bytes: Some(1_048_576),
            ..RouteConfiguration::default()
        };
        Self { name: name.to_owned(), bytes: config.encode_to_vec() }
    }

    fn push(&mut self, host: &VirtualHost) {
        prost::encoding::message::encode(Self::VIRTUAL_HOSTS, host, &mut self.bytes);
    }

    fn finish(self) -> Resource {
        let value = self.bytes.into_boxed_slice().into();
        Resource::of_any(&self.name, Any { type_url: RouteConfiguration::type_url(), value })
    }
}

/// The names by which a client in `namespace` calls a Service.
fn domains(service: &ServiceInfo, namespace: &str) -> Vec<String> {
    let (own, name) = (&service.key.namespace, &service.key.name);
    let mut domains = vec![service.host.clone()];
    if **own == *namespace {
        domains.push(name.to_string());
    }
    domains.extend([format!("{name}.{own}"), format!("{name}.{own}.svc")]);
    match &service.reach {
        Reach::Addresses(addresses) => domains.extend(addresses.iter().cloned()),
        // The pods of a StatefulSet have names below the Service's.
        Reach::Headless => domains.push(format!("*.{}", service.host)),
        Reach::ExternalName(_) => {}
    }
    domains
}

/// All HTTP ports of all Services: with its port each, and without for port 80.
fn http_proxy(outbound: &Outbound<'_>, name: &str) -> Resource {
    let mut table = Table::new(name, false);
    let mut taken = BTreeSet::new();
    for service in outbound.services {
        for port in service.ports.iter().filter(|port| port.protocol.may_be_http()) {
            let bare = domains(service, outbound.namespace);
            let with_port = bare.iter().map(|domain| format!("{domain}:{}", port.number));
            let mut all: Vec<String> = with_port.collect();
            if port.number == 80 {
                all.extend(bare);
            }
            // A wildcard with a port is not a domain that Envoy knows.
            all.retain(|domain| !(domain.starts_with('*') && domain.contains(':')));
            virtual_host(outbound, service, port, all, &mut taken).iter().for_each(|made| table.push(made));
        }
    }
    table.push(&unknown_hosts(&outbound.view.mesh, false));
    table.finish()
}

/// The virtual host of a port; a domain that another has already is left to that one.
fn virtual_host(
    outbound: &Outbound<'_>,
    service: &ServiceInfo,
    port: &Port,
    mut domains: Vec<String>,
    taken: &mut BTreeSet<String>,
) -> Option<VirtualHost> {
    for domain in &mut domains {
        *domain = domain.to_ascii_lowercase();
    }
    domains.retain(|domain| taken.insert(domain.clone()));
    (!domains.is_empty()).then(|| VirtualHost {
        name: format!("{}:{}", service.host, port.number),
        domains,
        routes: routes(outbound, service, port),
        include_request_attempt_count: true,
        ..VirtualHost::default()
    })
}

fn routes(outbound: &Outbound<'_>, service: &ServiceInfo, port: &Port) -> Vec<Route> {
    let view = outbound.view;
    let mesh_routes = outbound.mesh_routes.for_port(&service.key, port.number, outbound.namespace);
    if !mesh_routes.is_empty() {
        // What no rule matches gets 404: a Service with routes has no other way in.
        let routes = |bound: &&Bound| bound_routes(view, bound, port.number, false, Callers::Mesh);
        return sorted(mesh_routes.iter().flat_map(routes).collect());
    }
    let mut action = to_cluster(&names::outbound(&target(outbound, service, port), port.number));
    action.retry_policy = default_retries(&view.mesh);
    vec![Route {
        name: "default".to_owned(),
        r#match: Some(everything()),
        decorator: Some(decorator(&format!("{}:{}", service.host, port.number))),
        action: Some(Action::Route(action)),
        ..Route::default()
    }]
}

/// The host that a Service stands for: an ExternalName that names a Service of the mesh means that Service.
fn target(outbound: &Outbound<'_>, service: &ServiceInfo, port: &Port) -> String {
    if let Reach::ExternalName(name) = &service.reach {
        let meant = outbound.services.iter().find(|other| other.host == *name && other.port(port.number).is_some());
        if let Some(other) = meant {
            return other.host.clone();
        }
    }
    service.host.clone()
}
