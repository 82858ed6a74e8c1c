//! Subsets: picks among the hosts whose `envoy.lb` metadata is what the route asks for.
//!
//! Rules: Envoy, "Load Balancer Subsets".

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use super::Policy;
use super::level::Tables;
use crate::cluster::{Assignment, Host};

/// What is done if no subset fits.
#[derive(Debug, Clone, PartialEq)]
pub enum Fallback {
    /// No host.
    None,
    /// Any host.
    Any,
    /// The default subset.
    Default,
    /// The subset by only these keys.
    Keys(Vec<String>),
}

/// A set of keys by which subsets are made.
#[derive(Debug, Clone)]
pub struct Selector {
    /// The keys, sorted.
    pub keys: Vec<String>,
    /// What is done if no host has the values asked for, if not the cluster's way.
    pub fallback: Option<Fallback>,
}

/// Subset configuration of a cluster.
#[derive(Debug, Clone)]
pub struct SubsetConfig {
    /// Selectors.
    pub selectors: Vec<Selector>,
    /// What is done if no subset fits.
    pub fallback: Fallback,
    /// The default subset's metadata.
    pub default_subset: Map<String, Value>,
    /// A list value stands for each of its elements.
    pub list_as_any: bool,
    /// If not even the fallback has hosts, use any.
    pub panic_mode_any: bool,
}

/// The subsets of one host set.
#[derive(Debug)]
pub(super) struct Index {
    /// By selector: values, in the order of its keys, as JSON text.
    subsets: Vec<FxHashMap<String, Tables>>,
    default: Tables,
}

impl Index {
    pub(super) fn new(config: &SubsetConfig, assignment: &Assignment, policy: &Policy) -> Self {
        let hosts = || assignment.localities.iter().flat_map(|locality| &locality.hosts);
        let subsets = config.selectors.iter().map(|selector| {
            let mut made = FxHashMap::default();
            for key in hosts().flat_map(|host| host_keys(host, selector, config.list_as_any)) {
                made.entry(key).or_insert_with_key(|key| {
                    let has =
                        |host: &Host| host_keys(host, selector, config.list_as_any).iter().any(|found| found == key);
                    Tables::new(assignment, policy, has)
                });
            }
            made
        });
        let is_default = |host: &Host| {
            config
                .default_subset
                .iter()
                .all(|(key, value)| host.lb_metadata(key).is_some_and(|found| holds(found, value, config.list_as_any)))
        };
        Self { subsets: subsets.collect(), default: Tables::new(assignment, policy, is_default) }
    }

    /// The tables for what the route asks for.
    pub(super) fn find<'a>(
        &'a self,
        config: &SubsetConfig,
        wanted: Option<&Map<String, Value>>,
        all: &'a Tables,
    ) -> Option<&'a Tables> {
        let empty = Map::new();
        let found = self.select(config, wanted.unwrap_or(&empty), all, true);
        match found {
            Some(tables) if !tables.is_empty() => Some(tables),
            // Where a fallback is configured and finds nobody (Envoy, `panic_mode_any`).
            Some(_) if config.panic_mode_any => Some(all),
            found => found,
        }
    }

    fn select<'a>(
        &'a self,
        config: &SubsetConfig,
        wanted: &Map<String, Value>,
        all: &'a Tables,
        again: bool,
    ) -> Option<&'a Tables> {
        let place = config.selectors.iter().position(|selector| {
            selector.keys.len() == wanted.len() && selector.keys.iter().all(|key| wanted.contains_key(key))
        });
        let selector = place.and_then(|place| config.selectors.get(place));
        if let (Some(selector), Some(subsets)) = (selector, place.and_then(|place| self.subsets.get(place))) {
            let key = text(selector.keys.iter().filter_map(|key| wanted.get(key)));
            if let Some(tables) = subsets.get(&key) {
                return Some(tables);
            }
        }
        match selector.and_then(|selector| selector.fallback.as_ref()).unwrap_or(&config.fallback) {
            Fallback::None => None,
            Fallback::Any => Some(all),
            Fallback::Default => Some(&self.default),
            Fallback::Keys(keys) if again => {
                let fewer: Map<String, Value> =
                    wanted.iter().filter(|(key, _)| keys.contains(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
                self.select(config, &fewer, all, false)
            }
            Fallback::Keys(_) => None,
        }
    }
}

/// The keys of the subsets that a host is in, for one selector.
fn host_keys(host: &Host, selector: &Selector, list_as_any: bool) -> Vec<String> {
    let mut keys = vec![String::new()];
    for name in &selector.keys {
        let Some(value) = host.lb_metadata(name) else { return Vec::new() };
        let values: &[Value] = match value {
            Value::Array(values) if list_as_any => values,
            value => std::slice::from_ref(value),
        };
        keys = keys
            .iter()
            .flat_map(|key| values.iter().map(move |value| format!("{key}{}", text(std::iter::once(value)))))
            .collect();
    }
    keys
}

fn text<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    values.fold(String::new(), |mut key, value| {
        key.push_str(&value.to_string());
        key.push('\n');
        key
    })
}

fn holds(found: &Value, wanted: &Value, list_as_any: bool) -> bool {
    match found {
        Value::Array(values) if list_as_any => values.contains(wanted),
        found => found == wanted,
    }
}
