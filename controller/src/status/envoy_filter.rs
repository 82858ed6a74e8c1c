//! Conditions of EnvoyFilters: Accepted (every patch can be read), PatchesMatched (every patch found something).

use super::PatchOutcome;
use super::set::Set;
use crate::analyze::envoy_filter::useless_contexts;
use crate::index::{Key, View};
use ferromesh_api::Time;
use ferromesh_api::conditions::{reasons, types};
use ferromesh_api::istio::EnvoyFilter;
use ferromesh_api::istio::envoy_filter::{ApplyTo, ConfigPatch, PatchContext, PatchOperation};
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
                    None if outcome.matched == 0 => unmatched.push(format!("configPatches[{index}] matches nothing")),
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

/// What cannot be read in the patches, by index.
pub fn invalid_patches(filter: &EnvoyFilter) -> Vec<String> {
    let patches = filter.spec.config_patches.iter().enumerate();
    patches.filter_map(|(index, patch)| invalid(patch).map(|what| format!("configPatches[{index}]: {what}"))).collect()
}

fn invalid(patch: &ConfigPatch) -> Option<String> {
    match &patch.apply_to {
        ApplyTo::Invalid => return Some("applyTo must be written".to_owned()),
        ApplyTo::Unknown(word) => return Some(format!("applyTo {word} is not known")),
        _ => {}
    }
    if let PatchContext::Unknown(word) = patch.context() {
        return Some(format!("match.context {word} is not known"));
    }
    match &patch.patch.operation {
        PatchOperation::Invalid => Some("patch.operation must be written".to_owned()),
        PatchOperation::Unknown(word) => Some(format!("patch.operation {word} is not known")),
        PatchOperation::Remove => None,
        other if patch.patch.value.is_null() => Some(format!("patch.value must be written for {other}")),
        _ => None,
    }
}
