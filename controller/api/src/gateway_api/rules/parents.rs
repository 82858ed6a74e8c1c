//! What routes of every kind have: parents, hostnames, names of rules.

use super::{Broken, text};
use crate::gateway_api::ParentReference;
use std::collections::BTreeSet;

pub(super) fn check(broken: &mut Broken, parents: &[ParentReference], hostnames: &[String]) {
    broken.most(parents.len(), 32, "spec.parentRefs");
    for (index, parent) in parents.iter().enumerate() {
        let path = format!("spec.parentRefs[{index}]");
        broken.check(!parent.name.is_empty(), &format!("{path}.name"), "is empty");
        broken.check(parent.port != Some(0), &format!("{path}.port"), "0 is not a port");
        if let Some(name) = &parent.section_name {
            broken.subdomain(name, &format!("{path}.sectionName"));
        }
        if let Some(namespace) = &parent.namespace {
            let what = format!("{namespace:?} is not a name of a namespace");
            broken.check(text::is_label(namespace), &format!("{path}.namespace"), &what);
        }
    }
    same_parent(broken, parents);
    broken.most(hostnames.len(), 16, "spec.hostnames");
    for (index, hostname) in hostnames.iter().enumerate() {
        broken.hostname(hostname, &format!("spec.hostnames[{index}]"));
    }
}

/// Two references to one parent must differ in the listener or port, and name it in the same way.
fn same_parent(broken: &mut Broken, parents: &[ParentReference]) {
    let whole = |parent: &ParentReference| {
        let namespace = parent.namespace.clone().unwrap_or_default();
        (parent.group().to_owned(), parent.kind().to_owned(), parent.name.clone(), namespace)
    };
    let place = |parent: &ParentReference| (parent.section_name.clone().unwrap_or_default(), parent.port.unwrap_or(0));
    let mut seen = BTreeSet::new();
    for (index, parent) in parents.iter().enumerate() {
        let path = format!("spec.parentRefs[{index}]");
        let good = seen.insert((whole(parent), place(parent)));
        broken.check(good, &path, "another reference means the same parent; sectionName or port must differ");
        let named = |other: &ParentReference| (other.section_name.is_some(), other.port.is_some());
        let alike =
            parents.iter().filter(|other| whole(other) == whole(parent)).all(|other| named(other) == named(parent));
        broken.check(alike, &path, "of several references to one parent, all or none must have sectionName, and port");
    }
}

/// Names of rules.
pub(super) fn rule_names<'a>(broken: &mut Broken, names: impl Iterator<Item = Option<&'a str>> + Clone) {
    broken.unique(names.clone().flatten(), "spec.rules: name");
    for (index, name) in names.enumerate() {
        if let Some(name) = name {
            broken.subdomain(name, &format!("spec.rules[{index}].name"));
        }
    }
}
