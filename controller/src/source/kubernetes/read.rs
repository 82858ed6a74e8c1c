//! The text of one object in; the typed object, cut down, and its status out.

use ferromesh_api::unknown::unknown_fields;
use serde::de::{self, DeserializeOwned};
use serde_json::Value;

use super::observed::Seen;
use super::trim::trim;
use crate::index::kinds::Reader;
use crate::index::{Kind, Object};

/// What an object's text holds.
pub(crate) struct Read {
    /// The object.
    pub(crate) object: Object,
    /// Of kinds whose status we write.
    pub(crate) seen: Option<Seen>,
    /// Fields that we do not know: the installed CRD may be newer than we are.
    pub(crate) unknown: Vec<String>,
}

/// Reads one object. Kubernetes' own kinds go straight into their types; ours are looked at field by field.
pub(crate) fn object(kind: Kind, json: &str) -> Result<Read, serde_json::Error> {
    if !has_status_of_ours(kind) && !is_custom(kind) {
        let mut object = Object::read(kind, Text(json))?;
        trim(&mut object);
        return Ok(Read { object, seen: None, unknown: Vec::new() });
    }
    let mut value: Value = serde_json::from_str(json)?;
    let seen = has_status_of_ours(kind).then(|| take_status(&mut value));
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let mut object = Object::read(kind, Parsed(&value))?;
    let unknown = unknown_fields(&value, &object.to_json()?);
    trim(&mut object);
    Ok(Read { object, seen, unknown })
}

/// Kinds of CRDs.
fn is_custom(kind: Kind) -> bool {
    kind.group().contains(".istio.io") || kind.group() == ferromesh_api::gateway_api::GROUP
}

/// Kinds whose status we write.
pub(super) fn has_status_of_ours(kind: Kind) -> bool {
    is_custom(kind) && kind != Kind::ReferenceGrant
}

fn take_status(value: &mut Value) -> Seen {
    let seen = Seen::of(value);
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    seen
}

struct Text<'a>(&'a str);

impl Reader for Text<'_> {
    type Error = serde_json::Error;

    fn read<T: DeserializeOwned>(self) -> Result<T, Self::Error> {
        // Which field is wrong is found out only where one is.
        serde_json::from_str(self.0).map_err(|error| by_field::<T>(self.0).unwrap_or(error))
    }
}

/// What is wrong, with the field's path.
fn by_field<T: DeserializeOwned>(json: &str) -> Option<serde_json::Error> {
    let error = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(json)).err()?;
    Some(de::Error::custom(error))
}

struct Parsed<'a>(&'a Value);

impl Reader for Parsed<'_> {
    type Error = serde_json::Error;

    fn read<T: DeserializeOwned>(self) -> Result<T, Self::Error> {
        serde_path_to_error::deserialize(self.0.clone()).map_err(de::Error::custom)
    }
}
