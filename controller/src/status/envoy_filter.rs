//! Conditions of EnvoyFilters: Accepted (every patch can be read), PatchesMatched (every patch found something),
//! Programmed (no proxy rejects what it patches).

use super::Facts;
use super::set::Set;
use crate::analyze::envoy_filter::useless_contexts;
use crate::envoyfilter::broken;
use crate::index::envoy_filters::may_cause;
use crate::index::{Key, View, rejection};
use ferromesh_api::Time;
use ferromesh_api::conditions::{reasons, types};
use ferromesh_api::istio::EnvoyFilter;
use ferromesh_api::istio::selector::IstioStatus;

/// The status of an EnvoyFilter. Where translation has not said what became of the patches, what can be known from the
/// selector and the contexts is said.
pub fn status(
    view: &View,
    key: &Key,
    filter: &EnvoyFilter,
    facts: &Facts,
    now: &Time,
    old: Option<&IstioStatus>,
) -> IstioStatus {
    let generation = filter.metadata.generation;
    let mut set = Set::new(generation, now, old.map(|old| old.conditions.as_slice()).unwrap_or_default());
    let broken = broken(filter);
    if broken.is_empty() {
        set.add(types::ACCEPTED, true, reasons::ACCEPTED, "every patch can be read");
    } else {
        let wrong: Vec<_> = broken.iter().map(|(index, why)| format!("configPatches[{index}]: {why}")).collect();
        set.add(types::ACCEPTED, false, reasons::INVALID_PATCH, wrong.join("; "));
    }
    let outcomes = facts.patches.get(key);
    let mut unmatched: Vec<String> = Vec::new();
    match outcomes {
        Some(outcomes) => {
            for (index, outcome) in outcomes.iter().enumerate() {
                match &outcome.error {
                    Some(error) => unmatched.push(format!("configPatches[{index}]: {error}")),
                    None if outcome.matched == 0 => {
                        let why = outcome.unmatched.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
                        unmatched.push(format!("configPatches[{index}] matches nothing{why}"));
                    }
                    None => {}
                }
            }
        }
        None => unmatched = useless_contexts(view, key, filter),
    }
    if !unmatched.is_empty() {
        set.add(types::PATCHES_MATCHED, false, reasons::NO_MATCH, unmatched.join("; "));
    } else if outcomes.is_some() {
        set.add(types::PATCHES_MATCHED, true, reasons::MATCHED, "every patch found something to patch");
    }
    let rejected: Vec<_> = facts.rejections.iter().filter(|one| may_cause(view, key, filter, one)).collect();
    // Said in both cases, so that what was written of an earlier answer does not stay.
    if rejected.is_empty() {
        set.add(types::PROGRAMMED, true, reasons::PROGRAMMED, "no proxy rejects what it patches");
    } else {
        let what = format!("perhaps for this filter: {}", rejection::summary(&rejected));
        set.add(types::PROGRAMMED, false, reasons::INVALID, what);
    }
    IstioStatus { conditions: set.done(), observed_generation: generation }
}
