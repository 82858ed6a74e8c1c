//! Envoy's Cluster message into the runtime form.

// Envoy's own deprecations; Istio and older bootstraps still send these fields.
#![allow(deprecated)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use ferromesh_proto::envoy::config::cluster::v3 as proto;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::tcp::metadataexchange::config::MetadataExchange;
use ferromesh_proto::json;
use parking_lot::Mutex;

use super::balance::{Balancer, HostSet};
use super::breaker::Breakers;
use super::discovery::{self, Discovery, Dns, Family, OriginalDst};
use super::endpoints::{self, Plan};
use super::health::HealthCheck;
use super::outlier::Detector;
use super::{Cluster, ClusterConfig, ClusterStats, Transport};
use crate::config::{At, ConfigError, duration, from_ads, required, unpack};
use crate::runtime::Runtime;
use crate::stats::{Owner, Store};
use crate::text::Text;
use crate::tls::{SecretStore, transport_socket};

mod policy;
mod protocol;

/// Envoy's type URL of clusters.
const TYPE: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// What clusters are made with (Envoy's ClusterFactoryContext).
#[derive(Clone, Copy)]
pub struct FactoryContext<'a> {
    /// Metrics.
    pub stats: &'a Arc<Store>,
    /// Secrets by name, which the clusters' TLS follows.
    pub secrets: &'a SecretStore,
    /// Who resolves names for clusters that do not say.
    pub dns: &'a discovery::Settings,
    /// Values that stand in place of what resources say.
    pub runtime: &'a Runtime,
}

impl Cluster {
    /// Decodes a cluster; its background work begins with [`Cluster::start`].
    ///
    /// # Errors
    /// Names the field that cannot be served.
    pub fn decode(cluster: &proto::Cluster, context: &FactoryContext<'_>) -> Result<Arc<Self>, ConfigError> {
        decode(cluster, context).map_err(|error| error.of_type(TYPE))
    }
}

fn decode(cluster: &proto::Cluster, context: &FactoryContext<'_>) -> Result<Arc<Cluster>, ConfigError> {
    if cluster.name.is_empty() {
        return Err(ConfigError::new("name", "must be set"));
    }
    if cluster.wait_for_warm_on_init == Some(false) {
        return Err(ConfigError::new("wait_for_warm_on_init", "false is not implemented"));
    }
    let config = config(cluster, context)?;
    let owner = Owner { kind: "cluster", value: config.stat_name.clone(), tag: "envoy_cluster_name" };
    let plan = match &cluster.load_assignment {
        Some(assignment) => Some(endpoints::decode(assignment, &config.transports).at("load_assignment")?),
        None => None,
    };
    let (discovery, fixed) = discovery(cluster, &config.name, plan, context.dns)?;
    let outlier =
        cluster.outlier_detection.as_ref().map(|config| Detector::decode(config, context.stats, &owner)).transpose();
    let health_check = match cluster.health_checks.as_slice() {
        [] => None,
        [check] => {
            let scope = context.stats.root().scope(owner.kind).tagged(owner.tag, &owner.value);
            let check = HealthCheck::decode(check, &scope).at("health_checks[0]")?;
            Some(Box::new(check.within(context.runtime.check_intervals())))
        }
        _ => return Err(ConfigError::new("health_checks[1]", "only one health check is supported, as in Envoy")),
    };
    let policy = policy::decode(cluster)?;
    if matches!(discovery, Discovery::OriginalDst(_)) != matches!(policy.kind, super::balance::Kind::ClusterProvided) {
        return Err(ConfigError::new("lb_policy", "CLUSTER_PROVIDED and type ORIGINAL_DST go only together"));
    }
    let made = Cluster {
        breakers: breakers(cluster.circuit_breakers.as_ref(), context.stats, &owner).at("circuit_breakers")?,
        hosts: ArcSwap::from_pointee(HostSet::new(discovery::nothing(), 0)),
        stats: context.stats.family::<ClusterStats>(&owner, ""),
        balancer: Balancer::new(policy),
        outlier: outlier.at("outlier_detection")?,
        health_check,
        health_epoch: Arc::new(AtomicU64::new(0)),
        updating: Mutex::new(()),
        hosts_changed: Arc::default(),
        known: AtomicBool::new(false),
        warm: AtomicBool::new(matches!(discovery, Discovery::OriginalDst(_))),
        on_warm: OnceLock::new(),
        sweeps: Mutex::default(),
        sweeps_wait: AtomicBool::new(false),
        tasks: Mutex::default(),
        discovery,
        config,
    };
    if let Some(plan) = fixed {
        made.apply(&plan);
    }
    Ok(Arc::new(made))
}

fn config(cluster: &proto::Cluster, context: &FactoryContext<'_>) -> Result<ClusterConfig, ConfigError> {
    let text = |text: &str| Text::from(text);
    let http = protocol::decode(cluster)?;
    let name = text(&cluster.name);
    let stat_name = if cluster.alt_stat_name.is_empty() { name.clone() } else { text(&cluster.alt_stat_name) };
    let metadata = cluster.metadata.iter().flat_map(|metadata| &metadata.filter_metadata);
    let keepalive = cluster.upstream_connection_options.as_ref().and_then(|options| options.tcp_keepalive.as_ref());
    let seconds = |value: Option<u32>, default| Duration::from_secs(u64::from(value.unwrap_or(default)));
    Ok(ClusterConfig {
        name,
        stat_name,
        connect_timeout: duration(cluster.connect_timeout, "connect_timeout")?.unwrap_or(Duration::from_secs(5)),
        protocol: http.protocol,
        transports: transports(cluster, context)?,
        http2: http.http2,
        idle_timeout: http.idle_timeout,
        max_connection_duration: http.max_connection_duration,
        max_stream_duration: http.max_stream_duration,
        max_requests_per_connection: http.max_requests_per_connection,
        buffer_limit: cluster.per_connection_buffer_limit_bytes.unwrap_or(1 << 20) as usize,
        bind: bind(cluster.upstream_bind_config.as_ref()).at("upstream_bind_config")?,
        keepalive: keepalive.map(|keepalive| {
            (
                seconds(keepalive.keepalive_time, 7200),
                seconds(keepalive.keepalive_interval, 75),
                keepalive.keepalive_probes.unwrap_or(9),
            )
        }),
        max_response_headers_bytes: http.max_response_headers_bytes,
        max_response_headers_count: http.max_response_headers_count,
        http1: http.http1,
        auto_sni: http.auto_sni,
        auto_san_validation: http.auto_san_validation,
        metadata: metadata.map(|(name, value)| (name.clone(), json::struct_to_json(value))).collect(),
        close_on_host_health_failure: cluster.close_connections_on_host_health_failure,
        ignore_health_on_host_removal: cluster.ignore_health_on_host_removal,
        metadata_exchange: metadata_exchange(cluster)?,
    })
}

/// The transports in the order of their matches; the cluster's own last, for hosts that none matches.
fn transports(cluster: &proto::Cluster, context: &FactoryContext<'_>) -> Result<Vec<Transport>, ConfigError> {
    let matches = cluster.transport_socket_matches.iter().enumerate().map(|(place, entry)| {
        let tls = transport_socket(entry.transport_socket.as_ref(), context.secrets)
            .at(format_args!("transport_socket_matches[{place}].transport_socket"))?;
        let criteria = entry.r#match.as_ref().map(json::struct_to_json);
        let criteria = match criteria {
            Some(serde_json::Value::Object(criteria)) => criteria,
            _ => serde_json::Map::new(),
        };
        Ok(Transport { name: entry.name.as_str().into(), criteria, tls })
    });
    let mut transports = Vec::with_capacity(cluster.transport_socket_matches.len() + 1);
    for transport in matches {
        transports.push(transport?);
    }
    let tls = transport_socket(cluster.transport_socket.as_ref(), context.secrets).at("transport_socket")?;
    transports.push(Transport { name: Text::default(), criteria: serde_json::Map::new(), tls });
    Ok(transports)
}

fn bind(config: Option<&core::BindConfig>) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(address) = config.and_then(|config| config.source_address.as_ref()) else { return Ok(None) };
    let ip = address.address.parse().map_err(|_| {
        ConfigError::new("source_address.address", format!("{:?} is not an IP address", address.address))
    })?;
    let port = match &address.port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(port)) => u16::try_from(*port).unwrap_or(0),
        _ => 0,
    };
    Ok(Some(SocketAddr::new(ip, port)))
}

/// The only upstream network filter: Istio's metadata exchange, which the TCP proxy does; its ALPN protocol.
fn metadata_exchange(cluster: &proto::Cluster) -> Result<Option<Text>, ConfigError> {
    let mut found = None;
    for (place, filter) in cluster.filters.iter().enumerate() {
        let at = || format!("filters[{place}]");
        let any = filter.typed_config.as_ref().map(json::resolve_typed_struct).transpose();
        match any.map_err(|error| ConfigError::new("typed_config", error.to_string())).at(at())? {
            Some(any) if any.is::<MetadataExchange>() => {
                let message: MetadataExchange = unpack(&any).at("typed_config").at(at())?;
                found = Some(message.protocol.into());
            }
            _ => {
                let reason = format!("{:?} is not implemented; only istio.metadata_exchange is", filter.name);
                return Err(ConfigError::new(at(), reason));
            }
        }
    }
    Ok(found)
}

/// How hosts are found, and the plan if they are known now.
fn discovery(
    cluster: &proto::Cluster,
    name: &Text,
    plan: Option<Plan>,
    default: &discovery::Settings,
) -> Result<(Discovery, Option<Plan>), ConfigError> {
    use proto::cluster::{ClusterDiscoveryType, DiscoveryType};
    let kind = match &cluster.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => {
            DiscoveryType::try_from(*kind).map_err(|_| ConfigError::new("type", "is unknown"))?
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return Err(ConfigError::new("cluster_type", format!("{:?} is not implemented", custom.name)));
        }
    };
    if kind != DiscoveryType::Eds && cluster.eds_cluster_config.is_some() {
        return Err(ConfigError::new("eds_cluster_config", "goes only with type EDS"));
    }
    match kind {
        DiscoveryType::Static => {
            // Istio's BlackHoleCluster has none: a cluster without hosts.
            let plan = plan.unwrap_or_default();
            if let Some((name, _)) = plan.names().next() {
                let reason = format!("{name:?} is not an IP address; names need type STRICT_DNS or LOGICAL_DNS");
                return Err(ConfigError::new("load_assignment", reason));
            }
            Ok((Discovery::Static, Some(plan)))
        }
        DiscoveryType::Eds => {
            let eds = required(cluster.eds_cluster_config.as_ref(), "eds_cluster_config")?;
            let limit = from_ads(eds.eds_config.as_ref()).at("eds_cluster_config.eds_config")?;
            let service_name =
                if eds.service_name.is_empty() { name.clone() } else { eds.service_name.as_str().into() };
            Ok((Discovery::Eds { service_name, limit }, None))
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let logical = kind == DiscoveryType::LogicalDns;
            let plan = required(plan, "load_assignment")?;
            if logical && plan.count() != 1 {
                return Err(ConfigError::new("load_assignment", "LOGICAL_DNS needs exactly one endpoint"));
            }
            Ok((Discovery::Dns(Box::new(dns(cluster, plan, logical, default)?)), None))
        }
        DiscoveryType::OriginalDst => {
            original_dst(cluster).map(|found| (Discovery::OriginalDst(Box::new(found)), None))
        }
    }
}

fn dns(cluster: &proto::Cluster, plan: Plan, logical: bool, default: &discovery::Settings) -> Result<Dns, ConfigError> {
    use proto::cluster::DnsLookupFamily;
    let family = match DnsLookupFamily::try_from(cluster.dns_lookup_family) {
        Ok(DnsLookupFamily::Auto) => Family::Auto,
        Ok(DnsLookupFamily::V4Only) => Family::V4Only,
        Ok(DnsLookupFamily::V6Only) => Family::V6Only,
        Ok(DnsLookupFamily::V4Preferred) => Family::V4Preferred,
        Ok(DnsLookupFamily::All) => Family::All,
        Err(_) => return Err(ConfigError::new("dns_lookup_family", "is unknown")),
    };
    let refresh = duration(cluster.dns_refresh_rate, "dns_refresh_rate")?.unwrap_or(Duration::from_secs(5));
    let refresh = refresh.max(Duration::from_millis(1));
    let failure = cluster.dns_failure_refresh_rate.as_ref();
    let base = duration(failure.and_then(|rate| rate.base_interval), "dns_failure_refresh_rate.base_interval")?;
    let limit = duration(failure.and_then(|rate| rate.max_interval), "dns_failure_refresh_rate.max_interval")?;
    let failure_refresh = match (base, limit) {
        (Some(base), Some(limit)) => (base, limit),
        (Some(base), None) => (base, base * 10),
        (None, _) => (refresh, refresh),
    };
    let jitter = duration(cluster.dns_jitter, "dns_jitter")?.unwrap_or_default();
    let settings = discovery::Settings::of_cluster(cluster, default)?;
    let respect_ttl = cluster.respect_dns_ttl;
    Ok(Dns { plan, logical, family, settings, refresh, respect_ttl, jitter, failure_refresh })
}

fn original_dst(cluster: &proto::Cluster) -> Result<OriginalDst, ConfigError> {
    let config = match &cluster.lb_config {
        Some(proto::cluster::LbConfig::OriginalDstLbConfig(config)) => config.clone(),
        _ => proto::cluster::OriginalDstLbConfig::default(),
    };
    let name = match config.http_header_name.as_str() {
        "" => "x-envoy-original-dst-host",
        name => name,
    };
    let header = http::HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ConfigError::new("original_dst_lb_config.http_header_name", "is no header name"))?;
    let port = config.upstream_port_override.map(|port| {
        u16::try_from(port).map_err(|_| ConfigError::new("original_dst_lb_config.upstream_port_override", "is no port"))
    });
    let cleanup = duration(cluster.cleanup_interval, "cleanup_interval")?.unwrap_or(Duration::from_secs(5));
    Ok(OriginalDst::new(config.use_http_header.then_some(header), port.transpose()?, cleanup))
}

/// Breakers of the default and the high priority.
fn breakers(
    config: Option<&proto::CircuitBreakers>,
    stats: &Store,
    owner: &Owner,
) -> Result<[Arc<Breakers>; 2], ConfigError> {
    let thresholds = config.map(|config| config.thresholds.as_slice()).unwrap_or_default();
    let of = |priority: core::RoutingPriority, part| -> Result<Arc<Breakers>, ConfigError> {
        let place = thresholds.iter().position(|found| found.priority == priority as i32);
        let own = place.and_then(|place| thresholds.get(place)).copied().unwrap_or_default();
        let made = Arc::new(Breakers::decode(&own).at(format!("thresholds[{}]", place.unwrap_or_default()))?);
        stats.show(owner, part, &made);
        Ok(made)
    };
    Ok([
        of(core::RoutingPriority::Default, "circuit_breakers.default.")?,
        of(core::RoutingPriority::High, "circuit_breakers.high.")?,
    ])
}
