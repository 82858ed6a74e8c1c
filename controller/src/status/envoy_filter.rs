//! Conditions of EnvoyFilters: Accepted (every patch can be read), PatchesMatched (every patch found something).

use super::PatchOutcome;
use super::set::Set;
use crate::analyze::envoy_filter::useless_contexts;
use crate::index::envoy_filters::invalid_patches;
use crate::index::{Key, View};
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
    outcomes: Option<&[PatchOutcome]>,
    now: &Time,
    old: Option<&IstioStatus>,
) -> IstioStatus {
    let generation = filter.metadata.generation;
    let mut set = Set::new(generation, now, old.map(|old| old.conditions.as_slice()).unwrap_or_default());
    let wrong: Vec<_> = invalid_patches(filter);
    if wrong.is_empty() {
        set.add(types::ACCEPTED, true, reasons::ACCEPTED, "every patch can be read");
    } else {
        set.add(types::ACCEPTED, false, reasons::INVALID_PATCH, wrong.join("; "));
    }
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
    IstioStatus { conditions: set.done(), observed_generation: generation }
}
