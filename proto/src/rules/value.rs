//! One value against the rules of its field: an encoded `validate.FieldRules`, which `validate.proto` explains.

use crate::fields::{Field, Kind};
use crate::wire::{Parts, Payload};

use super::text;

/// Fields of `validate.FieldRules`.
const FLOAT: u32 = 1;
const DOUBLE: u32 = 2;
const INT32: u32 = 3;
const INT64: u32 = 4;
const UINT32: u32 = 5;
const UINT64: u32 = 6;
const BOOL: u32 = 13;
const STRING: u32 = 14;
const BYTES: u32 = 15;
const ENUM: u32 = 16;
const MESSAGE: u32 = 17;
const REPEATED: u32 = 18;
const MAP: u32 = 19;
const ANY: u32 = 20;
const DURATION: u32 = 21;

/// The value of a field of `bytes`, the last one if there are several.
fn get(bytes: &[u8], number: u32) -> Option<Payload<'_>> {
    let parts = Parts::of(bytes).map_while(Result::ok);
    parts.filter(|part| part.number == number).map(|part| part.payload).last()
}

fn inner(bytes: &[u8], number: u32) -> Option<&[u8]> {
    match get(bytes, number)? {
        Payload::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn flag(bytes: &[u8], number: u32) -> bool {
    get(bytes, number) == Some(Payload::Varint(1))
}

/// Whether the field must be set.
pub(super) fn is_required(rules: &[u8]) -> bool {
    let says = |kind, number| inner(rules, kind).is_some_and(|rules| flag(rules, number));
    says(MESSAGE, 2) || says(ANY, 1) || says(DURATION, 1)
}

/// The rules of a list's items.
pub(super) fn of_items(rules: &[u8]) -> Option<&[u8]> {
    inner(inner(rules, REPEATED)?, 4)
}

/// Whether a list's items must differ.
pub(super) fn is_unique(rules: &[u8]) -> bool {
    inner(rules, REPEATED).is_some_and(|rules| flag(rules, 3))
}

/// How many items a list may have.
pub(super) fn of_list(rules: &[u8], count: usize) -> Result<(), String> {
    let rules = inner(rules, REPEATED).unwrap_or_default();
    sizes(rules, [1, 2], count, "item")
}

/// How many entries a map may have.
pub(super) fn of_map(rules: &[u8], count: usize) -> Result<(), String> {
    sizes(inner(rules, MAP).unwrap_or_default(), [1, 2], count, "entry")
}

/// A size against its least and greatest value; `numbers` are the fields that state them.
pub(super) fn sizes(rules: &[u8], numbers: [u32; 2], size: usize, of: &str) -> Result<(), String> {
    let [least, most] = numbers.map(|number| match get(rules, number) {
        Some(Payload::Varint(bound)) => Some(bound),
        _ => None,
    });
    let many = |n: u64| match (n, of) {
        (1, _) => format!("1 {of}"),
        (n, "entry") => format!("{n} entries"),
        (n, _) => format!("{n} {of}s"),
    };
    match size as u64 {
        0 if least == Some(1) => Err("must not be empty".to_owned()),
        size if least.is_some_and(|least| size < least) => {
            Err(format!("must have at least {}, not {size}", many(least.unwrap_or_default())))
        }
        size if most.is_some_and(|most| size > most) => {
            Err(format!("must have at most {}, not {size}", many(most.unwrap_or_default())))
        }
        _ => Ok(()),
    }
}

/// An entry of a map: its key and its value.
pub(super) fn entry(rules: &[u8], entry: &[u8]) -> Result<(), String> {
    let rules = inner(rules, MAP).unwrap_or_default();
    let none = || None;
    if let Some(keys) = inner(rules, 4) {
        let key = get(entry, 1).unwrap_or(Payload::Bytes(&[]));
        check(keys, none, key).map_err(|rule| format!("its key {rule}"))?;
    }
    let Some(values) = inner(rules, 5) else { return Ok(()) };
    check(values, none, get(entry, 2).unwrap_or(Payload::Bytes(&[]))).map_err(|rule| format!("its value {rule}"))
}

/// The value that a field has which is not set.
pub(super) fn default(kind: Kind) -> Payload<'static> {
    match kind {
        Kind::String | Kind::Bytes | Kind::Message(_) => Payload::Bytes(&[]),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Payload::Fixed64(0),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Payload::Fixed32(0),
        _ => Payload::Varint(0),
    }
}

/// The items of one part of a list whose items have these rules: numbers may come as one block.
pub(super) fn items<'a>(rules: &[u8], payload: Payload<'a>) -> impl Iterator<Item = Payload<'a>> + use<'a> {
    let kind = typed(rules).map(|(kind, _)| kind);
    let mut rest = match (kind, payload) {
        (Some(FLOAT..=UINT64 | BOOL | ENUM), Payload::Bytes(block)) => Ok(block),
        _ => Err(Some(payload)),
    };
    std::iter::from_fn(move || match &mut rest {
        Err(one) => one.take(),
        Ok(block) => one_of(kind, block),
    })
}

fn one_of<'a>(kind: Option<u32>, block: &mut &'a [u8]) -> Option<Payload<'a>> {
    match kind {
        Some(DOUBLE) => {
            let (bytes, rest) = block.split_first_chunk()?;
            *block = rest;
            Some(Payload::Fixed64(u64::from_le_bytes(*bytes)))
        }
        Some(FLOAT) => {
            let (bytes, rest) = block.split_first_chunk()?;
            *block = rest;
            Some(Payload::Fixed32(u32::from_le_bytes(*bytes)))
        }
        _ if block.is_empty() => None,
        _ => prost::encoding::decode_varint(block).ok().map(Payload::Varint),
    }
}

/// What tells an item from others: its number and its bytes.
pub(super) fn key(item: Payload<'_>) -> (u64, &[u8]) {
    match item {
        Payload::Varint(n) | Payload::Fixed64(n) => (n, &[]),
        Payload::Fixed32(n) => (n.into(), &[]),
        Payload::Bytes(bytes) => (0, bytes),
        Payload::Group => (0, &[]),
    }
}

/// The rules of a value by their kind.
fn typed(rules: &[u8]) -> Option<(u32, &[u8])> {
    let mut parts = Parts::of(rules).map_while(Result::ok).filter(|part| part.number != MESSAGE);
    parts.find_map(|part| match part.payload {
        Payload::Bytes(rules) => Some((part.number, rules)),
        _ => None,
    })
}

/// Checks one value; `field` tells which enum it is of.
pub(super) fn check(rules: &[u8], field: impl Fn() -> Option<Field>, payload: Payload<'_>) -> Result<(), String> {
    let Some((kind, rules)) = typed(rules) else { return Ok(()) };
    match kind {
        FLOAT | DOUBLE => bounds(rules, 2, real(kind, payload), |bound| real(kind, bound), |n| n.to_string()),
        INT32..=UINT64 => bounds(rules, 2, whole(kind, payload), |bound| whole(kind, bound), |n| n.to_string()),
        DURATION => bounds(rules, 3, nanoseconds(payload), nanoseconds, |n| seconds(*n)),
        BOOL if flag(rules, 1) && unwrapped(payload, Payload::Varint(0)) == Payload::Varint(0) => {
            Err("must be true".to_owned())
        }
        STRING => text::check(rules, bytes_of(payload)),
        BYTES => sizes(rules, [2, 3], bytes_of(payload).len(), "byte"),
        ENUM => of_enum(rules, field(), payload),
        _ => Ok(()),
    }
}

/// What stands in a wrapper (`google.protobuf.UInt32Value`); anything else as it is.
fn unwrapped<'a>(payload: Payload<'a>, default: Payload<'a>) -> Payload<'a> {
    match payload {
        Payload::Bytes(wrapper) => get(wrapper, 1).unwrap_or(default),
        other => other,
    }
}

fn bytes_of(payload: Payload<'_>) -> &[u8] {
    match payload {
        Payload::Bytes(bytes) => bytes,
        _ => &[],
    }
}

fn real(kind: u32, payload: Payload<'_>) -> f64 {
    match unwrapped(payload, if kind == FLOAT { Payload::Fixed32(0) } else { Payload::Fixed64(0) }) {
        Payload::Fixed32(bits) => f32::from_bits(bits).into(),
        Payload::Fixed64(bits) => f64::from_bits(bits),
        _ => 0.0,
    }
}

fn whole(kind: u32, payload: Payload<'_>) -> i128 {
    let Payload::Varint(n) = unwrapped(payload, Payload::Varint(0)) else { return 0 };
    match kind {
        INT32 => i128::from(n as i32),
        INT64 => i128::from(n.cast_signed()),
        UINT32 => i128::from(n as u32),
        _ => i128::from(n),
    }
}

fn nanoseconds(payload: Payload<'_>) -> i128 {
    let of = |number| match get(bytes_of(payload), number) {
        Some(Payload::Varint(n)) => n.cast_signed(),
        _ => 0,
    };
    i128::from(of(1)) * 1_000_000_000 + i128::from(of(2) as i32)
}

fn seconds(nanoseconds: i128) -> String {
    let (sign, n) = (if nanoseconds < 0 { "-" } else { "" }, nanoseconds.unsigned_abs());
    let text = format!("{sign}{}.{:09}", n / 1_000_000_000, n % 1_000_000_000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A value against `lt`, `lte`, `gt` and `gte`, the first of which is field `first`. What is no number keeps none of them.
fn bounds<N: PartialOrd + Copy + Default>(
    rules: &[u8],
    first: u32,
    value: N,
    read: impl Fn(Payload<'_>) -> N,
    show: impl Fn(&N) -> String,
) -> Result<(), String> {
    // `ignore_empty`; durations have none.
    if value == N::default() && first == 2 && flag(rules, 8) {
        return Ok(());
    }
    for part in Parts::of(rules).map_while(Result::ok) {
        let Some(rule) = part.number.checked_sub(first) else { continue };
        let bound = || read(part.payload);
        let (keeps, words) = match rule {
            0 => (value < bound(), "less than"),
            1 => (value <= bound(), "at most"),
            2 => (value > bound(), "greater than"),
            3 => (value >= bound(), "at least"),
            _ => continue,
        };
        if !keeps {
            return Err(format!("must be {words} {}, not {}", show(&bound()), show(&value)));
        }
    }
    Ok(())
}

fn of_enum(rules: &[u8], field: Option<Field>, payload: Payload<'_>) -> Result<(), String> {
    let Payload::Varint(number) = payload else { return Ok(()) };
    let number = number as i32;
    let kind = match field.map(Field::kind) {
        Some(Kind::Enum(kind)) => Some(kind),
        _ => None,
    };
    let name = kind.map(|kind| kind.value_name(number));
    if flag(rules, 2) && name == Some(None) {
        return Err(format!("must be a value of {}, not {number}", kind.map(|kind| kind.name()).unwrap_or_default()));
    }
    let is_named = |part: crate::wire::Part<'_>| part.number == 4 && part.payload == Payload::Varint(number as u64);
    if Parts::of(rules).map_while(Result::ok).any(is_named) {
        return Err(format!("must not be {}", name.flatten().map_or_else(|| number.to_string(), str::to_owned)));
    }
    Ok(())
}
