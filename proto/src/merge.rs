//! An encoded message and an encoded patch of the same type go in; the message with the patch merged into it comes out.
//!
//! Protobuf merge (protobuf.dev, "Merge"): fields that the patch sets overwrite, messages merge, lists append (or are
//! replaced), map entries are replaced. A `Duration` and a wrapper (`BoolValue` and so on) are one value and are
//! overwritten, so that `false` and `0` in a patch mean what they say.

use std::collections::BTreeMap;

use crate::fields::{Field, Message};
use crate::wire::{self, Part, Parts, Payload, WireError};

/// What becomes of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// The patch's items come after those that are there.
    Append,
    /// The patch's items stand instead of those that are there.
    Replace,
}

type Grouped<'a> = BTreeMap<u32, Vec<Part<'a>>>;

/// Merges `patch` into `target`; fields are written by number, unknown ones are kept.
///
/// # Errors
/// If either is not a message.
pub fn merge(message: Message, target: &[u8], patch: &[u8], lists: Lists) -> Result<Vec<u8>, WireError> {
    merge_at(message, target, patch, lists, 0)
}

fn merge_at(message: Message, target: &[u8], patch: &[u8], lists: Lists, depth: u32) -> Result<Vec<u8>, WireError> {
    if depth > wire::MAX_DEPTH {
        return Err(WireError::Depth);
    }
    let mut target = grouped(message, target)?;
    let mut merged: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for (number, parts) in grouped(message, patch)? {
        let field = message.field(number);
        if let Some(oneof) = field.and_then(Field::oneof) {
            let other = |other: u32| other != number && message.field(other).and_then(Field::oneof) == Some(oneof);
            target.retain(|found, _| !other(*found));
        }
        let own = target.remove(&number).unwrap_or_default();
        let field_bytes = match field {
            Some(field) if field.is_map() => {
                let keys: Vec<&[u8]> = parts.iter().map(key).collect();
                let kept = own.into_iter().filter(|entry| !keys.contains(&key(entry)));
                raw(kept.chain(parts))
            }
            Some(field) if field.is_list() && lists == Lists::Replace => raw(parts),
            Some(field) if !field.is_list() => match field.message().filter(|inner| !is_one_value(*inner)) {
                Some(inner) if !own.is_empty() => {
                    let inner = merge_at(inner, &joined(field, &own)?, &joined(field, &parts)?, lists, depth + 1)?;
                    let mut bytes = Vec::with_capacity(inner.len() + 8);
                    wire::bytes(number, &inner, &mut bytes);
                    bytes
                }
                _ => raw(parts),
            },
            _ => raw(own.into_iter().chain(parts)),
        };
        merged.insert(number, field_bytes);
    }
    for (number, parts) in target {
        merged.entry(number).or_insert_with(|| raw(parts));
    }
    Ok(merged.into_values().flatten().collect())
}

/// Fields by number; of a oneof only what came last.
fn grouped(message: Message, bytes: &[u8]) -> Result<Grouped<'_>, WireError> {
    let mut grouped = Grouped::new();
    for part in Parts::of(bytes) {
        let part = part?;
        if let Some(oneof) = message.field(part.number).and_then(Field::oneof) {
            let is_other = |number: u32| message.field(number).and_then(Field::oneof) == Some(oneof);
            grouped.retain(|number, _| *number == part.number || !is_other(*number));
        }
        grouped.entry(part.number).or_default().push(part);
    }
    Ok(grouped)
}

fn raw<'a>(parts: impl IntoIterator<Item = Part<'a>>) -> Vec<u8> {
    parts.into_iter().flat_map(|part| part.raw).copied().collect()
}

/// The key of a map's entry, as it is encoded.
fn key<'a>(entry: &Part<'a>) -> &'a [u8] {
    let Payload::Bytes(entry) = entry.payload else { return &[] };
    let keys = Parts::of(entry).filter_map(Result::ok).filter(|part| part.number == 1);
    keys.last().map(|part| part.raw).unwrap_or_default()
}

/// A message that came in pieces: the pieces in a row merge.
fn joined(field: Field, parts: &[Part<'_>]) -> Result<Vec<u8>, WireError> {
    let mut all = Vec::new();
    for part in parts {
        match part.payload {
            Payload::Bytes(bytes) => all.extend_from_slice(bytes),
            _ => return Err(WireError::Type(field.name().to_owned())),
        }
    }
    Ok(all)
}

fn is_one_value(message: Message) -> bool {
    let Some(name) = message.name().strip_prefix("google.protobuf.") else { return false };
    matches!(name, "Duration" | "Timestamp" | "Any")
        || (name.ends_with("Value") && name != "Value" && name != "ListValue")
}
