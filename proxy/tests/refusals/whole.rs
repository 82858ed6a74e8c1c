//! Parts of a bootstrap that do not fit together.

use crate::{Case, Parts};

const ADS: &str = "dynamic_resources: {ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, \
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]}}";
const XDS: &str = "- {name: xds, type: STATIC, http2_protocol_options: {}, load_assignment: {cluster_name: xds, endpoints: [\
    {lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9}}}}]}]}}";

pub fn cases() -> Vec<Case> {
    let mut all = destinations();
    all.extend(sources());
    all.extend(control_plane());
    all
}

fn destinations() -> Vec<Case> {
    let route = |route| Parts { route, ..Parts::default() };
    let unchecked = "route_config: {validate_clusters: false, virtual_hosts: [{name: all, domains: ['*'], \
                     routes: [{match: {prefix: /}, route: {cluster: nope}}]}]}";
    vec![
        route("route: {cluster: nope}").refused("cluster", &["routes[0].route.cluster", "\"nope\" is not there"]),
        route("route: {weighted_clusters: {clusters: [{name: echo, weight: 1}, {name: nope, weight: 1}]}}")
            .refused("weighted cluster", &["route.weighted_clusters.clusters[1].name", "nope"]),
        route("route: {cluster: echo, request_mirror_policies: [{cluster: nope}]}")
            .refused("mirror", &["route.request_mirror_policies[0].cluster", "nope"]),
        Parts { host: "request_mirror_policies: [{cluster: nope}],", ..Parts::default() }
            .refused("mirror of a host", &["virtual_hosts[0].request_mirror_policies[0].cluster", "nope"]),
        route("route: {cluster_header: x-cluster}").accepted("a cluster that a header names"),
        Parts { routes: Some(unchecked), ..Parts::default() }.accepted("a table that is not to be checked"),
        Parts { clusters: "- {name: echo, type: STATIC, load_assignment: {cluster_name: echo}}", ..Parts::default() }
            .refused("two of a name", &["static_resources.clusters[1].name", "\"echo\" is the name of an earlier one"]),
        Parts { bootstrap: "cluster_manager: {local_cluster_name: nope}", ..Parts::default() }
            .refused("own cluster", &["cluster_manager.local_cluster_name: is not implemented"]),
    ]
}

/// Envoy follows files and streams of their own; here there is one stream for all.
fn sources() -> Vec<Case> {
    const RDS: &str = "rds: {route_config_name: r, config_source: {ads: {}, resource_api_version: V3}}";
    const EDS: &str = "- {name: eds, type: EDS, eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}}";
    let clusters = |clusters| Parts { clusters, ..Parts::default() };
    let routes = |routes| Parts { routes: Some(routes), ..Parts::default() };
    let both: &str = format!("{XDS}\n  {EDS}").leak();
    vec![
        routes("rds: {route_config_name: r, config_source: {path_config_source: {path: /dev/null}}}")
            .refused_here("routes of a file", &["rds.config_source.path_config_source: is not implemented"]),
        routes("rds: {route_config_name: r}").refused("routes of nowhere", &["rds.config_source: must be set"]),
        routes(RDS).refused_here(
            "routes without ADS",
            &["typed_config.rds.config_source.ads: needs dynamic_resources.ads_config"],
        ),
        clusters("- {name: eds, type: EDS, eds_cluster_config: {eds_config: {path_config_source: {path: /dev/null}}}}")
            .refused_here(
                "endpoints of a file",
                &["eds_cluster_config.eds_config.path_config_source: is not implemented"],
            ),
        clusters("- {name: eds, type: EDS}").refused("endpoints without a word", &["eds_cluster_config: must be set"]),
        clusters("- {name: eds, type: EDS, eds_cluster_config: {service_name: x}}")
            .refused("endpoints of nowhere", &["eds_cluster_config.eds_config: must be set"]),
        clusters(EDS).refused_here("endpoints without ADS", &["eds_config.ads: needs dynamic_resources.ads_config"]),
        Parts {
            cluster: "eds_cluster_config: {eds_config: {ads: {}}},",
            bootstrap: ADS,
            clusters: XDS,
            ..Parts::default()
        }
        .refused("endpoints of ADS and others", &["clusters[0].eds_cluster_config", "goes only with type EDS"]),
        Parts { clusters: both, bootstrap: ADS, routes: Some(RDS), ..Parts::default() }.accepted("all by ADS"),
    ]
}

fn control_plane() -> Vec<Case> {
    const FIELD: &str = "dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name";
    let anonymous =
        Parts { bootstrap: ADS, clusters: XDS, ..Parts::default() }.refused("nobody asks", &["node", "id and cluster"]);
    let eds = "- {name: xds, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}";
    let nothing = "dynamic_resources: {cds_config: {ads: {}, resource_api_version: V3}}";
    vec![
        Parts { bootstrap: ADS, clusters: XDS, ..Parts::default() }.accepted("a control plane"),
        Parts { bootstrap: ADS, ..Parts::default() }
            .refused("no cluster of the control plane", &[FIELD, "\"xds\" must be one of"]),
        Parts { bootstrap: ADS, clusters: eds, ..Parts::default() }.refused("one that it sends itself", &[FIELD]),
        Parts { bootstrap: nothing, ..Parts::default() }
            .refused_here("clusters without ADS", &["dynamic_resources.ads_config: must be set"]),
        Case {
            text: anonymous
                .text
                .replace("node: {id: test, cluster: test}", "node: {id: test}")
                // Envoy asks for both only here.
                .replace("DELTA_GRPC", "GRPC"),
            ..anonymous
        },
    ]
}
