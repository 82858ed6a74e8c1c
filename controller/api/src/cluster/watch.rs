//! One kind, followed: what is there, then `Synced`, then every change, for ever.
//!
//! ```text
//! streaming list (or pages where it is not served) ──> watch ── 410, too old ──┐
//!      ^───────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! An object goes on as the text that the API server wrote, so that the reader decides how much of it is kept. Sources:
//! Kubernetes "API concepts" (watches, bookmarks, streaming lists: KEP-3157).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ferromesh_core::backoff::Backoff;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::resource::escape;
use super::{Cluster, ClusterError, Resource, read_whole};

/// Objects in one page of a list.
const PAGE: usize = 500;
/// The longest line of a watch, in bytes: etcd takes objects of 1.5 MB unless told otherwise.
const LONGEST_LINE: usize = 32 << 20;
/// How long one watch lasts, in seconds; the next one goes on where it ended.
const WATCH_SECONDS: u32 = 240;
/// A watch that is silent for longer is dead: it ends by itself before.
const SILENCE: Duration = Duration::from_secs(300);
/// How long before a kind that is not there, or that may not be read, is asked for again.
const ABSENT: Duration = Duration::from_secs(60);
/// How the API server marks the end of what was there, in a streaming list.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// What is followed.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The kind, in the versions that will do, the preferred one first.
    pub resources: Vec<Resource>,
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// Such as `metadata.name=istio`.
    pub fields: Option<String>,
    /// Such as `app=web`.
    pub labels: Option<String>,
    /// Only names, labels and so on.
    pub metadata_only: bool,
}

/// Namespace (empty where there is none) and name.
pub type Name = (Arc<str>, Arc<str>);

/// What happens.
#[derive(Debug)]
pub enum Change {
    /// An object is there, or different.
    Applied {
        /// Namespace and name.
        name: Name,
        /// The object as JSON.
        json: Box<RawValue>,
    },
    /// An object is gone.
    Deleted(Name),
    /// All that was there has been told of.
    Synced,
    /// It cannot be followed now; goes on trying.
    Failed(ClusterError),
}

impl Selection {
    /// All objects of a kind.
    pub fn all(resource: Resource) -> Self {
        Self { resources: vec![resource], namespace: None, fields: None, labels: None, metadata_only: false }
    }

    /// Those of one namespace.
    pub fn in_namespace(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    /// The one with this name (the right to it can be given by `resourceNames`).
    pub fn called(self, name: &str) -> Self {
        self.fields(&format!("metadata.name={name}"))
    }

    /// Those with these fields.
    pub fn fields(self, fields: &str) -> Self {
        Self { fields: Some(fields.to_owned()), ..self }
    }
}

/// Follows one selection; see [`follow`].
struct Follower {
    cluster: Cluster,
    selection: Selection,
    /// Which of the selection's versions is asked for.
    version: usize,
    known: BTreeSet<Name>,
    out: mpsc::Sender<Change>,
    pages_only: Arc<AtomicBool>,
}

/// Why a round ended.
enum End {
    /// Nobody listens any more.
    Closed,
    /// The API server, or the way to it.
    Error(ClusterError),
    /// What was seen is too old to go on from.
    Expired,
}

impl From<ClusterError> for End {
    fn from(error: ClusterError) -> Self {
        if error.code() == Some(410) { Self::Expired } else { Self::Error(error) }
    }
}

/// Follows `selection` until `out` is closed. `kinds` changes when a kind may have come or gone.
pub async fn follow(
    cluster: Cluster,
    selection: Selection,
    mut kinds: watch::Receiver<u64>,
    out: mpsc::Sender<Change>,
) {
    let mut follower =
        Follower { cluster, selection, version: 0, known: BTreeSet::new(), out, pages_only: Arc::default() };
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
    let mut rng = fastrand::Rng::new();
    loop {
        kinds.borrow_and_update();
        let wait = match follower.round(&mut backoff).await {
            End::Closed => return,
            End::Expired => backoff.next_delay(&mut rng),
            End::Error(error) if error.is_not_found() => {
                if follower.next_version() {
                    continue;
                }
                // The kind is not installed (any more): there are no objects of it.
                if !follower.forget_all_but(BTreeSet::new()).await || !follower.tell(Change::Synced).await {
                    return;
                }
                ABSENT
            }
            End::Error(error) => {
                let forbidden = error.is_forbidden();
                if !follower.tell(Change::Failed(error)).await {
                    return;
                }
                if forbidden { ABSENT } else { backoff.next_delay(&mut rng) + Duration::from_millis(50) }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = kinds.changed() => if changed.is_err() { tokio::time::sleep(wait).await },
            () = follower.out.closed() => return,
        }
    }
}

/// The fields that following needs, of an object, a list or an error.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Head {
    metadata: HeadMeta,
    code: u16,
    reason: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeadMeta {
    namespace: String,
    name: String,
    resource_version: String,
    r#continue: Option<String>,
}

/// Of a bookmark.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Mark {
    metadata: MarkMeta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MarkMeta {
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: HeadMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Follower {
    /// Lists, then watches until something ends it.
    async fn round(&mut self, backoff: &mut Backoff) -> End {
        let begun = if self.pages_only.load(Ordering::Relaxed) { self.pages().await } else { self.streamed().await };
        let mut version = match begun {
            Ok(version) => version,
            // 422 (or 400, before 1.30): streaming lists are not served here.
            Err(End::Error(error))
                if matches!(error.code(), Some(400 | 422)) && !self.pages_only.load(Ordering::Relaxed) =>
            {
                self.pages_only.store(true, Ordering::Relaxed);
                match self.pages().await {
                    Ok(version) => version,
                    Err(end) => return end,
                }
            }
            Err(end) => return end,
        };
        loop {
            backoff.reset();
            match self.watch(&format!("&resourceVersion={version}"), None).await {
                Ok(last) => version = if last.is_empty() { version } else { last },
                Err(end) => return end,
            }
        }
    }

    /// A streaming list: a watch that begins with all that is there. It ends here with the mark, and a plain watch
    /// goes on from there; that costs one request and keeps the two apart.
    async fn streamed(&mut self) -> Result<String, End> {
        let mut seen = BTreeSet::new();
        let query = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        let version = self.watch(query, Some(&mut seen)).await?;
        self.synced(seen).await?;
        Ok(version)
    }

    /// A list in pages.
    async fn pages(&mut self) -> Result<String, End> {
        let mut seen = BTreeSet::new();
        let mut next = String::new();
        loop {
            let path = self.path(&format!("limit={PAGE}{next}"));
            let what = format!("list {}", path.split('?').next().unwrap_or_default());
            let response = self.cluster.send("GET", &path, self.accept("List"), None).await?;
            let body = read_whole(response, &what).await?;
            let page: Page<'_> = serde_json::from_slice(&body).map_err(|error| ClusterError::Answer {
                what,
                line: error.line(),
                column: error.column(),
            })?;
            for item in page.items.into_iter().flatten() {
                let head: Head = serde_json::from_str(item.get()).unwrap_or_default();
                let name: Name = (head.metadata.namespace.into(), head.metadata.name.into());
                seen.insert(name.clone());
                self.known.insert(name.clone());
                if !self.tell(Change::Applied { name, json: item.to_owned() }).await {
                    return Err(End::Closed);
                }
            }
            match page.metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => next = format!("&continue={}", escape(&token)),
                None => {
                    self.synced(seen).await?;
                    return Ok(page.metadata.resource_version);
                }
            }
        }
    }

    /// What was known and not seen again has gone meanwhile.
    async fn synced(&mut self, seen: BTreeSet<Name>) -> Result<(), End> {
        let told = self.forget_all_but(seen).await && self.tell(Change::Synced).await;
        if told { Ok(()) } else { Err(End::Closed) }
    }

    async fn forget_all_but(&mut self, seen: BTreeSet<Name>) -> bool {
        let gone: Vec<Name> = self.known.difference(&seen).cloned().collect();
        self.known = seen;
        for name in gone {
            if !self.tell(Change::Deleted(name)).await {
                return false;
            }
        }
        true
    }

    /// Follows one watch to its end, or (with `initial`) to the mark. The version to go on from.
    async fn watch(&mut self, query: &str, mut initial: Option<&mut BTreeSet<Name>>) -> Result<String, End> {
        let seconds = WATCH_SECONDS + fastrand::u32(0..30);
        let path = self.path(&format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}{query}"));
        let response = self.cluster.send("GET", &path, self.accept(""), None).await?;
        let stream = response.into_body().into_data_stream().map_err(std::io::Error::other);
        let mut lines = FramedRead::new(StreamReader::new(stream), LinesCodec::new_with_max_length(LONGEST_LINE));
        let mut version = String::new();
        loop {
            let line = tokio::select! {
                () = self.out.closed() => return Err(End::Closed),
                line = tokio::time::timeout(SILENCE, lines.next()) => line,
            };
            let line = match line {
                Ok(Some(Ok(line))) => line,
                // Its time is over. A list that ends before its mark is none.
                Ok(None) if initial.is_none() => return Ok(version),
                Ok(None) => return Err(ClusterError::Unreachable("a list ended early".into()).into()),
                Ok(Some(Err(error))) => return Err(ClusterError::Unreachable(error.to_string()).into()),
                Err(_) => return Err(ClusterError::Unreachable(format!("a watch was silent for {SILENCE:?}")).into()),
            };
            let what = || format!("watch {}", path.split('?').next().unwrap_or_default());
            let read = |error: serde_json::Error| ClusterError::Answer {
                what: what(),
                line: error.line(),
                column: error.column(),
            };
            let line: Line<'_> = serde_json::from_str(&line).map_err(read)?;
            let head: Head = serde_json::from_str(line.object.get()).map_err(read)?;
            match line.r#type {
                "ERROR" => {
                    let Head { code, reason, message, .. } = head;
                    return Err(ClusterError::Status { code, reason, message, what: what() }.into());
                }
                "BOOKMARK" => {
                    version = head.metadata.resource_version;
                    let mark: Mark = serde_json::from_str(line.object.get()).unwrap_or_default();
                    if initial.is_some() && mark.metadata.annotations.contains_key(INITIAL_END) {
                        return Ok(version);
                    }
                }
                kind => {
                    version.clone_from(&head.metadata.resource_version);
                    let name: Name = (head.metadata.namespace.into(), head.metadata.name.into());
                    if !self.event(kind, name, line.object, initial.as_deref_mut()).await {
                        return Err(End::Closed);
                    }
                }
            }
        }
    }

    /// One object came, changed or went. False if nobody listens.
    async fn event(&mut self, kind: &str, name: Name, object: &RawValue, seen: Option<&mut BTreeSet<Name>>) -> bool {
        let deleted = kind == "DELETED";
        if let Some(seen) = seen {
            if deleted {
                seen.remove(&name)
            } else {
                seen.insert(name.clone())
            };
        }
        if deleted {
            self.known.remove(&name);
            return self.tell(Change::Deleted(name)).await;
        }
        self.known.insert(name.clone());
        self.tell(Change::Applied { name, json: object.to_owned() }).await
    }

    async fn tell(&self, change: Change) -> bool {
        self.out.send(change).await.is_ok()
    }

    /// Goes on to the next version; false (and back to the first) after the last one.
    fn next_version(&mut self) -> bool {
        self.version = (self.version + 1) % self.selection.resources.len().max(1);
        self.version != 0
    }

    fn accept(&self, list: &str) -> &'static str {
        match (self.selection.metadata_only, list) {
            (false, _) => "application/json",
            (true, "List") => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            (true, _) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        }
    }

    fn path(&self, query: &str) -> String {
        let Selection { resources, namespace, fields, labels, .. } = &self.selection;
        let place = resources.get(self.version).map(|resource| resource.all(namespace.as_deref()).path());
        let mut path = format!("{}?{query}", place.unwrap_or_default());
        for (key, value) in [("fieldSelector", fields), ("labelSelector", labels)] {
            if let Some(value) = value {
                path.push_str(&format!("&{key}={}", escape(value)));
            }
        }
        path
    }
}
