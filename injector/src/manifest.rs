//! A file of Kubernetes objects in; the same text with its workloads injected out. What is no workload, or gets no
//! proxy, keeps its text, comments and all.

use std::fmt::{self, Write};

use ferromesh_api::documents::split;
use serde_json::Value;

use crate::decide::Reason;
use crate::settings::Mesh;
use crate::workload::{self, Outcome};

/// Input that was injected.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The stream, with the same number of documents.
    pub text: String,
    /// What became of each object that makes pods, in order.
    pub workloads: Vec<Workload>,
}

/// A workload of the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// `Deployment shop/cart`.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// Every document that cannot be injected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError(Vec<Trouble>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    /// First line of the document, or the line of the mistake.
    line: u64,
    what: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, trouble) in self.0.iter().enumerate() {
            let end = if place == 0 { "" } else { "\n" };
            write!(f, "{end}line {}: {}", trouble.line, trouble.what)?;
        }
        Ok(())
    }
}

/// Injects every workload of a stream of YAML or JSON documents.
///
/// # Errors
/// All documents that are not YAML, or whose pods the webhook would refuse; nothing is given then.
pub fn inject(text: &str, default_namespace: &str, mesh: &Mesh) -> Result<Done, ManifestError> {
    let mut done = Done { text: String::with_capacity(text.len()), workloads: Vec::new() };
    let mut troubles = Vec::new();
    for (number, (line, document)) in split(text).into_iter().enumerate() {
        if number > 0 {
            done.text.push_str("---");
        }
        match one(document, line, default_namespace, mesh, &mut done.workloads) {
            Ok(Some(changed)) if number > 0 => {
                let _ = write!(done.text, "\n{changed}");
            }
            Ok(Some(changed)) => done.text.push_str(&changed),
            Ok(None) => done.text.push_str(document),
            Err(more) => troubles.extend(more),
        }
    }
    if troubles.is_empty() { Ok(done) } else { Err(ManifestError(troubles)) }
}

/// The document with its workloads injected; `None` if it stays as it is.
fn one(
    document: &str,
    before: u64,
    default_namespace: &str,
    mesh: &Mesh,
    workloads: &mut Vec<Workload>,
) -> Result<Option<String>, Vec<Trouble>> {
    let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let Some(first) = document.lines().position(|line| !is_blank(line)) else { return Ok(None) };
    let first = before + first as u64 + 1;
    let mut object: Value = serde_saphyr::from_str(document).map_err(|error| {
        let line = error.location().map_or(first, |location| before + location.line());
        vec![Trouble { line, what: format!("not valid YAML: {}", error.without_snippet()) }]
    })?;
    let (mut troubles, mut changed) = (Vec::new(), false);
    for item in workload::items(&mut object) {
        let name = named(item, default_namespace);
        let mut trouble = |what: String| troubles.push(Trouble { line: first, what });
        match workload::inject_object(item, default_namespace, mesh) {
            Ok(Outcome::NoWorkload) => {}
            // Neither yes nor no: the webhook refuses the pod.
            Ok(Outcome::Skipped(reason @ Reason::BadValue(_))) => trouble(format!("{name}: {reason}")),
            Ok(outcome) => {
                changed |= matches!(outcome, Outcome::Injected(_));
                workloads.push(Workload { name, outcome });
            }
            Err(error) => trouble(format!("{name}: {}", error.source)),
        }
    }
    if !troubles.is_empty() {
        return Err(troubles);
    }
    let written = changed.then(|| serde_saphyr::to_string(&object)).transpose();
    written.map_err(|error| vec![Trouble { line: first, what: format!("cannot be written as YAML: {error}") }])
}

/// Kind, namespace and name for people.
fn named(object: &Value, default_namespace: &str) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let namespace = Some(text("/metadata/namespace")).filter(|name| !name.is_empty()).unwrap_or(default_namespace);
    let name = Some(text("/metadata/name")).filter(|name| !name.is_empty()).unwrap_or("(no name)");
    format!("{} {namespace}/{name}", text("/kind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_workload_keeps_its_text() {
        let text = "# kept\nkind: Service\nmetadata: {name: a}\n--- # b\nkind: ConfigMap\ndata: {x: \"1\"}\n---\n";
        let done = inject(text, "shop", &Mesh::default()).unwrap();
        assert_eq!((done.text.as_str(), done.workloads.len()), (text, 0));
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_line() {
        let text = "kind: Pod\nmetadata: {name: a}\n---\n\nkind: Pod\nmetadata: {name: b, annotations: \
                    {sidecar.istio.io/proxyCPU: many}}\nspec: {containers: [{name: c}]}\n---\na: [\n";
        let error = inject(text, "shop", &Mesh::default()).unwrap_err().to_string();
        for part in
            ["line 1: Pod shop/a: ", "line 5: Pod shop/b: annotation sidecar.istio.io/proxyCPU", "not valid YAML"]
        {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert_eq!(error.lines().count(), 3, "{error}");
    }

    #[test]
    fn words_that_older_readers_take_for_something_else_stay_words() {
        // Kubernetes reads YAML 1.1, where all of these would be a boolean, a number or nothing.
        let words = [
            "yes",
            "on",
            "y",
            "No",
            "012",
            "0x1F",
            "1_000",
            "1:30",
            "1e3",
            ".5",
            "~",
            "null",
            "2001-01-01",
            "0o7",
            "=",
            "<<",
        ];
        for word in words {
            let text = format!(
                "kind: Pod\nmetadata: {{name: a, annotations: {{word: {word:?}}}}}\nspec: {{containers: [{{name: c}}]}}\n"
            );
            let done = inject(&text, "shop", &Mesh::default()).unwrap();
            let line = done.text.lines().find(|line| line.trim_start().starts_with("word:")).unwrap();
            let quoted = line.contains('"') || line.contains('\'');
            assert!(quoted, "{word}: {line}");
        }
    }
}
