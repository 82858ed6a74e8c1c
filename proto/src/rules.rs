//! What Envoy's protos state of their fields, checked on encoded messages.
//!
//! The protos carry rules in the language of protoc-gen-validate
//! (<https://github.com/bufbuild/protoc-gen-validate/blob/main/README.md>): what must be set, how long texts are, in which
//! range numbers and durations lie, which values of an enum there are. Envoy refuses a resource that breaks one of them,
//! and so must all who read or write one here.
//!
//! ```text
//! bytes ──walk──> row of the field ──value──> rule kept, or Violation { path, rule }
//!           │        └ table (read-only, build/rules.rs)
//!           └─ messages inside, packed ones too
//! ```
//!
//! # Invariants
//! * Pure, and without memory of its own: a message that keeps its rules costs no allocation but where items must be
//!   unique.
//! * What cannot be read, and packed messages of unknown type, are passed over: who decodes them says why.
//! * Each part of a message that the wire repeats is checked by itself, which is at least as strict as Envoy.

mod table;
mod text;
mod value;

use std::collections::HashSet;

use crate::fields::{self, Field, Message};
use crate::wire::{MAX_DEPTH, Parts, Payload};
use crate::{Any, json};

use table::{Row, Rows};
pub use table::{Stated, stated};

/// A rule that a message breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {rule}", if path.is_empty() { "." } else { path })]
pub struct Violation {
    /// Path of the field, e.g. `filter_chains[0].filters[1].typed_config.stat_prefix`.
    pub path: String,
    /// What must be, e.g. `must be set`.
    pub rule: String,
}

impl Violation {
    fn new(path: &str, rule: impl Into<String>) -> Self {
        Self { path: path.to_owned(), rule: rule.into() }
    }

    fn at(mut self, segment: String) -> Self {
        self.path = if self.path.is_empty() { segment } else { format!("{segment}.{}", self.path) };
        self
    }
}

/// Checks an encoded message and all that stands inside of it.
///
/// # Errors
/// The first rule that is broken.
pub fn check(message: Message, bytes: &[u8]) -> Result<(), Violation> {
    walk(message, bytes, 0)
}

/// Checks a packed message; one of an unknown type is passed over.
///
/// # Errors
/// The first rule that is broken.
pub fn check_any(any: &Any) -> Result<(), Violation> {
    packed_in_any(&any.type_url, &any.value, 0)
}

fn packed_in_any(type_url: &str, bytes: &[u8], depth: u32) -> Result<(), Violation> {
    match fields::message(type_url) {
        Some(message) if message.name().ends_with(".TypedStruct") => {
            let any = Any { type_url: type_url.to_owned(), value: bytes.to_vec().into() };
            match json::resolve_typed_struct(&any) {
                Ok(any) if !any.type_name().ends_with(".TypedStruct") => {
                    packed_in_any(&any.type_url, &any.value, depth + 1)
                }
                _ => Ok(()),
            }
        }
        Some(message) => walk(message, bytes, depth),
        None => Ok(()),
    }
}

fn walk(message: Message, bytes: &[u8], depth: u32) -> Result<(), Violation> {
    let Some(rows) = Rows::of(message) else { return Ok(()) };
    if depth > MAX_DEPTH {
        return Err(Violation::new("", "messages are nested too deeply"));
    }
    let mut seen = 0_u128;
    for part in Parts::of(bytes) {
        let Ok(part) = part else { return Ok(()) };
        let Some((place, row)) = rows.of_field(part.number) else { continue };
        seen |= 1 << place | row.oneof().map_or(0, |oneof| 1 << oneof);
        if let Err((item, violation)) = of_part(message, row, part.payload, depth) {
            let index = occurrences(bytes, part.number).take_while(|payload| !same(payload, &part.payload)).count();
            let segment = |field| segment(field, index + item);
            return Err(violation.at(message.field(part.number).map(segment).unwrap_or_default()));
        }
    }
    rows.last().try_for_each(|(place, row)| match (seen & 1 << place != 0, row.is_oneof()) {
        (true, _) if row.is_counted() => of_all(message, row, bytes),
        (true, _) => Ok(()),
        (false, true) => Err(Violation::new("", oneof_missing(message, row))),
        (false, false) => absent(message, row),
    })
}

/// Whether two payloads are the same place in the same bytes.
fn same(a: &Payload<'_>, b: &Payload<'_>) -> bool {
    match (a, b) {
        (Payload::Bytes(a), Payload::Bytes(b)) => std::ptr::eq(*a, *b),
        _ => a == b,
    }
}

fn occurrences(bytes: &[u8], number: u32) -> impl Iterator<Item = Payload<'_>> {
    let parts = Parts::of(bytes).map_while(Result::ok);
    parts.filter(move |part| part.number == number).map(|part| part.payload)
}

fn segment(field: Field, index: usize) -> String {
    if field.is_list() { format!("{}[{index}]", field.name()) } else { field.name().to_owned() }
}

/// What is wrong with one part, and with which item of it.
type Broken = (usize, Violation);

fn of_part(message: Message, row: Row, payload: Payload<'_>, depth: u32) -> Result<(), Broken> {
    let whole = |violation| (0, violation);
    if let Some(rules) = row.rules() {
        let field = || message.field(row.number());
        let breaks = |rule: String| Violation::new("", rule);
        if row.is_map() {
            let Payload::Bytes(entry) = payload else { return Ok(()) };
            value::entry(rules, entry).map_err(|rule| whole(breaks(rule)))?;
        } else if row.is_list() {
            let Some(items) = value::of_items(rules) else { return inside(row, payload, depth).map_err(whole) };
            for (item, payload) in value::items(items, payload).enumerate() {
                value::check(items, field, payload).map_err(|rule| (item, breaks(rule)))?;
            }
        } else {
            value::check(rules, field, payload).map_err(|rule| whole(breaks(rule)))?;
        }
    }
    inside(row, payload, depth).map_err(whole)
}

fn inside(row: Row, payload: Payload<'_>, depth: u32) -> Result<(), Violation> {
    let (Some(inner), Payload::Bytes(bytes)) = (row.inner(), payload) else { return Ok(()) };
    if !row.is_any() {
        return walk(inner, bytes, depth + 1);
    }
    let mut of_any: (&[u8], &[u8]) = Default::default();
    for part in Parts::of(bytes) {
        match part.map(|part| (part.number, part.payload)) {
            Ok((1, Payload::Bytes(type_url))) => of_any.0 = type_url,
            Ok((2, Payload::Bytes(value))) => of_any.1 = value,
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
    }
    std::str::from_utf8(of_any.0).map_or(Ok(()), |type_url| packed_in_any(type_url, of_any.1, depth + 1))
}

/// Rules of a list or map as a whole.
fn of_all(message: Message, row: Row, bytes: &[u8]) -> Result<(), Violation> {
    let (Some(rules), Some(field)) = (row.rules(), message.field(row.number())) else { return Ok(()) };
    let broken = |rule: String| Violation::new(field.name(), rule);
    if row.is_map() {
        return value::of_map(rules, occurrences(bytes, row.number()).count()).map_err(broken);
    }
    let items = value::of_items(rules).unwrap_or_default();
    let all = || occurrences(bytes, row.number()).flat_map(|payload| value::items(items, payload));
    value::of_list(rules, all().count()).map_err(broken)?;
    if value::is_unique(rules) {
        let mut known = HashSet::new();
        if let Some(index) = all().position(|item| !known.insert(value::key(item))) {
            return Err(Violation::new(&segment(field, index), "must not be there twice"));
        }
    }
    Ok(())
}

/// What a field that is not set breaks, if it does.
fn absent(message: Message, row: Row) -> Result<(), Violation> {
    let (Some(rules), Some(field)) = (row.rules(), message.field(row.number())) else { return Ok(()) };
    let checked = if row.is_map() {
        value::of_map(rules, 0)
    } else if row.is_list() {
        value::of_list(rules, 0)
    } else if value::is_required(rules) {
        Err("must be set".to_owned())
    } else {
        value::check(rules, || Some(field), value::default(field.kind()))
    };
    checked.map_err(|rule| Violation::new(field.name(), rule))
}

fn oneof_missing(message: Message, row: Row) -> String {
    let members = message.fields().filter(|field| field.oneof().map(u32::from) == Some(row.number()));
    format!("one of {} must be set", members.map(Field::name).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
