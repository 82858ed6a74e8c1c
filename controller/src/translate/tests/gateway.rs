use super::*;

fn routes(yaml: &str) -> Value {
    let found = Translator::new().routes(&view(yaml), &router(), &strings(&["http.80"]));
    json(&found, "http.80")
}

fn first_routes(yaml: &str) -> Vec<Value> {
    let config = routes(yaml);
    config["virtual_hosts"][0]["routes"].as_array().cloned().unwrap_or_default()
}

/// The tutorial with other rules in its first route and without its second.
fn with_rules(rules: &str) -> String {
    let yaml = tutorial();
    let start = yaml.find("  rules:\n").expect("the fixture has rules");
    let end =
        yaml.find("---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: other-route}");
    let rest = yaml.split_at(end.expect("and a second route")).1;
    let after = rest.split_once("\n---\n").map_or("", |(_, after)| after);
    let pods = after.find("apiVersion: v1\nkind: Pod").map_or("", |at| &after[at..]);
    format!("{}  rules:\n{rules}\n---\n{pods}", &yaml[..start])
}

#[test]
fn the_tutorial_s_gateway_listens_and_divides_by_weight() {
    let view = view(&tutorial());
    let listener = json(&Translator::new().listeners(&view, &router()), "0.0.0.0_80");
    let manager = managers(&listener)[0];
    assert_eq!(manager["rds"]["route_config_name"], "http.80");
    assert_eq!(manager["server_name"], "istio-envoy");
    assert_eq!(manager["use_remote_address"], true);
    assert_eq!(manager["forward_client_cert_details"], "SANITIZE_SET");

    let config = routes(&tutorial());
    let host = &config["virtual_hosts"][0];
    assert_eq!((&host["name"], &host["domains"][0]), (&"*:80".into(), &"*".into()));
    let names: Vec<_> = host["routes"].as_array().into_iter().flatten().map(|route| route["name"].clone()).collect();
    assert_eq!(names, ["demo.other-route.0", "demo.myapp-route.0"], "the longer prefix comes first");
    assert_eq!(host["routes"][0]["match"]["path_separated_prefix"], "/other");
    let canary = &host["routes"][1];
    assert_eq!(canary["match"]["prefix"], "/");
    let clusters = &canary["route"]["weighted_clusters"]["clusters"];
    assert_eq!(clusters[0]["name"], "outbound|80||myapp-v1.demo.svc.cluster.local");
    assert_eq!((&clusters[0]["weight"], &clusters[1]["weight"]), (&80.into(), &20.into()));
    let added = &canary["request_headers_to_add"];
    assert_eq!(added[0]["header"]["key"], "X-Canary");
    assert_eq!(added[0]["append_action"], "OVERWRITE_IF_EXISTS_OR_ADD");
    assert_eq!(added[1]["header"]["key"], "X-Mesh");
    assert_eq!(canary["response_headers_to_add"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_backend_that_is_not_there_takes_its_share_with_500() {
    let rules = "  - backendRefs: [{name: myapp-v1, port: 80, weight: 1}, {name: nobody, port: 80, weight: 1}, {name: otherapp, port: 80, weight: 0}]";
    let found = first_routes(&with_rules(rules));
    assert_eq!(found[0]["route"]["cluster_not_found_response_code"], "INTERNAL_SERVER_ERROR");
    assert_eq!(found[0]["route"]["weighted_clusters"]["clusters"].as_array().map(Vec::len), Some(2));
    for rules in [
        "  - backendRefs: [{name: nobody, port: 80}]",
        "  - {}",
        "  - backendRefs: [{name: myapp-v1, port: 80, weight: 0}]",
    ] {
        assert_eq!(first_routes(&with_rules(rules))[0]["direct_response"]["status"], 500, "{rules}");
    }
}

#[test]
fn rules_are_ordered_by_gateway_api_s_precedence() {
    let rules = "  - {name: all, backendRefs: [{name: myapp-v1, port: 80}]}
  - {matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: myapp-v1, port: 80}]}
  - {matches: [{path: {type: PathPrefix, value: /a}, headers: [{name: x, value: z}]}], backendRefs: [{name: myapp-v1, port: 80}]}
  - {matches: [{path: {type: PathPrefix, value: /a}, method: GET}], backendRefs: [{name: myapp-v1, port: 80}]}
  - {matches: [{path: {type: PathPrefix, value: /a}, queryParams: [{name: x, value: z}]}], backendRefs: [{name: myapp-v1, port: 80}]}
  - {matches: [{path: {type: PathPrefix, value: /a/longer/}}], backendRefs: [{name: myapp-v1, port: 80}]}
  - {matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: myapp-v1, port: 80}]}
  - {matches: [{path: {type: RegularExpression, value: '/a.*'}}], backendRefs: [{name: myapp-v1, port: 80}]}";
    let found = first_routes(&with_rules(rules));
    let order: Vec<_> = found.iter().filter_map(|route| route["name"].as_str()?.rsplit('.').next()).collect();
    assert_eq!(order, ["6", "5", "3", "2", "4", "1", "0", "7"]);
    assert_eq!(found[1]["match"]["path_separated_prefix"], "/a/longer");
}

#[test]
fn a_prefix_is_replaced_by_whole_elements() {
    let rule = |prefix: &str, new: &str| {
        let filter = format!(
            "{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{new}'}}}}}}"
        );
        let matching = format!("{{path: {{type: PathPrefix, value: {prefix}}}}}");
        let rules =
            format!("  - {{matches: [{matching}], filters: [{filter}], backendRefs: [{{name: myapp-v1, port: 80}}]}}");
        first_routes(&with_rules(&rules))[0]["route"].clone()
    };
    assert_eq!(rule("/foo", "/xyz/")["prefix_rewrite"], "/xyz");
    assert_eq!(rule("/foo/", "/xyz")["prefix_rewrite"], "/xyz");
    assert_eq!(rule("/", "/xyz")["prefix_rewrite"], "/xyz/");
    for nothing in ["", "/"] {
        let rewrite = &rule("/foo", nothing)["regex_rewrite"];
        assert_eq!((&rewrite["pattern"]["regex"], &rewrite["substitution"]), (&"^/foo/*".into(), &"/".into()));
    }
}

#[test]
fn a_redirect_names_a_port_only_where_it_does_not_go_without_saying() {
    let port = |redirect: &str| {
        let rules = format!("  - filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]");
        let found = first_routes(&with_rules(&rules));
        let redirect = found[0]["redirect"].clone();
        redirect["port_redirect"].as_u64().unwrap_or_default()
    };
    assert_eq!(port("{hostname: a.example}"), 0);
    assert_eq!(port("{scheme: https}"), 0);
    assert_eq!(port("{scheme: https, port: 8443}"), 8443);
    assert_eq!(port("{scheme: https, port: 80}"), 80);
    let rules = "  - filters: [{type: RequestRedirect, requestRedirect: {statusCode: 307}}]";
    assert_eq!(first_routes(&with_rules(rules))[0]["redirect"]["response_code"], "TEMPORARY_REDIRECT");
}

#[test]
fn mirrors_timeouts_retries_cors_and_backend_headers_are_translated() {
    let rules = "  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: otherapp, port: 80}, percent: 10}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: myapp-v2, port: 80}, fraction: {numerator: 1, denominator: 3}}}
    - {type: CORS, cors: {allowOrigins: ['https://*.example.com'], allowMethods: [GET, PUT], maxAge: 9}}
    timeouts: {request: 2s, backendRequest: 500ms}
    retry: {attempts: 4, codes: [503], backoff: 100ms}
    backendRefs:
    - {name: myapp-v1, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-a], set: [{name: x-b, value: '50%'}]}}]}";
    let found = first_routes(&with_rules(rules));
    let action = &found[0]["route"];
    let mirrors = &action["request_mirror_policies"];
    assert_eq!(mirrors[0]["runtime_fraction"]["default_value"]["numerator"], 10);
    assert_eq!(mirrors[1]["runtime_fraction"]["default_value"]["numerator"], 333_333);
    assert_eq!(mirrors[0]["disable_shadow_host_suffix_append"], true, "the copy asks for the same host");
    assert_eq!(action["timeout"], "2s");
    assert_eq!(action["retry_policy"]["num_retries"], 4);
    assert_eq!(action["retry_policy"]["per_try_timeout"], "0.500s");
    assert_eq!(action["retry_policy"]["retriable_status_codes"][0], 503);
    let backend = &action["weighted_clusters"]["clusters"][0];
    assert_eq!(backend["request_headers_to_remove"][0], "x-a");
    assert_eq!(backend["request_headers_to_add"][0]["header"]["value"], "50%%");
    let cors = &found[0]["typed_per_filter_config"]["envoy.filters.http.cors"];
    assert_eq!((&cors["allow_methods"], &cors["max_age"]), (&"GET,PUT".into(), &"9".into()));
}

#[test]
fn a_filter_that_is_not_supported_answers_500_and_is_named() {
    let rules = "  - filters: [{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}]
    backendRefs: [{name: myapp-v1, port: 80}]";
    assert_eq!(first_routes(&with_rules(rules))[0]["direct_response"]["status"], 500);
    let view = view(&with_rules(rules));
    let route = view.http_routes.named("demo", "myapp-route").expect("it is in the fixture");
    assert_eq!(http_route::unsupported(&route.spec.rules[0]), ["filters[0]: ExtensionRef is not supported"]);
}

#[test]
fn hosts_belong_to_the_listener_with_the_closest_hostname() {
    let yaml = tutorial().replace(
        "  - {name: http, protocol: HTTP, port: 80, allowedRoutes: {namespaces: {from: All}}}",
        "  - {name: http, protocol: HTTP, port: 80, hostname: '*.example.com'}\n  - {name: one, protocol: HTTP, port: 80, hostname: one.example.com}",
    );
    let yaml = yaml.replace("parentRefs: [{kind: Gateway, name: istio-gwapi}]", "parentRefs: [{kind: Gateway, name: istio-gwapi, sectionName: http}]\n  hostnames: [one.example.com, two.example.com]");
    let config = routes(&yaml);
    let routes: Vec<_> = config["virtual_hosts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|host| (host["domains"][0].as_str(), host["routes"].as_array().map_or(0, Vec::len)))
        .collect();
    assert_eq!(routes, [(Some("*.example.com"), 0), (Some("one.example.com"), 0), (Some("two.example.com"), 2)]);
}

#[test]
fn grpc_methods_become_paths() {
    let grpc = "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: g}\nspec:
  parentRefs: [{name: istio-gwapi}]
  rules:
  - matches: [{method: {service: a.B, method: C}}, {method: {service: a.B}}, {method: {method: D}}]
    backendRefs: [{name: otherapp, port: 80}]\n";
    let found = first_routes(&(tutorial() + grpc));
    let matches: Vec<_> = found.iter().map(|route| route["match"].clone()).collect();
    assert_eq!(matches[0]["path"], "/a.B/C");
    assert_eq!(matches[1]["path_separated_prefix"], "/other");
    assert_eq!(matches[2]["prefix"], "/a.B/");
    assert_eq!(matches[4]["safe_regex"]["regex"], "/[^/]+/D");
}

#[test]
fn a_grpc_rule_that_names_a_service_or_a_method_comes_before_one_that_names_less() {
    let rules = [
        "{backendRefs: [{name: otherapp, port: 80}]}",
        "{matches: [{headers: [{name: x, value: y}]}], backendRefs: [{name: otherapp, port: 80}]}",
        "{matches: [{method: {method: Get}}], backendRefs: [{name: otherapp, port: 80}]}",
        "{matches: [{method: {type: RegularExpression, service: 'a[.]b', method: 'G.*'}}], backendRefs: [{name: otherapp, port: 80}]}",
        "{matches: [{method: {type: RegularExpression, method: 'Get.+'}}], backendRefs: [{name: otherapp, port: 80}]}",
        "{matches: [{method: {service: a.b}}], backendRefs: [{name: otherapp, port: 80}]}",
        "{matches: [{method: {service: a.b, method: Get}}], backendRefs: [{name: otherapp, port: 80}]}",
    ];
    let grpc = format!(
        "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: g}}\nspec:\n  \
         parentRefs: [{{name: istio-gwapi}}]\n  hostnames: [g.example]\n  rules:\n  - {}\n",
        rules.join("\n  - ")
    );
    let config = routes(&(tutorial() + &grpc));
    let host = config["virtual_hosts"].as_array().into_iter().flatten().find(|host| host["domains"][0] == "g.example");
    let found = host.and_then(|host| host["routes"].as_array().cloned()).unwrap_or_default();
    let order: Vec<_> = found.iter().filter_map(|route| route["name"].as_str()?.rsplit('.').next()).collect();
    assert_eq!(order, ["6", "5", "3", "4", "2", "1", "0"]);
}

#[test]
fn a_headless_service_is_balanced_over_at_a_gateway_whatever_its_ports_speak() {
    let more = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: pods}\nspec: {clusterIP: None, \
                selector: {app: myapp}, ports: [{name: any, port: 80}, {name: http, port: 81}]}\n";
    let (translator, view) = (Translator::new(), view(&(tutorial() + more)));
    let kinds = |node: &Node| {
        let clusters = translator.clusters(&view, node);
        ["80", "81"]
            .map(|port| json(&clusters, &format!("outbound|{port}||pods.demo.svc.cluster.local"))["type"].clone())
    };
    assert_eq!(kinds(&router()), ["EDS", "EDS"]);
    assert_eq!(kinds(&sidecar("myapp-v1-0")), ["ORIGINAL_DST", "EDS"], "the client meant a pod");
}

#[test]
fn an_external_name_of_a_service_of_the_mesh_is_that_service_where_the_route_may_refer_to_it() {
    let alias = |name: &str, host: &str| {
        format!(
            "\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: ExternalName, externalName: \
             {host}, ports: [{{name: http, port: 80}}]}}"
        )
    };
    let far = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: far, namespace: other}\nspec: {ports: [{name: http, port: 80}]}";
    let rules = "  - {matches: [{path: {value: /a}}], backendRefs: [{name: near, port: 80}]}
  - {matches: [{path: {value: /b}}], backendRefs: [{name: beyond, port: 80}]}
  - {matches: [{path: {value: /c}}], backendRefs: [{name: outside, port: 80}]}";
    let yaml = with_rules(rules)
        + &alias("near", "myapp-v1.demo.svc.cluster.local")
        + &alias("beyond", "far.other.svc.cluster.local")
        + &alias("outside", "example.com")
        + far;
    let found = first_routes(&yaml);
    let clusters: Vec<_> = found.iter().filter_map(|route| route["route"]["cluster"].as_str()).collect();
    assert_eq!(
        clusters,
        ["myapp-v1", "beyond", "outside"].map(|name| format!("outbound|80||{name}.demo.svc.cluster.local"))
    );
}
