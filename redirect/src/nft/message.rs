//! Netlink messages and their attributes, as bytes (RFC 3549; the kernel's `include/uapi/linux/netlink.h`).

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
const ACK: u16 = 4;
/// An attribute of attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;

/// One message, without its sequence number.
#[derive(Debug, Clone)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    /// What it is about, for errors.
    pub what: String,
}

impl Message {
    /// `head` is the fixed part behind the netlink header.
    pub fn new(kind: u16, flags: u16, head: Vec<u8>, attributes: Attributes, what: String) -> Self {
        let mut body = head;
        body.extend(attributes.0);
        Self { kind, flags: flags | REQUEST | ACK, body, what }
    }

    /// The kernel is not asked to confirm it.
    pub fn without_answer(mut self) -> Self {
        self.flags &= !ACK;
        self
    }

    /// Whether the kernel confirms it.
    pub fn has_answer(&self) -> bool {
        self.flags & ACK != 0
    }

    /// Its bytes, padded to four.
    pub fn bytes(&self, sequence: u32) -> Vec<u8> {
        let length = HEADER + self.body.len();
        let mut bytes = Vec::with_capacity(length + 3);
        bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        // The kernel fills in who we are.
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(&self.body);
        pad(&mut bytes);
        bytes
    }
}

/// A list of attributes, being built.
#[derive(Debug, Clone, Default)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// Bytes as they are.
    pub fn raw(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        pad(&mut self.0);
        self
    }

    /// A number, big-endian.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.raw(kind, &value.to_be_bytes())
    }

    /// A text, with its end.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.raw(kind, &bytes)
    }

    /// Attributes inside an attribute.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.raw(kind | NESTED, &inner.0)
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
