//! Whether the clusters that a route table leads to are there (Envoy's `validate_clusters`).

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::route::v3 as route;
use ferromesh_proto::prost::Message;

use crate::config::visit::each_message;
use crate::config::{At, ConfigError};

/// Knows whether a cluster is there.
pub type IsKnown<'a> = &'a dyn Fn(&str) -> bool;

/// Checks every table that stands in a resource, unless it says otherwise by `validate_clusters`.
///
/// # Errors
/// Names the field with the name of a cluster that is not there.
pub fn check_inline(resource: &Any, known: IsKnown<'_>) -> Result<(), ConfigError> {
    each_message(resource, &mut |message, bytes| {
        if message.name() != "envoy.config.route.v3.RouteConfiguration" {
            return Ok(());
        }
        match route::RouteConfiguration::decode(bytes) {
            Ok(table) => check(&table, true, known),
            // Its decoder says why.
            Err(_) => Ok(()),
        }
    })
}

/// Checks a table; one that does not say whether to is checked if `unsaid`.
///
/// # Errors
/// Names the field with the name of a cluster that is not there.
pub fn check(table: &route::RouteConfiguration, unsaid: bool, known: IsKnown<'_>) -> Result<(), ConfigError> {
    if !table.validate_clusters.unwrap_or(unsaid) {
        return Ok(());
    }
    mirrors(&table.request_mirror_policies, known)?;
    for (index, host) in table.virtual_hosts.iter().enumerate() {
        let at = format!("virtual_hosts[{index}]");
        mirrors(&host.request_mirror_policies, known).at(&at)?;
        for (index, route) in host.routes.iter().enumerate() {
            let Some(route::route::Action::Route(action)) = &route.action else { continue };
            check_action(action, known).at("route").at(format!("routes[{index}]")).at(&at)?;
        }
    }
    Ok(())
}

fn check_action(action: &route::RouteAction, known: IsKnown<'_>) -> Result<(), ConfigError> {
    use route::route_action::ClusterSpecifier;
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => named(name, known).at("cluster")?,
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            for (index, cluster) in weighted.clusters.iter().enumerate() {
                named(&cluster.name, known).at(format!("weighted_clusters.clusters[{index}].name"))?;
            }
        }
        _ => {}
    }
    mirrors(&action.request_mirror_policies, known)
}

fn mirrors(policies: &[route::route_action::RequestMirrorPolicy], known: IsKnown<'_>) -> Result<(), ConfigError> {
    for (index, policy) in policies.iter().enumerate() {
        named(&policy.cluster, known).at(format!("request_mirror_policies[{index}].cluster"))?;
    }
    Ok(())
}

/// An empty name is that a header names the cluster.
fn named(name: &str, known: IsKnown<'_>) -> Result<(), ConfigError> {
    if name.is_empty() || known(name) {
        return Ok(());
    }
    let reason = format!("cluster {name:?} is not there; set validate_clusters: false if it comes later");
    Err(ConfigError::new("", reason))
}
