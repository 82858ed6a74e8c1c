//! Balancing policies: `lb_policy` with its config, or `load_balancing_policy` with typed extensions.

// Envoy's own deprecations; Istio and older bootstraps still send these fields.
#![allow(deprecated)]

use std::time::Duration;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::cluster::v3 as proto;
use ferromesh_proto::envoy::extensions::load_balancing_policies as typed;
use ferromesh_proto::json;
use proto::cluster::common_lb_config::LocalityConfigSpecifier;
use proto::cluster::lb_subset_config::LbSubsetFallbackPolicy;
use proto::cluster::lb_subset_config::lb_subset_selector::LbSubsetSelectorFallbackPolicy;
use proto::cluster::{LbConfig, LbPolicy};
use typed::common::v3::locality_lb_config::LocalityConfigSpecifier as TypedLocality;

use crate::cluster::balance::{Fallback, Kind, Policy, Selector, SlowStart, SubsetConfig, is_prime};
use crate::config::{At, ConfigError, duration};

/// The slow start of a message that has one: the older and the newer messages differ by name only.
macro_rules! slow_start {
    ($config:expr) => {
        $config.slow_start_config.as_ref().map_or(Ok(None), |config| {
            let window = duration(config.slow_start_window, "slow_start_window");
            let aggression = config.aggression.as_ref().map(|aggression| aggression.default_value);
            let least = config.min_weight_percent.as_ref().map(|percent| percent.value);
            window.and_then(|window| slow_start(window, aggression, least)).at("slow_start_config")
        })
    };
}

/// Envoy's greatest ring, and greatest Maglev table.
const LARGEST: u64 = 8 * 1024 * 1024;
const LARGEST_MAGLEV: u64 = 5_000_011;

pub(super) fn decode(cluster: &proto::Cluster) -> Result<Policy, ConfigError> {
    let common = cluster.common_lb_config.clone().unwrap_or_default();
    let threshold = common.healthy_panic_threshold.as_ref().map_or(50.0, |percent| percent.value);
    let hashing = common.consistent_hashing_lb_config.as_ref();
    let mut policy = Policy {
        kind: Kind::RoundRobin,
        panic_threshold: threshold,
        locality_weighted: matches!(
            common.locality_config_specifier,
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
        ),
        hash_hostnames: hashing.is_some_and(|hashing| hashing.use_hostname_for_hashing),
        ignore_unchecked: common.ignore_new_hosts_until_first_hc,
        slow_start: None,
        subsets: cluster
            .lb_subset_config
            .as_ref()
            .map(subsets)
            .transpose()
            .at("lb_subset_config")?
            .flatten()
            .map(Box::new),
    };
    match &cluster.load_balancing_policy {
        Some(list) => from_list(list, &mut policy).at("load_balancing_policy")?,
        None => {
            policy.kind = from_enum(cluster)?;
            policy.slow_start = slow_start_of(cluster)?;
        }
    }
    Ok(policy)
}

fn from_enum(cluster: &proto::Cluster) -> Result<Kind, ConfigError> {
    let config = cluster.lb_config.as_ref();
    match LbPolicy::try_from(cluster.lb_policy) {
        Ok(LbPolicy::RoundRobin) => Ok(Kind::RoundRobin),
        Ok(LbPolicy::Random) => Ok(Kind::Random),
        Ok(LbPolicy::ClusterProvided) => Ok(Kind::ClusterProvided),
        Ok(LbPolicy::LeastRequest) => {
            let choices = match config {
                Some(LbConfig::LeastRequestLbConfig(config)) => config.choice_count,
                _ => None,
            };
            least_request(choices)
        }
        Ok(LbPolicy::RingHash) => match config {
            Some(LbConfig::RingHashLbConfig(config)) if config.hash_function != 0 => {
                Err(ConfigError::new("ring_hash_lb_config.hash_function", "only XX_HASH is implemented"))
            }
            Some(LbConfig::RingHashLbConfig(config)) => {
                ring(config.minimum_ring_size, config.maximum_ring_size).at("ring_hash_lb_config")
            }
            _ => ring(None, None),
        },
        Ok(LbPolicy::Maglev) => match config {
            Some(LbConfig::MaglevLbConfig(config)) => maglev(config.table_size).at("maglev_lb_config"),
            _ => maglev(None),
        },
        Ok(LbPolicy::LoadBalancingPolicyConfig) => {
            Err(ConfigError::new("load_balancing_policy", "must be set with LOAD_BALANCING_POLICY_CONFIG"))
        }
        Err(_) => Err(ConfigError::new("lb_policy", "is unknown")),
    }
}

/// The first policy of the list that is implemented.
fn from_list(list: &proto::LoadBalancingPolicy, policy: &mut Policy) -> Result<(), ConfigError> {
    let mut names = Vec::new();
    for (place, entry) in list.policies.iter().enumerate() {
        let Some(extension) = &entry.typed_extension_config else { continue };
        let Some(any) = &extension.typed_config else { continue };
        if from_typed(any, policy).at(format_args!("policies[{place}].typed_extension_config.typed_config"))? {
            return Ok(());
        }
        names.push(any.type_name().to_owned());
    }
    Err(ConfigError::new("policies", format!("none of [{}] is implemented", names.join(", "))))
}

fn from_typed(any: &Any, policy: &mut Policy) -> Result<bool, ConfigError> {
    let broken = |error: ferromesh_proto::UnpackError| ConfigError::new("", error.to_string());
    let mut weighted = None;
    policy.kind = match any.type_name().strip_prefix("envoy.extensions.load_balancing_policies.").unwrap_or_default() {
        "round_robin.v3.RoundRobin" => {
            let config: typed::round_robin::v3::RoundRobin = any.unpack().map_err(broken)?;
            policy.slow_start = slow_start!(config)?;
            weighted = config.locality_lb_config;
            Kind::RoundRobin
        }
        "random.v3.Random" => {
            weighted = any.unpack::<typed::random::v3::Random>().map_err(broken)?.locality_lb_config;
            Kind::Random
        }
        "least_request.v3.LeastRequest" => {
            let config: typed::least_request::v3::LeastRequest = any.unpack().map_err(broken)?;
            policy.slow_start = slow_start!(config)?;
            weighted = config.locality_lb_config;
            least_request(config.choice_count)?
        }
        "ring_hash.v3.RingHash" => {
            let config: typed::ring_hash::v3::RingHash = any.unpack().map_err(broken)?;
            if config.hash_function == typed::ring_hash::v3::ring_hash::HashFunction::MurmurHash2 as i32 {
                return Err(ConfigError::new("hash_function", "only XX_HASH is implemented"));
            }
            policy.hash_hostnames |= config.use_hostname_for_hashing
                || config.consistent_hashing_lb_config.is_some_and(|hashing| hashing.use_hostname_for_hashing);
            policy.locality_weighted |= config.locality_weighted_lb_config.is_some();
            ring(config.minimum_ring_size, config.maximum_ring_size)?
        }
        "maglev.v3.Maglev" => {
            let config: typed::maglev::v3::Maglev = any.unpack().map_err(broken)?;
            policy.hash_hostnames |=
                config.consistent_hashing_lb_config.is_some_and(|hashing| hashing.use_hostname_for_hashing);
            policy.locality_weighted |= config.locality_weighted_lb_config.is_some();
            maglev(config.table_size)?
        }
        "cluster_provided.v3.ClusterProvided" => Kind::ClusterProvided,
        _ => return Ok(false),
    };
    let specifier = weighted.and_then(|config| config.locality_config_specifier);
    policy.locality_weighted |= matches!(specifier, Some(TypedLocality::LocalityWeightedLbConfig(_)));
    Ok(true)
}

/// Of the policy that `lb_policy` names; the configuration of another one counts for nothing.
fn slow_start_of(cluster: &proto::Cluster) -> Result<Option<SlowStart>, ConfigError> {
    match (LbPolicy::try_from(cluster.lb_policy), cluster.lb_config.as_ref()) {
        (Ok(LbPolicy::RoundRobin), Some(LbConfig::RoundRobinLbConfig(config))) => {
            slow_start!(config).at("round_robin_lb_config")
        }
        (Ok(LbPolicy::LeastRequest), Some(LbConfig::LeastRequestLbConfig(config))) => {
            slow_start!(config).at("least_request_lb_config")
        }
        _ => Ok(None),
    }
}

/// Of the numbers of a message; a window of 0 is none.
fn slow_start(
    window: Option<Duration>,
    aggression: Option<f64>,
    least: Option<f64>,
) -> Result<Option<SlowStart>, ConfigError> {
    let Some(window) = window.filter(|window| !window.is_zero()) else { return Ok(None) };
    let (aggression, least) = (aggression.unwrap_or(1.0), least.unwrap_or(10.0) / 100.0);
    if !(aggression > 0.0 && aggression.is_finite()) {
        return Err(ConfigError::new("aggression", "must be greater than 0"));
    }
    if !(0.0..=1.0).contains(&least) {
        return Err(ConfigError::new("min_weight_percent", "must be 0 to 100"));
    }
    Ok(Some(SlowStart { window, aggression, least }))
}

fn least_request(choices: Option<u32>) -> Result<Kind, ConfigError> {
    match choices.unwrap_or(2) {
        choices @ 2..=64 => Ok(Kind::LeastRequest { choices }),
        _ => Err(ConfigError::new("choice_count", "must be 2 to 64")),
    }
}

fn ring(least: Option<u64>, greatest: Option<u64>) -> Result<Kind, ConfigError> {
    let (min_size, max_size) = (least.unwrap_or(1024), greatest.unwrap_or(LARGEST));
    if min_size > max_size || max_size > LARGEST || max_size == 0 {
        let reason = format!("must be minimum_ring_size <= maximum_ring_size <= {LARGEST}");
        return Err(ConfigError::new("maximum_ring_size", reason));
    }
    Ok(Kind::RingHash { min_size, max_size })
}

fn maglev(table_size: Option<u64>) -> Result<Kind, ConfigError> {
    let table_size = table_size.unwrap_or(65_537);
    if !(3..=LARGEST_MAGLEV).contains(&table_size) || !is_prime(table_size) {
        return Err(ConfigError::new("table_size", format!("must be a prime from 3 to {LARGEST_MAGLEV}")));
    }
    Ok(Kind::Maglev { table_size })
}

/// `None` if no selector is configured: then the whole cluster is one set, as in Envoy.
fn subsets(config: &proto::cluster::LbSubsetConfig) -> Result<Option<SubsetConfig>, ConfigError> {
    if config.subset_selectors.is_empty() {
        return Ok(None);
    }
    let selectors = config.subset_selectors.iter().enumerate().map(|(place, selector)| {
        let mut keys = selector.keys.clone();
        keys.sort();
        keys.dedup();
        let fallback = match LbSubsetSelectorFallbackPolicy::try_from(selector.fallback_policy) {
            Ok(LbSubsetSelectorFallbackPolicy::NotDefined) => None,
            Ok(LbSubsetSelectorFallbackPolicy::NoFallback) => Some(Fallback::None),
            Ok(LbSubsetSelectorFallbackPolicy::AnyEndpoint) => Some(Fallback::Any),
            Ok(LbSubsetSelectorFallbackPolicy::DefaultSubset) => Some(Fallback::Default),
            Ok(LbSubsetSelectorFallbackPolicy::KeysSubset) => {
                Some(Fallback::Keys(selector.fallback_keys_subset.clone()))
            }
            Err(_) => return Err(ConfigError::new(format!("subset_selectors[{place}].fallback_policy"), "is unknown")),
        };
        Ok(Selector { keys, fallback })
    });
    let fallback = match LbSubsetFallbackPolicy::try_from(config.fallback_policy) {
        Ok(LbSubsetFallbackPolicy::NoFallback) => Fallback::None,
        Ok(LbSubsetFallbackPolicy::AnyEndpoint) => Fallback::Any,
        Ok(LbSubsetFallbackPolicy::DefaultSubset) => Fallback::Default,
        Err(_) => return Err(ConfigError::new("fallback_policy", "is unknown")),
    };
    let default = config.default_subset.as_ref().map(json::struct_to_json);
    Ok(Some(SubsetConfig {
        selectors: selectors.collect::<Result<_, _>>()?,
        fallback,
        default_subset: default.and_then(|value| value.as_object().cloned()).unwrap_or_default(),
        list_as_any: config.list_as_any,
        panic_mode_any: config.panic_mode_any,
    }))
}
