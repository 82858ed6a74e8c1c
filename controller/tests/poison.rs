//! Bad input: one file a fault in `poison/`, each refused, or said in a status or a finding, with the field's name, by the
//! folder source and by the webhook; and objects that are much too large. Nothing else may change.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use ferromesh_controller::admit;
use ferromesh_controller::analyze;
use ferromesh_controller::envoyfilter::Facts;
use ferromesh_controller::index::{Event, Index, Severity, View};
use ferromesh_controller::source::files::Files;
use ferromesh_controller::source::{Folder, FolderOptions, Source};
use ferromesh_controller::status::{self, Statuses};
use ferromesh_controller::translate::Translator;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
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
    status::compute(view, facts, &Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH), &Statuses::default())
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
    admit::review::answer(&review, view, |view, _| facts(view)).unwrap().to_string()
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
        // What is a condition of the object's status, the webhook need not say; versions the API server decides about.
        let refused = after.view().problems.iter().any(|problem| problem.severity == Severity::Error);
        let is_of_server = path.ends_with("version.yaml");
        if is_whole && refused && !is_of_server && !answer.contains(want) {
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
    let mut index = folder(&[BASE]);
    let good = index.view().http_routes.values().next().unwrap().as_ref().clone();
    let route = |number: usize| {
        let mut route = good.clone();
        route.metadata.name = Some(format!("r{number}"));
        route.spec.hostnames = vec![format!("h{number}.example")];
        Event::Apply(route.into())
    };
    let start = Instant::now();
    index.apply((0..100_000).map(route));
    let taken = start.elapsed();
    let statuses = statuses(index.view(), &Facts::default());
    let (found, known) = (start.elapsed(), index.view().http_routes.len());
    assert_eq!((known, statuses.http_routes.len()), (100_001, 100_001));
    println!("100,000 routes: taken in {taken:?}, with statuses {found:?}");
}

#[test]
fn what_is_said_of_a_hundred_thousand_endpoints_does_not_grow_with_them() {
    let mut index = folder(&[BASE]);
    let endpoints: Vec<Value> = (0..1000_u32)
        .map(|at| json!({"addresses": [std::net::Ipv4Addr::from(0x0a00_0000 + at).to_string()]}))
        .collect();
    let slice: EndpointSlice = serde_json::from_value(json!({"addressType": "IPv4",
        "metadata": {"namespace": "demo", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}))
    .unwrap();
    let start = Instant::now();
    index.apply((0..100).map(|number| {
        let mut slice = slice.clone();
        slice.metadata.name = Some(format!("web-{number}"));
        Event::Apply(slice.into())
    }));
    assert_eq!(index.view().endpoint_slices.len(), 100);
    let all = said(index.view());
    println!("100,000 endpoints: {} bytes are said after {:?}", all.len(), start.elapsed());
    assert!(all.len() < 100_000, "{}", all.len());
}

#[tokio::test]
async fn a_file_of_ten_megabytes_is_not_read_and_what_it_held_before_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("base.yaml"), BASE).unwrap();
    let options =
        FolderOptions { polling_only: true, poll_interval: Duration::from_millis(20), ..FolderOptions::default() };
    let source = Box::new(Folder::new(folder.path(), options).unwrap());
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let running = tokio::spawn(source.run(sender));
    let mut index = Index::new(Default::default());
    while index.apply(events.recv().await).synced == 0 {}
    let large = format!("{BASE}---\n# {}\n", "x".repeat(10 << 20));
    std::fs::write(folder.path().join("base.yaml"), large).unwrap();
    while index.view().problems.is_empty() {
        index.apply(events.recv().await);
    }
    let problem = index.view().problems[0].to_string();
    assert!(problem.contains("base.yaml") && problem.contains("bytes, more than"), "{problem}");
    assert_eq!(index.view().http_routes.len(), 1);
    running.abort();
}
