//! Texts against `validate.StringRules`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use regex::Regex;

use crate::wire::{Parts, Payload};

use super::value::sizes;

/// `well_known_regex`.
const HEADER_NAME: u64 = 1;

/// Checks a text.
pub(super) fn check(rules: &[u8], text: &[u8]) -> Result<(), String> {
    let parts = || Parts::of(rules).map_while(Result::ok);
    let set =
        |number: u32, value: u64| parts().any(|part| part.number == number && part.payload == Payload::Varint(value));
    if text.is_empty() && set(26, 1) {
        return Ok(());
    }
    let mut listed = Vec::new();
    for part in parts() {
        match (part.number, part.payload) {
            (2 | 3, _) => sizes(rules, [2, 3], characters(text), "character")?,
            (4 | 5, _) => sizes(rules, [4, 5], text.len(), "byte")?,
            (6, Payload::Bytes(pattern)) => matches(pattern, text)?,
            (7, Payload::Bytes(prefix)) if !text.starts_with(prefix) => {
                return Err(format!("must begin with {:?}", String::from_utf8_lossy(prefix)));
            }
            (8, Payload::Bytes(suffix)) if !text.ends_with(suffix) => {
                return Err(format!("must end with {:?}", String::from_utf8_lossy(suffix)));
            }
            (10, Payload::Bytes(value)) => listed.push(value),
            (24, Payload::Varint(known)) => header(known == HEADER_NAME, !set(25, 0), text)?,
            _ => {}
        }
    }
    if listed.is_empty() || listed.contains(&text) {
        return Ok(());
    }
    let listed: Vec<_> = listed.into_iter().map(String::from_utf8_lossy).collect();
    Err(format!("must be one of {}", listed.join(", ")))
}

/// Characters, not bytes; a text that is not UTF-8 is refused by its decoder.
fn characters(text: &[u8]) -> usize {
    std::str::from_utf8(text).map_or(text.len(), |text| text.chars().count())
}

/// Parts of a message's head, by protoc-gen-validate's expressions.
fn header(is_name: bool, is_strict: bool, text: &[u8]) -> Result<(), String> {
    let (fits, rule) = match (is_name, is_strict) {
        (_, false) => (
            !text.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')),
            "must not have NUL, CR or LF, which would begin another header line",
        ),
        (true, true) => {
            let name = text.strip_prefix(b":").unwrap_or(text);
            let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+,-.^_|~`".contains(byte);
            (!name.is_empty() && name.iter().all(token), "must be a header's name")
        }
        (false, true) => {
            let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
            (!text.iter().any(control), "must not have control characters")
        }
    };
    if fits { Ok(()) } else { Err(rule.to_owned()) }
}

/// A whole text against one of the protos' expressions, of which there are few; each is compiled when it is first asked for.
fn matches(pattern: &[u8], text: &[u8]) -> Result<(), String> {
    static COMPILED: Mutex<Option<HashMap<String, Regex>>> = Mutex::new(None);
    let (Ok(pattern), Ok(text)) = (std::str::from_utf8(pattern), std::str::from_utf8(text)) else { return Ok(()) };
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let compiled = compiled.get_or_insert_default();
    if !compiled.contains_key(pattern) {
        let regex = Regex::new(pattern).map_err(|error| format!("has a rule that cannot be read: {error}"))?;
        compiled.insert(pattern.to_owned(), regex);
    }
    match compiled.get(pattern) {
        Some(regex) if !regex.is_match(text) => Err(format!("must match {pattern}")),
        _ => Ok(()),
    }
}
