//! The port numbers that Istio gave its parts; ours answer at the same ones.

/// A proxy's admin interface, on loopback only.
pub const PROXY_ADMIN: u16 = 15000;
/// Where a workload's outbound connections are redirected to (`virtualOutbound`).
pub const OUTBOUND: u16 = 15001;
/// A proxy agent's debug port.
pub const AGENT_DEBUG: u16 = 15004;
/// Where a workload's inbound connections are redirected to (`virtualInbound`).
pub const INBOUND: u16 = 15006;
/// Tunnelled mTLS (HBONE).
pub const HBONE: u16 = 15008;
/// The controller's xDS in plain text.
pub const XDS_PLAINTEXT: u16 = 15010;
/// The controller's xDS and the CA, over TLS.
pub const XDS_TLS: u16 = 15012;
/// The controller's metrics and debug pages.
pub const CONTROL_PLANE_MONITORING: u16 = 15014;
/// The sidecar injector's webhook.
pub const WEBHOOK: u16 = 15017;
/// A proxy agent's status and the merged metrics of proxy and application.
pub const AGENT_STATUS: u16 = 15020;
/// A proxy's health check (`/healthz/ready`).
pub const PROXY_HEALTH: u16 = 15021;
/// The proxy's DNS.
pub const DNS: u16 = 15053;
/// A proxy's own metrics (`/stats/prometheus`).
pub const PROXY_METRICS: u16 = 15090;
/// The entrance for traffic between clusters, chosen by SNI.
pub const EAST_WEST: u16 = 15443;
/// The controller's readiness.
pub const CONTROLLER_READINESS: u16 = 8080;

/// Ports to choose a free one of, where it is bound a second time: connections take theirs above (Linux from 32768 on, macOS
/// and Windows from 49152 on), and would take it meanwhile.
pub const BELOW_EPHEMERAL: std::ops::Range<u16> = 10_000..30_000;

/// Inbound ports that are never redirected to the proxy.
pub const NOT_CAPTURED_INBOUND: [u16; 3] = [PROXY_METRICS, PROXY_HEALTH, AGENT_STATUS];
