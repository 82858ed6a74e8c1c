//! What a pod says of itself.

use k8s_openapi::api::core::v1::Pod;

/// The service account that a pod runs as (`default` where none is named, as the API server fills in).
pub fn service_account(pod: &Pod) -> &str {
    let named = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    named.filter(|name| !name.is_empty()).unwrap_or("default")
}
