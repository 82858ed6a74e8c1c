//! One proxy in one view.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use ferromesh_api::ObjectMeta;
use k8s_openapi::api::core::v1::Pod;

use super::super::gateway::{self, Served};
use super::super::node::{Node, NodeKind};
use super::super::protocol::Protocol;
use super::super::service::ServiceInfo;
use super::super::{laptop, names};
use crate::envoyfilter::{Context, PatchSet, Proxy, Run};
use crate::index::View;

/// One proxy in one view.
pub(super) struct Scene<'a> {
    pub(super) view: &'a View,
    pub(super) node: &'a Node,
    /// Its pod, if it is known.
    pub(super) pod: Option<&'a Pod>,
    /// The EnvoyFilters that select it.
    pub(super) patches: PatchSet,
    pub(super) proxy: Proxy,
}

impl<'a> Scene<'a> {
    /// What a proxy is and sees, but for its own pod: the patches that select it count with what they match by.
    pub(super) fn sees(&self) -> String {
        let filters: Vec<_> = self.patches.filters.iter().map(|filter| (&filter.namespace, &filter.name)).collect();
        let proxy = (!filters.is_empty()).then_some(&self.proxy);
        let stock = if self.node.stock { "stock " } else { "" };
        format!("{stock}{:?} {} {filters:?} {proxy:?} ", self.node.kind, self.node.namespace)
    }

    /// A run of its patches.
    pub(super) fn run(&self) -> Run<'_> {
        Run::new(&self.patches, &self.proxy)
    }

    pub(super) fn is_router(&self) -> bool {
        self.node.kind == NodeKind::Router
    }

    /// The contexts in which patches may add something.
    pub(super) fn contexts(&self) -> &'static [Context] {
        if self.is_router() { &[Context::Gateway] } else { &[Context::SidecarInbound, Context::SidecarOutbound] }
    }

    /// The context of routes that are not inline.
    pub(super) fn route_context(&self) -> Context {
        if self.is_router() { Context::Gateway } else { Context::SidecarOutbound }
    }

    /// The Gateway listeners that it serves.
    pub(super) fn served(&self) -> Vec<Served<'a>> {
        if self.is_router() { gateway::served(self.view, self.node, self.pod) } else { Vec::new() }
    }

    /// Its pod, or what the proxy says of itself while the pod is not known yet.
    pub(super) fn pod_or_self(&self) -> Cow<'a, Pod> {
        match self.pod {
            Some(pod) => Cow::Borrowed(pod),
            None => Cow::Owned(Pod {
                metadata: ObjectMeta {
                    name: Some(self.node.pod.clone()),
                    namespace: Some(self.node.namespace.clone()),
                    labels: Some(self.node.labels.clone()),
                    ..ObjectMeta::default()
                },
                ..Pod::default()
            }),
        }
    }

    /// Whether the pod that it says to be is there, with the service account that it has. A pod that merely shares a
    /// gateway's account does not get that gateway's secrets under its own name.
    pub(super) fn is_its_pod(&self) -> bool {
        self.pod.is_some_and(|pod| crate::index::pods::service_account(pod) == self.node.service_account)
    }

    pub(super) fn is_laptop(&self) -> bool {
        self.pod.is_some_and(|pod| laptop::is_laptop(&pod.metadata))
    }

    /// Names of the route configurations that its listeners ask for.
    pub(super) fn route_names(&self, services: &[Arc<ServiceInfo>]) -> Vec<String> {
        if self.is_router() {
            return gateway::route_names(&self.served()).into_iter().collect();
        }
        if self.is_laptop() {
            let proxy = self.pod.and_then(|pod| laptop::http_proxy(&pod.metadata));
            return proxy.map(|_| names::HTTP_PROXY_ROUTES.to_owned()).into_iter().collect();
        }
        let mut found = BTreeSet::new();
        for service in services {
            for port in &service.ports {
                match port.protocol {
                    Protocol::Http | Protocol::Http2 => found.insert(port.number.to_string()),
                    Protocol::Auto => found.insert(format!("{}:{}", service.host, port.number)),
                    Protocol::Tcp | Protocol::Udp => false,
                };
            }
        }
        found.into_iter().collect()
    }
}
