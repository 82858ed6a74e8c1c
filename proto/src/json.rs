//! JSON and YAML to and from messages, by descriptor.
//!
//! `Any` payloads are shown as Envoy shows them: an object with `@type`. A type that is not known here is
//! kept: from JSON it becomes an `xds.type.v3.TypedStruct` that names it, to JSON it becomes that with its
//! bytes in base64.

use std::sync::{Mutex, PoisonError};

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage,
    SerializeOptions, Value as ReflectValue,
};
use serde_json::{Map, Value};

use crate::any::TYPE_URL_PREFIX;
use crate::xds::r#type::v3::TypedStruct;
use crate::{Any, udpa};

/// Decoded descriptors take tens of megabytes, so they are kept only until [`release`].
static POOL: Mutex<Option<DescriptorPool>> = Mutex::new(None);

/// Descriptors of every message that this crate has.
pub fn pool() -> DescriptorPool {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.get_or_insert_with(|| {
        DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")).as_slice())
            .expect("the descriptors were written by this crate's build script")
    })
    .clone()
}

/// Gives the descriptors' memory back; the next use decodes them again (some ten milliseconds). For a process that
/// reads its configuration once; descriptors taken before and after are of different pools and do not compare equal.
pub fn release() {
    *POOL.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The descriptor of the message that `type_url` (or a bare full name) names.
pub fn descriptor(type_url: &str) -> Option<MessageDescriptor> {
    pool().get_message_by_name(type_url.rsplit('/').next().unwrap_or_default())
}

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
        /// The field and what is wrong with it.
        reason: String,
    },
    /// The type is not known.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
    /// The bytes of a message do not decode.
    #[error("{0}")]
    Bytes(#[from] prost::DecodeError),
    /// A `TypedStruct` lacks its type or value.
    #[error("a TypedStruct needs both type_url and value")]
    EmptyTypedStruct,
}

/// Reads an `M` from JSON; fields may be in snake case or camel case, unknown ones are errors.
///
/// # Errors
/// Names the message and the field that does not fit.
pub fn from_json<M: Message + Name + Default>(mut json: Value) -> Result<M, JsonError> {
    keep_unknown_types(&mut json);
    let descriptor = descriptor(&M::full_name()).ok_or_else(|| JsonError::UnknownType(M::full_name()))?;
    let dynamic = dynamic_from_json(descriptor, &json)?;
    Ok(M::decode(dynamic.encode_to_vec().as_slice())?)
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

/// Shows a message as JSON with the field names of its `.proto` file, as Envoy's admin pages do.
pub fn to_json<M: Message + Name>(message: &M) -> Value {
    any_to_json(&Any::pack(message), false)
}

/// Shows a payload as JSON, with `@type` first if `with_type`.
///
/// What cannot be decoded is shown as its type and its bytes in base64.
pub fn any_to_json(any: &Any, with_type: bool) -> Value {
    let shown = descriptor(&any.type_url)
        .and_then(|descriptor| DynamicMessage::decode(descriptor, any.value.clone()).ok())
        .and_then(|mut dynamic| {
            name_unknown_types(&mut dynamic);
            dynamic_to_json(&dynamic).ok()
        });
    match shown {
        Some(Value::Object(fields)) if with_type => {
            let mut object = Map::new();
            object.insert("@type".into(), Value::String(any.type_url.clone()));
            object.extend(fields);
            Value::Object(object)
        }
        Some(value) => value,
        None => to_json(&opaque(any)),
    }
}

/// Reads an object with `@type` as an [`Any`].
///
/// # Errors
/// If there is no `@type`, or a field of a known type does not fit.
pub fn any_from_json(mut json: Value) -> Result<Any, JsonError> {
    keep_unknown_types(&mut json);
    let Some(object) = json.as_object_mut() else {
        return Err(JsonError::Field { message: "google.protobuf.Any".into(), reason: "expected an object".into() });
    };
    let Some(Value::String(type_url)) = object.remove("@type") else {
        return Err(JsonError::Field { message: "google.protobuf.Any".into(), reason: "@type is missing".into() });
    };
    let descriptor = descriptor(&type_url).ok_or_else(|| JsonError::UnknownType(type_url.clone()))?;
    let dynamic = dynamic_from_json(descriptor, &json)?;
    Ok(Any { type_url, value: dynamic.encode_to_vec().into() })
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
    let mut json = struct_to_json(&value.unwrap_or_default());
    if let Value::Object(object) = &mut json {
        object.insert("@type".into(), Value::String(type_url));
    }
    let resolved = any_from_json(json)?;
    if resolved.is::<TypedStruct>() {
        return Err(JsonError::UnknownType(TypedStruct::decode(resolved.value)?.type_url));
    }
    Ok(resolved)
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

/// Reads JSON into a message of the given descriptor.
///
/// # Errors
/// Names the message and the field that does not fit.
pub fn dynamic_from_json(descriptor: MessageDescriptor, json: &Value) -> Result<DynamicMessage, JsonError> {
    let message = descriptor.full_name().to_owned();
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor, json, &options)
        .map_err(|error| JsonError::Field { message, reason: error.to_string() })
}

fn dynamic_to_json(dynamic: &DynamicMessage) -> Result<Value, serde_json::Error> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    dynamic.serialize_with_options(serde_json::value::Serializer, &options)
}

/// Wraps each object whose `@type` is unknown in a `TypedStruct` that names it.
fn keep_unknown_types(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(keep_unknown_types),
        Value::Object(object) => {
            object.values_mut().for_each(keep_unknown_types);
            let unknown = matches!(object.get("@type"), Some(Value::String(url)) if descriptor(url).is_none());
            if unknown && let Some(type_url) = object.remove("@type") {
                let value = Value::Object(std::mem::take(object));
                object.insert("@type".into(), Value::String(TypedStruct::type_url()));
                object.insert("type_url".into(), type_url);
                object.insert("value".into(), value);
            }
        }
        _ => {}
    }
}

/// A payload of unknown type, as a message that can be shown.
fn opaque(any: &Any) -> TypedStruct {
    let bytes = ReflectValue::Bytes(any.value.clone());
    let text = bytes.as_bytes().map(|bytes| base64(bytes)).unwrap_or_default();
    let value = json_to_struct(&serde_json::json!({ "base64": text }));
    TypedStruct { type_url: any.type_url.clone(), value: Some(value) }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let sextet = (word >> (18 - 6 * i)) & 63;
            text.push(if i <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

/// Replaces, at any depth, each `Any` of unknown type by one that can be shown.
fn name_unknown_types(message: &mut DynamicMessage) {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        rename_any(message);
        return;
    }
    let fields: Vec<FieldDescriptor> = message.fields().map(|(field, _)| field).collect();
    for field in fields {
        if matches!(field.kind(), Kind::Message(_)) {
            match message.get_field_mut(&field) {
                ReflectValue::Message(inner) => name_unknown_types(inner),
                ReflectValue::List(items) => items.iter_mut().for_each(name_unknown_value),
                ReflectValue::Map(entries) => entries.values_mut().for_each(name_unknown_value),
                _ => {}
            }
        }
    }
}

fn name_unknown_value(value: &mut ReflectValue) {
    if let ReflectValue::Message(inner) = value {
        name_unknown_types(inner);
    }
}

fn rename_any(message: &mut DynamicMessage) {
    let Ok(any) = Any::decode(message.encode_to_vec().as_slice()) else { return };
    let inner = descriptor(&any.type_url).and_then(|kind| DynamicMessage::decode(kind, any.value.clone()).ok());
    let replacement = match inner {
        Some(mut inner) => {
            name_unknown_types(&mut inner);
            Any {
                type_url: format!("{TYPE_URL_PREFIX}{}", inner.descriptor().full_name()),
                value: inner.encode_to_vec().into(),
            }
        }
        None => Any::pack(&opaque(&any)),
    };
    // An `Any` decodes what an `Any` encoded.
    let _ = DynamicMessage::decode(message.descriptor(), replacement.encode_to_vec().as_slice())
        .map(|replaced| *message = replaced);
}
