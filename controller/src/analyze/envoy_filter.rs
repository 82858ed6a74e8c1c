//! EnvoyFilters that cannot have an effect: selected by labels that only gateways have but patching sidecars (or the other
//! way round), selecting nothing, or written wrongly.

use super::{BOTH_ROOTS, Finding, INVALID, NO_WORKLOAD, NOT_FOUND, NOT_SUPPORTED, PATCH_FAILED, PATCHES_NOTHING};
use crate::envoyfilter::{Facts, PatchOutcome, broken};
use crate::index::workloads::{self, Workload};
use crate::index::{Key, Kind, ObjectRef, Severity, View, envoy_filters};
use ferromesh_api::gateway_api::GROUP;
use ferromesh_api::istio::EnvoyFilter;
use ferromesh_api::istio::envoy_filter::PatchContext;
use ferromesh_api::labels as keys;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn analyze(view: &View, facts: &Facts, workloads: &[Workload], findings: &mut Vec<Finding>) {
    for (key, filter) in view.envoy_filters.iter() {
        let object = ObjectRef { kind: Kind::EnvoyFilter, key: key.clone() };
        let broken = broken(filter);
        for (index, why) in &broken {
            findings.push(Finding {
                severity: Severity::Error,
                // A value may be of a later Envoy's messages: that is no reason not to let the object in.
                code: if why.starts_with("patch.value") { PATCH_FAILED } else { INVALID },
                object: object.clone(),
                message: format!("configPatches[{index}]: {why}"),
                remedy: "Mend it by Istio's EnvoyFilter reference; without it resources stay as they are".to_owned(),
            });
        }
        let targets = targets(view, key, filter, &object);
        let useless = if targets.is_empty() { useless(view, workloads, key, filter, &object) } else { None };
        if useless.is_none() && targets.is_empty() {
            let outcomes = facts.patches.get(key).into_iter().flatten().enumerate();
            let usable = outcomes.filter(|(index, _)| !broken.contains_key(index));
            findings.extend(usable.filter_map(|(index, outcome)| in_vain(&object, index, outcome)));
        }
        findings.extend(targets);
        findings.extend(useless);
        both_roots(view, key, &object, findings);
    }
}

/// Targets that are not there, or of a kind that is not supported.
fn targets(view: &View, key: &Key, filter: &EnvoyFilter, object: &ObjectRef) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, target) in filter.spec.target_refs.iter().enumerate() {
        let (kind, name) = (target.kind.as_str(), target.name.as_str());
        let (code, what, remedy) = match (target.group.as_str(), kind) {
            (GROUP, "Gateway") if target.namespace.as_deref().is_some_and(|other| other != &*key.namespace) => {
                let what = "a Gateway of another namespace is not supported".to_owned();
                (NOT_SUPPORTED, what, "Put the EnvoyFilter into the Gateway's namespace")
            }
            (GROUP, "Gateway") if view.gateways.named(&key.namespace, name).is_some() => continue,
            (GROUP, "GatewayClass") if view.class_controller(name).is_some() => continue,
            (GROUP, "Gateway") => {
                let what = format!("there is no Gateway {}/{name}", key.namespace);
                (NOT_FOUND, what, "Name a Gateway of the EnvoyFilter's own namespace")
            }
            (GROUP, "GatewayClass") => {
                (NOT_FOUND, format!("there is no GatewayClass {name:?}"), "Name a GatewayClass that is there")
            }
            (group, _) => {
                let what = format!("a {kind} of group {group:?} is not supported; Gateway and GatewayClass are");
                (NOT_SUPPORTED, what, "Select workloads by workloadSelector.labels")
            }
        };
        found.push(Finding {
            severity: Severity::Error,
            code,
            object: object.clone(),
            message: format!("targetRefs[{index}]: {what}, so nothing is patched for it"),
            remedy: remedy.to_owned(),
        });
    }
    found
}

/// What translation says of a patch that failed or found nothing.
fn in_vain(object: &ObjectRef, index: usize, outcome: &PatchOutcome) -> Option<Finding> {
    let (severity, code, message, remedy) = match outcome {
        PatchOutcome { error: Some(why), .. } => {
            let message = format!("configPatches[{index}] could not be applied: {why}");
            (Severity::Error, PATCH_FAILED, message, "Mend patch.value; resources stay as they are without it")
        }
        PatchOutcome { matched: 0, unmatched: Some(why), .. } => {
            let message = format!("configPatches[{index}] matches nothing: {why}");
            (
                Severity::Warning,
                PATCHES_NOTHING,
                message,
                "Compare match with what `ferromesh config` shows of the proxy",
            )
        }
        _ => return None,
    };
    Some(Finding { severity, code, object: object.clone(), message, remedy: remedy.to_owned() })
}

/// Which patches cannot match since no selected workload has the traffic that they name; for status.
pub fn useless_contexts(view: &View, key: &Key, filter: &EnvoyFilter) -> Vec<String> {
    let workloads = workloads::all(view);
    let selected = selected(view, &workloads, key, filter);
    let useless = useless_patches(&selected, filter);
    useless.into_iter().map(|(index, context)| format!("configPatches[{index}] ({context}) matches nothing")).collect()
}

/// What an EnvoyFilter is for.
struct Selected<'a> {
    workloads: Vec<&'a Workload>,
    /// Some of them are gateways, or the labels are those of Istio's own gateways.
    gateways: bool,
    /// Some of them have sidecars.
    sidecars: bool,
}

fn selected<'a>(view: &View, workloads: &'a [Workload], key: &Key, filter: &EnvoyFilter) -> Selected<'a> {
    let everywhere = view.is_root_namespace(&key.namespace);
    let chosen: Vec<_> = workloads
        .iter()
        .filter(|workload| everywhere || workload.namespace == *key.namespace)
        .filter(|workload| {
            let found = view.envoy_filters_for(&workload.namespace, &workload.labels);
            found.iter().any(|(other, _)| *other == key)
        })
        .collect();
    let named = envoy_filters::wanted_labels(filter).is_some_and(|labels| {
        labels.contains_key(keys::GATEWAY_NAME) || labels.get(keys::ISTIO).is_some_and(|word| word.ends_with("gateway"))
    });
    let gateways = named || chosen.iter().any(|workload| workload.gateway);
    let sidecars = chosen.iter().any(|workload| !workload.gateway);
    Selected { workloads: chosen, gateways, sidecars }
}

/// The patches that no selected workload has the traffic for. Nothing is said where nothing at all is selected.
fn useless_patches(selected: &Selected<'_>, filter: &EnvoyFilter) -> Vec<(usize, PatchContext)> {
    if !selected.gateways && !selected.sidecars {
        return Vec::new();
    }
    let patches = filter.spec.config_patches.iter().enumerate().map(|(index, patch)| (index, patch.context()));
    patches
        .filter(|(_, context)| match context {
            PatchContext::SidecarInbound | PatchContext::SidecarOutbound => !selected.sidecars,
            PatchContext::Gateway => !selected.gateways,
            PatchContext::Any | PatchContext::Waypoint | PatchContext::Unknown(_) => false,
        })
        .collect()
}

fn useless(
    view: &View,
    workloads: &[Workload],
    key: &Key,
    filter: &EnvoyFilter,
    object: &ObjectRef,
) -> Option<Finding> {
    let selected = selected(view, workloads, key, filter);
    let useless = useless_patches(&selected, filter);
    let labels = envoy_filters::wanted_labels(filter).map(words).unwrap_or_else(|| "no labels".to_owned());
    if let Some((_, context)) = useless.first() {
        let indexes: Vec<_> = useless.iter().map(|(index, _)| format!("configPatches[{index}]")).collect();
        let (what, has) = match context {
            PatchContext::Gateway => ("sidecars", "no GATEWAY listener"),
            _ => ("gateways", "no sidecar listener"),
        };
        let message = format!(
            "{} patch{} nothing: the selector ({labels}) is for {what} only, and the patch's context {context} means traffic \
             that they do not have ({has})",
            indexes.join(", "),
            if indexes.len() == 1 { "es" } else { "" },
        );
        let remedy = remedy(view, workloads, key, *context == PatchContext::Gateway);
        return Some(Finding {
            severity: Severity::Error,
            code: PATCHES_NOTHING,
            object: object.clone(),
            message,
            remedy,
        });
    }
    let targeted = envoy_filters::wanted_labels(filter).is_some() || !filter.spec.target_refs.is_empty();
    (selected.workloads.is_empty() && targeted).then(|| Finding {
        severity: Severity::Warning,
        code: NO_WORKLOAD,
        object: object.clone(),
        message: if filter.spec.target_refs.is_empty() {
            format!("the selector ({labels}) selects no workload")
        } else {
            "no workload serves what targetRefs name".to_owned()
        },
        remedy: remedy(view, workloads, key, false),
    })
}

/// What to write: labels of workloads that would match, or the other context.
fn remedy(view: &View, workloads: &[Workload], key: &Key, gateway_patch: bool) -> String {
    let everywhere = view.is_root_namespace(&key.namespace);
    let near = || workloads.iter().filter(|workload| everywhere || workload.namespace == *key.namespace);
    let choice = |gateway: bool| {
        let of_kind = near().filter(|workload| workload.gateway == gateway);
        let texts: BTreeSet<_> =
            of_kind.map(|workload| words(&telling(workload))).filter(|text| !text.is_empty()).collect();
        texts.into_iter().take(4).collect::<Vec<_>>().join(" or ")
    };
    let (sidecars, gateways) = (choice(false), choice(true));
    let mut parts = Vec::new();
    if !sidecars.is_empty() {
        let more = if gateway_patch { " with context SIDECAR_INBOUND" } else { "" };
        parts.push(format!(
            "for sidecars{more}: workloadSelector.labels {sidecars} (or no selector for all of the namespace)"
        ));
    }
    if !gateways.is_empty() {
        let more = if gateway_patch { "" } else { " with context GATEWAY" };
        parts.push(format!("for gateways{more}: workloadSelector.labels {gateways}"));
    }
    if parts.is_empty() {
        let place = if everywhere { "the mesh".to_owned() } else { format!("namespace {}", key.namespace) };
        return format!(
            "There is no workload in {place}: an EnvoyFilter is for its own namespace, unless that is a root one"
        );
    }
    format!("Write {}", parts.join("; or "))
}

/// The labels by which people tell a workload from others.
fn telling(workload: &Workload) -> BTreeMap<String, String> {
    let wanted: &[&str] =
        if workload.gateway { &[keys::GATEWAY_NAME, keys::ISTIO] } else { &[keys::APP, keys::APP_NAME] };
    let some = wanted.iter().find_map(|key| workload.labels.get_key_value(*key));
    match some {
        Some((key, value)) => [(key.clone(), value.clone())].into(),
        None => workload.labels.clone(),
    }
}

fn words(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
}

fn both_roots(view: &View, key: &Key, object: &ObjectRef, findings: &mut Vec<Finding>) {
    let [ours, theirs] = view.root_namespaces();
    if *key.namespace == *theirs && ours != theirs && view.envoy_filters.named(ours, &key.name).is_some() {
        findings.push(Finding {
            severity: Severity::Warning,
            code: BOTH_ROOTS,
            object: object.clone(),
            message: format!(
                "the same name is in both root namespaces; the one in {ours} counts, this one is passed over"
            ),
            remedy: "Remove or rename one of them".to_owned(),
        });
    }
}
