//! Values that are not messages, from JSON to the wire and back.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use prost::encoding::{self, WireType};
use serde_json::{Number, Value};

use super::read::Misfit;
use crate::fields::{Field, Kind};
use crate::wire::{Payload, WireError};

/// Both alphabets, with and without padding, are read.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// A value as it goes to the wire.
#[derive(Debug)]
pub(super) enum Scalar<'a> {
    Varint(u64),
    /// A map's key keeps its order: what the varint means.
    Signed(i64, u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Cow<'a, [u8]>),
}

impl Scalar<'_> {
    pub(super) fn is_default(&self) -> bool {
        match self {
            Self::Varint(n) | Self::Signed(_, n) | Self::Fixed64(n) => *n == 0,
            Self::Fixed32(n) => *n == 0,
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }

    /// Where it stands among a map's keys; text is compared beside.
    pub(super) fn order(&self) -> i128 {
        match self {
            Self::Varint(n) | Self::Fixed64(n) => i128::from(*n),
            Self::Signed(n, _) => i128::from(*n),
            Self::Fixed32(n) => i128::from(*n),
            Self::Bytes(_) => 0,
        }
    }

    pub(super) fn payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Varint(n) | Self::Signed(_, n) => encoding::encode_varint(*n, out),
            Self::Fixed64(n) => out.extend_from_slice(&n.to_le_bytes()),
            Self::Fixed32(n) => out.extend_from_slice(&n.to_le_bytes()),
            Self::Bytes(bytes) => {
                encoding::encode_varint(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
        }
    }

    pub(super) fn field(&self, number: u32, out: &mut Vec<u8>) {
        let wire_type = match self {
            Self::Varint(_) | Self::Signed(..) => WireType::Varint,
            Self::Fixed64(_) => WireType::SixtyFourBit,
            Self::Fixed32(_) => WireType::ThirtyTwoBit,
            Self::Bytes(_) => WireType::LengthDelimited,
        };
        encoding::encode_key(number, wire_type, out);
        self.payload(out);
    }
}

/// Reads a value that is not a message.
pub(super) fn read(kind: Kind, json: &Value) -> Result<Scalar<'_>, Misfit> {
    match kind {
        Kind::Double => Ok(Scalar::Fixed64(float(json)?.to_bits())),
        Kind::Float => {
            let wide = float(json)?;
            if wide.is_finite() && wide.abs() > f64::from(f32::MAX) {
                return Err(Misfit::wanted("a 32-bit number", json));
            }
            Ok(Scalar::Fixed32((wide as f32).to_bits()))
        }
        Kind::Bool => match json {
            Value::Bool(set) => Ok(Scalar::Varint(u64::from(*set))),
            other => Err(Misfit::wanted("true or false", other)),
        },
        Kind::String => match json {
            Value::String(text) => Ok(Scalar::Bytes(Cow::Borrowed(text.as_bytes()))),
            other => Err(Misfit::wanted("a string", other)),
        },
        Kind::Bytes | Kind::Message(_) => match json {
            Value::String(text) => {
                let alphabet = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
                let bytes = GeneralPurpose::new(alphabet, LENIENT).decode(text);
                bytes.map(|bytes| Scalar::Bytes(Cow::Owned(bytes))).map_err(|_| Misfit::wanted("base64", json))
            }
            other => Err(Misfit::wanted("base64", other)),
        },
        Kind::Enum(kind) => match json {
            Value::Null if kind.name() == "google.protobuf.NullValue" => Ok(Scalar::Varint(0)),
            Value::String(name) => match kind.number(name) {
                Some(number) => Ok(Scalar::Varint(i64::from(number) as u64)),
                None => Err(Misfit::new(format!("{name:?} is not one of {}: {}", kind.name(), names(kind)))),
            },
            other => integer(Kind::Int32, other),
        },
        kind => integer(kind, json),
    }
}

/// The names of an enum, as far as they fit a sentence.
fn names(kind: crate::fields::Enum) -> String {
    let names: Vec<&str> = kind.values().map(|(_, name)| name).take(12).collect();
    names.join(", ")
}

fn float(json: &Value) -> Result<f64, Misfit> {
    match json {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    }
    .ok_or_else(|| Misfit::wanted("a number", json))
}

fn integer(kind: Kind, json: &Value) -> Result<Scalar<'static>, Misfit> {
    let whole = match json {
        Value::Number(number) => whole(number),
        Value::String(text) => text.parse::<i128>().ok().or_else(|| exact(float(json).ok()?)),
        _ => None,
    };
    whole.and_then(|n| fit(kind, n)).ok_or_else(|| Misfit::wanted(range(kind), json))
}

fn whole(number: &Number) -> Option<i128> {
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    integer.or_else(|| exact(number.as_f64()?))
}

/// A floating-point number that is whole and not too large to be exact in any integer type.
fn exact(n: f64) -> Option<i128> {
    (n.fract() == 0.0 && n.abs() < 1.0e20).then_some(n as i128)
}

fn range(kind: Kind) -> &'static str {
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "a whole number of 32 bits",
        Kind::Uint32 | Kind::Fixed32 => "a whole number from 0 to 4294967295",
        Kind::Uint64 | Kind::Fixed64 => "a whole number of 64 bits, not negative",
        _ => "a whole number of 64 bits",
    }
}

fn fit(kind: Kind, n: i128) -> Option<Scalar<'static>> {
    Some(match kind {
        Kind::Int32 | Kind::Enum(_) => Scalar::Varint(i64::from(i32::try_from(n).ok()?) as u64),
        Kind::Int64 => Scalar::Varint(i64::try_from(n).ok()? as u64),
        Kind::Uint32 => Scalar::Varint(u64::from(u32::try_from(n).ok()?)),
        Kind::Uint64 => Scalar::Varint(u64::try_from(n).ok()?),
        Kind::Sint32 => Scalar::Varint(zigzag(i64::from(i32::try_from(n).ok()?))),
        Kind::Sint64 => Scalar::Varint(zigzag(i64::try_from(n).ok()?)),
        Kind::Fixed32 => Scalar::Fixed32(u32::try_from(n).ok()?),
        Kind::Fixed64 => Scalar::Fixed64(u64::try_from(n).ok()?),
        Kind::Sfixed32 => Scalar::Fixed32(i32::try_from(n).ok()? as u32),
        Kind::Sfixed64 => Scalar::Fixed64(i64::try_from(n).ok()? as u64),
        _ => return None,
    })
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// Reads a map's key.
pub(super) fn read_key(kind: Kind, name: &str) -> Result<Scalar<'_>, Misfit> {
    match kind {
        Kind::String => Ok(Scalar::Bytes(Cow::Borrowed(name.as_bytes()))),
        Kind::Bool => match name {
            "true" => Ok(Scalar::Varint(1)),
            "false" => Ok(Scalar::Varint(0)),
            _ => Err(Misfit::new("the key must be true or false")),
        },
        kind => {
            let wrong = || Misfit::new(format!("the key must be {}", range(kind)));
            let number: i128 = name.parse().map_err(|_| wrong())?;
            match fit(kind, number).ok_or_else(wrong)? {
                Scalar::Varint(n) => Ok(Scalar::Signed(i64::try_from(number).unwrap_or(i64::MAX), n)),
                fixed => Ok(fixed),
            }
        }
    }
}

/// Shows a value that is not a message.
pub(super) fn show(field: Field, payload: Payload<'_>) -> Result<Value, WireError> {
    Ok(match (field.kind(), payload) {
        (Kind::Double, Payload::Fixed64(bits)) => number(f64::from_bits(bits)),
        // By way of text, so that 0.1 is shown as 0.1.
        (Kind::Float, Payload::Fixed32(bits)) => {
            let short = f32::from_bits(bits);
            number(short.to_string().parse().unwrap_or_else(|_| f64::from(short)))
        }
        (Kind::Int32, Payload::Varint(n)) => Value::from(n as i32),
        (Kind::Int64, Payload::Varint(n)) => Value::String((n as i64).to_string()),
        (Kind::Uint32, Payload::Varint(n)) => Value::from(n as u32),
        (Kind::Uint64, Payload::Varint(n)) | (Kind::Fixed64, Payload::Fixed64(n)) => Value::String(n.to_string()),
        (Kind::Sint32, Payload::Varint(n)) => Value::from(unzigzag(n) as i32),
        (Kind::Sint64, Payload::Varint(n)) => Value::String(unzigzag(n).to_string()),
        (Kind::Fixed32, Payload::Fixed32(n)) => Value::from(n),
        (Kind::Sfixed32, Payload::Fixed32(n)) => Value::from(n as i32),
        (Kind::Sfixed64, Payload::Fixed64(n)) => Value::String((n as i64).to_string()),
        (Kind::Bool, Payload::Varint(n)) => Value::Bool(n != 0),
        (Kind::Enum(kind), Payload::Varint(_)) if kind.name() == "google.protobuf.NullValue" => Value::Null,
        (Kind::Enum(kind), Payload::Varint(n)) => {
            kind.value_name(n as i32).map_or_else(|| Value::from(n as i32), Value::from)
        }
        (Kind::Bytes, Payload::Bytes(bytes)) => Value::String(base64(bytes)),
        (Kind::String, Payload::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => return Err(WireError::Type(field.name().to_owned())),
        },
        _ => return Err(WireError::Type(field.name().to_owned())),
    })
}

/// Whether the payload is the default of the field's type.
pub(super) fn is_default(payload: Payload<'_>) -> bool {
    matches!(payload, Payload::Varint(0) | Payload::Fixed64(0) | Payload::Fixed32(0) | Payload::Bytes(&[]))
}

/// The default of a field's type, as it is on the wire.
pub(super) fn default(kind: Kind) -> Payload<'static> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Payload::Fixed64(0),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Payload::Fixed32(0),
        Kind::String | Kind::Bytes | Kind::Message(_) => Payload::Bytes(&[]),
        _ => Payload::Varint(0),
    }
}

fn number(n: f64) -> Value {
    match Number::from_f64(n) {
        Some(number) => Value::Number(number),
        None if n.is_nan() => Value::from("NaN"),
        None if n > 0.0 => Value::from("Infinity"),
        None => Value::from("-Infinity"),
    }
}

/// Bytes in base64, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
