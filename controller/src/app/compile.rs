//! From a view to the snapshot that the xDS port serves: the border between translation and serving.

use std::sync::Arc;

use crate::envoyfilter::Facts;
use crate::index::{Changes, View};
use crate::serve::Snapshot;
use crate::serve::hub::Affected;

/// Makes resources of views.
pub trait Compile: Send + Sync + 'static {
    /// What to serve of `view`; may be lazy.
    fn snapshot(&self, view: Arc<View>) -> Arc<dyn Snapshot>;

    /// What became of the patches of EnvoyFilters in `view`.
    fn facts(&self, _view: &View) -> Facts {
        Facts::default()
    }

    /// Which types `changes`, which made `new` of `old`, may have changed, by client.
    fn affected(&self, changes: &Changes, old: &View, new: &View) -> Affected;
}
