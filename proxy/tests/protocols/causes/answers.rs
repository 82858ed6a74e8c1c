//! Answers that routes, filters and breakers give before anything goes on.

use ferromesh_proxy::cause::Cause;
use serde_json::{Value, json};

use super::{Scene, hop};
use crate::config::{Hop, merge, route, typed};
use crate::wire::Wire;

pub async fn scene(cause: Cause) -> Scene {
    let hop = match cause {
        Cause::RouteNotFound => hop(&[], json!({})).routes(json!([])),
        Cause::ClusterNotFound => hop(&[], json!({"route_config": {"validate_clusters": false}}))
            .terminal(json!({"route_config": {"name": "local", "virtual_hosts":
                [{"name": "all", "domains": ["*"], "routes": [route("none", json!({}))]}]}})),
        Cause::DirectResponse => {
            hop(&[], json!({})).routes(json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]))
        }
        Cause::UpgradeFailed => hop(&[], json!({})),
        Cause::RateLimited => hop(&[rate_limit()], json!({})),
        Cause::RbacDenied => hop(&[typed("http.rbac.v3.RBAC", json!({"rules": {"action": "ALLOW"}}))], json!({})),
        Cause::FaultAbort => {
            let abort = json!({"http_status": 503, "percentage": {"numerator": 100}});
            hop(&[typed("http.fault.v3.HTTPFault", json!({"abort": abort}))], json!({}))
        }
        Cause::HealthCheckReply => hop(&[health_check(json!({}))], json!({})),
        Cause::HealthCheckFailed => {
            let none = json!({"cluster_min_healthy_percentages": {"next": {"value": 50.0}}});
            hop(&[health_check(none)], json!({}))
        }
        Cause::CorsPreflight => cors(),
        Cause::Overload => overloaded(),
        Cause::NoHealthyUpstream => return ask(hop(&[], json!({})).cluster("next", &[], json!({})), cause).await,
        Cause::UpstreamConnectionFailure => hop(&[], json!({})),
        Cause::MaxPendingRequests | Cause::MaxRequests => {
            let limit = if cause == Cause::MaxRequests { "max_requests" } else { "max_pending_requests" };
            let none = json!({"circuit_breakers": {"thresholds": [{limit: 0}]}});
            let server = crate::peers::upstream("server").await;
            return ask(hop(&[], json!({})).cluster("next", &[server], none), cause).await;
        }
        _ => unreachable!("{cause:?} is another room's"),
    };
    let more = if cause == Cause::HealthCheckFailed { vec![] } else { vec![unused().await] };
    let http2 = if cause == Cause::NoFilterConfig { crate::config::http2(json!({})) } else { json!({}) };
    ask(hop.cluster("next", &more, http2), cause).await
}

async fn ask(hop: Hop, cause: Cause) -> Scene {
    let node = hop.start().await;
    if cause == Cause::Overload {
        node.until_stat("overload.envoy.overload_actions.stop_accepting_requests.active", 1).await;
    }
    let mut client = Wire::connect(node.address()).await;
    let request = match cause {
        Cause::UpgradeFailed => "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        Cause::CorsPreflight => {
            "OPTIONS / HTTP/1.1\r\nhost: a\r\norigin: http://o\r\naccess-control-request-method: GET\r\n\r\n"
        }
        _ => "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    };
    if cause == Cause::RateLimited {
        // It takes the one token that there is.
        client.send(request).await;
        client.message().await;
    }
    client.send(request).await;
    client.head().await;
    Scene { node, request: true }
}

/// Where nobody listens.
async fn unused() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn rate_limit() -> Value {
    let all = json!({"default_value": {"numerator": 100}});
    typed(
        "http.local_ratelimit.v3.LocalRateLimit",
        json!({"stat_prefix": "limit", "filter_enabled": all, "filter_enforced": all,
            "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "3600s"}}),
    )
}

fn health_check(more: Value) -> Value {
    let mut config = json!({"pass_through_mode": false,
        "headers": [{"name": ":path", "string_match": {"exact": "/"}}]});
    merge(&mut config, more);
    typed("http.health_check.v3.HealthCheck", config)
}

fn cors() -> Hop {
    let policy = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": "http://o"}], "allow_methods": "GET"});
    let mut route = route("next", json!({}));
    merge(&mut route, json!({"typed_per_filter_config": {"http.cors.v3.Cors": policy}}));
    hop(&[typed("http.cors.v3.Cors", json!({}))], json!({})).routes(json!([route]))
}

fn overloaded() -> Hop {
    // The proxy's own memory is above one byte.
    let monitor = json!({"name": "memory", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        "max_heap_size_bytes": 1}});
    let triggers = json!([{"name": "memory", "threshold": {"value": 0.5}}]);
    let action = json!({"name": "envoy.overload_actions.stop_accepting_requests", "triggers": triggers});
    hop(&[], json!({})).bootstrap(json!({"overload_manager":
        {"refresh_interval": "0.01s", "resource_monitors": [monitor], "actions": [action]}}))
}
