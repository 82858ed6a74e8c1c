//! What the parts of a bootstrap say of each other: names that nothing has, names that two have, sources that never send.

use std::collections::BTreeSet;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::accesslog::v3::access_log;
use ferromesh_proto::envoy::config::bootstrap::v3::Bootstrap;
use ferromesh_proto::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use ferromesh_proto::envoy::config::core::v3::ConfigSource;
use ferromesh_proto::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use ferromesh_proto::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use ferromesh_proto::prost::Message;

use crate::config::visit::each_message;
use crate::config::{At, ConfigError};
use crate::route::destinations;

/// Checks that the bootstrap's parts fit together.
///
/// # Errors
/// Names the field that leads nowhere.
pub(super) fn check(bootstrap: &Bootstrap) -> Result<(), ConfigError> {
    let none = Default::default();
    let resources = bootstrap.static_resources.as_ref().unwrap_or(&none);
    single("clusters", resources.clusters.iter().map(|cluster| cluster.name.as_str()))?;
    single("listeners", resources.listeners.iter().map(|listener| listener.name.as_str()))?;
    single("secrets", resources.secrets.iter().map(|secret| secret.name.as_str()))?;
    let is_static = |name: &str| resources.clusters.iter().any(|cluster| cluster.name == name);
    no_admin_log(bootstrap).at("admin")?;
    control_plane(bootstrap)?;
    let has_ads = bootstrap.dynamic_resources.as_ref().is_some_and(|dynamic| dynamic.ads_config.is_some());
    for (index, cluster) in resources.clusters.iter().enumerate() {
        sources(&Any::pack(cluster), has_ads).at(format!("static_resources.clusters[{index}]"))?;
    }
    for (index, listener) in resources.listeners.iter().enumerate() {
        let any = Any::pack(listener);
        let checked = sources(&any, has_ads).and_then(|()| destinations::check_inline(&any, &is_static));
        checked.at(format!("static_resources.listeners[{index}]"))?;
    }
    Ok(())
}

/// Requests of the admin address are not logged: only a log that nobody reads may be asked for.
#[allow(deprecated, reason = "older bootstraps of Istio set it")]
fn no_admin_log(bootstrap: &Bootstrap) -> Result<(), ConfigError> {
    const NOWHERE: &str = "/dev/null";
    let Some(admin) = &bootstrap.admin else { return Ok(()) };
    let refuse = |field: &str| Err(ConfigError::new(field, format!("is not implemented, but to {NOWHERE}")));
    if !admin.access_log_path.is_empty() && admin.access_log_path != NOWHERE {
        return refuse("access_log_path");
    }
    for log in &admin.access_log {
        let Some(access_log::ConfigType::TypedConfig(any)) = &log.config_type else { continue };
        if any.unpack::<FileAccessLog>().is_ok_and(|log| log.path != NOWHERE) {
            return refuse("access_log");
        }
    }
    Ok(())
}

/// Names must differ; listeners may have none.
fn single<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        if !name.is_empty() && !seen.insert(name) {
            let reason = format!("{name:?} is the name of an earlier one");
            return Err(ConfigError::new(format!("static_resources.{what}[{index}].name"), reason));
        }
    }
    Ok(())
}

/// The control plane must be reached by a cluster that it does not send itself, and wants to know who asks.
fn control_plane(bootstrap: &Bootstrap) -> Result<(), ConfigError> {
    let Some(ads) = super::ads(bootstrap)? else { return Ok(()) };
    let clusters = bootstrap.static_resources.iter().flat_map(|resources| &resources.clusters);
    let found = clusters.into_iter().find(|cluster| cluster.name == ads.cluster);
    let by_eds = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
    if found.is_none_or(|cluster| cluster.cluster_discovery_type == by_eds) {
        let field = "dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name";
        let reason = format!("{:?} must be one of static_resources.clusters, and not of type EDS", ads.cluster);
        return Err(ConfigError::new(field, reason));
    }
    let node = bootstrap.node.as_ref();
    let told = node.is_some_and(|node| !node.id.is_empty() && !node.cluster.is_empty());
    if !told {
        return Err(ConfigError::new("node", "id and cluster must be set, since ads_config sends them"));
    }
    Ok(())
}

/// Without `ads_config` nothing comes from a source that is `ads`.
fn sources(resource: &Any, has_ads: bool) -> Result<(), ConfigError> {
    if has_ads {
        return Ok(());
    }
    each_message(resource, &mut |message, bytes| {
        if message.name() != "envoy.config.core.v3.ConfigSource" {
            return Ok(());
        }
        match ConfigSource::decode(bytes).map(|source| source.config_source_specifier) {
            Ok(Some(ConfigSourceSpecifier::Ads(_))) => {
                Err(ConfigError::new("ads", "needs dynamic_resources.ads_config, which is not set"))
            }
            _ => Ok(()),
        }
    })
}
