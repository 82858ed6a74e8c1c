//! Every message, field and enum, read from a block of bytes that `build/tables.rs` writes: in the program's read-only
//! data, without a relocation, so that it takes no memory but the pages that are read.
//!
//! Integers are little-endian. A name is `offset << 8 | length` into the names at the end.
//!
//! ```text
//! header   5 x u32: numbers of messages, fields, enums, values; bytes of names
//! message  11 bytes, by name: name u32, first field u32, number of fields u16, 1 if a map's entry u8
//! field    13 bytes, by number: number u32, name u32, message or enum u16, kind u8, flags u8, oneof u8 (0: none)
//! enum     10 bytes: name u32, first value u32, number of values u16
//! value    8 bytes, as declared: number i32, name u32
//! names    UTF-8
//! ```

static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tables.bin"));

const HEADER: usize = 20;
const MESSAGE: usize = 11;
const FIELD: usize = 13;
const ENUM: usize = 10;
const VALUE: usize = 8;

const LIST: u8 = 1;
const MAP: u8 = 2;
const PRESENCE: u8 = 4;
const PACKED: u8 = 8;

fn bytes<const N: usize>(at: usize) -> [u8; N] {
    // The build script wrote the whole table; nothing lies outside of it.
    TABLE.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

fn u32_at(at: usize) -> u32 {
    u32::from_le_bytes(bytes(at))
}

fn u16_at(at: usize) -> u16 {
    u16::from_le_bytes(bytes(at))
}

fn u8_at(at: usize) -> u8 {
    u8::from_le_bytes(bytes(at))
}

/// A number of the header: 0 messages, 1 fields, 2 enums, 3 values.
fn count(index: usize) -> usize {
    u32_at(index * 4) as usize
}

fn fields_at() -> usize {
    HEADER + count(0) * MESSAGE
}

fn enums_at() -> usize {
    fields_at() + count(1) * FIELD
}

fn values_at() -> usize {
    enums_at() + count(2) * ENUM
}

fn name_at(at: usize) -> &'static str {
    let place = u32_at(at);
    let begin = values_at() + count(3) * VALUE + (place >> 8) as usize;
    let name = TABLE.get(begin..begin + (place & 255) as usize).unwrap_or_default();
    std::str::from_utf8(name).unwrap_or_default()
}

/// A message type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Message(u16);

/// A field of a message type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Field(u32);

/// An enum type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enum(u16);

/// What a field holds (an item of it, if it is repeated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 64-bit floating point.
    Double,
    /// 32-bit floating point.
    Float,
    /// Signed, varint.
    Int64,
    /// Unsigned, varint.
    Uint64,
    /// Signed, varint.
    Int32,
    /// Unsigned, 8 bytes.
    Fixed64,
    /// Unsigned, 4 bytes.
    Fixed32,
    /// Varint 0 or 1.
    Bool,
    /// UTF-8.
    String,
    /// A message.
    Message(Message),
    /// Any bytes.
    Bytes,
    /// Unsigned, varint.
    Uint32,
    /// An enum.
    Enum(Enum),
    /// Signed, 4 bytes.
    Sfixed32,
    /// Signed, 8 bytes.
    Sfixed64,
    /// Signed, zigzag varint.
    Sint32,
    /// Signed, zigzag varint.
    Sint64,
}

/// The message that a type URL (or a bare full name) names.
pub fn message(type_url: &str) -> Option<Message> {
    let name = type_url.rsplit('/').next().unwrap_or_default();
    let (mut low, mut high) = (0, count(0));
    while low < high {
        let middle = low.midpoint(high);
        let found = Message(u16::try_from(middle).ok()?);
        match found.name().cmp(name) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Some(found),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// Every message type, by name.
pub fn messages() -> impl Iterator<Item = Message> {
    (0..=u16::MAX).take(count(0)).map(Message)
}

impl Message {
    /// The message of a place in the table.
    pub(crate) fn of_place(place: u16) -> Self {
        Self(place)
    }

    /// Its place in the table.
    pub(crate) fn place(self) -> u16 {
        self.0
    }

    fn at(self) -> usize {
        HEADER + usize::from(self.0) * MESSAGE
    }

    /// Full name.
    pub fn name(self) -> &'static str {
        name_at(self.at())
    }

    /// Whether it is an entry of a map field.
    pub fn is_map_entry(self) -> bool {
        u8_at(self.at() + 10) == 1
    }

    /// Fields by number.
    pub fn fields(self) -> impl DoubleEndedIterator<Item = Field> {
        let first = u32_at(self.at() + 4);
        (first..first + u32::from(u16_at(self.at() + 8))).map(Field)
    }

    /// The field of a number.
    pub fn field(self, number: u32) -> Option<Field> {
        let first = u32_at(self.at() + 4);
        let (mut low, mut high) = (first, first + u32::from(u16_at(self.at() + 8)));
        while low < high {
            let middle = low.midpoint(high);
            let found = Field(middle);
            match found.number().cmp(&number) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(found),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The field of a name as the `.proto` file or as JSON writes it (`snake_case` or `lowerCamelCase`).
    pub fn named(self, name: &str) -> Option<Field> {
        self.fields().find(|field| field.name() == name).or_else(|| self.fields().find(|field| field.is_camel(name)))
    }
}

impl Field {
    fn at(self) -> usize {
        fields_at() + self.0 as usize * FIELD
    }

    /// Its number on the wire.
    pub fn number(self) -> u32 {
        u32_at(self.at())
    }

    /// Its name in the `.proto` file.
    pub fn name(self) -> &'static str {
        name_at(self.at() + 4)
    }

    /// What it holds.
    pub fn kind(self) -> Kind {
        let inner = || u16_at(self.at() + 8);
        match u8_at(self.at() + 10) {
            1 => Kind::Double,
            2 => Kind::Float,
            3 => Kind::Int64,
            4 => Kind::Uint64,
            5 => Kind::Int32,
            6 => Kind::Fixed64,
            7 => Kind::Fixed32,
            8 => Kind::Bool,
            9 => Kind::String,
            11 => Kind::Message(Message(inner())),
            13 => Kind::Uint32,
            14 => Kind::Enum(Enum(inner())),
            15 => Kind::Sfixed32,
            16 => Kind::Sfixed64,
            17 => Kind::Sint32,
            18 => Kind::Sint64,
            _ => Kind::Bytes,
        }
    }

    /// The message that it holds, if it holds one (an entry, if it is a map).
    pub fn message(self) -> Option<Message> {
        match self.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        }
    }

    fn has(self, flag: u8) -> bool {
        u8_at(self.at() + 11) & flag != 0
    }

    /// Whether it is repeated and not a map.
    pub fn is_list(self) -> bool {
        self.has(LIST)
    }

    /// Whether it is a map.
    pub fn is_map(self) -> bool {
        self.has(MAP)
    }

    /// Whether its default value differs from no value.
    pub fn has_presence(self) -> bool {
        self.has(PRESENCE)
    }

    /// Whether its items are written as one block.
    pub fn is_packed(self) -> bool {
        self.has(PACKED)
    }

    /// Which oneof of its message it belongs to.
    pub fn oneof(self) -> Option<u8> {
        let oneof = u8_at(self.at() + 12);
        (oneof != 0).then_some(oneof)
    }

    fn is_camel(self, camel: &str) -> bool {
        let mut rest = camel.bytes();
        let mut upper = false;
        for byte in self.name().bytes() {
            if byte == b'_' {
                upper = true;
                continue;
            }
            let want = if upper { byte.to_ascii_uppercase() } else { byte };
            upper = false;
            if rest.next() != Some(want) {
                return false;
            }
        }
        rest.next().is_none()
    }
}

impl Enum {
    fn at(self) -> usize {
        enums_at() + usize::from(self.0) * ENUM
    }

    /// Full name.
    pub fn name(self) -> &'static str {
        name_at(self.at())
    }

    /// Numbers and names, as declared.
    pub fn values(self) -> impl Iterator<Item = (i32, &'static str)> {
        let first = u32_at(self.at() + 4);
        let place = |index: u32| values_at() + index as usize * VALUE;
        (first..first + u32::from(u16_at(self.at() + 8)))
            .map(move |index| (i32::from_le_bytes(bytes(place(index))), name_at(place(index) + 4)))
    }

    /// The number of a name.
    pub fn number(self, name: &str) -> Option<i32> {
        self.values().find(|(_, found)| *found == name).map(|(number, _)| number)
    }

    /// The first name of a number.
    pub fn value_name(self, number: i32) -> Option<&'static str> {
        self.values().find(|(found, _)| *found == number).map(|(_, name)| name)
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Debug for Enum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
