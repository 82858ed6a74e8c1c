//! `google.protobuf.Any` whose payload is shared: one encoding serves every proxy it is sent to.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message, Name};

/// Prefix of every type URL that this project writes.
pub const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// An encoded message together with its type.
///
/// Cloning does not copy `value`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Any {
    /// `type.googleapis.com/<full message name>`; readers use what follows the last `/`.
    pub type_url: String,
    /// The encoded message.
    pub value: Bytes,
}

impl Any {
    /// Encodes `message`.
    pub fn pack<M: Message + Name>(message: &M) -> Self {
        Self { type_url: M::type_url(), value: message.encode_to_vec().into() }
    }

    /// The full message name: what follows the last `/` of the type URL.
    pub fn type_name(&self) -> &str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }

    /// Whether the payload is an `M`.
    pub fn is<M: Name>(&self) -> bool {
        self.type_name() == M::full_name()
    }

    /// Decodes the payload as an `M`.
    ///
    /// # Errors
    /// If the type URL names another message, or the bytes do not decode.
    pub fn unpack<M: Message + Name + Default>(&self) -> Result<M, UnpackError> {
        if !self.is::<M>() {
            return Err(UnpackError::Type { want: M::full_name(), got: self.type_url.clone() });
        }
        M::decode(self.value.clone()).map_err(|source| UnpackError::Bytes { type_url: self.type_url.clone(), source })
    }
}

/// Why an [`Any`] could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The payload is of another type.
    #[error("expected a {want}, got {got:?}")]
    Type {
        /// Full name of the wanted message.
        want: String,
        /// Type URL found.
        got: String,
    },
    /// The payload does not decode.
    #[error("{type_url}: {source}")]
    Bytes {
        /// Type URL of the payload.
        type_url: String,
        /// What the decoder said.
        source: DecodeError,
    },
}

impl std::fmt::Debug for Any {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Any({}, {} bytes)", self.type_url, self.value.len())
    }
}

impl Message for Any {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if !self.type_url.is_empty() {
            encoding::string::encode(1, &self.type_url, buf);
        }
        if !self.value.is_empty() {
            encoding::bytes::encode(2, &self.value, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => encoding::string::merge(wire_type, &mut self.type_url, buf, ctx),
            2 => encoding::bytes::merge(wire_type, &mut self.value, buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let mut len = 0;
        if !self.type_url.is_empty() {
            len += encoding::string::encoded_len(1, &self.type_url);
        }
        if !self.value.is_empty() {
            len += encoding::bytes::encoded_len(2, &self.value);
        }
        len
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Name for Any {
    const NAME: &'static str = "Any";
    const PACKAGE: &'static str = "google.protobuf";

    fn type_url() -> String {
        format!("{TYPE_URL_PREFIX}google.protobuf.Any")
    }
}
