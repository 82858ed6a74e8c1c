//! A network configuration list (CNI specification, section 1) with our plugin at its end, and without it. Pure.
//!
//! What others wrote goes on as the text it was: numbers, order of keys and fields that are not known here survive.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Our plugin's type, which is the name of its program.
pub const TYPE: &str = "ferromesh-cni";
/// Versions of the protocol that the plugin speaks. Before 0.3.0 there were no chains.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The capability by which a runtime tells plugins the pod's annotations (CNI CONVENTIONS; containerd and CRI-O have it).
pub const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// What the plugin is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the agent listens, as the node sees it.
    pub socket: String,
    /// Namespaces whose pods are let through without a question.
    pub exclude_namespaces: Vec<String>,
}

/// Why a file is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConflist {
    /// Not JSON, or not an object; a file that is being written looks like that, too.
    #[error("it is no JSON object (line {line}, column {column})")]
    Json {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// No list.
    #[error("`plugins` is no list of plugins")]
    NoPlugins,
    /// One of the list, or the only one of a `.conf` file.
    #[error("plugin {0} has no `type`")]
    NoType(usize),
    /// Older than chains, or newer than our plugin.
    #[error("its cniVersion is {0:?}; the plugin speaks {known}", known = VERSIONS.join(", "))]
    Version(String),
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    name: String,
}

/// The object's fields, each as it was written.
type Fields = IndexMap<String, Box<RawValue>>;

impl Entry {
    /// As it stands in the list. The list's version and name hold for every plugin of it.
    fn json(&self) -> Value {
        json!({
            "type": TYPE,
            "socket": self.socket,
            "excludeNamespaces": self.exclude_namespaces,
            "capabilities": {ANNOTATIONS: true},
        })
    }
}

/// Whether it is a list that a runtime can use, and whether our plugin is in it.
///
/// # Errors
/// If it is none.
pub fn contains(text: &str) -> Result<bool, BadConflist> {
    let plugins = plugins(&fields(text)?)?;
    Ok(plugins.iter().any(|(name, _)| name == TYPE))
}

/// The list with our plugin: at the end if it was not in it, in its place if it was in it with other words. None if it is
/// there as it should be, wherever: whoever comes behind us may stay there, or two who want the last place would fight.
///
/// # Errors
/// If it cannot be read or not be chained to.
pub fn with(text: &str, entry: &Entry) -> Result<Option<String>, BadConflist> {
    let fields = fields(text)?;
    let old = plugins(&fields)?;
    check_versions(&fields)?;
    let ours = entry.json();
    let is_right = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).is_ok_and(|known| known == ours);
    let known: Vec<&RawValue> = old.iter().filter(|(name, _)| name == TYPE).map(|(_, raw)| &**raw).collect();
    if let [one] = known[..]
        && is_right(one)
    {
        return Ok(None);
    }
    let ours = ours.to_string();
    let mut new: Vec<&str> = Vec::with_capacity(old.len() + 1);
    let mut placed = false;
    for (name, raw) in &old {
        if name != TYPE {
            new.push(raw.get());
        } else if !placed {
            new.push(&ours);
            placed = true;
        }
    }
    if !placed {
        new.push(&ours);
    }
    Ok(Some(written(&fields, &new)))
}

/// The list without our plugin; none if it is not in it.
///
/// # Errors
/// If it cannot be read.
pub fn without(text: &str) -> Result<Option<String>, BadConflist> {
    let fields = fields(text)?;
    let old = plugins(&fields)?;
    let new: Vec<&str> = old.iter().filter(|(name, _)| name != TYPE).map(|(_, raw)| raw.get()).collect();
    Ok((new.len() != old.len()).then(|| written(&fields, &new)))
}

/// A list of the one plugin of a `.conf` file, as runtimes make it.
///
/// # Errors
/// If it holds no plugin.
pub fn of_one(text: &str) -> Result<String, BadConflist> {
    let fields = fields(text)?;
    type_of(text.trim(), 0)?;
    let mut list = Fields::new();
    for name in ["cniVersion", "name"] {
        if let Some(value) = fields.get(name) {
            list.insert(name.to_owned(), value.clone());
        }
    }
    list.insert("plugins".to_owned(), Box::<RawValue>::default());
    Ok(written(&list, &[text.trim()]))
}

fn fields(text: &str) -> Result<Fields, BadConflist> {
    serde_json::from_str(text).map_err(|error| BadConflist::Json { line: error.line(), column: error.column() })
}

/// Types and texts of the plugins.
fn plugins(fields: &Fields) -> Result<Vec<(String, Box<RawValue>)>, BadConflist> {
    let list = fields.get("plugins").ok_or(BadConflist::NoPlugins)?;
    let list: Vec<Box<RawValue>> = serde_json::from_str(list.get()).map_err(|_| BadConflist::NoPlugins)?;
    if list.is_empty() {
        return Err(BadConflist::NoPlugins);
    }
    list.into_iter().enumerate().map(|(at, raw)| Ok((type_of(raw.get(), at)?, raw))).collect()
}

fn type_of(plugin: &str, at: usize) -> Result<String, BadConflist> {
    let typed: Typed = serde_json::from_str(plugin).map_err(|_| BadConflist::NoType(at))?;
    if typed.name.is_empty() { Err(BadConflist::NoType(at)) } else { Ok(typed.name) }
}

/// The runtime takes the newest of `cniVersions` that it knows itself (1.1.0), so each must be known here.
fn check_versions(fields: &Fields) -> Result<(), BadConflist> {
    let one = fields.get("cniVersion").map_or("\"0.1.0\"", |raw| raw.get());
    let many = fields.get("cniVersions").map_or("[]", |raw| raw.get());
    let bad = || BadConflist::Version(format!("{one} of {many}"));
    let one: String = serde_json::from_str(one).map_err(|_| bad())?;
    let many: Vec<String> = serde_json::from_str(many).map_err(|_| bad())?;
    match std::iter::once(one).chain(many).find(|version| !VERSIONS.contains(&version.as_str())) {
        Some(version) => Err(BadConflist::Version(version)),
        None => Ok(()),
    }
}

/// The fields in their order, `plugins` replaced; one plugin a line at least.
fn written(fields: &Fields, plugins: &[&str]) -> String {
    let mut lines = Vec::with_capacity(fields.len());
    for (name, raw) in fields {
        let value = match name.as_str() {
            "plugins" => format!("[\n    {}\n  ]", plugins.join(",\n    ")),
            _ => raw.get().to_owned(),
        };
        lines.push(format!("  {}: {value}", Value::from(name.as_str())));
    }
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// What the plugin reads of its own configuration.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginConfig {
    /// Version of the protocol.
    pub cni_version: String,
    /// See [`Entry`].
    pub socket: String,
    /// See [`Entry`].
    pub exclude_namespaces: Vec<String>,
    /// What the plugins before it came to.
    pub prev_result: Option<Box<RawValue>>,
    /// By capability.
    pub runtime_config: IndexMap<String, Box<RawValue>>,
}

#[cfg(test)]
mod tests;
