//! Readiness: named checks, each set by the part that it is about, read by the admin server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The checks of one daemon. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

/// One check, in the hands of the part that it is about. A check is not ready until said otherwise.
#[derive(Debug, Clone)]
pub struct Check {
    health: Health,
    name: &'static str,
}

impl Health {
    /// No checks: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that is not ready yet. The name is fixed in the program, so their number is bounded.
    pub fn check(&self, name: &'static str) -> Check {
        self.lock().insert(name, Some("not started".into()));
        Check { health: self.clone(), name }
    }

    /// Whether each check is ready.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Option::is_none)
    }

    /// The checks that are not ready, with the reason of each.
    pub fn waiting_for(&self) -> Vec<(&'static str, String)> {
        self.lock().iter().filter_map(|(name, reason)| Some((*name, reason.clone()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check {
    /// Says that this part is ready.
    pub fn ready(&self) {
        self.health.lock().insert(self.name, None);
    }

    /// Says that this part is not ready, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.health.lock().insert(self.name, Some(reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_ready_when_each_check_is() {
        let health = Health::new();
        assert!(health.is_ready());
        let (source, certs) = (health.check("source"), health.check("certificates"));
        source.ready();
        assert_eq!(health.waiting_for(), [("certificates", "not started".to_owned())]);
        certs.ready();
        assert!(health.is_ready());
        source.not_ready("the folder is gone");
        assert_eq!(health.waiting_for(), [("source", "the folder is gone".to_owned())]);
    }
}
