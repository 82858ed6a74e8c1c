//! From `RouteAction` to [`Forward`].

use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::config::route::v3 as route;
use http::StatusCode;

use super::{Scope, decode_substitution, header_name, internal_redirect};
use crate::config::{At, ConfigError, duration, required};
use crate::matcher::{metadata, runtime_per_million};
use crate::route::{
    ClusterSpecifier, Forward, GrpcTimeout, HashPolicy, HeaderRules, HostRewrite, Mirror, PathRewrite, RateLimit,
    WeightedCluster,
};
use crate::text::Text;

/// Envoy's route timeout where none is set.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// Key of the subset that a route asks for.
const LB_METADATA: &str = "envoy.lb";

impl Scope<'_> {
    #[allow(deprecated)]
    pub(super) fn forward(&self, message: route::RouteAction) -> Result<Forward, ConfigError> {
        use route::route_action::ClusterNotFoundResponseCode as NotFound;
        let cluster_not_found = match message.cluster_not_found_response_code() {
            NotFound::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            NotFound::NotFound => StatusCode::NOT_FOUND,
            NotFound::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // The newer kind of limit stands in place of the older one, set or not.
        let has_newer = message.max_stream_duration.is_some();
        let grpc_timeout = grpc_timeout(&message)?;
        let stream = message.max_stream_duration.unwrap_or_default();
        let timeout = duration(message.timeout, "timeout")?.unwrap_or(DEFAULT_TIMEOUT);
        let mut cluster = self.cluster(required(message.cluster_specifier, "cluster_specifier")?)?;
        let metadata_match = metadata_match(message.metadata_match);
        if let (ClusterSpecifier::Weighted(shares), Some(whole)) = (&mut cluster, &metadata_match) {
            shares
                .iter_mut()
                .for_each(|share| share.metadata_match = Some(merged(whole, share.metadata_match.as_ref())));
        }
        Ok(Forward {
            cluster,
            cluster_not_found,
            timeout: (!timeout.is_zero() && !has_newer).then_some(timeout),
            idle_timeout: duration(message.idle_timeout, "idle_timeout")?,
            max_stream_duration: duration(stream.max_stream_duration, "max_stream_duration.max_stream_duration")?,
            grpc_timeout,
            path_rewrite: path_rewrite(message.prefix_rewrite, message.regex_rewrite.as_ref())?.map(Box::new),
            host_rewrite: host_rewrite(message.host_rewrite_specifier)?,
            append_x_forwarded_host: message.append_x_forwarded_host,
            retry: message.retry_policy.map(|policy| self.retry(policy)).transpose()?,
            internal_redirect: message
                .internal_redirect_policy
                .as_ref()
                .map(internal_redirect::decode)
                .transpose()
                .at("internal_redirect_policy")?
                .map(Box::new),
            hash: message
                .hash_policy
                .into_iter()
                .enumerate()
                .map(|(index, policy)| hash_policy(policy).at(format!("hash_policy[{index}]")))
                .collect::<Result<_, _>>()?,
            mirrors: self.mirrors(message.request_mirror_policies)?,
            metadata_match,
            high_priority: message.priority == core::RoutingPriority::High as i32,
            rate_limits: RateLimit::decode_list(&message.rate_limits, "rate_limits")?,
            include_vh_rate_limits: message.include_vh_rate_limits.unwrap_or(false),
            upgrades: message
                .upgrade_configs
                .into_iter()
                .map(|upgrade| {
                    let name = Text::from(upgrade.upgrade_type.to_ascii_lowercase());
                    (name, upgrade.enabled.unwrap_or(true), upgrade.connect_config.is_some())
                })
                .collect(),
        })
    }

    fn cluster(&self, specifier: route::route_action::ClusterSpecifier) -> Result<ClusterSpecifier, ConfigError> {
        use route::route_action::ClusterSpecifier as Kind;
        Ok(match specifier {
            Kind::Cluster(name) => ClusterSpecifier::Name(name.into()),
            Kind::ClusterHeader(name) => ClusterSpecifier::Header(header_name(&name).at("cluster_header")?),
            Kind::WeightedClusters(weighted) => {
                ClusterSpecifier::Weighted(self.weighted(weighted).at("weighted_clusters")?)
            }
            Kind::ClusterSpecifierPlugin(_) => {
                return Err(ConfigError::new("cluster_specifier_plugin", "is not implemented"));
            }
            Kind::InlineClusterSpecifierPlugin(_) => {
                return Err(ConfigError::new("inline_cluster_specifier_plugin", "is not implemented"));
            }
        })
    }

    fn weighted(&self, message: route::WeightedCluster) -> Result<Vec<WeightedCluster>, ConfigError> {
        use route::weighted_cluster::cluster_weight::HostRewriteSpecifier;
        let mut total = 0_u64;
        let mut clusters = Vec::with_capacity(message.clusters.len());
        for (index, cluster) in message.clusters.into_iter().enumerate() {
            let at = || format!("clusters[{index}]");
            let weight = cluster.weight.unwrap_or(0);
            total += u64::from(weight);
            let header = match cluster.cluster_header.as_str() {
                "" => None,
                name => Some(header_name(name).at("cluster_header").at(at())?),
            };
            if cluster.name.is_empty() == header.is_none() {
                return Err(ConfigError::new("name", "exactly one of name and cluster_header must be set").at(at()));
            }
            clusters.push(WeightedCluster {
                name: cluster.name.into(),
                header,
                weight,
                headers: HeaderRules::decode(
                    &cluster.request_headers_to_add,
                    &cluster.request_headers_to_remove,
                    &cluster.response_headers_to_add,
                    &cluster.response_headers_to_remove,
                )
                .at(at())?,
                host_rewrite: cluster.host_rewrite_specifier.map(|specifier| match specifier {
                    HostRewriteSpecifier::HostRewriteLiteral(host) => host.into(),
                }),
                per_filter: self.per_filter(cluster.typed_per_filter_config).at(at())?,
                metadata_match: metadata_match(cluster.metadata_match),
            });
        }
        if total == 0 || total > u64::from(u32::MAX) {
            return Err(ConfigError::new("clusters", "the sum of weights must be from 1 to 4294967295"));
        }
        Ok(clusters)
    }
}

#[allow(deprecated)]
fn grpc_timeout(message: &route::RouteAction) -> Result<Option<GrpcTimeout>, ConfigError> {
    let make = |max: Option<Duration>, offset, of_stream| max.map(|max| GrpcTimeout { max, offset, of_stream });
    if let Some(stream) = &message.max_stream_duration {
        let max = duration(stream.grpc_timeout_header_max, "max_stream_duration.grpc_timeout_header_max")?;
        let offset = duration(stream.grpc_timeout_header_offset, "max_stream_duration.grpc_timeout_header_offset")?;
        return Ok(make(max, offset, true));
    }
    let max = duration(message.max_grpc_timeout, "max_grpc_timeout")?;
    Ok(make(max, duration(message.grpc_timeout_offset, "grpc_timeout_offset")?, false))
}

type Subset = Arc<serde_json::Map<String, serde_json::Value>>;

/// What a share asks for stands in place of what the whole route does, key by key.
fn merged(whole: &Subset, share: Option<&Subset>) -> Subset {
    let Some(share) = share else { return whole.clone() };
    let mut all = serde_json::Map::clone(whole);
    all.extend(share.iter().map(|(key, value)| (key.clone(), value.clone())));
    Arc::new(all)
}

fn metadata_match(message: Option<core::Metadata>) -> Option<Subset> {
    let subset = message?.filter_metadata.remove(LB_METADATA)?;
    Some(Arc::new(metadata::struct_to_json(subset)))
}

fn path_rewrite(
    prefix: String,
    regex: Option<&ferromesh_proto::envoy::r#type::matcher::v3::RegexMatchAndSubstitute>,
) -> Result<Option<PathRewrite>, ConfigError> {
    match (prefix.is_empty(), regex) {
        (true, None) => Ok(None),
        (false, None) => Ok(Some(PathRewrite::Prefix(prefix.into()))),
        (true, Some(rewrite)) => {
            let (regex, substitution) = decode_substitution(rewrite).at("regex_rewrite")?;
            Ok(Some(PathRewrite::Regex(regex, substitution)))
        }
        (false, Some(_)) => Err(ConfigError::new("regex_rewrite", "excludes prefix_rewrite")),
    }
}

fn host_rewrite(specifier: Option<route::route_action::HostRewriteSpecifier>) -> Result<HostRewrite, ConfigError> {
    use route::route_action::HostRewriteSpecifier as Kind;
    Ok(match specifier {
        None | Some(Kind::AutoHostRewrite(false)) => HostRewrite::Keep,
        Some(Kind::HostRewriteLiteral(host)) => HostRewrite::Literal(host.into()),
        Some(Kind::AutoHostRewrite(true)) => HostRewrite::Auto,
        Some(Kind::HostRewriteHeader(name)) => HostRewrite::Header(header_name(&name).at("host_rewrite_header")?),
        Some(Kind::HostRewritePathRegex(rewrite)) => {
            let (regex, substitution) = decode_substitution(&rewrite).at("host_rewrite_path_regex")?;
            HostRewrite::PathRegex(regex, substitution)
        }
        Some(Kind::HostRewrite(_)) => return Err(ConfigError::new("host_rewrite", "is not implemented")),
    })
}

fn hash_policy(message: route::route_action::HashPolicy) -> Result<HashPolicy, ConfigError> {
    use route::route_action::hash_policy::PolicySpecifier;
    let terminal = message.terminal;
    Ok(match required(message.policy_specifier, "policy_specifier")? {
        PolicySpecifier::Header(header) => {
            let rewrite =
                header.regex_rewrite.as_ref().map(decode_substitution).transpose().at("header.regex_rewrite")?;
            HashPolicy::Header(header_name(&header.header_name).at("header.header_name")?, rewrite, terminal)
        }
        PolicySpecifier::Cookie(cookie) => {
            let mut attributes = String::new();
            if !cookie.path.is_empty() {
                attributes.push_str(&format!("; Path={}", cookie.path));
            }
            for attribute in &cookie.attributes {
                match attribute.value.as_str() {
                    "" => attributes.push_str(&format!("; {}", attribute.name)),
                    value => attributes.push_str(&format!("; {}={value}", attribute.name)),
                }
            }
            if cookie.name.is_empty() {
                return Err(ConfigError::new("cookie.name", "must be set"));
            }
            HashPolicy::Cookie(cookie.name, duration(cookie.ttl, "cookie.ttl")?, attributes, terminal)
        }
        PolicySpecifier::ConnectionProperties(properties) if properties.source_ip => HashPolicy::SourceIp(terminal),
        PolicySpecifier::ConnectionProperties(_) => {
            return Err(ConfigError::new("connection_properties.source_ip", "must be true"));
        }
        PolicySpecifier::QueryParameter(query) => HashPolicy::Query(query.name, terminal),
        PolicySpecifier::FilterState(_) => return Err(ConfigError::new("filter_state", "is not implemented")),
    })
}

pub(super) fn mirror(message: route::route_action::RequestMirrorPolicy) -> Result<Mirror, ConfigError> {
    let cluster = match (message.cluster.is_empty(), message.cluster_header.is_empty()) {
        (false, true) => ClusterSpecifier::Name(message.cluster.into()),
        (true, false) => ClusterSpecifier::Header(header_name(&message.cluster_header).at("cluster_header")?),
        _ => return Err(ConfigError::new("cluster", "exactly one of cluster and cluster_header must be set")),
    };
    Ok(Mirror {
        cluster,
        per_million: message.runtime_fraction.as_ref().map_or(1_000_000, runtime_per_million),
        keep_host: message.disable_shadow_host_suffix_append,
        host_rewrite: (!message.host_rewrite_literal.is_empty()).then(|| message.host_rewrite_literal.into()),
    })
}
