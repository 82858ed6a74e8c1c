use super::*;

/// The tutorial on a laptop, with its EnvoyFilter's selector as given.
fn laptop(selector: &str) -> View {
    let listen = r#"ferromesh.io/listen: '{"5678": {"listen": "127.0.0.1:21001", "app": "127.0.0.1:22001"}}', "ferromesh.io/http-proxy": '127.0.0.1:23001'"#;
    let mut yaml = include_str!("tutorial.yaml").to_owned() + &workload("myapp", "v1", "127.0.0.1", "myapp-v1", listen);
    yaml = yaml.replace("ports: [{name: http, port: 5678}]", "ports: [{name: http, port: 21001}]");
    yaml += "\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: istio-gwapi-istio-0\n  labels: {gateway.networking.k8s.io/gateway-name: istio-gwapi}\n  annotations: {ferromesh.io/listen: '{\"80\": {\"listen\": \"127.0.0.1:20080\"}}'}\nspec: {serviceAccountName: gw, containers: []}\nstatus: {podIP: 127.0.0.1}\n";
    yaml += &include_str!("envoy_filter.yaml").replace("istio: ingressgateway", selector);
    view(&yaml)
}

#[test]
fn pods_listen_where_their_annotation_says() {
    let view = laptop("istio: ingressgateway");
    let translator = Translator::new();
    let sidecar_listeners = translator.listeners(&view, &sidecar("myapp-v1-0"));
    let names: Vec<_> = sidecar_listeners.iter().map(|listener| &*listener.name).collect();
    assert_eq!(names, ["127.0.0.1_21001", "127.0.0.1_23001"]);
    let proxy = json(&sidecar_listeners, "127.0.0.1_23001");
    assert_eq!(managers(&proxy)[0]["rds"]["route_config_name"], "http_proxy");
    let inbound = json(&translator.clusters(&view, &sidecar("myapp-v1-0")), "inbound|5678||");
    assert_eq!(inbound["type"], "STATIC");
    let endpoint = &inbound["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    assert_eq!(endpoint["address"]["socket_address"]["port_value"], 22001);
    let gateway = json(&translator.listeners(&view, &router()), "0.0.0.0_80");
    assert_eq!(gateway["address"]["socket_address"]["port_value"], 20080);
    let routes = translator.routes(&view, &sidecar("myapp-v1-0"), &strings(&["http_proxy"]));
    let domains = json(&routes, "http_proxy")["virtual_hosts"][0]["domains"].clone();
    let domains: Vec<_> = domains.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(domains.contains(&"myapp-v1") && domains.contains(&"myapp-v1.demo:80"), "{domains:?}");
}

#[test]
fn the_tutorial_s_envoy_filter_patches_nothing_as_it_is_written() {
    let view = laptop("istio: ingressgateway");
    let translator = Translator::new();
    for node in [sidecar("myapp-v1-0"), router()] {
        assert_eq!(translator.patch_reports(&view, &node), [], "its selector selects no proxy");
    }
}

#[test]
fn with_a_selector_that_matches_it_limits_each_sidecar() {
    let view = laptop("app: myapp");
    let translator = Translator::new();
    let inbound = json(&translator.listeners(&view, &sidecar("myapp-v1-0")), "127.0.0.1_21001");
    let managers = managers(&inbound);
    assert_eq!(managers.len(), 2);
    for manager in managers {
        assert_eq!(filter_names(manager)[0], "envoy.filters.http.local_ratelimit");
        let config = &manager["http_filters"][0]["typed_config"];
        assert_eq!(config["token_bucket"]["max_tokens"], 10);
        assert_eq!(
            config["@type"],
            "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
        );
    }
    let reports = translator.patch_reports(&view, &sidecar("myapp-v1-0"));
    assert_eq!(reports[0].outcome, crate::envoyfilter::Outcome::Applied(2));
}

#[test]
fn on_a_gateway_the_patch_says_why_it_matches_nothing() {
    let view = laptop("gateway.networking.k8s.io/gateway-name: istio-gwapi");
    let reports = Translator::new().patch_reports(&view, &router());
    let crate::envoyfilter::Outcome::NoMatch(why) = &reports[0].outcome else { panic!("{reports:?}") };
    assert!(why.contains("SIDECAR_INBOUND is for sidecars"), "{why}");
}

#[test]
fn a_port_for_udp_gets_no_listener_and_no_cluster_and_one_for_both_is_tcp_s() {
    let listen = r#"ferromesh.io/listen: '{"53": {"listen": "127.0.0.1:21053"}, "54": {"listen": "127.0.0.1:21054"}, "5678": {"listen": "127.0.0.1:21001"}}'"#;
    let ports =
        "{name: dns, port: 53, protocol: UDP}, {name: dns-udp, port: 54, protocol: UDP}, {name: tcp-dns, port: 54}";
    let yaml = include_str!("tutorial.yaml").to_owned()
        + &workload("myapp", "v1", "127.0.0.1", "myapp-v1", listen)
        + &format!(
            "\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: dns}}\nspec: {{selector: {{app: myapp}}, ports: [{ports}]}}\n"
        );
    let (view, node, translator) = (view(&yaml), sidecar("myapp-v1-0"), Translator::new());
    let listeners = translator.listeners(&view, &node);
    let names: Vec<_> = listeners.iter().map(|listener| &*listener.name).collect();
    assert_eq!(names, ["127.0.0.1_21054", "127.0.0.1_21001"], "each port has its own, 53 has none");
    let clusters = translator.clusters(&view, &node);
    let inbound: Vec<_> =
        clusters.iter().map(|found| &*found.name).filter(|name| name.starts_with("inbound|")).collect();
    assert_eq!(inbound, ["inbound|54||", "inbound|5678||"]);
}
