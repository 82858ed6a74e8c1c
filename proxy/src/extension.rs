//! Configurations that come by their name from the control plane (ECDS), and the places that wait for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use ferromesh_proto::Any;
use parking_lot::Mutex;

use crate::config::ConfigError;

/// Puts what was prepared into its place.
pub type Commit = Box<dyn FnOnce()>;

/// A place that a named configuration fills. `C` is what it is made with.
pub trait Place<C>: Send + Sync {
    /// Makes what the configuration describes; it serves from the commit on.
    ///
    /// # Errors
    /// If it is of a type that the place does not allow, or its own decoder refuses it.
    fn prepare(self: Arc<Self>, config: &Any, context: &C) -> Result<Commit, ConfigError>;

    /// The configuration is gone: the default serves.
    fn clear(&self);
}

/// Configurations by name, and the places that wait for them.
pub struct ExtensionStore<C>(Mutex<BTreeMap<String, Extension<C>>>);

struct Extension<C> {
    config: Option<Any>,
    places: Vec<Weak<dyn Place<C>>>,
}

impl<C> Default for ExtensionStore<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Default for Extension<C> {
    fn default() -> Self {
        Self { config: None, places: Vec::new() }
    }
}

impl<C> ExtensionStore<C> {
    /// Adds a place; what the store already has fills it at once.
    ///
    /// # Errors
    /// If the place refuses what the store has.
    pub fn subscribe(&self, name: &str, place: Arc<dyn Place<C>>, context: &C) -> Result<(), ConfigError> {
        let mut named = self.0.lock();
        let extension = named.entry(name.to_owned()).or_default();
        if let Some(config) = &extension.config {
            let commit = place.clone().prepare(config, context)?;
            commit();
        }
        extension.places.retain(|place| place.strong_count() > 0);
        extension.places.push(Arc::downgrade(&place));
        Ok(())
    }

    /// Sets a configuration; every place that names it takes it, or none.
    ///
    /// # Errors
    /// If it is of a type that a place does not allow, or its own decoder refuses it.
    pub fn set(&self, name: &str, config: Any, context: &C) -> Result<(), ConfigError> {
        let mut named = self.0.lock();
        let extension = named.entry(name.to_owned()).or_default();
        let places = extension.places.iter().filter_map(Weak::upgrade);
        let prepared = places.map(|place| place.prepare(&config, context)).collect::<Result<Vec<_>, _>>()?;
        prepared.into_iter().for_each(|commit| commit());
        extension.config = Some(config);
        Ok(())
    }

    /// Takes a configuration away: the defaults serve.
    pub fn remove(&self, name: &str) {
        let mut named = self.0.lock();
        if let Some(extension) = named.get_mut(name) {
            extension.config = None;
            extension.places.iter().filter_map(Weak::upgrade).for_each(|place| place.clear());
        }
    }

    /// Names that living places wait for or use.
    pub fn names(&self) -> BTreeSet<String> {
        let mut named = self.0.lock();
        named.retain(|_, extension| extension.places.iter().any(|place| place.strong_count() > 0));
        named.keys().cloned().collect()
    }
}
