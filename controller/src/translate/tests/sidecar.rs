use super::*;

fn policy(mode: &str) -> String {
    format!(
        "\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

fn chains(yaml: &str, port: u64) -> Vec<Value> {
    let listeners = Translator::new().listeners(&view(yaml), &sidecar("myapp-v1-0"));
    let listener = json(&listeners, "virtualInbound");
    let chains = listener["filter_chains"].as_array().cloned().unwrap_or_default();
    chains.into_iter().filter(|chain| chain["filter_chain_match"]["destination_port"] == port).collect()
}

#[test]
fn a_permissive_port_takes_mesh_tls_and_plaintext() {
    let chains = chains(&tutorial(), 5678);
    assert_eq!(chains.len(), 2);
    assert_eq!(chains[0]["filter_chain_match"]["transport_protocol"], "tls");
    assert_eq!(chains[0]["filter_chain_match"]["application_protocols"][4], "istio-h2");
    let tls = &chains[0]["transport_socket"]["typed_config"];
    assert_eq!(tls["require_client_certificate"], true);
    let validation = &tls["common_tls_context"]["combined_validation_context"];
    assert_eq!(validation["validation_context_sds_secret_config"]["name"], "ROOTCA");
    assert_eq!(chains[1]["filter_chain_match"]["transport_protocol"], "raw_buffer");
    assert!(chains[1].get("transport_socket").is_none());
}

#[test]
fn a_strict_port_takes_mesh_tls_only_and_a_disabled_one_anything() {
    let strict = chains(&(tutorial() + &policy("STRICT")), 5678);
    assert_eq!(strict.len(), 1);
    assert!(strict[0].get("transport_socket").is_some());
    let disabled = chains(&(tutorial() + &policy("DISABLE")), 5678);
    assert_eq!(disabled.len(), 1);
    assert!(disabled[0].get("transport_socket").is_none());
}

#[test]
fn inbound_http_has_istio_s_filters_and_headers() {
    let chains = chains(&tutorial(), 5678);
    let manager = &chains[0]["filters"][0]["typed_config"];
    assert_eq!(
        filter_names(manager),
        [
            "istio.metadata_exchange",
            "envoy.filters.http.grpc_stats",
            "envoy.filters.http.fault",
            "envoy.filters.http.cors",
            "istio.stats",
            "envoy.filters.http.router"
        ]
    );
    assert_eq!(manager["http_filters"][0]["is_optional"], true);
    assert_eq!(manager["server_name"], "istio-envoy");
    assert_eq!(manager["forward_client_cert_details"], "APPEND_FORWARD");
    assert_eq!(
        manager["set_current_client_cert_details"],
        serde_json::json!({"subject": true, "dns": true, "uri": true})
    );
    let host = &manager["route_config"]["virtual_hosts"][0];
    assert_eq!((&host["name"], &host["domains"][0]), (&"inbound|http|80".into(), &"*".into()));
    assert_eq!(host["routes"][0]["route"]["cluster"], "inbound|5678||");
    assert_eq!(host["routes"][0]["decorator"]["operation"], "myapp-v1.demo.svc.cluster.local:80/*");
}

#[test]
fn clusters_use_mesh_tls_where_the_endpoint_says_so() {
    let clusters = Translator::new().clusters(&view(&tutorial()), &sidecar("myapp-v1-0"));
    let cluster = json(&clusters, "outbound|80||myapp-v2.demo.svc.cluster.local");
    assert_eq!(cluster["type"], "EDS");
    assert_eq!(cluster["connect_timeout"], "10s");
    assert_eq!(cluster["lb_policy"], "LEAST_REQUEST");
    assert_eq!(cluster["circuit_breakers"]["thresholds"][0]["max_requests"], u32::MAX);
    let matches = &cluster["transport_socket_matches"];
    assert_eq!((&matches[0]["name"], &matches[1]["name"]), (&"tlsMode-istio".into(), &"tlsMode-disabled".into()));
    let tls = &matches[0]["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], "outbound_.80_._.myapp-v2.demo.svc.cluster.local");
    assert_eq!(tls["common_tls_context"]["alpn_protocols"], serde_json::json!(["istio-peer-exchange", "istio"]));
    let names = &tls["common_tls_context"]["combined_validation_context"]["default_validation_context"];
    assert_eq!(
        names["match_typed_subject_alt_names"][0]["matcher"]["exact"],
        "spiffe://cluster.local/ns/demo/sa/myapp"
    );
    let names: Vec<_> = clusters.iter().map(|cluster| &*cluster.name).collect();
    for name in ["inbound|5678||", "PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

#[test]
fn endpoints_are_those_that_are_ready_with_their_tls_mode() {
    let name = "outbound|80||myapp-v1.demo.svc.cluster.local";
    let endpoint = |yaml: &str| {
        let found = Translator::new().endpoints(&view(yaml), &sidecar("x"), &strings(&[name]));
        json(&found, name)["endpoints"][0]["lb_endpoints"][0].clone()
    };
    let found = endpoint(&tutorial());
    assert_eq!(found["endpoint"]["address"]["socket_address"]["address"], "10.1.0.11");
    assert_eq!(found["endpoint"]["address"]["socket_address"]["port_value"], 5678);
    let metadata = &found["metadata"]["filter_metadata"];
    assert_eq!(metadata["envoy.transport_socket_match"]["tlsMode"], "istio");
    assert_eq!(metadata["istio"]["workload"], "myapp;demo;myapp;v1;Kubernetes");
    let plain = endpoint(&(tutorial() + &policy("DISABLE")));
    assert!(plain["metadata"]["filter_metadata"].get("envoy.transport_socket_match").is_none());
    assert_eq!(endpoint(&tutorial().replace("{ready: true}", "{ready: false}")), Value::Null);
    let ending = endpoint(&tutorial().replace("{ready: true}", "{ready: false, serving: true, terminating: true}"));
    assert_eq!(ending["endpoint"]["address"]["socket_address"]["address"], "10.1.0.11");
}

#[test]
fn outbound_listeners_follow_the_protocol_of_the_port() {
    let yaml = tutorial()
        + "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: 10.96.0.9, ports: [{port: 3306}, {name: web, port: 8080}, {name: udp-x, port: 53, protocol: UDP}]}\n"
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: rpc}\nspec: {clusterIP: 10.96.0.8, ports: [{name: any, appProtocol: kubernetes.io/h2c, port: 9000}]}\n";
    let view = view(&yaml);
    let translator = Translator::new();
    let listeners = translator.listeners(&view, &sidecar("myapp-v1-0"));
    let mut names: Vec<_> = listeners.iter().map(|listener| &*listener.name).collect();
    names.sort_unstable();
    let wanted =
        ["0.0.0.0_80", "0.0.0.0_9000", "10.96.0.9_3306", "10.96.0.9_8080", "virtualInbound", "virtualOutbound"];
    assert_eq!(names, wanted);
    assert_eq!(managers(&json(&listeners, "10.96.0.9_3306")).len(), 0, "a server that speaks first is not inspected");
    let detected = json(&listeners, "10.96.0.9_8080");
    assert_eq!(managers(&detected)[0]["rds"]["route_config_name"], "db.demo.svc.cluster.local:8080");
    assert_eq!(detected["default_filter_chain"]["filters"][1]["name"], "envoy.filters.network.tcp_proxy");
    let clusters = translator.clusters(&view, &sidecar("myapp-v1-0"));
    let options = json(&clusters, "outbound|9000||rpc.demo.svc.cluster.local");
    let options =
        &options["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    assert!(options["explicit_http_config"].get("http2_protocol_options").is_some());
    let names = translator.route_names(&view, &sidecar("myapp-v1-0"));
    assert_eq!(names, ["80", "9000", "db.demo.svc.cluster.local:8080"]);
}

#[test]
fn outbound_hosts_are_known_by_all_their_names_and_others_pass_or_not() {
    let routes = |yaml: &str| {
        let found = Translator::new().routes(&view(yaml), &sidecar("myapp-v1-0"), &strings(&["80"]));
        json(&found, "80")["virtual_hosts"].as_array().cloned().unwrap_or_default()
    };
    let hosts = routes(&tutorial());
    assert_eq!(hosts[0]["name"], "myapp-v1.demo.svc.cluster.local:80");
    let domains = serde_json::json!([
        "myapp-v1.demo.svc.cluster.local",
        "myapp-v1",
        "myapp-v1.demo",
        "myapp-v1.demo.svc",
        "10.96.0.1"
    ]);
    assert_eq!(hosts[0]["domains"], domains);
    let retries = &hosts[0]["routes"][0]["route"]["retry_policy"];
    assert_eq!(retries["retry_on"], "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes");
    assert_eq!(hosts[3]["routes"][0]["route"]["cluster"], "PassthroughCluster");
    let mesh = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'}\n";
    assert_eq!(routes(&(tutorial() + mesh))[3]["routes"][0]["direct_response"]["status"], 502);
}

#[test]
fn a_route_whose_parent_is_a_service_takes_its_traffic_inside_the_mesh() {
    let route = "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: split}\nspec:
  parentRefs: [{group: '', kind: Service, name: otherapp, port: 80}]
  rules: [{backendRefs: [{name: myapp-v1, port: 80}]}]\n";
    let found = Translator::new().routes(&view(&(tutorial() + route)), &sidecar("myapp-v1-0"), &strings(&["80"]));
    let hosts = json(&found, "80");
    let other = &hosts["virtual_hosts"][2];
    assert_eq!(other["name"], "otherapp.demo.svc.cluster.local:80");
    assert_eq!(other["routes"][0]["name"], "demo.split.0");
    assert_eq!(other["routes"][0]["route"]["cluster"], "outbound|80||myapp-v1.demo.svc.cluster.local");
}

#[test]
fn a_consumer_s_route_leads_to_a_service_of_another_namespace_without_a_grant() {
    let more = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: far, namespace: other}\nspec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]}
---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: own}\nspec:
  parentRefs: [{group: '', kind: Service, name: far, namespace: other, port: 80}]
  rules: [{timeouts: {request: 1s}, backendRefs: [{name: far, namespace: other, port: 80}]}]\n";
    let found = Translator::new().routes(&view(&(tutorial() + more)), &sidecar("myapp-v1-0"), &strings(&["80"]));
    let hosts = json(&found, "80");
    let far = hosts["virtual_hosts"].as_array().into_iter().flatten();
    let far = far.into_iter().find(|host| host["name"] == "far.other.svc.cluster.local:80").expect("it has a host");
    assert_eq!(far["routes"][0]["route"]["cluster"], "outbound|80||far.other.svc.cluster.local");
    assert_eq!(far["routes"][0]["route"]["timeout"], "1s");
}

#[test]
fn access_logs_follow_mesh_config() {
    let mesh = |text: &str| ferromesh_api::istio::MeshConfig {
        access_log_file: "/dev/stdout".to_owned(),
        access_log_encoding: text.into(),
        ..Default::default()
    };
    let shown = |mesh| ferromesh_proto::json::to_json(&access_log::access_logs(&mesh)[0]);
    let text = shown(mesh("TEXT"));
    let line = &text["typed_config"]["log_format"]["text_format_source"]["inline_string"];
    assert_eq!(line, access_log::TEXT);
    let json = shown(mesh("JSON"));
    let keys = json["typed_config"]["log_format"]["json_format"].as_object().map(serde_json::Map::len);
    assert_eq!(keys, Some(24));
    assert!(access_log::access_logs(&Default::default()).is_empty());
}
