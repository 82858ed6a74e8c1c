//! The bill of materials of an image: every package that is linked into its programs, in CycloneDX's format
//! (<https://cyclonedx.org/docs/1.6/json/>), from cargo's own resolution. No time and no serial number: the same sources, the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::{Value, json};

/// For an image of these packages of the workspace.
///
/// # Errors
/// If cargo's metadata lacks something.
pub(super) fn of<'a>(metadata: &Value, image: &str, roots: impl Iterator<Item = &'a str>) -> anyhow::Result<Value> {
    let packages: BTreeMap<&str, &Value> =
        array(&metadata["packages"]).filter_map(|package| Some((package["id"].as_str()?, package))).collect();
    let edges: BTreeMap<&str, BTreeSet<&str>> =
        array(&metadata["resolve"]["nodes"]).filter_map(|node| Some((node["id"].as_str()?, linked(node)))).collect();
    let roots: BTreeSet<&str> = roots.collect();
    let mut left: Vec<&str> = packages
        .iter()
        .filter(|(_, package)| {
            package["source"].is_null() && package["name"].as_str().is_some_and(|name| roots.contains(name))
        })
        .map(|(id, _)| *id)
        .collect();
    let mut found = BTreeSet::new();
    while let Some(id) = left.pop() {
        if found.insert(id) {
            left.extend(
                edges.get(id).context("a package without resolution")?.iter().filter(|next| !found.contains(*next)),
            );
        }
    }
    let mut components: Vec<Value> = found.iter().filter_map(|id| component(packages.get(id)?)).collect();
    components.sort_by_key(|component| component["bom-ref"].to_string());
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": image, "bom-ref": image}},
        "components": components,
    }))
}

/// Dependencies that end up in a program: not those of build scripts and tests.
fn linked(node: &Value) -> BTreeSet<&str> {
    let normal = |dependency: &&Value| array(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
    array(&node["deps"]).filter(normal).filter_map(|dependency| dependency["pkg"].as_str()).collect()
}

fn component(package: &Value) -> Option<Value> {
    let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
    let reference = format!("pkg:cargo/{name}@{version}");
    let mut component = json!({
        "type": "library", "name": name, "version": version, "bom-ref": reference, "purl": reference,
    });
    if let Some(license) = package["license"].as_str() {
        // Older packages write a slash for OR.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    Some(component)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
