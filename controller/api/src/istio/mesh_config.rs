//! MeshConfig: the settings of the whole mesh (ConfigMap `istio`, key `mesh`).

pub mod rules;

use super::super::Duration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Settings of the whole mesh. What Istio's proto has and this has not is in `other`, so that it can be named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// Where access logs go, `/dev/stdout`; empty is off.
    pub access_log_file: String,
    /// Format string (TEXT) or JSON object of names and operators (JSON); empty is Istio's default.
    pub access_log_format: String,
    /// Text or JSON.
    pub access_log_encoding: AccessLogEncoding,
    /// Whether requests are traced.
    pub enable_tracing: bool,
    /// Settings of every proxy.
    pub default_config: ProxyConfig,
    /// What happens to traffic whose destination is not known.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// How inbound traffic reaches the application.
    pub inbound_traffic_policy: InboundTrafficPolicy,
    /// Whether clients use mTLS by themselves where the server has a proxy.
    pub enable_auto_mtls: bool,
    /// Trust domain of identities.
    pub trust_domain: String,
    /// Other names of the trust domain.
    pub trust_domain_aliases: Vec<String>,
    /// Who may see Services that say nothing about it.
    pub default_service_export_to: Vec<String>,
    /// The same for VirtualServices.
    pub default_virtual_service_export_to: Vec<String>,
    /// The same for DestinationRules.
    pub default_destination_rule_export_to: Vec<String>,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: String,
    /// Which namespaces are looked at; empty is all.
    pub discovery_selectors: Vec<LabelSelector>,
    /// How paths are normalized before routing and policy.
    pub path_normalization: PathNormalization,
    /// Retries where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_http_retry_policy: Option<HttpRetry>,
    /// TLS between workloads.
    #[serde(rename = "meshMTLS", skip_serializing_if = "Option::is_none")]
    pub mesh_mtls: Option<TlsDefaults>,
    /// TLS elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_defaults: Option<TlsDefaults>,
    /// How long protocol detection waits; zero is no limit.
    pub protocol_detection_timeout: Duration,
    /// How long a connection to an upstream may take.
    pub connect_timeout: Duration,
    /// Keep-alive of TCP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<Value>,
    /// Whether the application's metrics are merged with the proxy's.
    pub enable_prometheus_merge: bool,
    /// Port of listeners that serve as an HTTP proxy; 0 is none.
    pub proxy_http_port: u16,
    /// Fields that are not above.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Default for MeshConfig {
    fn default() -> Self {
        let everyone = || vec!["*".to_owned()];
        Self {
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: AccessLogEncoding::default(),
            enable_tracing: true,
            default_config: ProxyConfig::default(),
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            inbound_traffic_policy: InboundTrafficPolicy::default(),
            enable_auto_mtls: true,
            trust_domain: "cluster.local".to_owned(),
            trust_domain_aliases: Vec::new(),
            default_service_export_to: everyone(),
            default_virtual_service_export_to: everyone(),
            default_destination_rule_export_to: everyone(),
            root_namespace: "istio-system".to_owned(),
            discovery_selectors: Vec::new(),
            path_normalization: PathNormalization::default(),
            default_http_retry_policy: None,
            mesh_mtls: None,
            tls_defaults: None,
            protocol_detection_timeout: Duration::default(),
            connect_timeout: Duration::from_secs(10),
            tcp_keepalive: None,
            enable_prometheus_merge: true,
            proxy_http_port: 0,
            other: BTreeMap::new(),
        }
    }
}

open_enum! {
    /// How an access log line is written.
    AccessLogEncoding { Text = "TEXT", Json = "JSON" }
}

open_enum! {
    /// What happens to traffic whose destination is not known.
    OutboundMode { AllowAny = "ALLOW_ANY", RegistryOnly = "REGISTRY_ONLY", AllowAnyDynamicDns = "ALLOW_ANY_DYNAMIC_DNS" }
}

open_enum! {
    /// How inbound traffic reaches the application.
    InboundMode { Passthrough = "PASSTHROUGH", Localhost = "LOCALHOST" }
}

open_enum! {
    /// How a path is normalized.
    NormalizationType {
        Default = "DEFAULT",
        None = "NONE",
        Base = "BASE",
        MergeSlashes = "MERGE_SLASHES",
        DecodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES",
    }
}

/// What happens to traffic whose destination is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// Let it pass (the default) or stop it.
    pub mode: OutboundMode,
}

/// How inbound traffic reaches the application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InboundTrafficPolicy {
    /// To the pod's address (the default) or to 127.0.0.1.
    pub mode: InboundMode,
}

/// How paths are normalized.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathNormalization {
    /// How.
    pub normalization: NormalizationType,
}

/// Retries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// How often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Time for each try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Duration>,
    /// On what, comma-separated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<String>,
    /// Whether other localities are tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_remote_localities: Option<bool>,
    /// Whether hosts that failed are tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_ignore_previous_hosts: Option<bool>,
    /// The least time between tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Duration>,
}

/// Versions, ciphers and curves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsDefaults {
    /// `TLSV1_2`, `TLSV1_3` or `TLS_AUTO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_protocol_version: Option<String>,
    /// Ciphers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
    /// Curves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ecdh_curves: Vec<String>,
}

/// Settings of a proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// How many workers; 0 is one for each core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How long listeners drain.
    pub drain_duration: Duration,
    /// How long a proxy drains before it ends.
    pub termination_drain_duration: Duration,
    /// Port of the admin interface.
    pub proxy_admin_port: u16,
    /// Port of the agent's status.
    pub status_port: u16,
    /// Where the controller is.
    pub discovery_address: String,
    /// Whether the application waits for the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_application_until_proxy_starts: Option<bool>,
    /// More node metadata.
    pub proxy_metadata: BTreeMap<String, String>,
    /// What stands in front of a gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_topology: Option<GatewayTopology>,
    /// Which headers proxies add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_headers: Option<Value>,
    /// Fields that are not above.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            concurrency: None,
            drain_duration: Duration::from_secs(45),
            termination_drain_duration: Duration::from_secs(5),
            proxy_admin_port: 15000,
            status_port: 15020,
            discovery_address: "istiod.istio-system.svc:15012".to_owned(),
            hold_application_until_proxy_starts: None,
            proxy_metadata: BTreeMap::new(),
            gateway_topology: None,
            proxy_headers: None,
            other: BTreeMap::new(),
        }
    }
}

/// What stands in front of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayTopology {
    /// How many trusted proxies.
    pub num_trusted_proxies: u32,
    /// What happens to `x-forwarded-client-cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_client_cert_details: Option<String>,
    /// PROXY protocol in front, if it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Value>,
}
