//! Events in, an immutable [`View`] of the cluster and the set of what changed out. No I/O and no clock: the index is a
//! value that one task owns, a view is a snapshot that anybody may keep.

pub mod attachment;
pub mod client_certificates;
pub mod envoy_filters;
pub mod key;
pub mod kinds;
pub mod labels;
pub mod listeners;
pub mod mesh;
pub mod peer_authentication;
pub mod pods;
pub mod references;
pub mod rejection;
pub mod rules;
pub mod services;
pub mod table;
pub mod view;
pub mod workloads;

#[cfg(test)]
mod tests;

pub use key::{Key, ObjectRef};
pub use kinds::{Kind, Object, Stored};
pub use rejection::Rejection;
pub use table::Table;
pub use view::View;

use ferromesh_api::istio::MeshConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// How much a problem or finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work as it is written.
    Error,
    /// Something may not do what was meant.
    Warning,
    /// Worth knowing.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// Something that a source could not take up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// Where it is written.
    pub file: PathBuf,
    /// Which line, from 1; 0 where there is none.
    pub line: u64,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What a source reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An object is there, or is different now.
    Apply(Object),
    /// An object is gone.
    Delete(ObjectRef),
    /// Something could not be taken up. It stays until its file is `Resolved`.
    Problem(Problem),
    /// All that was said about this file is settled.
    Resolved {
        /// The file.
        file: PathBuf,
    },
    /// The source has reported all that was there when it began.
    Synced,
}

/// What a batch of events changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects that came, went or are different.
    pub objects: BTreeSet<ObjectRef>,
    /// MeshConfig is different.
    pub mesh: bool,
    /// The list of problems is different.
    pub problems: bool,
    /// A source said that it has reported everything that it began with.
    pub synced: usize,
}

impl Changes {
    /// True if nothing that a proxy could see changed.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && !self.mesh
    }
}

/// Holds the newest view and makes the next one.
#[derive(Clone)]
pub struct Index {
    view: View,
    defaults: Arc<MeshConfig>,
    problems: BTreeMap<PathBuf, Vec<Problem>>,
    mesh_problem: Option<Problem>,
    /// A good MeshConfig was read, or a source has said that there is none: it goes on where another is wrong.
    has_mesh: bool,
    synced: bool,
}

/// At most this many problems are kept for one file.
const PROBLEMS_PER_FILE: usize = 100;

impl Index {
    /// An empty index. `defaults` is MeshConfig where no ConfigMap says otherwise.
    pub fn new(defaults: MeshConfig) -> Self {
        let defaults = Arc::new(defaults);
        let view = View { mesh: defaults.clone(), ..View::default() };
        Self { view, defaults, problems: BTreeMap::new(), mesh_problem: None, has_mesh: false, synced: false }
    }

    /// Says whether GatewayClass `istio` is left to a real Istio.
    pub fn leaving_istio(mut self, leaves: bool) -> Self {
        self.view.leaves_istio = leaves;
        self
    }

    /// The newest view.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Applies a batch of events; says what changed. Read the new view with [`Index::view`].
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Changes {
        let mut changes = Changes::default();
        self.has_mesh |= self.synced && self.mesh_problem.is_none();
        for event in events {
            match event {
                Event::Apply(object) => {
                    let reference = object.reference();
                    if self.view.put(object) {
                        changes.objects.insert(reference);
                    }
                }
                Event::Delete(reference) => {
                    if self.view.take(&reference) {
                        changes.objects.insert(reference);
                    }
                }
                Event::Problem(problem) => {
                    let list = self.problems.entry(problem.file.clone()).or_default();
                    if list.len() < PROBLEMS_PER_FILE && !list.contains(&problem) {
                        list.push(problem);
                        changes.problems = true;
                    }
                }
                Event::Resolved { file } => changes.problems |= self.problems.remove(&file).is_some(),
                Event::Synced => changes.synced += 1,
            }
        }
        self.synced |= changes.synced > 0;
        if changes.objects.iter().any(|reference| reference.kind == Kind::ConfigMap) {
            self.read_mesh(&mut changes);
        }
        if changes.problems {
            let all = self.problems.values().flatten().chain(&self.mesh_problem).cloned();
            self.view.problems = Arc::new(all.collect());
        }
        changes
    }

    /// Takes MeshConfig from its ConfigMap; the last good one goes on where the new one cannot be read.
    fn read_mesh(&mut self, changes: &mut Changes) {
        let (mut mesh, mut problem, mut held) = (self.view.mesh.clone(), None, false);
        match mesh::from_config_maps(&self.view, &self.defaults.trust_domain) {
            Ok(Some(read)) => {
                self.has_mesh = true;
                mesh = Arc::new(read);
            }
            Ok(None) => mesh = self.defaults.clone(),
            Err(wrong) if self.has_mesh => problem = Some(wrong.problem("the last good one goes on")),
            Err(wrong) => {
                problem = Some(match &wrong.instead {
                    Some(instead) => {
                        mesh = instead.mesh.clone();
                        wrong.problem(&format!("and there was none before: {}", instead.replaced.join(", ")))
                    }
                    None => wrong.problem("and there was none before: nothing is published until it can be"),
                });
                held = wrong.instead.is_none();
            }
        }
        if mesh != self.view.mesh || held != self.view.is_held {
            (self.view.mesh, self.view.is_held) = (mesh, held);
            changes.mesh = true;
        }
        if problem != self.mesh_problem {
            self.mesh_problem = problem;
            changes.problems = true;
        }
    }
}
