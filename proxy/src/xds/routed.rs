//! The clusters that a route table leads to, so that it can wait for them.

use std::collections::BTreeSet;

use ferromesh_proto::envoy::config::route::v3 as route;
use route::route_action::ClusterSpecifier;

/// Names of the clusters in the table's routes.
pub(super) fn clusters(table: &route::RouteConfiguration) -> BTreeSet<String> {
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    let specifiers = routes.filter_map(|route| match &route.action {
        Some(route::route::Action::Route(action)) => action.cluster_specifier.as_ref(),
        _ => None,
    });
    let mut names = BTreeSet::new();
    for specifier in specifiers {
        match specifier {
            ClusterSpecifier::Cluster(name) => {
                names.insert(name.clone());
            }
            ClusterSpecifier::WeightedClusters(weighted) => {
                names.extend(weighted.clusters.iter().map(|cluster| cluster.name.clone()));
            }
            _ => {}
        }
    }
    names
}
