//! A folder of YAML (or one file): its files are read, watched, and read again when they change.

use super::files::Files;
use super::{Source, SourceError, send_all};
use crate::index::Event;
use futures_util::future::BoxFuture;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// How a folder is read.
#[derive(Clone, Debug)]
pub struct FolderOptions {
    /// Namespace of objects that name none.
    pub default_namespace: String,
    /// Objects under `<folder>/<ns>/…` that name no namespace are in `<ns>`; those right in the folder are in
    /// `default_namespace`.
    pub namespace_by_folder: bool,
    /// Namespaces of single files (path within the folder), for `kubectl apply -n <ns> -f <file>`. Stronger than both.
    pub file_namespaces: BTreeMap<PathBuf, String>,
    /// Whether changes are waited for by polling only.
    pub polling_only: bool,
    /// How often files are looked at where the system does not tell of changes.
    pub poll_interval: Duration,
    /// How long the folder must have been told to have changed before it is read.
    pub debounce: Duration,
}

impl Default for FolderOptions {
    fn default() -> Self {
        Self {
            default_namespace: "default".to_owned(),
            namespace_by_folder: false,
            file_namespaces: BTreeMap::new(),
            polling_only: false,
            poll_interval: Duration::from_millis(500),
            debounce: Duration::from_millis(50),
        }
    }
}

/// Files of more bytes than this are refused.
const LARGEST_FILE: u64 = 8 << 20;
/// More files than this are passed over.
const MOST_FILES: usize = 10_000;
/// Folders deeper than this are passed over (links can make a ring).
const DEEPEST: usize = 16;
/// Where the system tells of changes, files are looked at this seldom besides.
const BACKSTOP: Duration = Duration::from_secs(5);

/// The source.
pub struct Folder {
    path: PathBuf,
    options: FolderOptions,
}

impl Folder {
    /// The folder (or file) at `path`, which must be readable.
    pub fn new(path: impl Into<PathBuf>, options: FolderOptions) -> Result<Self, SourceError> {
        let path = path.into();
        match path.metadata().and_then(|meta| if meta.is_dir() { std::fs::read_dir(&path).map(drop) } else { Ok(()) }) {
            Ok(()) => Ok(Self { path, options }),
            Err(error) => Err(SourceError::Unreadable { path, error }),
        }
    }
}

impl Source for Folder {
    fn name(&self) -> String {
        format!("folder {}", self.path.display())
    }

    fn run(self: Box<Self>, events: mpsc::Sender<Event>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(watch(*self, events))
    }
}

async fn watch(folder: Folder, events: mpsc::Sender<Event>) -> Result<(), SourceError> {
    let (told, mut changes) = mpsc::channel::<()>(1);
    let watcher = if folder.options.polling_only { None } else { watcher(&folder.path, told.clone()) };
    let interval = if watcher.is_some() { BACKSTOP } else { folder.options.poll_interval };
    let debounce = folder.options.debounce;
    let mut reader = Reader { folder, files: Files::default(), stamps: BTreeMap::new() };
    let (mut everything, mut first) = (true, true);
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let batch = reader.read(everything);
            (reader, batch)
        });
        // A reader that panicked has lost its state; the source ends and says so.
        let Ok((back, mut batch)) = read.await else {
            tracing::error!("reading the folder failed unexpectedly; its changes are not seen any more");
            return Ok(());
        };
        reader = back;
        if std::mem::take(&mut first) {
            batch.push(Event::Synced);
        }
        if !send_all(&events, batch).await {
            return Ok(());
        }
        everything = tokio::select! {
            () = events.closed() => return Ok(()),
            Some(()) = changes.recv() => {
                tokio::time::sleep(debounce).await;
                while changes.try_recv().is_ok() {}
                true
            }
            () = tokio::time::sleep(interval) => false,
        };
    }
}

/// Asks the system to tell of changes. None where it cannot.
fn watcher(path: &Path, told: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        // Our own reading is told of too, and must not be taken for a change.
        let read_only =
            |kind: &EventKind| matches!(kind, EventKind::Access(kind) if *kind != AccessKind::Close(AccessMode::Write));
        if !event.is_ok_and(|event| read_only(&event.kind)) {
            // Full means that a change is waiting already.
            let _ = told.try_send(());
        }
    };
    // A file is watched through its folder: editors put a new file in its place.
    let watched = if path.is_dir() {
        path
    } else {
        path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    };
    let mode = if path.is_dir() { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
    let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
        watcher.watch(watched, mode)?;
        Ok(watcher)
    });
    watcher.inspect_err(|error| tracing::info!(%error, path = %path.display(), "files are polled")).ok()
}

/// What a file looked like when it was read last.
type Stamp = (Option<SystemTime>, u64);

struct Reader {
    folder: Folder,
    files: Files,
    stamps: BTreeMap<PathBuf, Stamp>,
}

impl Reader {
    /// Reads what changed (or `everything`) and says what follows.
    fn read(&mut self, everything: bool) -> Vec<Event> {
        let root = self.folder.path.clone();
        let mut found = BTreeMap::new();
        let listed = if root.is_dir() {
            list(&root, &mut Vec::new(), &mut found)
        } else {
            root.metadata().map(|meta| found.extend([(root.clone(), stamp(&meta))]))
        };
        if let Err(error) = listed {
            // Gone, or not readable just now: what was good goes on until the folder is back.
            self.files.unreadable(&root, &error.to_string());
            return self.files.settle();
        }
        for (path, stamp) in &found {
            if !everything && self.stamps.get(path) == Some(stamp) {
                continue;
            }
            if stamp.1 > LARGEST_FILE {
                self.files.unreadable(path, &format!("it has {} bytes, more than {LARGEST_FILE}", stamp.1));
                continue;
            }
            match std::fs::read_to_string(path) {
                Ok(text) => self.files.update(path, &self.namespace(path), &text),
                Err(error) => self.files.unreadable(path, &error.to_string()),
            }
        }
        self.files.retain(&found.keys().cloned().collect::<BTreeSet<_>>());
        self.stamps = found;
        self.files.settle()
    }

    /// The namespace of objects in a file that name none.
    fn namespace(&self, path: &Path) -> String {
        let options = &self.folder.options;
        let inside = path.strip_prefix(&self.folder.path).unwrap_or(path);
        if let Some(namespace) = options.file_namespaces.get(inside).or_else(|| options.file_namespaces.get(path)) {
            return namespace.clone();
        }
        let mut parts = inside.components();
        match (options.namespace_by_folder, parts.next(), parts.next()) {
            (true, Some(first), Some(_)) => first.as_os_str().to_string_lossy().into_owned(),
            _ => options.default_namespace.clone(),
        }
    }
}

fn stamp(meta: &std::fs::Metadata) -> Stamp {
    (meta.modified().ok(), meta.len())
}

/// Finds the YAML and JSON files below a folder; hidden ones are passed over, and what is no file (a pipe would be waited
/// for). Links are followed, but not back into a folder of `above`.
fn list(folder: &Path, above: &mut Vec<PathBuf>, found: &mut BTreeMap<PathBuf, Stamp>) -> std::io::Result<()> {
    let real = folder.canonicalize()?;
    if above.contains(&real) || above.len() > DEEPEST {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder)?;
    above.push(real);
    for entry in entries {
        // One that cannot be read any more has gone.
        let Ok(path) = entry.map(|entry| entry.path()) else { continue };
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // A file that went away since it was listed, or a link to nothing, is not there.
        let Ok(meta) = path.metadata() else { continue };
        if hidden || found.len() >= MOST_FILES {
            continue;
        }
        if meta.is_dir() {
            if let Err(error) = list(&path, above, found) {
                tracing::warn!(%error, path = %path.display(), "a folder cannot be read and is passed over");
            }
        } else if meta.is_file()
            && path.extension().is_some_and(|word| word == "yaml" || word == "yml" || word == "json")
        {
            found.insert(path, stamp(&meta));
        }
    }
    above.pop();
    Ok(())
}
