//! JSON and YAML to and from messages: <https://protobuf.dev/programming-guides/json/>, over [`crate::fields`].
//!
//! ```text
//! YAML --saphyr--> JSON value --read--> encoded message --show--> JSON value
//!                                └─ scalar, known ─┘ └─ known ─┘
//! ```
//!
//! `Any` payloads are shown as Envoy shows them: an object with `@type`. A type that is not known here is
//! kept: from JSON it becomes an `xds.type.v3.TypedStruct` that names it, to JSON it becomes that with its
//! bytes in base64.
//!
//! What is read is encoded as prost encodes it (fields and map keys in order, defaults left out), so that equal
//! messages have equal bytes.

mod known;
mod read;
mod scalar;
mod show;

use prost::{Message, Name};
use serde_json::Value;

use crate::fields;
use crate::wire::WireError;
use crate::xds::r#type::v3::TypedStruct;
use crate::{Any, udpa};

/// Why a text is not a valid message.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The text is not YAML (or JSON, which is a part of it).
    #[error("not valid YAML: {0}")]
    Yaml(String),
    /// A field is unknown, or its value has the wrong type.
    #[error("{message}: {reason}")]
    Field {
        /// Full name of the message that was read.
        message: String,
        /// The path of the field and what is wrong with it.
        reason: String,
    },
    /// The type is not known.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
    /// The bytes of a message do not decode.
    #[error("{0}")]
    Bytes(#[from] prost::DecodeError),
    /// The bytes of a message are not one.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// A `TypedStruct` lacks its type or value.
    #[error("a TypedStruct needs both type_url and value")]
    EmptyTypedStruct,
}

/// Whether the message that `type_url` (or a bare full name) names is known.
pub fn is_known(type_url: &str) -> bool {
    fields::message(type_url).is_some()
}

/// Reads an `M` from JSON; fields may be in snake case or camel case, unknown ones are errors.
///
/// # Errors
/// Names the message and the path of the field that does not fit.
pub fn from_json<M: Message + Name + Default>(json: Value) -> Result<M, JsonError> {
    Ok(M::decode(encode(&M::full_name(), &json)?.as_slice())?)
}

/// Reads an `M` from YAML or JSON text.
///
/// # Errors
/// As [`from_json`], and if the text is not YAML.
pub fn from_yaml<M: Message + Name + Default>(text: &str) -> Result<M, JsonError> {
    from_json(yaml_value(text)?)
}

/// Parses one YAML (or JSON) document into a JSON value.
///
/// # Errors
/// If the text is not YAML.
pub fn yaml_value(text: &str) -> Result<Value, JsonError> {
    // YAML 1.2's booleans: a node called `y` is not true.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| JsonError::Yaml(error.to_string()))
}

/// Reads JSON into an encoded message of the type that `type_url` (or a bare full name) names.
///
/// # Errors
/// If the type is unknown; names the message and the path of a field that does not fit.
pub fn encode(type_url: &str, json: &Value) -> Result<Vec<u8>, JsonError> {
    let message = fields::message(type_url).ok_or_else(|| JsonError::UnknownType(type_url.to_owned()))?;
    let mut bytes = Vec::new();
    read::message(message, json, &mut bytes, 0)
        .map_err(|misfit| JsonError::Field { message: message.name().to_owned(), reason: misfit.to_string() })?;
    Ok(bytes)
}

/// Shows a message as JSON with the field names of its `.proto` file, as Envoy's admin pages do.
pub fn to_json<M: Message + Name>(message: &M) -> Value {
    any_to_json(&Any::pack(message), false)
}

/// Shows a payload as JSON, with `@type` if `with_type`.
///
/// What cannot be decoded is shown as its type and its bytes in base64.
pub fn any_to_json(any: &Any, with_type: bool) -> Value {
    if with_type {
        return show::any(&any.type_url, &any.value, 0).unwrap_or_else(|_| show::opaque(&any.type_url, &any.value));
    }
    let shown = fields::message(&any.type_url).and_then(|message| show::message(message, &any.value, 0).ok());
    shown.unwrap_or_else(|| show::opaque(&any.type_url, &any.value))
}

/// Reads an object with `@type` as an [`Any`].
///
/// # Errors
/// If there is no `@type`, or a field of a known type does not fit.
pub fn any_from_json(json: Value) -> Result<Any, JsonError> {
    let wrong = |reason: String| JsonError::Field { message: "google.protobuf.Any".into(), reason };
    if json.get("@type").is_none() {
        let is_object = json.is_object();
        return Err(wrong(if is_object { "@type is missing" } else { "expected an object" }.into()));
    }
    let (type_url, value) = read::payload(&json, 0).map_err(|misfit| {
        let type_url = json.get("@type").and_then(Value::as_str);
        match type_url.and_then(fields::message) {
            Some(message) => JsonError::Field { message: message.name().to_owned(), reason: misfit.to_string() },
            None => wrong(misfit.to_string()),
        }
    })?;
    Ok(Any { type_url, value: value.into() })
}

/// Turns a `TypedStruct` (udpa's or xds') into the message that it names; any other payload is returned as it is.
///
/// # Errors
/// If the named type is unknown, or the struct does not fit it.
pub fn resolve_typed_struct(any: &Any) -> Result<Any, JsonError> {
    let (type_url, value) = if any.is::<TypedStruct>() {
        let typed = TypedStruct::decode(any.value.clone())?;
        (typed.type_url, typed.value)
    } else if any.is::<udpa::r#type::v1::TypedStruct>() {
        let typed = udpa::r#type::v1::TypedStruct::decode(any.value.clone())?;
        (typed.type_url, typed.value)
    } else {
        return Ok(any.clone());
    };
    if type_url.is_empty() {
        return Err(JsonError::EmptyTypedStruct);
    }
    if !is_known(&type_url) {
        return Err(JsonError::UnknownType(type_url));
    }
    let mut json = struct_to_json(&value.unwrap_or_default());
    if let Value::Object(object) = &mut json {
        object.insert("@type".into(), Value::String(type_url));
    }
    any_from_json(json)
}

/// A protobuf `Struct` as JSON.
pub fn struct_to_json(value: &prost_types::Struct) -> Value {
    Value::Object(value.fields.iter().map(|(name, value)| (name.clone(), value_to_json(value))).collect())
}

/// A JSON object as a protobuf `Struct`; anything else gives an empty one.
pub fn json_to_struct(json: &Value) -> prost_types::Struct {
    let fields = json.as_object().into_iter().flatten();
    prost_types::Struct { fields: fields.map(|(name, value)| (name.clone(), json_to_value(value))).collect() }
}

fn value_to_json(value: &prost_types::Value) -> Value {
    use prost_types::value::Kind as K;
    match &value.kind {
        None | Some(K::NullValue(_)) => Value::Null,
        // Whole numbers are shown without a fraction, so that they fit integer fields.
        Some(K::NumberValue(n)) if n.fract() == 0.0 && n.abs() < 9.0e15 => Value::from(*n as i64),
        Some(K::NumberValue(n)) => Value::from(*n),
        Some(K::StringValue(s)) => Value::String(s.clone()),
        Some(K::BoolValue(b)) => Value::Bool(*b),
        Some(K::StructValue(s)) => struct_to_json(s),
        Some(K::ListValue(list)) => list.values.iter().map(value_to_json).collect(),
    }
}

fn json_to_value(json: &Value) -> prost_types::Value {
    use prost_types::value::Kind as K;
    let kind = match json {
        Value::Null => K::NullValue(0),
        Value::Bool(b) => K::BoolValue(*b),
        Value::Number(n) => K::NumberValue(n.as_f64().unwrap_or_default()),
        Value::String(s) => K::StringValue(s.clone()),
        Value::Array(list) => K::ListValue(prost_types::ListValue { values: list.iter().map(json_to_value).collect() }),
        Value::Object(_) => K::StructValue(json_to_struct(json)),
    };
    prost_types::Value { kind: Some(kind) }
}
