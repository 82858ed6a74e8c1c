//! The types of `google.protobuf` that JSON writes in a way of their own.

use serde_json::Value;

use super::read::{self, Misfit};
use super::scalar;
use super::show::{self, Content};
use crate::fields::{Kind, Message};
use crate::wire::{self, Payload, WireError};

/// A type with a JSON form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Any,
    Duration,
    Timestamp,
    FieldMask,
    Struct,
    Value,
    List,
    /// `BoolValue` and its like: the value itself.
    Wrapper,
}

/// 10,000 years in seconds, either way.
const MAX_DURATION: i64 = 315_576_000_000;
/// The years 1 to 9999.
const TIMESTAMPS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Whether null is a value of this type, not the absence of one.
pub(super) fn holds_null(kind: Kind) -> bool {
    match kind {
        Kind::Message(message) => Known::of(message) == Some(Known::Value),
        Kind::Enum(kind) => kind.name() == "google.protobuf.NullValue",
        _ => false,
    }
}

impl Known {
    pub(super) fn of(message: Message) -> Option<Self> {
        Some(match message.name().strip_prefix("google.protobuf.")? {
            "Any" => Self::Any,
            "Duration" => Self::Duration,
            "Timestamp" => Self::Timestamp,
            "FieldMask" => Self::FieldMask,
            "Struct" => Self::Struct,
            "Value" => Self::Value,
            "ListValue" => Self::List,
            "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
            | "BoolValue" | "StringValue" | "BytesValue" => Self::Wrapper,
            _ => return None,
        })
    }

    pub(super) fn read(self, message: Message, json: &Value, out: &mut Vec<u8>, depth: u32) -> Result<(), Misfit> {
        match self {
            Self::Any => {
                let (type_url, payload) = read::payload(json, depth)?;
                if !type_url.is_empty() {
                    wire::bytes(1, type_url.as_bytes(), out);
                }
                if !payload.is_empty() {
                    wire::bytes(2, &payload, out);
                }
                Ok(())
            }
            Self::Duration => {
                let time = json.as_str().and_then(duration);
                write_time(time.ok_or_else(|| Misfit::wanted("a duration like 1.5s", json))?, out);
                Ok(())
            }
            Self::Timestamp => {
                let time = json.as_str().and_then(timestamp);
                write_time(time.ok_or_else(|| Misfit::wanted("a time like 2026-01-31T12:00:00Z", json))?, out);
                Ok(())
            }
            Self::FieldMask => field_mask(json, out),
            Self::Struct => match json {
                Value::Object(object) => struct_fields(object.iter(), out, depth),
                other => Err(Misfit::wanted("an object", other)),
            },
            Self::Value => value(json, out, depth),
            Self::List => match json {
                Value::Array(items) => list(items, out, depth),
                other => Err(Misfit::wanted("a list", other)),
            },
            Self::Wrapper => match message.field(1) {
                Some(field) => read::single(field, json, false, out, depth),
                None => Ok(()),
            },
        }
    }

    pub(super) fn show(self, message: Message, bytes: &[u8], depth: u32) -> Result<Value, WireError> {
        let content = show::content(message, bytes)?;
        match self {
            Self::Any => show::any(text(&content, 1)?, payload(&content, 2), depth),
            Self::Duration | Self::Timestamp => self.show_time(&content),
            Self::FieldMask => show_field_mask(&content),
            Self::Struct | Self::List => {
                let empty =
                    if self == Self::List { Value::Array(Vec::new()) } else { Value::Object(Default::default()) };
                match content.get(&1) {
                    Some((field, payloads)) => Ok(show::member(*field, payloads, depth)?.unwrap_or(empty)),
                    None => Ok(empty),
                }
            }
            Self::Value => match content.into_values().next() {
                Some((field, payloads)) => Ok(show::member(field, &payloads, depth)?.unwrap_or_default()),
                None => Ok(Value::Null),
            },
            Self::Wrapper => match message.field(1) {
                Some(field) => scalar::show(field, last(&content, 1).unwrap_or_else(|| scalar::default(field.kind()))),
                None => Ok(Value::Null),
            },
        }
    }

    fn show_time(self, content: &Content<'_>) -> Result<Value, WireError> {
        let number = |number: u32| match last(content, number) {
            None => Ok(0),
            Some(Payload::Varint(n)) => Ok(n as i64),
            Some(_) => Err(WireError::Type(format!("{number} of a time"))),
        };
        let out_of_range = || WireError::Type("a time that is out of range".to_owned());
        let (seconds, nanos) = (number(1)?, number(2)? as i32);
        if self == Self::Timestamp {
            if !TIMESTAMPS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
                return Err(out_of_range());
            }
            return Ok(Value::String(prost_types::Timestamp { seconds, nanos }.to_string()));
        }
        let mixed = (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0);
        if seconds.unsigned_abs() > MAX_DURATION as u64 || nanos.unsigned_abs() > 999_999_999 || mixed {
            return Err(out_of_range());
        }
        Ok(Value::String(prost_types::Duration { seconds, nanos }.to_string()))
    }
}

fn last<'a>(content: &Content<'a>, number: u32) -> Option<Payload<'a>> {
    content.get(&number).and_then(|(_, payloads)| payloads.last().copied())
}

fn payload<'a>(content: &Content<'a>, number: u32) -> &'a [u8] {
    match last(content, number) {
        Some(Payload::Bytes(bytes)) => bytes,
        _ => &[],
    }
}

fn text<'a>(content: &Content<'a>, number: u32) -> Result<&'a str, WireError> {
    std::str::from_utf8(payload(content, number)).map_err(|_| WireError::Type("type_url".to_owned()))
}

fn write_time((seconds, nanos): (i64, i32), out: &mut Vec<u8>) {
    if seconds != 0 {
        wire::varint(1, seconds as u64, out);
    }
    if nanos != 0 {
        wire::varint(2, i64::from(nanos) as u64, out);
    }
}

/// `-1.5s`: up to nine digits of a fraction.
fn duration(text: &str) -> Option<(i64, i32)> {
    let text = text.strip_suffix('s')?;
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    let is_in_range = seconds < MAX_DURATION || (seconds == MAX_DURATION && nanos == 0);
    is_in_range.then_some((sign * seconds, sign as i32 * nanos))
}

/// RFC 3339, with any offset.
fn timestamp(text: &str) -> Option<(i64, i32)> {
    let time: prost_types::Timestamp = text.parse().ok()?;
    (text.contains(['T', 't']) && TIMESTAMPS.contains(&time.seconds)).then_some((time.seconds, time.nanos))
}

/// `a.fooBar,b` is the paths `a.foo_bar` and `b`.
fn field_mask(json: &Value, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let Value::String(text) = json else { return Err(Misfit::wanted("names of fields", json)) };
    if text.contains('_') {
        return Err(Misfit::wanted("names of fields in camel case", json));
    }
    for path in text.split(',').filter(|path| !path.is_empty()) {
        let mut snake = String::with_capacity(path.len() + 4);
        for c in path.chars() {
            if c.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        }
        wire::bytes(1, snake.as_bytes(), out);
    }
    Ok(())
}

fn show_field_mask(content: &Content<'_>) -> Result<Value, WireError> {
    let mut shown = String::new();
    for payload in content.get(&1).map(|(_, payloads)| payloads.as_slice()).unwrap_or_default() {
        let Payload::Bytes(path) = payload else { return Err(WireError::Type("paths".to_owned())) };
        let path = std::str::from_utf8(path).map_err(|_| WireError::Type("paths".to_owned()))?;
        if !shown.is_empty() {
            shown.push(',');
        }
        let mut upper = false;
        for c in path.chars() {
            match c {
                '_' => upper = true,
                c => {
                    shown.push(if upper { c.to_ascii_uppercase() } else { c });
                    upper = false;
                }
            }
        }
    }
    Ok(Value::String(shown))
}

/// Appends the entries of a `Struct`, by key.
pub(super) fn struct_fields<'a>(
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut Vec<u8>,
    depth: u32,
) -> Result<(), Misfit> {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(name, _)| *name);
    for (name, json) in fields {
        wire::delimited(1, out, |out| {
            if !name.is_empty() {
                wire::bytes(1, name.as_bytes(), out);
            }
            wire::delimited(2, out, |out| value(json, out, depth + 1))
        })
        .map_err(|misfit| misfit.at(format_args!("[{name:?}]")))?;
    }
    Ok(())
}

fn list(items: &[Value], out: &mut Vec<u8>, depth: u32) -> Result<(), Misfit> {
    items.iter().enumerate().try_for_each(|(i, item)| {
        wire::delimited(1, out, |out| value(item, out, depth + 1)).map_err(|misfit| misfit.at(format_args!("[{i}]")))
    })
}

/// Appends a `google.protobuf.Value`: its fields are the JSON types.
fn value(json: &Value, out: &mut Vec<u8>, depth: u32) -> Result<(), Misfit> {
    if depth > wire::MAX_DEPTH {
        return Err(Misfit::new("values are nested too deeply"));
    }
    match json {
        Value::Null => wire::varint(1, 0, out),
        Value::Number(number) => {
            let number = number.as_f64().ok_or_else(|| Misfit::wanted("a number of 64 bits", json))?;
            scalar::Scalar::Fixed64(number.to_bits()).field(2, out);
        }
        Value::String(text) => wire::bytes(3, text.as_bytes(), out),
        Value::Bool(set) => wire::varint(4, u64::from(*set), out),
        Value::Object(object) => wire::delimited(5, out, |out| struct_fields(object.iter(), out, depth + 1))?,
        Value::Array(items) => wire::delimited(6, out, |out| list(items, out, depth + 1))?,
    }
    Ok(())
}
