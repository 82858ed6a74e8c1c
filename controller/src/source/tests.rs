//! Sources: what a file's text becomes, and a folder that changes.

use super::files::Files;
use super::{Folder, FolderOptions, Memory, Source, parse};
use crate::index::{Event, Kind, ObjectRef, Severity};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

fn service(name: &str, port: u16) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n")
}

/// Events in a short form.
fn short(events: &[Event]) -> Vec<String> {
    let word = |event: &Event| match event {
        Event::Apply(object) => format!("apply {object:?}"),
        Event::Delete(reference) => format!("delete {reference}"),
        Event::Problem(problem) => format!("{} {}:{}", problem.severity, problem.file.display(), problem.line),
        Event::Resolved { file } => format!("resolved {}", file.display()),
        Event::Synced => "synced".to_owned(),
    };
    events.iter().map(word).collect()
}

#[test]
fn a_bad_document_is_named_with_its_line_and_the_others_are_read() {
    let cases = [
        ("a: [1\n", 2, "not valid YAML"),
        ("kind: Service\n", 1, "apiVersion and kind"),
        ("apiVersion: v1\nkind: Service\nmetadata: {}\n", 1, "metadata.name"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec:\n  ports:\n  - port: eighty\n",
            6,
            "spec.ports[0].port",
        ),
        (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: b}\nspec: {}\n",
            4,
            "gatewayClassName",
        ),
        ("apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: Gateway\nmetadata: {name: b}\n", 1, "v1alpha2"),
    ];
    for (text, line, what) in cases {
        let good = service("a", 80);
        let parsed = parse::documents(&format!("# first\n---\n{good}---\n{text}---\n{}", service("c", 80)));
        let before = 2 + good.lines().count() as u64 + 1;
        assert_eq!(parsed.objects.len(), 2, "{text}");
        assert_eq!(parsed.problems.len(), 1, "{text} {:?}", parsed.problems);
        assert!(parsed.problems[0].message.contains(what), "{text} {:?}", parsed.problems);
        let found = parsed.problems[0].line;
        assert!(found == before + line || (what == "not valid YAML" && found > before), "{text} {found} {before}");
    }
}

#[test]
fn a_kind_that_we_do_not_read_is_named_once_and_an_unknown_field_by_its_path() {
    let other = "apiVersion: example.com/v1\nkind: Odd\nmetadata: {name: a}\n---\n";
    let yaml = format!("{other}{other}apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{prts: [1]}}\n");
    let parsed = parse::documents(&yaml);
    let severities: Vec<_> = parsed.problems.iter().map(|problem| problem.severity).collect();
    assert_eq!(severities, [Severity::Info, Severity::Warning]);
    assert!(parsed.problems[0].message.contains("Odd"));
    assert!(parsed.problems[1].message.contains("spec.prts"), "{:?}", parsed.problems[1]);
}

#[test]
fn of_an_object_that_lacks_a_field_the_unknown_ones_are_named_too() {
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  rules:\n  \
                 - backendRefs: [{name: a, prot: 80}]\n";
    let parsed = parse::documents(route);
    let said: Vec<_> = parsed.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("backendRefs[0].port: must be written"), "{said:?}");
    assert!(said[0].contains("not known: spec.rules[0].backendRefs[0].prot"), "{said:?}");
}

#[test]
fn a_workload_file_in_the_folder_is_not_for_kubernetes() {
    let parsed = parse::documents("kind: Workloads\nworkloads: []\n---\nkind: Wrkloads\n");
    assert_eq!(parsed.problems.len(), 1, "{:?}", parsed.problems);
}

#[test]
fn a_list_is_its_items() {
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}}]}"#;
    let kinds: Vec<_> = parse::documents(json).objects.iter().map(|found| found.object.kind()).collect();
    assert_eq!(kinds, [Kind::Namespace, Kind::Service]);
}

#[test]
fn the_last_good_objects_of_a_bad_file_go_on() {
    let mut files = Files::default();
    let path = Path::new("a.yaml");
    files.update(path, "n", &format!("{}---\n{}", service("a", 80), service("b", 80)));
    assert_eq!(short(&files.settle()), ["apply Service n/a", "apply Service n/b"]);
    files.update(path, "n", &format!("{}---\nkind: [", service("a", 81)));
    let events = short(&files.settle());
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0], "apply Service n/a");
    assert!(events[1].starts_with("error a.yaml:"), "{events:?}");
    files.update(path, "n", &service("a", 81));
    assert_eq!(short(&files.settle()), ["delete Service n/b", "resolved a.yaml"]);
    files.retain(&Default::default());
    assert_eq!(short(&files.settle()), ["delete Service n/a"]);
}

#[test]
fn of_the_same_object_in_two_files_the_first_counts_and_both_are_named() {
    let mut files = Files::default();
    files.update(Path::new("b.yaml"), "n", &service("a", 81));
    files.update(Path::new("a.yaml"), "n", &service("a", 80));
    let events = files.settle();
    assert_eq!(short(&events), ["apply Service n/a", "warning b.yaml:1"]);
    let Event::Problem(problem) = &events[1] else { panic!() };
    assert!(problem.message.contains("a.yaml"), "{problem}");
    files.retain(&[Path::new("b.yaml").to_owned()].into());
    assert_eq!(short(&files.settle()), ["apply Service n/a", "resolved b.yaml"], "the other takes its place");
}

async fn next(events: &mut mpsc::Receiver<Event>) -> String {
    let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.expect("an event comes");
    short(&[event.expect("the source runs")]).remove(0)
}

async fn a_folder_that_changes(polling_only: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("prod")).expect("a folder");
    std::fs::write(folder.path().join("a.yaml"), service("a", 80)).expect("a file");
    std::fs::write(folder.path().join("prod/b.yml"), service("b", 80)).expect("a file");
    std::fs::write(folder.path().join("prod/mapped.json"), service("c", 80)).expect("a file");
    std::fs::write(folder.path().join("readme.txt"), "no YAML").expect("a file");
    let options = FolderOptions {
        namespace_by_folder: true,
        polling_only,
        poll_interval: Duration::from_millis(20),
        file_namespaces: [("prod/mapped.json".into(), "m".to_owned())].into(),
        ..FolderOptions::default()
    };
    let source = Folder::new(folder.path(), options).expect("readable");
    let (sender, mut events) = mpsc::channel(16);
    let task = tokio::spawn(Box::new(source).run(sender));
    for expected in ["apply Service default/a", "apply Service m/c", "apply Service prod/b", "synced"] {
        assert_eq!(next(&mut events).await, expected);
    }
    std::fs::write(folder.path().join("a.yaml"), service("a", 8080)).expect("a file");
    assert_eq!(next(&mut events).await, "apply Service default/a");
    std::fs::remove_file(folder.path().join("prod/b.yml")).expect("removed");
    assert_eq!(next(&mut events).await, "delete Service prod/b");
    drop(events);
    let ended = tokio::time::timeout(Duration::from_secs(20), task).await.expect("ends with its receiver");
    ended.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_folder_is_watched() {
    a_folder_that_changes(false).await;
}

#[tokio::test]
async fn a_folder_is_polled_where_it_cannot_be_watched() {
    a_folder_that_changes(true).await;
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    let error = Folder::new("/nowhere/at/all", FolderOptions::default()).err().expect("not there");
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[tokio::test]
async fn memory_sends_what_it_has_and_what_it_is_told() {
    let object = parse::documents(&service("a", 80)).objects.remove(0).object;
    let (memory, handle) = Memory::new(vec![object.clone()]);
    let (sender, mut events) = mpsc::channel(16);
    let task = tokio::spawn(Box::new(memory).run(sender));
    assert_eq!(next(&mut events).await, "apply Service a");
    assert_eq!(next(&mut events).await, "synced");
    assert!(handle.delete(ObjectRef::new(Kind::Service, "", "a")).await);
    assert_eq!(next(&mut events).await, "delete Service a");
    drop(handle);
    task.await.expect("no panic").expect("no error");
}

#[test]
fn an_object_that_breaks_a_rule_of_gateway_api_is_refused_as_an_api_server_does_and_the_last_good_one_goes_on() {
    let route = |method: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: a}}\n---\n# a comment\napiVersion: gateway.networking.k8s.io/v1\n\
             kind: HTTPRoute\nmetadata: {{name: r}}\nspec: {{rules: [{{matches: [{{method: {method}}}]}}]}}\n"
        )
    };
    let mut files = Files::default();
    let path = Path::new("a.yaml");
    files.update(path, "demo", &route("GET"));
    let applied = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Apply(_))).count();
    assert_eq!(applied(&files.settle()), 2);
    files.update(path, "demo", &route("\"F O\""));
    let events = files.settle();
    assert_eq!(applied(&events), 0, "{events:?}");
    assert!(!events.iter().any(|event| matches!(event, Event::Delete(_))), "{events:?}");
    let problems: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Problem(problem) = event { Some(problem.to_string()) } else { None })
        .collect();
    assert_eq!(
        problems,
        ["error: a.yaml:6: HTTPRoute \"r\": spec.rules[0].matches[0].method: \"F O\" is not a method of HTTP"]
    );
}
