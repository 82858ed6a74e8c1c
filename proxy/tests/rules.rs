//! What Envoy's protos state of their fields, against the real Envoy: values at the bounds of every rule of every message
//! that this proxy implements, made from the table of rules itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use ferromesh_proto::fields::{self, Field, Kind, Message};
use ferromesh_proto::rules::{self, Stated, stated};
use ferromesh_proto::{Any, json};
use ferromesh_proxy::supported;
use serde_json::{Value, json};

#[path = "rules/values.rs"]
mod values;

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// How Envoy begins what it says of a broken rule.
const BROKEN: &str = "Proto constraint validation failed";

/// Rules of which Envoy says nothing in its own words for a reason, as (message, field).
const NOT_SAID: &[(&str, &str, &str)] = &[];

/// The binary that FERROMESH_ENVOY names. Without it Envoy's part is skipped aloud, and fails where CI=true.
fn envoy() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FERROMESH_ENVOY") {
        return Some(path.into());
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs FERROMESH_ENVOY, the path of Envoy 1.40");
    eprintln!("SKIPPED: set FERROMESH_ENVOY to the binary of Envoy 1.40 to compare with it");
    None
}

/// A message somewhere in a bootstrap.
#[derive(Clone)]
struct Place {
    whole: Value,
    pointer: String,
    message: Message,
}

impl Place {
    fn own(&self) -> &Value {
        self.whole.pointer(&self.pointer).unwrap()
    }

    /// The bootstrap with a field set here, or without it.
    fn with(&self, field: Field, value: Option<Value>) -> Value {
        let mut whole = self.whole.clone();
        let object = whole.pointer_mut(&self.pointer).unwrap().as_object_mut().unwrap();
        let of_same = |other: Field| field.oneof().is_some() && other.oneof() == field.oneof();
        for other in self.message.fields().filter(|other| of_same(*other)) {
            object.remove(other.name());
        }
        object.remove(field.name());
        if let Some(value) = value {
            object.insert(field.name().to_owned(), value);
        }
        whole
    }

    /// Messages that stand in this one, each once; where one is not set, the least one is.
    fn inner(&self) -> Vec<Self> {
        let own = self.message.fields().filter(|field| supported::has(self.message.name(), field.name()));
        own.filter_map(|field| self.inner_of(field)).flatten().collect()
    }

    fn inner_of(&self, field: Field) -> Option<Vec<Self>> {
        let mut inner = field.message()?;
        if field.is_map() {
            inner = inner.field(2)?.message()?;
        }
        let is_any = inner.name() == "google.protobuf.Any";
        let is_known = !inner.name().starts_with("google.protobuf.");
        if let Some(value) = self.own().get(field.name()) {
            let values: Vec<(String, &Value)> = match value {
                Value::Array(items) => items.iter().enumerate().map(|(at, item)| (format!("/{at}"), item)).collect(),
                Value::Object(entries) if field.is_map() => {
                    entries.iter().map(|(key, value)| (format!("/{key}"), value)).collect()
                }
                value => vec![(String::new(), value)],
            };
            let places = values.into_iter().filter_map(|(at, value)| {
                let message = if is_any { fields::message(value.get("@type")?.as_str()?)? } else { inner };
                let pointer = format!("{}/{}{at}", self.pointer, field.name());
                (is_any || is_known).then(|| Self { whole: self.whole.clone(), pointer, message })
            });
            return Some(places.collect());
        }
        if !is_known {
            return None;
        }
        let least = values::least(inner, 0);
        let (value, at) = match (field.is_list(), field.is_map()) {
            (true, _) => (json!([least]), "/0"),
            (_, true) => (json!({"key": least}), "/key"),
            _ => (least, ""),
        };
        let pointer = format!("{}/{}{at}", self.pointer, field.name());
        Some(vec![Self { whole: self.with(field, Some(value)), pointer, message: inner }])
    }
}

/// One place of every message that is implemented and that a bootstrap can hold.
fn places() -> Vec<Place> {
    let whole = json::yaml_value(include_str!("rules/base.yaml")).unwrap();
    let first = Place { whole, pointer: String::new(), message: fields::message(BOOTSTRAP).unwrap() };
    let (mut queue, mut known, mut found) = (VecDeque::from([first]), HashSet::new(), Vec::new());
    while let Some(place) = queue.pop_front() {
        if known.insert(place.message) {
            queue.extend(place.inner());
            found.push(place);
        }
    }
    found
}

/// A bootstrap that breaks one rule, or just keeps it.
struct Case {
    name: String,
    whole: Value,
    /// The field whose rule is broken, as Envoy names it; none if all are kept.
    broken: Option<String>,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for place in places() {
        for stated in stated(place.message) {
            match stated {
                Stated::Field(field, rules) if supported::has(place.message.name(), field.name()) => {
                    let values = values::of(field, rules);
                    let name = |value: &dyn std::fmt::Debug| {
                        let value: String = format!("{value:?}").chars().take(60).collect();
                        format!("{}.{} {value}", place.message.name(), field.name())
                    };
                    for good in values.good {
                        let whole = place.with(field, Some(good.clone()));
                        cases.push(Case { name: name(&good), whole, broken: None });
                    }
                    for bad in values.bad {
                        let is_nothing = is_default(field, bad.as_ref());
                        let whole = place.with(field, bad.clone());
                        // A member of a oneof that is not set is another case.
                        if !(bad.is_none() && field.oneof().is_some()
                            || is_nothing && field.oneof().is_none() && field.has_presence())
                        {
                            cases.push(Case { name: name(&bad), whole, broken: Some(field.name().to_owned()) });
                        }
                    }
                }
                Stated::Oneof(number) => {
                    let member = place.message.fields().find(|field| field.oneof() == Some(number)).unwrap();
                    let name = format!("{} without {}", place.message.name(), member.name());
                    cases.push(Case { name, whole: place.with(member, None), broken: Some("is required".to_owned()) });
                }
                Stated::Field(..) => {}
            }
        }
    }
    cases
}

/// Whether the value of a plain `optional` field is its default, which some writers leave out.
fn is_default(field: Field, value: Option<&Value>) -> bool {
    !matches!(field.kind(), Kind::Message(_)) && value.is_some_and(|value| *value == json!("0") || *value == json!(""))
}

/// What Envoy says against the bootstrap; empty if it accepts it.
fn theirs(envoy: &Path, folder: &Path, number: usize, whole: &Value) -> String {
    let file = folder.join(format!("{number}.json"));
    std::fs::write(&file, whole.to_string()).unwrap();
    let mut command = Command::new(envoy);
    let output = command.args(["--mode", "validate", "--log-level", "critical", "-c"]).arg(&file).output().unwrap();
    if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// What is wrong with a case; empty if nothing is.
fn wrong(case: &Case, envoy: Option<(&Path, &Path)>, number: usize) -> String {
    let bytes = match json::encode(BOOTSTRAP, &case.whole) {
        Ok(bytes) => bytes,
        // Not even a message: a negative number where there is none, say.
        Err(_) if case.broken.is_some() => return String::new(),
        Err(error) => return format!("{}: {error}\n", case.name),
    };
    let any = Any { type_url: BOOTSTRAP.to_owned(), value: bytes.into() };
    let ours = rules::check_any(&any).err().map(|broken| broken.to_string()).unwrap_or_default();
    let mut wrong = String::new();
    if ours.is_empty() == case.broken.is_some() {
        writeln!(wrong, "{}: {:?} is wanted, we say {ours:?}", case.name, case.broken).unwrap();
    }
    let Some((envoy, folder)) = envoy else { return wrong };
    let said = theirs(envoy, folder, number, &case.whole);
    let said = said.split_once(BROKEN).map_or_else(|| format!("NOT {said}"), |(_, said)| said.to_owned());
    let plain = |text: &str| text.to_lowercase().replace('_', "");
    let is_same = match &case.broken {
        Some(field) => plain(&said).contains(&plain(field)) && !said.starts_with("NOT "),
        None => said.starts_with("NOT "),
    };
    if !is_same {
        let end: String = said.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
        writeln!(wrong, "{}: {:?} is wanted, we say {ours:?}, Envoy {end:?}", case.name, case.broken).unwrap();
    }
    wrong
}

#[test]
fn every_rule_that_envoys_protos_state_is_kept_and_broken_here_as_it_is_in_envoy() {
    let envoy = envoy();
    let folder = tempfile::tempdir().unwrap();
    let cases = cases();
    let listed =
        |case: &Case| NOT_SAID.iter().any(|(message, field, _)| case.name.starts_with(&format!("{message}.{field} ")));
    let (next, report) = (Mutex::new(0..cases.len()), Mutex::new(String::new()));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(number) = next.lock().unwrap().next() else { break };
                    let case = &cases[number];
                    let envoy = envoy.as_deref().filter(|_| !listed(case)).map(|envoy| (envoy, folder.path()));
                    let wrong = wrong(case, envoy, number);
                    report.lock().unwrap().push_str(&wrong);
                }
            });
        }
    });
    let broken = cases.iter().filter(|case| case.broken.is_some()).count();
    println!("{} messages, {} values, {broken} of them wrong", places().len(), cases.len());
    assert!(broken > 200, "only {broken} rules are broken: are places found as they should be?");
    let report = report.into_inner().unwrap();
    assert!(report.is_empty(), "{} of {} cases\n{report}", report.lines().count(), cases.len());
}
