//! Services with their endpoints and pods.

use super::{Key, View, labels};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::sync::Arc;

impl View {
    /// The EndpointSlices of a Service, by name.
    pub fn slices_of<'a>(
        &'a self,
        namespace: &str,
        service: &str,
    ) -> impl Iterator<Item = &'a Arc<EndpointSlice>> + 'a {
        let keys = self.slices_by_service.get(&Key::new(namespace, service));
        keys.into_iter().flatten().filter_map(|key| self.endpoint_slices.get(key))
    }

    /// The Service that an EndpointSlice belongs to.
    pub fn service_of_slice(&self, slice: &EndpointSlice) -> Option<Key> {
        let name = labels::of(&slice.metadata).get(ferromesh_api::labels::SERVICE_NAME)?;
        Some(Key::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name.as_str()))
    }

    /// The Pods with this address: one, except on a laptop, where all have 127.0.0.1.
    pub fn pods_with_ip<'a>(&'a self, ip: &str) -> impl Iterator<Item = (&'a Key, &'a Arc<Pod>)> + 'a {
        self.pods_by_ip.get(ip).into_iter().flatten().filter_map(|key| self.pods.get_key_value(key))
    }

    /// The Services whose selector selects a Pod, by name.
    pub fn services_of_pod<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = (&'a Key, &'a Arc<Service>)> + 'a {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let pod_labels = labels::of(&pod.metadata);
        self.services.in_namespace(namespace).filter(move |(_, service)| {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selector.is_some_and(|wanted| {
                !wanted.is_empty() && wanted.iter().all(|(key, value)| pod_labels.get(key) == Some(value))
            })
        })
    }

    /// The Pods that a Service's selector selects, by name.
    pub fn pods_of_service<'a>(
        &'a self,
        namespace: &str,
        service: &'a Service,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Pod>)> + 'a {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        self.pods.in_namespace(namespace).filter(move |(_, pod)| {
            let pod_labels = labels::of(&pod.metadata);
            selector.is_some_and(|wanted| {
                !wanted.is_empty() && wanted.iter().all(|(key, value)| pod_labels.get(key) == Some(value))
            })
        })
    }
}

/// One port of a Service.
pub fn port(service: &Service, number: u16) -> Option<&ServicePort> {
    service.spec.as_ref()?.ports.as_ref()?.iter().find(|port| port.port == i32::from(number))
}
