//! Label keys, each once.

/// Which Service an EndpointSlice belongs to (Kubernetes).
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Set on a headless Service's EndpointSlices (Kubernetes).
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// The name of a Namespace, set by Kubernetes on the Namespace itself.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// The recommended application name (Kubernetes).
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// The recommended application version (Kubernetes).
pub const APP_VERSION: &str = "app.kubernetes.io/version";
/// The application, as Istio's telemetry reads it.
pub const APP: &str = "app";
/// The version, as Istio's telemetry reads it.
pub const VERSION: &str = "version";
/// Region of a node or endpoint (Kubernetes).
pub const TOPOLOGY_REGION: &str = "topology.kubernetes.io/region";
/// Zone of a node or endpoint (Kubernetes).
pub const TOPOLOGY_ZONE: &str = "topology.kubernetes.io/zone";
/// Sub-zone (Istio).
pub const TOPOLOGY_SUBZONE: &str = "topology.istio.io/subzone";
/// Network that a workload is in (Istio).
pub const TOPOLOGY_NETWORK: &str = "topology.istio.io/network";
/// Cluster that a workload is in (Istio).
pub const TOPOLOGY_CLUSTER: &str = "topology.istio.io/cluster";
/// The Gateway that a Pod or Service was made for (Gateway API).
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The GatewayClass of that Gateway (Gateway API).
pub const GATEWAY_CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";
/// Which controller manages what a Gateway was given (Istio).
pub const GATEWAY_MANAGED: &str = "gateway.istio.io/managed";
/// Namespace injection switch: `enabled` or `disabled` (Istio).
pub const INJECTION: &str = "istio-injection";
/// Revision of the control plane (Istio).
pub const REVISION: &str = "istio.io/rev";
/// Pod injection switch: `true` or `false` (Istio; an annotation of the same name is the older way).
pub const SIDECAR_INJECT: &str = "sidecar.istio.io/inject";
/// `istio` on a Pod that has a proxy which speaks mesh mTLS (Istio).
pub const TLS_MODE: &str = "security.istio.io/tlsMode";
/// The value of [`TLS_MODE`] that says: mesh mTLS.
pub const TLS_MODE_ISTIO: &str = "istio";
/// Service name for telemetry (Istio).
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// Service revision for telemetry (Istio).
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// Workload name for telemetry (Istio).
pub const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
/// Data plane mode of a Namespace or Pod (Istio ambient).
pub const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// Waypoint that a Namespace, Service or Pod uses (Istio ambient).
pub const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The label by which Istio's own gateways are selected, `istio: ingressgateway`.
pub const ISTIO: &str = "istio";
/// Set by a Deployment on each of its Pods (Kubernetes).
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
