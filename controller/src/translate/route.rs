//! Parts of route configurations that inbound, outbound and gateway share: default actions, retries, virtual hosts.

use std::time::Duration;

use ferromesh_api::istio::MeshConfig;
use ferromesh_api::istio::mesh_config::OutboundMode;
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::route::v3::{
    Decorator, DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    retry_policy::{RetryHostPredicate, retry_host_predicate},
    route::Action,
    route_action::{ClusterSpecifier, MaxStreamDuration},
    route_match::PathSpecifier,
};
use ferromesh_proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;

use super::message::{duration, seconds};
use super::names;

/// Istio's default retries towards other workloads.
pub const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// The match of every request.
pub fn everything() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() }
}

/// An action towards a cluster, without a limit on how long an answer may take.
pub fn to_cluster(cluster: &str) -> RouteAction {
    let mut action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..RouteAction::default()
    };
    set_timeout(&mut action, None);
    action
}

/// Sets how long a request may take; nothing is no limit, and then `grpc-timeout` has none either.
pub fn set_timeout(action: &mut RouteAction, timeout: Option<Duration>) {
    let timeout = timeout.map_or_else(|| seconds(0), duration);
    action.timeout = Some(timeout);
    action.max_stream_duration =
        Some(MaxStreamDuration { grpc_timeout_header_max: Some(timeout), ..MaxStreamDuration::default() });
}

/// Picks in search of a host that was not tried. Istio's 5 come to the failed one again one time of six where it is one of two,
/// since it has no requests and least request prefers it.
const HOST_SELECTIONS: i64 = 64;

/// Istio's default retries, or those of MeshConfig.
pub fn default_retries(mesh: &MeshConfig) -> Option<RetryPolicy> {
    let own = mesh.default_http_retry_policy.clone().unwrap_or_default();
    let attempts = own.attempts.unwrap_or(2);
    let ignore_previous = own.retry_ignore_previous_hosts.unwrap_or(true);
    let predicate = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(Any::pack(&PreviousHostsPredicate {}))),
    };
    (attempts > 0).then(|| RetryPolicy {
        retry_on: own.retry_on.unwrap_or_else(|| RETRY_ON.to_owned()),
        num_retries: Some(attempts),
        per_try_timeout: own.per_try_timeout.map(|timeout| duration(timeout.0)),
        retry_host_predicate: if ignore_previous { vec![predicate] } else { Vec::new() },
        host_selection_retry_max_attempts: if ignore_previous { HOST_SELECTIONS } else { 0 },
        ..RetryPolicy::default()
    })
}

/// A route that answers by itself.
pub fn direct_response(matching: RouteMatch, name: &str, status: u32) -> Route {
    Route {
        name: name.to_owned(),
        r#match: Some(matching),
        action: Some(Action::DirectResponse(DirectResponseAction { status, ..DirectResponseAction::default() })),
        ..Route::default()
    }
}

/// A decorator that names where a request goes.
pub fn decorator(host_port: &str) -> Decorator {
    Decorator { operation: format!("{host_port}/*"), ..Decorator::default() }
}

/// Inline routes of one of the pod's own ports; `host_port` is the first Service's.
pub fn inbound(cluster: &str, host_port: Option<&str>) -> RouteConfiguration {
    let port = host_port.and_then(|text| text.rsplit(':').next()).unwrap_or("0");
    let retries =
        RetryPolicy { retry_on: "reset-before-request".to_owned(), num_retries: Some(2), ..RetryPolicy::default() };
    let mut action = to_cluster(cluster);
    action.max_stream_duration = Some(MaxStreamDuration {
        max_stream_duration: Some(seconds(0)),
        grpc_timeout_header_max: Some(seconds(0)),
        ..MaxStreamDuration::default()
    });
    action.retry_policy = Some(retries);
    let route = Route {
        name: "default".to_owned(),
        r#match: Some(everything()),
        decorator: host_port.map(decorator),
        action: Some(Action::Route(action)),
        ..Route::default()
    };
    let host = VirtualHost {
        name: format!("inbound|http|{port}"),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..VirtualHost::default()
    };
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![host],
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    }
}

/// The virtual host for hosts that nobody knows. `original_destination` says whether there is one to pass on to.
pub fn unknown_hosts(mesh: &MeshConfig, original_destination: bool) -> VirtualHost {
    let registry_only = mesh.outbound_traffic_policy.mode == OutboundMode::RegistryOnly;
    let (name, route) = if registry_only || !original_destination {
        ("block_all", direct_response(everything(), "block_all", 502))
    } else {
        let route = Route {
            name: "allow_any".to_owned(),
            r#match: Some(everything()),
            action: Some(Action::Route(to_cluster(names::PASSTHROUGH))),
            ..Route::default()
        };
        ("allow_any", route)
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}
