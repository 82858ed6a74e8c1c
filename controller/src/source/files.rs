//! The texts of files in, events out: which object counts when two files have it, and what goes on when a file is bad.
//! No I/O, so that every case is a table test.

use super::parse;
use crate::index::{Event, Object, ObjectRef, Problem, Severity};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is known of each file, and what was reported.
#[derive(Default)]
pub struct Files {
    files: BTreeMap<PathBuf, File>,
    published: BTreeMap<ObjectRef, Object>,
    reported: BTreeMap<PathBuf, Vec<Problem>>,
}

#[derive(Default)]
struct File {
    objects: BTreeMap<ObjectRef, (u64, Object)>,
    problems: Vec<Problem>,
}

impl Files {
    /// Takes the text of a file; `namespace` is for objects that name none.
    pub fn update(&mut self, path: &Path, namespace: &str, text: &str) {
        let parsed = parse::documents(text);
        let keep = parsed.has_errors();
        let file = self.files.entry(path.to_owned()).or_default();
        let old = std::mem::take(&mut file.objects);
        let problem = |severity, line, message| Problem { severity, file: path.to_owned(), line, message };
        file.problems = parsed
            .problems
            .into_iter()
            .map(|trouble| problem(trouble.severity, trouble.line, trouble.message))
            .collect();
        for found in parsed.objects {
            let mut object = found.object;
            if !object.kind().namespaced() {
                object.metadata_mut().namespace = None;
            } else if object.metadata().namespace.as_deref().unwrap_or_default().is_empty() {
                object.metadata_mut().namespace = Some(namespace.to_owned());
            }
            let reference = object.reference();
            if let Some((line, _)) = file.objects.get(&reference) {
                let message = format!("{reference} is written twice in this file; the one of line {line} counts");
                file.problems.push(problem(Severity::Warning, found.line, message));
                continue;
            }
            file.objects.insert(reference, (found.line, object));
        }
        if keep {
            // A document of this file cannot be read: what was good before goes on.
            for (reference, object) in old {
                file.objects.entry(reference).or_insert(object);
            }
        }
    }

    /// Takes note that a file cannot be read; its last good objects go on.
    pub fn unreadable(&mut self, path: &Path, why: &str) {
        let message = format!("cannot be read, its last good objects go on: {why}");
        let problem = Problem { severity: Severity::Error, file: path.to_owned(), line: 0, message };
        self.files.entry(path.to_owned()).or_default().problems = vec![problem];
    }

    /// Forgets every file that is not in `present`.
    pub fn retain(&mut self, present: &BTreeSet<PathBuf>) {
        self.files.retain(|path, _| present.contains(path));
    }

    /// What changed since the last call: deletions, then objects, then problems.
    pub fn settle(&mut self) -> Vec<Event> {
        let mut wanted: BTreeMap<&ObjectRef, (&Path, &Object)> = BTreeMap::new();
        let mut problems: BTreeMap<PathBuf, Vec<Problem>> = BTreeMap::new();
        for (path, file) in &self.files {
            let list = problems.entry(path.clone()).or_default();
            list.extend(file.problems.iter().cloned());
            for (reference, (line, object)) in &file.objects {
                if let Some((first, _)) = wanted.get(reference) {
                    let message = format!(
                        "{reference} is also in {}, which counts since it comes first; remove one",
                        first.display()
                    );
                    list.push(Problem { severity: Severity::Warning, file: path.clone(), line: *line, message });
                } else {
                    wanted.insert(reference, (path, object));
                }
            }
        }
        let mut events = Vec::new();
        let gone = self.published.keys().filter(|reference| !wanted.contains_key(reference));
        events.extend(gone.cloned().map(Event::Delete));
        let changed = wanted.iter().filter(|(reference, (_, object))| self.published.get(**reference) != Some(*object));
        events.extend(changed.map(|(_, (_, object))| Event::Apply((*object).clone())));
        self.published =
            wanted.into_iter().map(|(reference, (_, object))| (reference.clone(), object.clone())).collect();
        problems.retain(|_, list| !list.is_empty());
        let settled = self.reported.iter().filter(|(path, list)| problems.get(*path) != Some(*list));
        events.extend(settled.map(|(path, _)| Event::Resolved { file: path.clone() }));
        let new = problems.iter().filter(|(path, list)| self.reported.get(*path) != Some(*list));
        events.extend(new.flat_map(|(_, list)| list.iter().cloned().map(Event::Problem)));
        self.reported = problems;
        events
    }
}
