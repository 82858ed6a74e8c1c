//! What became of each patch, over all workloads, and what proxies say of what they are sent.

use std::collections::BTreeMap;

use super::{Outcome, PatchReport};
use crate::index::{Key, Rejection};

/// What became of one patch of an EnvoyFilter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchOutcome {
    /// How many things it patched, in all proxies together.
    pub matched: usize,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Why it matched nothing on some proxy, if so.
    pub unmatched: Option<String>,
}

impl PatchOutcome {
    /// `applied`, `failed` or `no_match`.
    pub fn word(&self) -> &'static str {
        match self {
            Self { error: Some(_), .. } => "failed",
            Self { matched: 0, .. } => "no_match",
            Self { .. } => "applied",
        }
    }
}

/// What the view does not show: what translation found out, and what proxies answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The outcome of each patch, by EnvoyFilter, in order. A filter that no proxy has is not in it.
    pub patches: BTreeMap<Key, Vec<PatchOutcome>>,
    /// What proxies rejected, in order.
    pub rejections: Vec<Rejection>,
}

impl Facts {
    /// Takes in what became of the patches of one proxy.
    pub fn add(&mut self, reports: Vec<PatchReport>) {
        for report in reports {
            let outcomes = self.patches.entry(Key::new(report.namespace, report.name)).or_default();
            if outcomes.len() <= report.index {
                outcomes.resize(report.index + 1, PatchOutcome::default());
            }
            let Some(outcome) = outcomes.get_mut(report.index) else { continue };
            match report.outcome {
                Outcome::Applied(count) => outcome.matched += count,
                Outcome::NoMatch(why) => {
                    outcome.unmatched.get_or_insert(why);
                }
                Outcome::Failed(why) => {
                    outcome.error.get_or_insert(why);
                }
            }
        }
    }
}
