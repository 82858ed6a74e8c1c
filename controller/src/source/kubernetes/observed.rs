//! The statuses that objects have in the API server, for the one who writes them. Not in the view: what we wrote
//! ourselves must not make a new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::index::ObjectRef;

/// What an object's writer must know.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// `metadata.resourceVersion`: a write that names it fails if the object changed since.
    pub version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status`.
    pub status: Value,
}

impl Seen {
    /// From an object as the API server has it.
    pub(crate) fn of(object: &Value) -> Self {
        let version =
            object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
        Self { version, generation, status: object.get("status").cloned().unwrap_or_default() }
    }
}

/// The newest of every object; clones share it.
#[derive(Clone)]
pub struct Observed {
    objects: Arc<Mutex<BTreeMap<ObjectRef, Arc<Seen>>>>,
    changed: watch::Sender<u64>,
}

impl Default for Observed {
    fn default() -> Self {
        Self { objects: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Observed {
    /// The newest of one object.
    pub fn get(&self, reference: &ObjectRef) -> Option<Arc<Seen>> {
        self.objects.lock().get(reference).cloned()
    }

    /// Tells whenever one changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What was just written and has not been told of yet.
    pub(crate) fn written(&self, reference: &ObjectRef, seen: Seen) {
        if let Some(place) = self.objects.lock().get_mut(reference) {
            *place = Arc::new(seen);
        }
    }

    pub(super) fn put(&self, reference: ObjectRef, seen: Seen) {
        self.objects.lock().insert(reference, Arc::new(seen));
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn remove(&self, reference: &ObjectRef) {
        if self.objects.lock().remove(reference).is_some() {
            self.changed.send_modify(|count| *count += 1);
        }
    }
}
