//! Runtime: values that `layered_runtime` puts in place of what configuration says, by key.
//!
//! Rules: Envoy, "Runtime". Later layers win; nested structs are flattened by dots; a struct with `numerator` or
//! `denominator` is a fraction. Values are put into resources when they are decoded, which costs nothing later; when the
//! admin layer changes (`/runtime_modify`), those that it changes are decoded anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use ferromesh_proto::envoy::config::bootstrap::v3 as proto;
use ferromesh_proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use ferromesh_proto::json;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::config::{At, ConfigError, required};

mod apply;
mod keys;
mod rules;

/// Keys that the admin layer holds at most.
const MOST_KEYS: usize = 1024;

/// The layers, and the values that come of them.
#[derive(Debug, Default)]
pub struct Runtime {
    current: ArcSwap<Values>,
    /// Goes up with each change.
    serial: AtomicU64,
    changed: Notify,
}

/// The values at one time.
#[derive(Debug, Default)]
struct Values {
    layers: Vec<Layer>,
    values: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Layer {
    name: String,
    /// Whether `/runtime_modify` changes it.
    is_admin: bool,
    values: BTreeMap<String, Entry>,
}

/// Why the admin layer is not changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModifyError {
    /// The bootstrap has none.
    #[error("there is no admin layer: layered_runtime.layers needs one with admin_layer: {{}}")]
    NoAdminLayer,
    /// It would hold more keys than it may.
    #[error("the admin layer holds {MOST_KEYS} keys at most")]
    Full,
}

impl Values {
    fn new(layers: Vec<Layer>) -> Self {
        let all = layers.iter().flat_map(|layer| &layer.values);
        let values = all.map(|(key, entry)| (key.clone(), entry.clone())).collect();
        Self { layers, values }
    }
}

/// A value, in all forms that it has.
#[derive(Debug, Default)]
struct Entry {
    text: String,
    number: Option<f64>,
    integer: Option<u64>,
    flag: Option<bool>,
    fraction: Option<FractionalPercent>,
    /// Whether something was decoded that heeds it.
    asked: AtomicBool,
}

impl Clone for Entry {
    fn clone(&self) -> Self {
        Self {
            text: self.text.clone(),
            number: self.number,
            integer: self.integer,
            flag: self.flag,
            fraction: self.fraction,
            asked: AtomicBool::new(false),
        }
    }
}

impl Entry {
    fn of(value: &Value) -> Self {
        match value {
            Value::Bool(flag) => Self { text: flag.to_string(), flag: Some(*flag), ..Self::default() },
            Value::Number(number) => Self::of_text(&number.to_string()),
            Value::String(text) => Self::of_text(text),
            other => {
                let fraction = json::from_json(other.clone()).ok();
                Self { text: other.to_string(), fraction, ..Self::default() }
            }
        }
    }

    /// What is behind a number's point counts only where a number with one is asked for.
    fn of_text(text: &str) -> Self {
        let trimmed = text.trim();
        let number = trimmed.parse::<f64>().ok().filter(|number| number.is_finite());
        let cut = number.filter(|number| (0.0..u64::MAX as f64).contains(number)).map(|number| number as u64);
        let integer = trimmed.parse::<u64>().ok().or(cut);
        let flag = match trimmed {
            word if word.eq_ignore_ascii_case("true") => Some(true),
            word if word.eq_ignore_ascii_case("false") => Some(false),
            _ => integer.map(|integer| integer != 0),
        };
        let is_fraction = text.contains("numerator") || text.contains("denominator");
        let fraction = is_fraction.then(|| json::from_yaml(text).ok()).flatten();
        Self { text: text.to_owned(), number, integer, flag, fraction, asked: AtomicBool::new(false) }
    }
}

impl Runtime {
    /// Decodes the layers of a bootstrap.
    ///
    /// # Errors
    /// Names the layer or value that cannot be used.
    pub fn decode(config: Option<&proto::LayeredRuntime>) -> Result<Self, ConfigError> {
        let mut layers: Vec<Layer> = Vec::new();
        for (place, layer) in config.iter().flat_map(|config| &config.layers).enumerate() {
            let at = || format!("layered_runtime.layers[{place}]");
            if layer.name.is_empty() || layers.iter().any(|other| other.name == layer.name) {
                return Err(ConfigError::new("name", "must be set, and differ from that of every other layer").at(at()));
            }
            let has_admin = layers.iter().any(|other| other.is_admin);
            layers.push(decode_layer(layer, has_admin).at(at())?);
        }
        Ok(Self { current: ArcSwap::from_pointee(Values::new(layers)), ..Self::default() })
    }

    /// Sets keys of the admin layer; an empty value takes the key out of it.
    ///
    /// # Errors
    /// If there is no admin layer, or it would grow too large; nothing is changed then.
    pub fn modify(&self, changes: &[(String, String)]) -> Result<(), ModifyError> {
        let mut layers = self.current.load().layers.clone();
        let admin = layers.iter_mut().find(|layer| layer.is_admin).ok_or(ModifyError::NoAdminLayer)?;
        for (key, value) in changes {
            if value.is_empty() {
                admin.values.remove(key);
            } else {
                admin.values.insert(key.clone(), Entry::of_text(value));
            }
        }
        if admin.values.len() > MOST_KEYS {
            return Err(ModifyError::Full);
        }
        self.current.store(Arc::new(Values::new(layers)));
        self.serial.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
        Ok(())
    }

    /// Goes up with each change of the values.
    pub fn serial(&self) -> u64 {
        self.serial.load(Ordering::Acquire)
    }

    /// Waits for a change; one waits at a time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether there are no values at all.
    fn is_empty(&self) -> bool {
        self.current.load().values.is_empty()
    }

    fn get<T>(&self, key: &str, read: impl FnOnce(&Entry) -> Option<T>) -> Option<T> {
        let current = self.current.load();
        let entry = current.values.get(key)?;
        entry.asked.store(true, Ordering::Relaxed);
        read(entry)
    }

    /// The key's value, if it is a whole number from 0.
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.get(key, |entry| entry.integer)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.get(key, |entry| entry.number)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key, |entry| entry.flag)
    }

    /// The key's value, if it is a fraction, or a whole number, which is percent then.
    fn fraction(&self, key: &str) -> Option<FractionalPercent> {
        self.get(key, |entry| {
            entry.fraction.or_else(|| {
                let numerator = u32::try_from(entry.integer?.min(100)).ok()?;
                Some(FractionalPercent { numerator, denominator: DenominatorType::Hundred as i32 })
            })
        })
    }

    /// Keys that nothing of what is decoded so far heeds, and that no rule of this proxy knows.
    pub fn without_effect(&self) -> Vec<String> {
        let idle = |(key, entry): &(&String, &Entry)| !entry.asked.load(Ordering::Relaxed) && !keys::is_known(key);
        self.current.load().values.iter().filter(idle).map(|(key, _)| key.clone()).collect()
    }

    /// As Envoy's `/runtime` shows it.
    pub fn to_json(&self) -> Value {
        let current = self.current.load();
        let layers: Vec<&str> = current.layers.iter().map(|layer| layer.name.as_str()).collect();
        let entry = |(key, entry): (&String, &Entry)| {
            let of_layer = |layer: &Layer| layer.values.get(key).map(|entry| entry.text.clone()).unwrap_or_default();
            let of_layers: Vec<String> = current.layers.iter().map(of_layer).collect();
            (key.clone(), serde_json::json!({ "layer_values": of_layers, "final_value": entry.text }))
        };
        let entries: Map<String, Value> = current.values.iter().map(entry).collect();
        serde_json::json!({ "layers": layers, "entries": entries })
    }
}

fn decode_layer(layer: &proto::RuntimeLayer, has_admin: bool) -> Result<Layer, ConfigError> {
    use proto::runtime_layer::LayerSpecifier;
    let mut values = BTreeMap::new();
    let mut is_admin = false;
    match required(layer.layer_specifier.as_ref(), "static_layer")? {
        LayerSpecifier::StaticLayer(layer) => {
            if let Value::Object(fields) = json::struct_to_json(layer) {
                flatten("", fields, &mut values).at("static_layer")?;
            }
        }
        LayerSpecifier::AdminLayer(_) if has_admin => {
            return Err(ConfigError::new("admin_layer", "there is one already"));
        }
        LayerSpecifier::AdminLayer(_) => is_admin = true,
        LayerSpecifier::DiskLayer(_) => return Err(ConfigError::new("disk_layer", "is not implemented")),
        LayerSpecifier::RtdsLayer(_) => return Err(ConfigError::new("rtds_layer", "is not implemented")),
    }
    Ok(Layer { name: layer.name.clone(), is_admin, values })
}

/// Structs become keys with dots; prost has bounded how deeply they stand in each other.
fn flatten(prefix: &str, fields: Map<String, Value>, into: &mut BTreeMap<String, Entry>) -> Result<(), ConfigError> {
    for (name, value) in fields {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Null | Value::Array(_) => {
                return Err(ConfigError::new(key, "must be a number, bool, string or struct"));
            }
            Value::Object(inner) if !is_fraction(&inner) => flatten(&key, inner, into)?,
            value => {
                into.insert(key, Entry::of(&value));
            }
        }
    }
    Ok(())
}

fn is_fraction(fields: &Map<String, Value>) -> bool {
    fields.is_empty() || fields.contains_key("numerator") || fields.contains_key("denominator")
}

#[cfg(test)]
mod tests;
