//! What the protos state of their fields (protoc-gen-validate's `validate.rules` and `validate.required`), as one block of
//! bytes in read-only data. `src/rules/table.rs` reads it; both files state the layout in the same words.
//!
//! Integers are little-endian; a place that there is not is 65535.
//!
//! ```text
//! header   3 x u32: numbers of messages, of messages with rows, of rows
//! index    u16 a message, in the order of `tables.rs`: its place among the messages with rows
//! message  20 bytes: first row u16, rows of fields u8, rows of oneofs u8, rows to look at when all fields are read u128
//! row      8 bytes, fields by number, then oneofs: number u16 (a oneof's as `tables.rs` counts), message that is
//!          walked into u16, rules u16, flags u8, 1 + the row of the required oneof that the field is of u8 (0: none)
//! rules    at their offset: length u16, an encoded `validate.FieldRules`
//! ```

use std::collections::{HashMap, HashSet};

use prost_reflect::prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor, ReflectMessage, Value,
};

/// Flags of a row.
const LIST: u8 = 1;
const MAP: u8 = 2;
const ANY: u8 = 4;
/// It may be wrong that the field is not set.
const ABSENT: u8 = 8;
/// A list or map has rules for all of its items together.
const COUNTED: u8 = 16;

const NONE: u16 = u16::MAX;

/// Rules that `src/rules` knows, by the field of `validate.FieldRules`; a proto that states another one does not build.
const KNOWN: &[(&str, &str)] = &[
    ("message", "required skip"),
    ("float", "lt lte gt gte ignore_empty"),
    ("double", "lt lte gt gte ignore_empty"),
    ("int32", "lt lte gt gte ignore_empty"),
    ("int64", "lt lte gt gte ignore_empty"),
    ("uint32", "lt lte gt gte ignore_empty"),
    ("uint64", "lt lte gt gte ignore_empty"),
    ("bool", "const"),
    ("string", "min_len max_len min_bytes max_bytes pattern prefix suffix in well_known_regex strict ignore_empty"),
    ("bytes", "min_len max_len"),
    ("enum", "defined_only not_in"),
    ("repeated", "min_items max_items unique items"),
    ("map", "min_pairs keys values"),
    ("any", "required"),
    ("duration", "required lt lte gt gte"),
];

struct Row {
    number: u16,
    inner: u16,
    rules: u16,
    flags: u8,
    oneof: u8,
}

struct Writer<'a> {
    pool: &'a DescriptorPool,
    index: HashMap<String, u16>,
    known: HashMap<Vec<u8>, u16>,
    rules: Vec<u8>,
}

/// The table of all that the pool's messages state.
pub fn encode(pool: &DescriptorPool) -> Vec<u8> {
    let mut all: Vec<MessageDescriptor> = pool.all_messages().collect();
    all.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    let index = all.iter().enumerate().map(|(place, message)| (message.full_name().to_owned(), small(place)));
    let mut writer = Writer { pool, index: index.collect(), known: HashMap::new(), rules: Vec::new() };
    let walked = writer.walked(&all);
    let (mut index, mut messages, mut rows, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0_usize);
    for message in &all {
        if !walked.contains(message.full_name()) {
            index.extend(NONE.to_le_bytes());
            continue;
        }
        index.extend(small(messages.len() / 20).to_le_bytes());
        let (fields, oneofs) = writer.rows(message, &walked);
        let last = (0_u32..).zip(fields.iter().chain(&oneofs));
        let last: u128 = last.filter(|(_, row)| row.flags & (ABSENT | COUNTED) != 0).map(|(i, _)| 1 << i).sum();
        messages.extend(small(count).to_le_bytes());
        messages.extend([tiny(fields.len()), tiny(oneofs.len())]);
        messages.extend(last.to_le_bytes());
        count += fields.len() + oneofs.len();
        assert!(fields.len() + oneofs.len() <= 128, "{} has too many rows", message.full_name());
        for row in fields.iter().chain(&oneofs) {
            rows.extend([row.number, row.inner, row.rules].into_iter().flat_map(u16::to_le_bytes));
            rows.extend([row.flags, row.oneof]);
        }
    }
    let counts = [all.len(), messages.len() / 20, count];
    let mut table: Vec<u8> =
        counts.iter().flat_map(|count| u32::try_from(*count).expect("fits 32 bits").to_le_bytes()).collect();
    for section in [index, messages, rows, writer.rules] {
        table.extend(section);
    }
    table
}

impl Writer<'_> {
    /// Messages that state something, or hold one that does, or that anything may be packed into.
    fn walked(&self, all: &[MessageDescriptor]) -> HashSet<String> {
        let mut walked = HashSet::from(["google.protobuf.Any".to_owned()]);
        loop {
            let before = walked.len();
            for message in all.iter().filter(|message| !message.full_name().starts_with("google.protobuf.")) {
                let leads = message.fields().any(|field| {
                    let of_message = |inner: &MessageDescriptor| walked.contains(inner.full_name());
                    self.of_field(&field).is_some() || field.kind().as_message().is_some_and(of_message)
                });
                if leads || message.oneofs().any(|oneof| self.is_required(&oneof)) {
                    walked.insert(message.full_name().to_owned());
                }
            }
            if walked.len() == before {
                walked.remove("google.protobuf.Any");
                return walked;
            }
        }
    }

    fn of_field(&self, field: &FieldDescriptor) -> Option<DynamicMessage> {
        let extension = self.pool.get_extension_by_name("validate.rules").expect("protos import validate.proto");
        let options = field.options();
        options.has_extension(&extension).then(|| options.get_extension(&extension).as_message().cloned())?
    }

    fn is_required(&self, oneof: &OneofDescriptor) -> bool {
        let extension = self.pool.get_extension_by_name("validate.required").expect("protos import validate.proto");
        oneof.options().get_extension(&extension).as_bool().unwrap_or_default()
    }

    fn rows(&mut self, message: &MessageDescriptor, walked: &HashSet<String>) -> (Vec<Row>, Vec<Row>) {
        let mut fields: Vec<FieldDescriptor> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let real = message.oneofs().filter(|oneof| !oneof.is_synthetic());
        let oneofs: Vec<(u8, OneofDescriptor)> = (1..).zip(real).filter(|(_, oneof)| self.is_required(oneof)).collect();
        let mut kept: Vec<(Row, Option<usize>)> = Vec::new();
        for field in fields {
            let oneof = field.containing_oneof();
            let oneof = oneof.and_then(|own| oneofs.iter().position(|(_, oneof)| *oneof == own));
            let row = self.row(&field, walked);
            if row.inner != NONE || row.rules != NONE || oneof.is_some() {
                kept.push((row, oneof));
            }
        }
        let count = kept.len();
        let fields = kept.into_iter().map(|(row, oneof)| {
            let oneof = oneof.map_or(0, |place| tiny(count + place + 1));
            Row { oneof, ..row }
        });
        let oneof = |number: u8| Row { number: number.into(), inner: NONE, rules: NONE, flags: ABSENT, oneof: 0 };
        (fields.collect(), oneofs.iter().map(|(number, _)| oneof(*number)).collect())
    }

    fn row(&mut self, field: &FieldDescriptor, walked: &HashSet<String>) -> Row {
        let rules = self.of_field(field);
        let skipped = rules.as_ref().is_some_and(|rules| flag(&part(rules, "message"), "skip"));
        let mut flags = if field.is_map() { MAP } else { u8::from(field.is_list()) * LIST };
        let inner = match field.kind() {
            Kind::Message(inner) if inner.full_name() == "google.protobuf.Any" => {
                flags |= ANY;
                self.index[inner.full_name()]
            }
            Kind::Message(inner) if walked.contains(inner.full_name()) && !skipped => self.index[inner.full_name()],
            _ => NONE,
        };
        if let Some(rules) = &rules {
            assert_known(field, rules);
            let (list, map) = (part(rules, "repeated"), part(rules, "map"));
            let counted = number(&list, "min_items") > 1.0 || has(&list, "max_items") || flag(&list, "unique");
            flags |= u8::from(counted || number(&map, "min_pairs") > 1.0) * COUNTED;
            flags |= u8::from(field.containing_oneof().is_none() && may_miss(field, rules)) * ABSENT;
        }
        let rules = rules.map_or(NONE, |rules| self.rules(rules.encode_to_vec()));
        let number = u16::try_from(field.number()).expect("fields' numbers are small");
        Row { number, inner, rules, flags, oneof: 0 }
    }

    fn rules(&mut self, encoded: Vec<u8>) -> u16 {
        if let Some(known) = self.known.get(&encoded) {
            return *known;
        }
        let place = small(self.rules.len());
        self.rules.extend(small(encoded.len()).to_le_bytes());
        self.rules.extend(&encoded);
        self.known.insert(encoded, place);
        place
    }
}

/// Whether it may break the rules that the field is not set.
fn may_miss(field: &FieldDescriptor, rules: &DynamicMessage) -> bool {
    let is_required = |kind| flag(&part(rules, kind), "required");
    if is_required("message") || is_required("any") || is_required("duration") {
        return true;
    }
    if number(&part(rules, "repeated"), "min_items") > 0.0 || number(&part(rules, "map"), "min_pairs") > 0.0 {
        return true;
    }
    if field.is_list() || field.is_map() || field.supports_presence() {
        return false;
    }
    let numbers = ["float", "double", "int32", "int64", "uint32", "uint64"].map(|kind| part(rules, kind));
    let of_number = numbers.iter().any(|rules| {
        let above = has(rules, "gt") && number(rules, "gt") >= 0.0 || number(rules, "gte") > 0.0;
        let below = has(rules, "lt") && number(rules, "lt") <= 0.0 || number(rules, "lte") < 0.0;
        (above || below) && !flag(rules, "ignore_empty")
    });
    let of_text = ["string", "bytes"].map(|kind| part(rules, kind)).iter().any(|rules| {
        let needs = ["min_len", "min_bytes", "pattern", "prefix", "suffix", "in", "well_known_regex"];
        needs.iter().any(|rule| has(rules, rule)) && !flag(rules, "ignore_empty")
    });
    of_number || of_text || flag(&part(rules, "bool"), "const") || has(&part(rules, "enum"), "not_in")
}

fn assert_known(field: &FieldDescriptor, rules: &DynamicMessage) {
    for (kind, value) in rules.fields() {
        let known = KNOWN.iter().find(|(name, _)| *name == kind.name()).map(|(_, known)| *known);
        let known = known.unwrap_or_else(|| panic!("{}: no rules of {} are known", field.full_name(), kind.name()));
        let Some(stated) = value.as_message() else { continue };
        for (rule, value) in stated.fields() {
            let is_known = known.split(' ').any(|known| known == rule.name());
            assert!(is_known, "{}: the rule {}.{} is not known", field.full_name(), kind.name(), rule.name());
            if let Some(inner) = value.as_message().filter(|inner| inner.descriptor().name() == "FieldRules") {
                assert_known(field, inner);
            }
        }
    }
}

fn part(message: &DynamicMessage, field: &str) -> Option<DynamicMessage> {
    if !message.has_field_by_name(field) {
        return None;
    }
    message.get_field_by_name(field)?.as_message().cloned()
}

fn has(message: &Option<DynamicMessage>, field: &str) -> bool {
    message.as_ref().is_some_and(|message| message.has_field_by_name(field))
}

fn flag(message: &Option<DynamicMessage>, field: &str) -> bool {
    has(message, field)
        && message.as_ref().and_then(|message| message.get_field_by_name(field)?.as_bool()) == Some(true)
}

fn number(message: &Option<DynamicMessage>, field: &str) -> f64 {
    if !has(message, field) {
        return 0.0;
    }
    let value = message.as_ref().and_then(|message| Some(message.get_field_by_name(field)?.into_owned()));
    match value {
        Some(Value::I32(n)) => n.into(),
        Some(Value::I64(n)) => n as f64,
        Some(Value::U32(n)) => n.into(),
        Some(Value::U64(n)) => n as f64,
        Some(Value::F32(n)) => n.into(),
        Some(Value::F64(n)) => n,
        _ => 0.0,
    }
}

fn small(n: usize) -> u16 {
    u16::try_from(n).ok().filter(|n| *n != NONE).expect("less than 65535 of a kind")
}

fn tiny(n: usize) -> u8 {
    u8::try_from(n).expect("less than 256 of a kind")
}
