//! Every message, field and enum as one block of bytes, which needs no relocation and no memory but the pages that are
//! read. `src/fields.rs` reads it; both files state the layout in the same words.
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

use std::collections::HashMap;

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};

/// Flags of a field.
const LIST: u8 = 1;
const MAP: u8 = 2;
const PRESENCE: u8 = 4;
const PACKED: u8 = 8;

/// The table of all that the pool holds.
pub fn encode(pool: &DescriptorPool) -> Vec<u8> {
    let mut messages: Vec<MessageDescriptor> = pool.all_messages().collect();
    messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    let mut enums: Vec<EnumDescriptor> = pool.all_enums().collect();
    enums.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    let index = |names: Vec<&str>| names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), small(i))).collect();
    let mut writer = Writer {
        message_index: index(messages.iter().map(MessageDescriptor::full_name).collect()),
        enum_index: index(enums.iter().map(EnumDescriptor::full_name).collect()),
        ..Writer::default()
    };
    messages.iter().for_each(|message| writer.message(message));
    enums.iter().for_each(|kind| writer.enumeration(kind));
    let counts = [messages.len(), writer.fields.len() / 13, enums.len(), writer.values.len() / 8, writer.names.len()];
    let mut table: Vec<u8> = counts.iter().flat_map(|count| long(*count).to_le_bytes()).collect();
    for section in [writer.messages, writer.fields, writer.enums, writer.values, writer.names.into_bytes()] {
        table.extend(section);
    }
    table
}

#[derive(Default)]
struct Writer {
    message_index: HashMap<String, u16>,
    enum_index: HashMap<String, u16>,
    known_names: HashMap<String, u32>,
    messages: Vec<u8>,
    fields: Vec<u8>,
    enums: Vec<u8>,
    values: Vec<u8>,
    names: String,
}

impl Writer {
    fn message(&mut self, message: &MessageDescriptor) {
        let mut fields: Vec<FieldDescriptor> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let first = long(self.fields.len() / 13);
        let name = self.name(message.full_name());
        self.messages.extend(name.to_le_bytes());
        self.messages.extend(first.to_le_bytes());
        self.messages.extend(small(fields.len()).to_le_bytes());
        self.messages.push(u8::from(message.is_map_entry()));
        // A oneof of one `optional` field is no oneof.
        let oneofs: Vec<OneofDescriptor> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        for field in fields {
            let oneof = field
                .containing_oneof()
                .and_then(|own| oneofs.iter().position(|oneof| *oneof == own))
                .map_or(0, |position| position + 1);
            self.field(&field, u8::try_from(oneof).expect("less than 256 oneofs"));
        }
    }

    fn field(&mut self, field: &FieldDescriptor, oneof: u8) {
        assert_eq!(camel(field.name()), field.json_name(), "{} has a JSON name of its own", field.full_name());
        let (kind, inner) = match field.kind() {
            Kind::Double => (1, 0),
            Kind::Float => (2, 0),
            Kind::Int64 => (3, 0),
            Kind::Uint64 => (4, 0),
            Kind::Int32 => (5, 0),
            Kind::Fixed64 => (6, 0),
            Kind::Fixed32 => (7, 0),
            Kind::Bool => (8, 0),
            Kind::String => (9, 0),
            Kind::Message(inner) => (11, self.message_index[inner.full_name()]),
            Kind::Bytes => (12, 0),
            Kind::Uint32 => (13, 0),
            Kind::Enum(inner) => (14, self.enum_index[inner.full_name()]),
            Kind::Sfixed32 => (15, 0),
            Kind::Sfixed64 => (16, 0),
            Kind::Sint32 => (17, 0),
            Kind::Sint64 => (18, 0),
        };
        assert!(!field.is_group(), "{} is a group", field.full_name());
        let mut flags = 0;
        if field.cardinality() == Cardinality::Repeated {
            flags |= if field.is_map() { MAP } else { LIST };
        } else if field.supports_presence() {
            flags |= PRESENCE;
        }
        if field.is_packed() {
            flags |= PACKED;
        }
        let name = self.name(field.name());
        self.fields.extend(field.number().to_le_bytes());
        self.fields.extend(name.to_le_bytes());
        self.fields.extend(inner.to_le_bytes());
        self.fields.extend([kind, flags, oneof]);
    }

    fn enumeration(&mut self, kind: &EnumDescriptor) {
        let (first, count) = (long(self.values.len() / 8), kind.values().count());
        let name = self.name(kind.full_name());
        self.enums.extend(name.to_le_bytes());
        self.enums.extend(first.to_le_bytes());
        self.enums.extend(small(count).to_le_bytes());
        for value in kind.values() {
            let name = self.name(value.name());
            self.values.extend(value.number().to_le_bytes());
            self.values.extend(name.to_le_bytes());
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(known) = self.known_names.get(name) {
            return *known;
        }
        let offset = long(self.names.len());
        assert!(offset < 1 << 24 && name.len() < 256, "the names do not fit");
        self.names.push_str(name);
        let place = offset << 8 | long(name.len());
        self.known_names.insert(name.to_owned(), place);
        place
    }
}

/// The JSON name that a field has if it does not set one: `lowerCamelCase`.
fn camel(name: &str) -> String {
    let mut camel = String::new();
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                camel.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

fn small(n: usize) -> u16 {
    u16::try_from(n).expect("less than 65536 of a kind")
}

fn long(n: usize) -> u32 {
    u32::try_from(n).expect("fits 32 bits")
}
