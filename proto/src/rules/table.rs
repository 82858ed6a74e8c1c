//! The rows of messages, read from a block of bytes that `build/rules.rs` writes.
//!
//! Integers are little-endian; a place that there is not is 65535.
//!
//! ```text
//! header   3 x u32: numbers of messages, of messages with rows, of rows
//! index    u16 a message, in the order of `fields`: its place among the messages with rows
//! message  20 bytes: first row u16, rows of fields u8, rows of oneofs u8, rows to look at when all fields are read u128
//! row      8 bytes, fields by number, then oneofs: number u16 (a oneof's as `fields` counts), message that is walked
//!          into u16, rules u16, flags u8, 1 + the row of the required oneof that the field is of u8 (0: none)
//! rules    at their offset: length u16, an encoded `validate.FieldRules`
//! ```

use crate::fields::{Field, Message};

static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rules.bin"));

const HEADER: usize = 12;
const INDEX: usize = 2;
const MESSAGE: usize = 20;
const ROW: usize = 8;

const LIST: u8 = 1;
const MAP: u8 = 2;
const ANY: u8 = 4;
const COUNTED: u8 = 16;

const NONE: u16 = u16::MAX;

fn bytes<const N: usize>(at: usize) -> [u8; N] {
    // The build script wrote the whole table; nothing lies outside of it.
    TABLE.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// A number of the header: 0 messages, 1 messages with rows, 2 rows.
fn count(index: usize) -> usize {
    u32::from_le_bytes(bytes(index * 4)) as usize
}

fn messages_at() -> usize {
    HEADER + count(0) * INDEX
}

fn rows_at() -> usize {
    messages_at() + count(1) * MESSAGE
}

/// The rows of a message.
pub(super) struct Rows {
    first: usize,
    fields: usize,
    last: u128,
}

impl Rows {
    /// The rows of `message`; none if neither it nor anything inside of it has rules.
    pub(super) fn of(message: Message) -> Option<Self> {
        let place = u16::from_le_bytes(bytes(HEADER + usize::from(message.place()) * INDEX));
        if place == NONE {
            return None;
        }
        let at = messages_at() + usize::from(place) * MESSAGE;
        let [low, high, fields, _] = bytes(at);
        let first = rows_at() + usize::from(u16::from_le_bytes([low, high])) * ROW;
        Some(Self { first, fields: fields.into(), last: u128::from_le_bytes(bytes(at + 4)) })
    }

    fn row(&self, place: usize) -> Row {
        Row(bytes(self.first + place * ROW), place >= self.fields)
    }

    /// The row of a field, and its place.
    pub(super) fn of_field(&self, number: u32) -> Option<(usize, Row)> {
        let (mut low, mut high) = (0, self.fields);
        while low < high {
            let middle = low.midpoint(high);
            let row = self.row(middle);
            match row.number().cmp(&number) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some((middle, row)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Rows that say something of the message when all of its fields are read.
    pub(super) fn last(&self) -> impl Iterator<Item = (usize, Row)> {
        let mut rest = self.last;
        std::iter::from_fn(move || {
            let place = rest.trailing_zeros() as usize;
            rest &= rest.checked_sub(1)?;
            Some((place, self.row(place)))
        })
    }
}

/// A field with rules or with messages that have some, or a oneof of which a field must be set.
#[derive(Clone, Copy)]
pub(super) struct Row([u8; ROW], bool);

impl Row {
    fn word(self, at: usize) -> u16 {
        let byte = |at: usize| self.0.get(at).copied().unwrap_or_default();
        u16::from_le_bytes([byte(at), byte(at + 1)])
    }

    /// The field's number, or the oneof's.
    pub(super) fn number(self) -> u32 {
        self.word(0).into()
    }

    /// The message that is to be walked into.
    pub(super) fn inner(self) -> Option<Message> {
        Some(self.word(2)).filter(|place| *place != NONE).map(Message::of_place)
    }

    /// The encoded `validate.FieldRules`.
    pub(super) fn rules(self) -> Option<&'static [u8]> {
        let offset = Some(self.word(4)).filter(|offset| *offset != NONE)?;
        let at = rows_at() + count(2) * ROW + usize::from(offset);
        TABLE.get(at + 2..at + 2 + usize::from(u16::from_le_bytes(bytes(at))))
    }

    /// The place of the row of the required oneof that it is of.
    pub(super) fn oneof(self) -> Option<usize> {
        let [.., oneof] = self.0;
        usize::from(oneof).checked_sub(1)
    }

    pub(super) fn is_oneof(self) -> bool {
        self.1
    }

    fn has(self, flag: u8) -> bool {
        let [.., flags, _] = self.0;
        flags & flag != 0
    }

    pub(super) fn is_list(self) -> bool {
        self.has(LIST)
    }

    pub(super) fn is_map(self) -> bool {
        self.has(MAP)
    }

    pub(super) fn is_any(self) -> bool {
        self.has(ANY)
    }

    /// Whether it is a list or map with rules for all of its items together.
    pub(super) fn is_counted(self) -> bool {
        self.has(COUNTED)
    }
}

/// Something that a proto states of a message.
#[derive(Debug, Clone, Copy)]
pub enum Stated {
    /// The rules of a field: an encoded `validate.FieldRules`.
    Field(Field, &'static [u8]),
    /// One field of this oneof must be set; its number as [`Field::oneof`] has it.
    Oneof(u8),
}

/// All that the protos state of a message's own fields.
pub fn stated(message: Message) -> Vec<Stated> {
    let Some(rows) = Rows::of(message) else { return Vec::new() };
    let of_fields = message.fields().filter_map(|field| {
        let (_, row) = rows.of_field(field.number())?;
        Some(Stated::Field(field, row.rules()?))
    });
    let of_oneofs = rows.last().filter(|(_, row)| row.is_oneof());
    let of_oneofs = of_oneofs.filter_map(|(_, row)| u8::try_from(row.number()).ok().map(Stated::Oneof));
    of_fields.chain(of_oneofs).collect()
}
