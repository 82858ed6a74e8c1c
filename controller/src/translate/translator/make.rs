//! What a proxy is sent, made with the patches that select it.

use std::sync::Arc;

use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::config::route::v3::RouteConfiguration;

use super::super::resource::Resource;
use super::super::service::{Reach, ServiceInfo};
use super::super::virtual_hosts::{self, MeshRoutes, Outbound};
use super::super::{cluster, endpoint, gateway, inbound, laptop, names, outbound, stock};
use super::inputs::{EndpointParts, IdentityInputs, RouteInputs};
use super::scene::Scene;
use super::{Key, Node, Translator, View};
use crate::envoyfilter::matching::PatchListener;
use crate::envoyfilter::{Context, Run, cluster as patch_cluster, listener as patch_listener, route as patch_route};
use std::collections::BTreeMap;

impl Translator {
    pub(super) fn make_listeners(&self, scene: &Scene<'_>, run: &mut Run<'_>) -> Vec<Resource> {
        let (mut own, shared) = if scene.is_router() {
            (gateway::listeners(scene.view, scene.pod, &scene.served()), Arc::default())
        } else {
            self.sidecar_listeners(scene)
        };
        if scene.node.stock {
            own.iter_mut().for_each(|found| stock::strip_listener(&mut found.listener));
        }
        if run.is_empty() {
            let own = own.iter().map(|found| Resource::new(&found.listener.name, &found.listener));
            return own.chain(shared.iter().cloned()).collect();
        }
        own.extend(shared.iter().filter_map(|resource| {
            Some(PatchListener {
                listener: resource.any.unpack::<Listener>().ok()?,
                context: Some(Context::SidecarOutbound),
                ..PatchListener::default()
            })
        }));
        let patched = patch_listener::patch_listeners(run, own, scene.contexts());
        patched.iter().map(|listener| Resource::new(&listener.name, listener)).collect()
    }

    /// Its own listeners, and those that all sidecars of its namespace have.
    fn sidecar_listeners(&self, scene: &Scene<'_>) -> (Vec<PatchListener>, Arc<Vec<Resource>>) {
        let (view, mesh) = (scene.view, &scene.view.mesh);
        let pod = scene.pod_or_self();
        let mut own = inbound::listeners(view, &pod, &inbound::ports(view, &pod));
        let outbound =
            |listener| PatchListener { listener, context: Some(Context::SidecarOutbound), ..PatchListener::default() };
        if scene.is_laptop() {
            let proxy = laptop::http_proxy(&pod.metadata);
            own.extend(proxy.map(|at| outbound(outbound::http_proxy(mesh, &at))));
            return (own, Arc::default());
        }
        own.push(outbound(outbound::virtual_outbound(mesh)));
        // No namespace has a space in its name.
        let key = format!("{}{}", if scene.node.stock { "stock " } else { "" }, scene.node.namespace);
        let shared = self.outbound_listeners.get(IdentityInputs::of(view), &key, || {
            let services = self.visible_services(scene);
            let services: Vec<&ServiceInfo> = services.iter().map(|service| &**service).collect();
            let mut made = outbound::listeners(view, &services);
            if scene.node.stock {
                made.iter_mut().for_each(stock::strip_listener);
            }
            Arc::new(made.iter().map(|listener| Resource::new(&listener.name, listener)).collect())
        });
        (own, shared)
    }

    pub(super) fn make_routes(&self, scene: &Scene<'_>, run: &mut Run<'_>, names: &[String]) -> Vec<Resource> {
        let served = scene.served();
        let context = scene.route_context();
        let mut found = Vec::new();
        for name in names {
            let made = if scene.is_router() {
                gateway::route_configuration(scene.view, &served, name).map(|config| Resource::new(name, &config))
            } else {
                self.outbound_routes(scene, name)
            };
            let Some(made) = made else { continue };
            if run.is_empty() || !run.routes_in(context) {
                found.push(made);
            } else if let Ok(mut config) = made.any.unpack::<RouteConfiguration>() {
                patch_route::patch_routes(run, context, &mut config);
                found.push(Resource::new(name, &config));
            }
        }
        found
    }

    /// The route configurations of all sidecars of a namespace are the same.
    fn outbound_routes(&self, scene: &Scene<'_>, name: &str) -> Option<Resource> {
        let view = scene.view;
        let key = format!("{}/{name}", scene.node.namespace);
        self.routes.get(RouteInputs::of(view), &key, || {
            self.count(1);
            let services = self.visible_services(scene);
            let services: Vec<&ServiceInfo> = services.iter().map(|service| &**service).collect();
            let mesh_routes = self.mesh_routes.get(RouteInputs::of(view), |_| MeshRoutes::of(view));
            let outbound =
                Outbound { view, services: &services, mesh_routes: &mesh_routes, namespace: &scene.node.namespace };
            virtual_hosts::route_configuration(&outbound, name)
        })
    }

    pub(super) fn make_clusters(&self, scene: &Scene<'_>, run: &mut Run<'_>) -> Vec<Resource> {
        let (view, mesh) = (scene.view, &scene.view.mesh);
        let context = scene.route_context();
        let mut found = Vec::new();
        let shared = self.service_clusters(view);
        // The clients of a gateway, and those of an HTTP proxy port, meant a name and no pod's address.
        let meant_a_pod = !scene.is_router() && !scene.is_laptop();
        for service in self.visible_services(scene) {
            let Some(made) = shared.get(&service.key) else { continue };
            for resource in made.for_client(meant_a_pod) {
                if run.is_empty() && !scene.node.stock {
                    found.push(resource.clone());
                } else if let Ok(mut cluster) = resource.any.unpack() {
                    if scene.node.stock {
                        stock::strip_cluster(&mut cluster);
                    }
                    found.extend(patched_cluster(run, context, &[], cluster));
                }
            }
        }
        for cluster in cluster::built_in(mesh, !scene.is_router()) {
            found.extend(patched_cluster(run, context, &[], cluster));
        }
        if !scene.is_router() {
            let pod = scene.pod_or_self();
            for port in inbound::ports(view, &pod) {
                let made = cluster::inbound(mesh, &port);
                found.extend(patched_cluster(run, Context::SidecarInbound, &port.hosts(), made));
            }
        }
        let added = patch_cluster::added_clusters(run, scene.contexts());
        found.extend(added.iter().map(|cluster| Resource::new(&cluster.name, cluster)));
        found
    }

    pub(super) fn load_assignment(
        &self,
        view: &View,
        node: &Node,
        services: &BTreeMap<Key, Arc<ServiceInfo>>,
        name: &str,
    ) -> Option<Resource> {
        let (host, port) = names::parse_outbound(name)?;
        let (namespace, service) = names::service_of_host(host)?;
        let key = Key::new(namespace, service);
        let object = view.services.get(&key)?;
        if !super::visible(view, &key, object, &node.namespace) {
            return None;
        }
        let info = services.get(&key).filter(|info| !matches!(info.reach, Reach::ExternalName(_)))?;
        let port = info.port(port)?;
        Some(self.endpoints.get(name, EndpointParts::of(view, &key, object), || {
            self.count(1);
            Resource::new(name, &endpoint::load_assignment(view, info, port, name))
        }))
    }
}

fn patched_cluster(run: &mut Run<'_>, context: Context, hosts: &[String], mut cluster: Cluster) -> Option<Resource> {
    patch_cluster::patch_cluster(run, context, hosts, &mut cluster).then(|| Resource::new(&cluster.name, &cluster))
}
