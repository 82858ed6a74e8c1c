//! Each kind is read, says what it holds, and is written so that nothing is lost.

use ferromesh_api::gateway_api::gateway::Protocol;
use ferromesh_api::gateway_api::{Gateway, GrpcRoute, HttpRoute};
use ferromesh_api::istio::envoy_filter::{ApplyTo, PatchOperation};
use ferromesh_api::istio::mesh_config::OutboundMode;
use ferromesh_api::istio::{EnvoyFilter, MeshConfig, PeerAuthentication};
use ferromesh_api::unknown::unknown_fields;
use ferromesh_api::{Duration, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Reads it, writes it, and asserts that no field was lost.
fn both_ways<T: DeserializeOwned + Serialize>(written: &Value) -> T {
    let read: T = serde_json::from_value(written.clone()).expect("it reads");
    let again = serde_json::to_value(&read).expect("it writes");
    assert_eq!(unknown_fields(written, &again), Vec::<String>::new());
    read
}

#[test]
fn an_http_route_with_every_field_keeps_them_all() {
    let route: HttpRoute = both_ways(&json!({
        "apiVersion": HttpRoute::API_VERSION, "kind": HttpRoute::KIND, "metadata": {"name": "a", "namespace": "n"},
        "spec": {
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "i", "name": "g", "sectionName": "http", "port": 80}],
            "hostnames": ["a.com"],
            "rules": [{
                "name": "one",
                "matches": [{"path": {"type": "Exact", "value": "/a"}, "headers": [{"type": "RegularExpression", "name": "h", "value": "v"}],
                    "queryParams": [{"name": "q", "value": "v"}], "method": "GET"}],
                "filters": [
                    {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}], "add": [{"name": "c", "value": "d"}], "remove": ["e"]}},
                    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "m", "port": 1}, "fraction": {"numerator": 1, "denominator": 3}}},
                    {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "hostname": "b.com", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}, "port": 443, "statusCode": 308}},
                    {"type": "URLRewrite", "urlRewrite": {"hostname": "c.com", "path": {"type": "ReplaceFullPath", "replaceFullPath": "/"}}},
                    {"type": "CORS", "cors": {"allowOrigins": ["*"], "allowCredentials": true, "allowMethods": ["GET"], "allowHeaders": ["x"], "exposeHeaders": ["y"], "maxAge": 60}},
                    {"type": "ExtensionRef", "extensionRef": {"group": "a.b", "kind": "C", "name": "d"}}
                ],
                "backendRefs": [{"name": "s", "port": 80, "weight": 3, "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["z"]}}]}],
                "timeouts": {"request": "10s", "backendRequest": "500ms"},
                "retry": {"codes": [503], "attempts": 2, "backoff": "100ms"},
                "sessionPersistence": {"sessionName": "s", "type": "Cookie", "cookieConfig": {"lifetimeType": "Permanent"}, "absoluteTimeout": "1h"}
            }]
        }
    }));
    let rule = &route.spec.rules[0];
    assert_eq!(rule.backend_refs[0].weight(), 3);
    assert_eq!(rule.timeouts.and_then(|timeouts| timeouts.backend_request), Some(Duration::from_millis(500)));
}

#[test]
fn a_gateway_and_a_grpc_route_keep_every_field_and_a_new_word_by_name() {
    let gateway: Gateway = both_ways(&json!({
        "metadata": {"name": "g"}, "apiVersion": Gateway::API_VERSION, "kind": "Gateway",
        "spec": {"gatewayClassName": "istio", "addresses": [{"type": "Hostname", "value": "a"}],
            "infrastructure": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "parametersRef": {"group": "", "kind": "ConfigMap", "name": "p"}},
            "listeners": [{"name": "x", "hostname": "*.a.com", "port": 443, "protocol": "QUIC",
                "tls": {"mode": "Terminate", "certificateRefs": [{"name": "c", "namespace": "m"}], "options": {"k": "v"}},
                "allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}, "kinds": [{"kind": "HTTPRoute"}]}}]}
    }));
    assert_eq!(gateway.spec.listeners[0].protocol, Protocol::Unknown("QUIC".to_owned()));
    let route: GrpcRoute = both_ways(&json!({
        "metadata": {"name": "r"}, "apiVersion": GrpcRoute::API_VERSION, "kind": "GRPCRoute",
        "spec": {"rules": [{"matches": [{"method": {"type": "Exact", "service": "a.B", "method": "C"}}], "backendRefs": [{"name": "s", "port": 1}]}]}
    }));
    assert_eq!(route.spec.rules[0].backend_refs[0].weight(), 1);
}

#[test]
fn istios_kinds_keep_every_field() {
    let filter: EnvoyFilter = both_ways(&json!({
        "metadata": {"name": "f"}, "apiVersion": EnvoyFilter::API_VERSION, "kind": "EnvoyFilter",
        "spec": {"workloadSelector": {"labels": {"a": "b"}}, "priority": -5, "configPatches": [{
            "applyTo": "HTTP_FILTER",
            "match": {"context": "SIDECAR_INBOUND", "proxy": {"proxyVersion": "^1.*", "metadata": {"k": "v"}},
                "listener": {"name": "l", "portNumber": 80, "filterChain": {"name": "c", "sni": "s", "transportProtocol": "tls", "applicationProtocols": "h2", "destinationPort": 1, "filter": {"name": "f", "subFilter": {"name": "s"}}}, "listenerFilter": "x"},
                "routeConfiguration": {"name": "r", "gateway": "n/g", "vhost": {"name": "v", "domainName": "d", "route": {"name": "x", "action": "REDIRECT"}}},
                "cluster": {"name": "c", "service": "s", "portNumber": 1, "subset": "v1"}},
            "patch": {"operation": "INSERT_BEFORE", "filterClass": "AUTHZ", "value": {"name": "x"}}
        }]}
    }));
    let patch = &filter.spec.config_patches[0];
    assert_eq!((&patch.apply_to, &patch.patch.operation), (&ApplyTo::HttpFilter, &PatchOperation::InsertBefore));
    let policy: PeerAuthentication = both_ways(&json!({
        "metadata": {"name": "p"}, "apiVersion": PeerAuthentication::API_VERSION, "kind": "PeerAuthentication",
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "mtls": {"mode": "STRICT"}, "portLevelMtls": {"8080": {"mode": "DISABLE"}}}
    }));
    assert!(policy.spec.port_level_mtls.contains_key(&8080));
}

#[test]
fn mesh_config_has_istios_defaults_and_keeps_what_it_does_not_know() {
    let mesh: MeshConfig = serde_json::from_value(json!({
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}, "defaultConfig": {"concurrency": 2, "odd": 1}, "extensionProviders": []
    })).expect("it reads");
    assert_eq!(mesh.outbound_traffic_policy.mode, OutboundMode::RegistryOnly);
    assert_eq!((mesh.trust_domain.as_str(), mesh.connect_timeout), ("cluster.local", Duration::from_secs(10)));
    assert_eq!(mesh.default_config.drain_duration, Duration::from_secs(45));
    assert!(mesh.other.contains_key("extensionProviders") && mesh.default_config.other.contains_key("odd"));
}
