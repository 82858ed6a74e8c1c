//! Runtime: values that `layered_runtime` puts in place of what configuration says, by key.
//!
//! Rules: Envoy, "Runtime". Later layers win; nested structs are flattened by dots; a struct with `numerator` or
//! `denominator` is a fraction. The layers that are implemented never change while the proxy runs (the admin layer is
//! always empty), so that values are put into resources when they are decoded, which costs nothing later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use ferromesh_proto::envoy::config::bootstrap::v3 as proto;
use ferromesh_proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use ferromesh_proto::json;
use serde_json::{Map, Value};

use crate::config::{At, ConfigError, required};

mod apply;
mod keys;
mod rules;

/// The layers, and the values that come of them.
#[derive(Debug, Default)]
pub struct Runtime {
    layers: Vec<Layer>,
    values: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Layer {
    name: String,
    values: BTreeMap<String, Entry>,
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
        let mut runtime = Self::default();
        let mut names = BTreeSet::new();
        let mut admin = false;
        for (place, layer) in config.iter().flat_map(|config| &config.layers).enumerate() {
            let at = || format!("layered_runtime.layers[{place}]");
            if layer.name.is_empty() || !names.insert(layer.name.as_str()) {
                return Err(ConfigError::new("name", "must be set, and differ from that of every other layer").at(at()));
            }
            let values = decode_layer(layer, &mut admin).at(at())?;
            runtime.values.extend(values.iter().map(|(key, entry)| (key.clone(), entry.clone())));
            runtime.layers.push(Layer { name: layer.name.clone(), values });
        }
        Ok(runtime)
    }

    fn get(&self, key: &str) -> Option<&Entry> {
        let entry = self.values.get(key)?;
        entry.asked.store(true, Ordering::Relaxed);
        Some(entry)
    }

    /// The key's value, if it is a whole number from 0.
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.get(key)?.integer
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.number
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.flag
    }

    /// The key's value, if it is a fraction, or a whole number, which is percent then.
    fn fraction(&self, key: &str) -> Option<FractionalPercent> {
        let entry = self.get(key)?;
        entry.fraction.or_else(|| {
            let numerator = u32::try_from(entry.integer?.min(100)).ok()?;
            Some(FractionalPercent { numerator, denominator: DenominatorType::Hundred as i32 })
        })
    }

    /// Keys that nothing of what is decoded so far heeds, and that no rule of this proxy knows.
    pub fn without_effect(&self) -> Vec<&str> {
        let idle = |(key, entry): &(&String, &Entry)| !entry.asked.load(Ordering::Relaxed) && !keys::is_known(key);
        self.values.iter().filter(idle).map(|(key, _)| key.as_str()).collect()
    }

    /// As Envoy's `/runtime` shows it.
    pub fn to_json(&self) -> Value {
        let layers: Vec<&str> = self.layers.iter().map(|layer| layer.name.as_str()).collect();
        let entry = |(key, entry): (&String, &Entry)| {
            let of_layer = |layer: &Layer| layer.values.get(key).map(|entry| entry.text.clone()).unwrap_or_default();
            let of_layers: Vec<String> = self.layers.iter().map(of_layer).collect();
            (key.clone(), serde_json::json!({ "layer_values": of_layers, "final_value": entry.text }))
        };
        let entries: Map<String, Value> = self.values.iter().map(entry).collect();
        serde_json::json!({ "layers": layers, "entries": entries })
    }
}

fn decode_layer(layer: &proto::RuntimeLayer, admin: &mut bool) -> Result<BTreeMap<String, Entry>, ConfigError> {
    use proto::runtime_layer::LayerSpecifier;
    let mut values = BTreeMap::new();
    match required(layer.layer_specifier.as_ref(), "static_layer")? {
        LayerSpecifier::StaticLayer(layer) => {
            if let Value::Object(fields) = json::struct_to_json(layer) {
                flatten("", fields, &mut values).at("static_layer")?;
            }
        }
        LayerSpecifier::AdminLayer(_) if *admin => {
            return Err(ConfigError::new("admin_layer", "there is one already"));
        }
        LayerSpecifier::AdminLayer(_) => *admin = true,
        LayerSpecifier::DiskLayer(_) => return Err(ConfigError::new("disk_layer", "is not implemented")),
        LayerSpecifier::RtdsLayer(_) => return Err(ConfigError::new("rtds_layer", "is not implemented")),
    }
    Ok(values)
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
