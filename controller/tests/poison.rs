//! Bad input: one file a fault in `poison/`, each refused, or said in a status or a finding, with the field's name, by the
//! folder source and by the webhook; and objects that are much too large. Nothing else may change.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use ferromesh_api::Time;
use ferromesh_controller::admit;
use ferromesh_controller::analyze;
use ferromesh_controller::envoyfilter::Facts;
use ferromesh_controller::index::{Event, Index, View};
use ferromesh_controller::source::files::Files;
use ferromesh_controller::status::{self, Statuses};
use ferromesh_controller::translate::Translator;
use serde_json::{Value, json};

/// What works before and after.
const BASE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ferromesh}
spec: {controllerName: ferromesh.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway, namespace: demo}
spec: {gatewayClassName: ferromesh, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: good, namespace: demo}
spec: {parentRefs: [{name: gateway}], hostnames: [good.example], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: other}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
";

/// A folder with these files, as the index sees it.
fn folder(texts: &[&str]) -> Index {
    let (mut files, mut index) = (Files::default(), Index::new(Default::default()));
    for (number, text) in texts.iter().enumerate() {
        files.update(Path::new(&format!("{number}.yaml")), "demo", text);
    }
    index.apply(files.settle().into_iter().chain([Event::Synced]));
    index
}

fn facts(view: &View) -> Facts {
    Translator::new().facts(view)
}

fn statuses(view: &View, facts: &Facts) -> Statuses {
    status::compute(view, facts, &Time::default(), &Statuses::default())
}

/// All that is said of a view.
fn said(view: &View) -> String {
    let facts = facts(view);
    let statuses = statuses(view, &facts);
    let problems: Vec<String> = view.problems.iter().map(ToString::to_string).collect();
    format!("{problems:?} {statuses:?} {:?}", analyze::analyze(view, &facts))
}

/// What the webhook says of an object; its warnings too.
fn webhook(object: &Value, view: &View) -> String {
    let (group, version) = object["apiVersion"].as_str().unwrap_or_default().split_once('/').unwrap_or(("", "v1"));
    let review = json!({"request": {
        "uid": "u", "operation": "CREATE", "namespace": "demo", "name": object["metadata"]["name"],
        "kind": {"group": group, "version": version, "kind": object["kind"]}, "object": object,
    }});
    admit::answer(&review, view, |view, _| facts(view)).unwrap().to_string()
}

#[test]
fn each_fault_is_said_with_its_field_and_changes_nothing_else() {
    let base = folder(&[BASE]);
    assert!(base.view().problems.is_empty(), "{:?}", base.view().problems);
    let before = statuses(base.view(), &facts(base.view()));
    let good = |statuses: &Statuses| {
        let route = statuses.http_routes.iter().find(|(key, _)| key.to_string() == "demo/good");
        format!("{:?}", route.unwrap())
    };
    let (mut wrong, mut count) = (String::new(), 0);
    let mut names: Vec<_> =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/poison")).unwrap().collect();
    names.sort_by_key(|entry| entry.as_ref().unwrap().path());
    for entry in names {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let want = text.lines().next().and_then(|line| line.strip_prefix("# says: ")).unwrap();
        count += 1;
        let after = folder(&[BASE, &text]);
        let all = said(after.view());
        if !all.contains(want) {
            writeln!(wrong, "{}: {want:?} is not said: {:?}", path.display(), after.view().problems).unwrap();
        }
        if good(&statuses(after.view(), &facts(after.view()))) != good(&before) {
            writeln!(wrong, "{}: a good route changes", path.display()).unwrap();
        }
        for object in base.view().http_routes.values().map(|route| &route.spec) {
            assert!(after.view().http_routes.values().any(|route| route.spec == *object), "{}", path.display());
        }
        let Ok(object) = serde_saphyr::from_str::<Value>(&text) else { continue };
        let answer = webhook(&object, base.view());
        let is_whole = object["metadata"]["name"].is_string() && object["kind"].is_string();
        // What only the state of other objects makes wrong is not the webhook's to say.
        if is_whole && !answer.contains(want) && !all.contains("reason: \"") {
            writeln!(wrong, "{}: the webhook does not say {want:?}: {answer}", path.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "of {count} files\n{wrong}");
}

#[test]
fn nesting_without_end_is_refused_in_files_and_by_the_webhook() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let deep = format!(
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: poison}}\nspec: {}1{}\n",
            open.repeat(10_000),
            close.repeat(10_000)
        );
        let index = folder(&[BASE, &deep]);
        assert_eq!(index.view().problems.len(), 1, "{:?}", index.view().problems);
        assert!(index.view().problems[0].to_string().len() < 1000);
        assert_eq!(index.view().envoy_filters.len(), 0);
        assert_eq!(index.view().http_routes.len(), 1);
    }
    let json = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(serde_json::from_str::<Value>(&json).is_err(), "a review so deep is never a value");
}

#[test]
fn a_hundred_thousand_routes_are_taken_and_the_good_one_among_them_stays() {
    let mut text = String::from(BASE);
    for number in 0..100_000 {
        write!(
            text,
            "---\n{{\"apiVersion\":\"gateway.networking.k8s.io/v1\",\"kind\":\"HTTPRoute\",\"metadata\":{{\"name\":\"r{number}\",\"namespace\":\"demo\"}},\
             \"spec\":{{\"parentRefs\":[{{\"name\":\"gateway\"}}],\"hostnames\":[\"h{number}.example\"],\"rules\":[{{\"backendRefs\":[{{\"name\":\"web\",\"port\":80}}]}}]}}}}\n"
        )
        .unwrap();
    }
    let start = Instant::now();
    let index = folder(&[&text]);
    println!("read {} routes: {:?}", index.view().http_routes.len(), start.elapsed());
    let start = Instant::now();
    let statuses = statuses(index.view(), &Facts::default());
    println!("statuses: {:?}", start.elapsed());
    assert_eq!((index.view().http_routes.len(), statuses.http_routes.len()), (100_001, 100_001));
    let start = Instant::now();
    let findings = analyze::analyze(index.view(), &Facts::default());
    println!("{} findings: {:?}", findings.len(), start.elapsed());
}

#[test]
fn a_million_endpoints_are_taken_without_being_looked_through_for_every_one() {
    let mut index = folder(&[BASE]);
    let start = Instant::now();
    for number in 0..1000_u32 {
        let endpoints: Vec<Value> = (0..1000_u32)
            .map(|at| json!({"addresses": [std::net::Ipv4Addr::from(0x0a00_0000 + number * 1000 + at).to_string()], "conditions": {"ready": true}}))
            .collect();
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("web-{number}"), "namespace": "demo", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]});
        let mut files = Files::default();
        files.update(Path::new(&format!("slice-{number}.json")), "demo", &slice.to_string());
        index.apply(files.settle());
    }
    println!("a million endpoints are read: {:?}", start.elapsed());
    assert_eq!(index.view().endpoint_slices.len(), 1000);
    let start = Instant::now();
    let all = said(index.view());
    println!("{} bytes are said: {:?}", all.len(), start.elapsed());
    assert!(all.len() < 100_000, "what is said does not grow with the endpoints");
}
