//! Encoded messages, field by field: <https://protobuf.dev/programming-guides/encoding/>.

use prost::DecodeError;
use prost::encoding::{self, WireType};

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// They end inside of a field.
    #[error("the message ends inside a field")]
    Ends,
    /// A number or length is not valid.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A field is encoded in another way than its type is, or its text is not UTF-8.
    #[error("field {0} does not hold what its type says")]
    Type(String),
    /// Messages stand in each other more deeply than decoders read.
    #[error("messages are nested too deeply")]
    Depth,
}

/// How deeply messages may stand in each other, as prost's decoder has it.
pub const MAX_DEPTH: u32 = 100;

/// What stands behind a field's number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Payload<'a> {
    /// A varint.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A string, bytes, a message, or packed items.
    Bytes(&'a [u8]),
    /// A group, which no message here has; it is passed over.
    Group,
}

/// One field of an encoded message.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its number.
    pub number: u32,
    /// What it holds.
    pub payload: Payload<'a>,
    /// Number and payload as they are encoded.
    pub raw: &'a [u8],
}

/// The fields of an encoded message, as they come; ends after the first error.
#[derive(Clone, Debug)]
pub struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    /// Reads `message`.
    pub fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn part(&mut self) -> Result<Part<'a>, WireError> {
        let begin = self.0;
        let (number, wire_type) = encoding::decode_key(&mut self.0)?;
        let payload = match wire_type {
            WireType::Varint => Payload::Varint(encoding::decode_varint(&mut self.0)?),
            WireType::SixtyFourBit => Payload::Fixed64(u64::from_le_bytes(self.fixed()?)),
            WireType::ThirtyTwoBit => Payload::Fixed32(u32::from_le_bytes(self.fixed()?)),
            WireType::LengthDelimited => {
                let length = encoding::decode_varint(&mut self.0)?;
                let length = usize::try_from(length).map_err(|_| WireError::Ends)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(WireError::Ends)?;
                self.0 = rest;
                Payload::Bytes(bytes)
            }
            WireType::StartGroup | WireType::EndGroup => {
                encoding::skip_field(wire_type, number, &mut self.0, encoding::DecodeContext::default())?;
                Payload::Group
            }
        };
        let raw = begin.get(..begin.len() - self.0.len()).unwrap_or_default();
        Ok(Part { number, payload, raw })
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(WireError::Ends)?;
        self.0 = rest;
        Ok(*bytes)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_err() {
            self.0 = &[];
        }
        Some(part)
    }
}

/// Appends a field whose payload `write` appends.
///
/// # Errors
/// Those of `write`.
pub fn delimited<E>(
    number: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    encoding::encode_key(number, WireType::LengthDelimited, out);
    let begin = out.len();
    write(out)?;
    let mut length = Vec::with_capacity(encoding::encoded_len_varint(u64::MAX));
    encoding::encode_varint((out.len() - begin) as u64, &mut length);
    // The length is known only now; what was written moves up by it.
    out.splice(begin..begin, length);
    Ok(())
}

/// Appends a field of bytes, also if there are none.
pub fn bytes(number: u32, payload: &[u8], out: &mut Vec<u8>) {
    encoding::encode_key(number, WireType::LengthDelimited, out);
    encoding::encode_varint(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// Appends a varint field.
pub fn varint(number: u32, value: u64, out: &mut Vec<u8>) {
    encoding::encode_key(number, WireType::Varint, out);
    encoding::encode_varint(value, out);
}
