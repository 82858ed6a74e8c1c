//! An encoded message goes in, a JSON value comes out. Defaults are not shown; field names are those of the `.proto`.

use std::collections::BTreeMap;

use prost::Name;
use serde_json::{Map, Value, json};

use super::{known, scalar};
use crate::fields::{self, Field, Kind, Message};
use crate::wire::{self, Parts, Payload, WireError};
use crate::xds::r#type::v3::TypedStruct;

/// What each field of an encoded message holds, in order; of a oneof only what came last.
pub(super) type Content<'a> = BTreeMap<u32, (Field, Vec<Payload<'a>>)>;

/// Reads the known fields.
pub(super) fn content(message: Message, bytes: &[u8]) -> Result<Content<'_>, WireError> {
    let mut content = Content::new();
    for part in Parts::of(bytes) {
        let part = part?;
        let Some(field) = message.field(part.number) else { continue };
        if let Some(oneof) = field.oneof() {
            content.retain(|number, (other, _)| *number == part.number || other.oneof() != Some(oneof));
        }
        content.entry(part.number).or_insert_with(|| (field, Vec::new())).1.push(part.payload);
    }
    Ok(content)
}

/// Shows a message.
pub(super) fn message(message: Message, bytes: &[u8], depth: u32) -> Result<Value, WireError> {
    if depth > wire::MAX_DEPTH {
        return Err(WireError::Depth);
    }
    match known::Known::of(message) {
        Some(known) => known.show(message, bytes, depth),
        None => members(message, bytes, depth).map(Value::Object),
    }
}

/// Shows a message's fields as an object's members.
fn members(message: Message, bytes: &[u8], depth: u32) -> Result<Map<String, Value>, WireError> {
    let mut object = Map::new();
    for (field, payloads) in content(message, bytes)?.into_values() {
        if let Some(value) = member(field, &payloads, depth)? {
            object.insert(field.name().to_owned(), value);
        }
    }
    Ok(object)
}

pub(super) fn member(field: Field, payloads: &[Payload<'_>], depth: u32) -> Result<Option<Value>, WireError> {
    if field.is_map() {
        let entries: Result<Map<_, _>, _> = payloads.iter().map(|entry| map_entry(field, *entry, depth)).collect();
        return entries.map(|entries| Some(Value::Object(entries)));
    }
    if field.is_list() {
        let mut items = Vec::with_capacity(payloads.len());
        for payload in payloads {
            match *payload {
                Payload::Bytes(block) if is_packable(field.kind()) => unpack(field, block, &mut items)?,
                payload => items.push(single(field, payload, depth)?),
            }
        }
        return Ok((!items.is_empty()).then_some(Value::Array(items)));
    }
    if let (Some(inner), [_, _, ..]) = (field.message(), payloads) {
        return message(inner, &joined(field, payloads)?, depth + 1).map(Some);
    }
    match payloads.last() {
        Some(payload) if field.has_presence() || !scalar::is_default(*payload) => {
            single(field, *payload, depth).map(Some)
        }
        _ => Ok(None),
    }
}

/// A message that came in pieces: the pieces in a row merge.
pub(super) fn joined(field: Field, payloads: &[Payload<'_>]) -> Result<Vec<u8>, WireError> {
    let mut all = Vec::new();
    for payload in payloads {
        match payload {
            Payload::Bytes(bytes) => all.extend_from_slice(bytes),
            _ => return Err(WireError::Type(field.name().to_owned())),
        }
    }
    Ok(all)
}

fn single(field: Field, payload: Payload<'_>, depth: u32) -> Result<Value, WireError> {
    match (field.kind(), payload) {
        (Kind::Message(inner), Payload::Bytes(bytes)) => message(inner, bytes, depth + 1),
        _ => scalar::show(field, payload),
    }
}

fn is_packable(kind: Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

/// Items that stand in one block, without numbers.
fn unpack(field: Field, mut block: &[u8], items: &mut Vec<Value>) -> Result<(), WireError> {
    while !block.is_empty() {
        let payload = match scalar::default(field.kind()) {
            Payload::Fixed64(_) => {
                let (bytes, rest) = block.split_first_chunk().ok_or(WireError::Ends)?;
                block = rest;
                Payload::Fixed64(u64::from_le_bytes(*bytes))
            }
            Payload::Fixed32(_) => {
                let (bytes, rest) = block.split_first_chunk().ok_or(WireError::Ends)?;
                block = rest;
                Payload::Fixed32(u32::from_le_bytes(*bytes))
            }
            _ => Payload::Varint(prost::encoding::decode_varint(&mut block)?),
        };
        items.push(scalar::show(field, payload)?);
    }
    Ok(())
}

fn map_entry(field: Field, entry: Payload<'_>, depth: u32) -> Result<(String, Value), WireError> {
    let wrong = || WireError::Type(field.name().to_owned());
    let (Some(message), Payload::Bytes(bytes)) = (field.message(), entry) else { return Err(wrong()) };
    let entry = content(message, bytes)?;
    let of = |number: u32| {
        let field = message.field(number)?;
        let payload = entry.get(&number).and_then(|(_, payloads)| payloads.last().copied());
        Some((field, payload.unwrap_or_else(|| scalar::default(field.kind()))))
    };
    let (Some((key, name)), Some((item, value))) = (of(1), of(2)) else { return Err(wrong()) };
    let name = match scalar::show(key, name)? {
        Value::String(name) => name,
        other => other.to_string(),
    };
    Ok((name, single(item, value, depth)?))
}

/// Shows a payload with its `@type`; one that is not known or does not decode is shown as [`opaque`].
pub(super) fn any(type_url: &str, bytes: &[u8], depth: u32) -> Result<Value, WireError> {
    if type_url.is_empty() && bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let Some(inner) = fields::message(type_url) else { return Ok(opaque(type_url, bytes)) };
    let shown = match known::Known::of(inner) {
        Some(_) => message(inner, bytes, depth + 1).map(|value| Map::from_iter([("value".to_owned(), value)])),
        None if depth > wire::MAX_DEPTH => Err(WireError::Depth),
        None => members(inner, bytes, depth + 1),
    };
    let Ok(shown) = shown else { return Ok(opaque(type_url, bytes)) };
    let mut object = Map::new();
    object.insert("@type".to_owned(), Value::from(type_url));
    object.extend(shown);
    Ok(Value::Object(object))
}

/// A payload that cannot be shown field by field: a `TypedStruct` that names it and holds its bytes.
pub(super) fn opaque(type_url: &str, bytes: &[u8]) -> Value {
    json!({
        "@type": TypedStruct::type_url(),
        "type_url": type_url,
        "value": { "base64": scalar::base64(bytes) },
    })
}
