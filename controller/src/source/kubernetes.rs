//! The API server as a source: every kind is followed by itself, objects are cut down to what the controller uses, and
//! the statuses that they have go to [`Observed`], for the one who writes them.
//!
//! ```text
//! follow (one task a kind) ──text──> read + trim ──> events, and Synced once every kind has been told of
//!                                         └──────> Observed (statuses)
//! ```

mod observed;
mod read;
mod trim;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ferromesh_api::cluster::watch::{Change, Selection, follow};
use ferromesh_api::cluster::{Cluster, Resource};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Source, SourceError};
use crate::index::view::SYSTEM_NAMESPACE;
use crate::index::{Event, Kind, ObjectRef, Problem, Severity, mesh};

pub use observed::{Observed, Seen};
pub(crate) use read::object as read_object;

/// Changes that may wait between a kind's connection and its reader.
const WAITING: usize = 64;
const CRDS: Resource = Resource::cluster_wide("apiextensions.k8s.io", "v1", "customresourcedefinitions");
/// Of Secrets, those that never hold a Gateway's certificate: Helm's own are large, tokens are none of our business.
const SECRETS: &str =
    "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!=kubernetes.io/dockerconfigjson";
/// Pods that have ended have no address any more.
const LIVE_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Where Secrets may be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretScope {
    /// Everywhere.
    All,
    /// In these namespaces.
    Namespaces(BTreeSet<String>),
    /// Nowhere.
    #[default]
    None,
}

impl SecretScope {
    /// From `*`, or names with commas between them.
    pub fn parse(text: &str) -> Self {
        let names: BTreeSet<String> =
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        match (names.contains("*"), names.is_empty()) {
            (true, _) => Self::All,
            (_, true) => Self::None,
            _ => Self::Namespaces(names),
        }
    }

    /// Whether a namespace is among them.
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => names.contains(namespace),
            Self::None => false,
        }
    }
}

/// The source.
pub struct Kubernetes {
    cluster: Cluster,
    secrets: SecretScope,
    observed: Observed,
}

impl Kubernetes {
    /// A source of everything that the controller reads, with the Secrets of `secrets` only.
    pub fn new(cluster: Cluster, secrets: SecretScope) -> Self {
        Self { cluster, secrets, observed: Observed::default() }
    }

    /// The statuses as the API server has them, kept up to date while the source runs.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// What is followed, for each kind.
    fn selections(&self) -> Vec<(Kind, Selection)> {
        let mut all = Vec::new();
        for kind in Kind::ALL.iter().copied() {
            let every = Selection { resources: resources(kind), ..Selection::all(CRDS) };
            match kind {
                // Nobody asks for these here: pods say what runs, and under which account.
                Kind::Deployment | Kind::ServiceAccount => {}
                Kind::Pod => all.push((kind, every.fields(LIVE_PODS))),
                Kind::ConfigMap => {
                    let roots = [SYSTEM_NAMESPACE, mesh::DEFAULT_ROOT];
                    all.extend(roots.map(|root| (kind, every.clone().in_namespace(root).called(mesh::NAME))));
                    // Roots by which gateways know their clients lie where Gateways' Secrets do.
                    match &self.secrets {
                        SecretScope::All => all.push((kind, every)),
                        SecretScope::Namespaces(names) => {
                            all.extend(names.iter().map(|name| (kind, every.clone().in_namespace(name))));
                        }
                        SecretScope::None => {}
                    }
                }
                Kind::Secret => match &self.secrets {
                    SecretScope::All => all.push((kind, every.fields(SECRETS))),
                    SecretScope::Namespaces(names) => {
                        all.extend(names.iter().map(|name| (kind, every.clone().in_namespace(name).fields(SECRETS))));
                    }
                    SecretScope::None => {}
                },
                _ => all.push((kind, every)),
            }
        }
        all
    }
}

/// The kind as paths name it, in each version that is read.
pub fn resources(kind: Kind) -> Vec<Resource> {
    let one = |version: &&'static str| Resource {
        group: kind.group(),
        version,
        plural: kind.plural(),
        namespaced: kind.namespaced(),
    };
    kind.versions().iter().map(one).collect()
}

impl Source for Kubernetes {
    fn name(&self) -> String {
        "kubernetes".to_owned()
    }

    fn run(self: Box<Self>, events: mpsc::Sender<Event>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(run(*self, events))
    }
}

async fn run(source: Kubernetes, events: mpsc::Sender<Event>) -> Result<(), SourceError> {
    // Ends with this function, and with it every follower.
    let mut tasks = JoinSet::new();
    let (kinds, kinds_changed) = watch::channel(0);
    tasks.spawn(follow_kinds(source.cluster.clone(), kinds));
    let selections = source.selections();
    let (synced, mut syncs) = mpsc::channel(selections.len().max(1));
    let mut left = selections.len();
    for (kind, selection) in selections {
        let (changes, receiver) = mpsc::channel(WAITING);
        let reader =
            Reader { kind, selection: selection.clone(), observed: source.observed.clone(), events: events.clone() };
        tasks.spawn(follow(source.cluster.clone(), selection, kinds_changed.clone(), changes));
        tasks.spawn(reader.run(receiver, synced.clone()));
    }
    while left > 0 {
        tokio::select! {
            () = events.closed() => return Ok(()),
            Some(()) = syncs.recv() => left -= 1,
        }
    }
    // The senders of the readers all wrote to `events` before they told of it, so that this comes last.
    let _ = events.send(Event::Synced).await;
    events.closed().await;
    Ok(())
}

/// Tells whenever a kind may have come or gone.
async fn follow_kinds(cluster: Cluster, kinds: watch::Sender<u64>) {
    let selection = Selection { metadata_only: true, ..Selection::all(CRDS) };
    let (changes, mut receiver) = mpsc::channel(WAITING);
    let (_never, unchanged) = watch::channel(0);
    let read = async {
        while let Some(change) = receiver.recv().await {
            match change {
                Change::Applied { .. } | Change::Deleted(_) => kinds.send_modify(|count| *count += 1),
                Change::Failed(error) => tracing::warn!(%error, "cannot follow the kinds that are installed"),
                Change::Synced => {}
            }
        }
    };
    tokio::join!(follow(cluster, selection, unchanged, changes), read);
}

/// Turns what is told of one selection into events.
struct Reader {
    kind: Kind,
    selection: Selection,
    observed: Observed,
    events: mpsc::Sender<Event>,
}

impl Reader {
    async fn run(self, mut changes: mpsc::Receiver<Change>, synced: mpsc::Sender<()>) {
        let mut synced = Some(synced);
        let place = self.place();
        while let Some(change) = changes.recv().await {
            let (events, settled) = self.events(change, &place);
            if !super::send_all(&self.events, events).await {
                return;
            }
            if settled && let Some(synced) = synced.take() {
                let _ = synced.send(()).await;
            }
        }
    }

    /// What the reader of problems is shown where no object can be named.
    fn place(&self) -> PathBuf {
        match &self.selection.namespace {
            Some(namespace) => PathBuf::from(format!("{}s of namespace {namespace}", self.kind)),
            None => PathBuf::from(format!("{}s", self.kind)),
        }
    }

    /// The events of one change, and whether all that was there has been told of with it.
    fn events(&self, change: Change, place: &Path) -> (Vec<Event>, bool) {
        match change {
            Change::Applied { name, json } => {
                let reference = ObjectRef::new(self.kind, name.0, name.1);
                (self.applied(reference, json.get()), false)
            }
            Change::Deleted((namespace, name)) => {
                let reference = ObjectRef::new(self.kind, namespace, name);
                self.observed.remove(&reference);
                let file = PathBuf::from(reference.to_string());
                (vec![Event::Resolved { file }, Event::Delete(reference)], false)
            }
            Change::Synced => (vec![Event::Resolved { file: place.to_path_buf() }], true),
            Change::Failed(error) => {
                tracing::warn!(%error, what = %place.display(), "cannot be followed now; what is known goes on");
                let forbidden = error.is_forbidden();
                let severity = if forbidden { Severity::Error } else { Severity::Warning };
                let message = error.to_string();
                let problem = Problem { severity, file: place.to_path_buf(), line: 0, message };
                // What may not be read is not there; what cannot be reached may be.
                (vec![Event::Resolved { file: place.to_path_buf() }, Event::Problem(problem)], forbidden)
            }
        }
    }

    fn applied(&self, reference: ObjectRef, json: &str) -> Vec<Event> {
        let file = PathBuf::from(reference.to_string());
        let mut events = vec![Event::Resolved { file: file.clone() }];
        match read::object(self.kind, json) {
            Ok(read) => {
                if let Some(seen) = read.seen {
                    self.observed.put(reference, seen);
                }
                if !read.unknown.is_empty() {
                    let message = format!("not known, passed over: {}", read.unknown.join(", "));
                    let severity = Severity::Warning;
                    events.push(Event::Problem(Problem { severity, file, line: 0, message }));
                }
                events.push(Event::Apply(read.object));
            }
            // The last version that could be read goes on.
            Err(error) => {
                let message = format!("cannot be read, the last good version goes on: {error}");
                events.push(Event::Problem(Problem { severity: Severity::Error, file, line: 0, message }));
            }
        }
        events
    }
}
