//! The text of a YAML or JSON file in, typed objects and problems with line numbers out.

use crate::index::kinds::Reader;
use crate::index::{Kind, Object, Severity, rules};
use ferromesh_api::documents::split;
use ferromesh_api::unknown::unknown_fields;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Objects in order.
    pub objects: Vec<Found>,
    /// What could not be taken up, in order.
    pub problems: Vec<Trouble>,
}

/// An object and where it is written.
#[derive(Clone, Debug)]
pub struct Found {
    /// First line of its document.
    pub line: u64,
    /// The object. Its namespace is what the document says, or none.
    pub object: Object,
}

/// What is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How much it matters. Only an error means that an object is missing.
    pub severity: Severity,
    /// Line, from 1.
    pub line: u64,
    /// What and what to do.
    pub message: String,
}

impl Parsed {
    /// True if a document could not be read, so that objects may be missing.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn trouble(&mut self, severity: Severity, line: u64, message: String) {
        self.problems.push(Trouble { severity, line, message });
    }
}

/// Reads every document of a file (`---` between them; a `List` counts as its items).
pub fn documents(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut unhandled = BTreeSet::new();
    for (offset, document) in split(text) {
        let first = document.lines().position(|line| !is_blank(line));
        let Some(first) = first.map(|blank| offset + blank as u64 + 1) else { continue };
        let value: Value = match serde_saphyr::from_str(document) {
            Ok(value) => value,
            Err(error) => {
                let line = error.location().map_or(first, |location| offset + location.line());
                parsed.trouble(Severity::Error, line, format!("not valid YAML: {}", plain(&error)));
                continue;
            }
        };
        let listed = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind == "List");
        if let (true, Some(Value::Array(items))) = (listed, value.get("items")) {
            for item in items {
                one(&mut parsed, &mut unhandled, item, Text::Value(item), first, offset);
            }
        } else if !value.is_null() {
            one(&mut parsed, &mut unhandled, &value, Text::Yaml(document), first, offset);
        }
    }
    parsed
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// The error without its place, which counts from the document and not from the file.
fn plain(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    match text.rsplit_once(" at line ") {
        Some((what, place)) if place.chars().all(|c| c.is_ascii_digit() || ", column".contains(c)) => what.to_owned(),
        _ => text,
    }
}

#[derive(Clone, Copy)]
enum Text<'a> {
    Yaml(&'a str),
    Value(&'a Value),
}

/// An error of reading, with its line in the document where that is known.
struct Unread {
    line: Option<u64>,
    what: String,
}

impl Reader for Text<'_> {
    type Error = Unread;

    fn read<T: DeserializeOwned>(self) -> Result<T, Unread> {
        match self {
            Text::Yaml(text) => serde_saphyr::from_str(text).map_err(|error| Unread {
                line: error.location().map(|location| location.line()),
                what: plain(&error),
            }),
            Text::Value(value) => serde_path_to_error::deserialize(value.clone())
                .map_err(|error| Unread { line: None, what: error.to_string() }),
        }
    }
}

/// Reads one object.
fn one(parsed: &mut Parsed, unhandled: &mut BTreeSet<String>, value: &Value, text: Text<'_>, first: u64, offset: u64) {
    let word = |field: &str| value.get(field).and_then(Value::as_str).filter(|word| !word.is_empty());
    let (Some(api_version), Some(kind_word)) = (word("apiVersion"), word("kind")) else {
        // The workload file of `ferromesh up` lies in the same folder and is not for Kubernetes.
        if value.get("apiVersion").is_none() && word("kind") == Some("Workloads") {
            return;
        }
        let message = "not a Kubernetes object: apiVersion and kind must be written".to_owned();
        return parsed.trouble(Severity::Error, first, message);
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(kind) = Kind::named(group, kind_word) else {
        if unhandled.insert(format!("{api_version} {kind_word}")) {
            let message = format!("{kind_word} ({api_version}) is not a kind that Ferromesh reads; passed over");
            parsed.trouble(Severity::Info, first, message);
        }
        return;
    };
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if !kind.versions().contains(&version) {
        let message = format!("{kind} {name:?}: version {version} is not read; use {}", kind.versions().join(" or "));
        return parsed.trouble(Severity::Error, first, message);
    }
    if name.is_empty() {
        return parsed.trouble(Severity::Error, first, format!("{kind} without metadata.name"));
    }
    match Object::read(kind, text) {
        Ok(object) => {
            let understood = object.to_json().unwrap_or_default();
            let unknown = unknown_fields(value, &understood);
            let mut broken = rules::broken(&object);
            if !broken.is_empty() {
                // A field that is missed may be there under a name that is not its own.
                if !unknown.is_empty() {
                    broken.push(format!("not known: {}", unknown.join(", ")));
                }
                let message = format!("{kind} {name:?}: {}", broken.join("; "));
                return parsed.trouble(Severity::Error, first, message);
            }
            if !unknown.is_empty() {
                let message = format!("{kind} {name:?}: not known, passed over: {}", unknown.join(", "));
                parsed.trouble(Severity::Warning, first, message);
            }
            parsed.objects.push(Found { line: first, object });
        }
        Err(unread) => {
            let line = unread.line.filter(|line| *line > 0).map_or(first, |line| offset + line);
            // The reader of YAML knows the line, but not the field.
            let what = Object::read(kind, Text::Value(value)).err().map_or(unread.what, |by_field| by_field.what);
            parsed.trouble(Severity::Error, line, format!("{kind} {name:?}: {what}"));
        }
    }
}
