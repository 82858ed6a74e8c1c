//! A JSON value goes in, an encoded message comes out.

use prost::Name;
use serde_json::{Map, Value};

use super::{known, scalar};
use crate::fields::{self, Field, Kind, Message};
use crate::wire;
use crate::xds::r#type::v3::TypedStruct;

/// What does not fit, and where.
#[derive(Debug)]
pub(super) struct Misfit {
    /// From the message that is read down to the field; built from its end.
    path: String,
    reason: String,
}

impl Misfit {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { path: String::new(), reason: reason.into() }
    }

    /// A value of another JSON type than the wanted one.
    pub(super) fn wanted(wanted: &str, found: &Value) -> Self {
        let found = match found {
            Value::Null => "null".to_owned(),
            Value::Bool(_) | Value::Number(_) => found.to_string(),
            Value::String(text) => format!("the string {:?}", text.chars().take(40).collect::<String>()),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        Self::new(format!("expected {wanted}, found {found}"))
    }

    pub(super) fn at(self, segment: impl std::fmt::Display) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Self { path: format!("{segment}{dot}{}", self.path), reason: self.reason }
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.path, self.reason) }
    }
}

/// Appends the fields of a message.
pub(super) fn message(message: Message, json: &Value, out: &mut Vec<u8>, depth: u32) -> Result<(), Misfit> {
    if depth > wire::MAX_DEPTH {
        return Err(Misfit::new("messages are nested too deeply"));
    }
    if let Some(known) = known::Known::of(message) {
        return known.read(message, json, out, depth);
    }
    match json {
        Value::Object(object) => members(message, object, &[], out, depth),
        other => Err(Misfit::wanted("an object", other)),
    }
}

/// Appends what an object's members set, but for those that are `left_out`.
pub(super) fn members(
    message: Message,
    object: &Map<String, Value>,
    left_out: &[&str],
    out: &mut Vec<u8>,
    depth: u32,
) -> Result<(), Misfit> {
    let mut set: Vec<(Field, &Value)> = Vec::with_capacity(object.len());
    for (name, value) in object.iter().filter(|(name, _)| !left_out.contains(&name.as_str())) {
        let Some(field) = message.named(name) else {
            return Err(Misfit::new(format!("no such field in {}", message.name())).at(name));
        };
        // Null is the same as nothing, except where it is a value.
        if !value.is_null() || (known::holds_null(field.kind()) && !field.is_list() && !field.is_map()) {
            set.push((field, value));
        }
    }
    // Where prost writes the field: a oneof stands where its first member would.
    let place = |field: Field| match field.oneof() {
        None => field.number(),
        of => message.fields().find(|other| other.oneof() == of).map_or(0, Field::number),
    };
    set.sort_by_cached_key(|(field, _)| place(*field));
    for pair in set.windows(2) {
        if let [(one, _), (other, _)] = pair {
            if one == other {
                return Err(Misfit::new("is set twice").at(one.name()));
            }
            if one.oneof().is_some() && one.oneof() == other.oneof() {
                return Err(Misfit::new(format!("only one of {} and {} may be set", one.name(), other.name())));
            }
        }
    }
    for (field, value) in set {
        member(field, value, out, depth).map_err(|misfit| misfit.at(field.name()))?;
    }
    Ok(())
}

fn member(field: Field, value: &Value, out: &mut Vec<u8>, depth: u32) -> Result<(), Misfit> {
    if field.is_map() {
        return map(field, value, out, depth);
    }
    if !field.is_list() {
        return single(field, value, field.has_presence(), out, depth);
    }
    let Value::Array(items) = value else { return Err(Misfit::wanted("a list", value)) };
    if !field.is_packed() {
        let mut items = items.iter().enumerate();
        return items.try_for_each(|(i, item)| {
            single(field, item, true, out, depth).map_err(|misfit| misfit.at(format_args!("[{i}]")))
        });
    }
    if items.is_empty() {
        return Ok(());
    }
    wire::delimited(field.number(), out, |out| {
        items.iter().enumerate().try_for_each(|(i, item)| {
            let scalar = scalar::read(field.kind(), item).map_err(|misfit| misfit.at(format_args!("[{i}]")))?;
            scalar.payload(out);
            Ok(())
        })
    })
}

/// Appends one value with its number; a default is left out unless it is to be `shown`.
pub(super) fn single(field: Field, value: &Value, shown: bool, out: &mut Vec<u8>, depth: u32) -> Result<(), Misfit> {
    if value.is_null() && !known::holds_null(field.kind()) {
        return Err(Misfit::wanted("a value", value));
    }
    match field.kind() {
        Kind::Message(inner) => {
            let begin = out.len();
            wire::delimited(field.number(), out, |out| message(inner, value, out, depth + 1))?;
            // An empty message in a map's entry: number and length are all that it is.
            if !shown && out.last() == Some(&0) && is_empty(out.get(begin..).unwrap_or_default()) {
                out.truncate(begin);
            }
            Ok(())
        }
        kind => {
            let scalar = scalar::read(kind, value)?;
            if shown || !scalar.is_default() {
                scalar.field(field.number(), out);
            }
            Ok(())
        }
    }
}

/// Whether one encoded field holds no bytes.
fn is_empty(field: &[u8]) -> bool {
    let part = wire::Parts::of(field).next().and_then(Result::ok);
    part.is_some_and(|part| part.payload == wire::Payload::Bytes(&[]))
}

fn map(field: Field, value: &Value, out: &mut Vec<u8>, depth: u32) -> Result<(), Misfit> {
    let Value::Object(object) = value else { return Err(Misfit::wanted("an object", value)) };
    let (Some(key), Some(item)) =
        (field.message().and_then(|entry| entry.field(1)), field.message().and_then(|entry| entry.field(2)))
    else {
        return Err(Misfit::new("is a map without entries"));
    };
    let mut entries = Vec::with_capacity(object.len());
    for (name, value) in object {
        let read = scalar::read_key(key.kind(), name).map_err(|misfit| misfit.at(format_args!("[{name:?}]")))?;
        entries.push((read.order(), name, read, value));
    }
    entries.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    for (_, name, read, value) in entries {
        wire::delimited(field.number(), out, |out| {
            if !read.is_default() {
                read.field(1, out);
            }
            single(item, value, false, out, depth)
        })
        .map_err(|misfit| misfit.at(format_args!("[{name:?}]")))?;
    }
    Ok(())
}

/// An object with `@type` as type URL and encoded payload.
pub(super) fn payload(json: &Value, depth: u32) -> Result<(String, Vec<u8>), Misfit> {
    let Value::Object(object) = json else { return Err(Misfit::wanted("an object with @type", json)) };
    if object.is_empty() {
        return Ok((String::new(), Vec::new()));
    }
    let type_url = match object.get("@type") {
        Some(Value::String(type_url)) if !type_url.is_empty() => type_url,
        Some(other) => return Err(Misfit::wanted("a type URL", other).at("@type")),
        None => return Err(Misfit::new("@type is missing")),
    };
    let mut bytes = Vec::new();
    let Some(inner) = fields::message(type_url) else {
        keep(type_url, object, &mut bytes, depth)?;
        return Ok((TypedStruct::type_url(), bytes));
    };
    match object.get("value") {
        value if known::Known::of(inner).is_some() => {
            if let Some(other) = object.keys().find(|name| *name != "@type" && *name != "value") {
                return Err(Misfit::new(format!("{} has only a value", inner.name())).at(other));
            }
            let value = value.ok_or_else(|| Misfit::new(format!("{} needs a value", inner.name())))?;
            message(inner, value, &mut bytes, depth + 1).map_err(|misfit| misfit.at("value"))?;
        }
        Some(Value::Object(none)) if inner.name() == "google.protobuf.Empty" && none.is_empty() => {}
        _ => members(inner, object, &["@type"], &mut bytes, depth + 1)?,
    }
    Ok((type_url.clone(), bytes))
}

/// Keeps a payload of unknown type: a `TypedStruct` that names the type and holds the fields.
fn keep(type_url: &str, object: &Map<String, Value>, out: &mut Vec<u8>, depth: u32) -> Result<(), Misfit> {
    wire::bytes(1, type_url.as_bytes(), out);
    let fields = object.iter().filter(|(name, _)| *name != "@type");
    wire::delimited(2, out, |out| known::struct_fields(fields, out, depth + 2))
}
