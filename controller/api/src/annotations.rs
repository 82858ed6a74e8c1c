//! Annotation keys, each once.

/// Laptop mode: where a pod's ports are bound. JSON `{"<pod port>": {"listen": "127.0.0.1:<p>", "app": "127.0.0.1:<q>"}}`.
pub const LISTEN: &str = "ferromesh.io/listen";
/// Laptop mode: address of a sidecar's outbound HTTP listener, `127.0.0.1:<p>`.
pub const HTTP_PROXY: &str = "ferromesh.io/http-proxy";
/// Who may see a Service: `.`, `*`, `~` or namespaces (Istio).
pub const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// Where a Service's traffic goes first (Istio).
pub const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// How traffic reaches a sidecar: `REDIRECT`, `TPROXY` or `NONE` (Istio).
pub const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
/// What the injector did to a Pod (Istio).
pub const SIDECAR_STATUS: &str = "sidecar.istio.io/status";
/// The older way to write the label of the same name (Istio).
pub const SIDECAR_INJECT: &str = "sidecar.istio.io/inject";
/// Inline ProxyConfig of a Pod (Istio).
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// Outbound ranges that are captured (Istio).
pub const INCLUDE_OUTBOUND_IP_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
/// Outbound ranges that are not captured (Istio).
pub const EXCLUDE_OUTBOUND_IP_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
/// Outbound ports that are captured (Istio).
pub const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
/// Outbound ports that are not captured (Istio).
pub const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
/// Inbound ports that are captured (Istio).
pub const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
/// Inbound ports that are not captured (Istio).
pub const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
/// Overrides the name of what is made for a Gateway (Istio).
pub const GATEWAY_NAME_OVERRIDE: &str = "gateway.istio.io/name-override";
/// Overrides the service account of what is made for a Gateway (Istio).
pub const GATEWAY_SERVICE_ACCOUNT: &str = "gateway.istio.io/service-account";
/// The type of the Service made for a Gateway (Istio, deprecated).
pub const SERVICE_TYPE: &str = "networking.istio.io/service-type";
/// Codes that analysis does not report for an object, `IST0101,FM0002` or `*` (Istio).
pub const ANALYZE_SUPPRESS: &str = "galley.istio.io/analyze-suppress";
/// A policy that is evaluated but not enforced (Istio).
pub const DRY_RUN: &str = "istio.io/dry-run";
