//! Random messages and random mistakes, the same for a seed at all times.

use ferromesh_proto::prost::Message as _;
use prost_reflect::{
    Cardinality, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value as Field,
};
use serde_json::{Value, json};

/// Types that an `Any` holds.
const PACKED: [&str; 6] = [
    "envoy.extensions.filters.http.router.v3.Router",
    "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    "envoy.config.core.v3.HeaderValueOption",
    "xds.type.v3.TypedStruct",
    "google.protobuf.Duration",
    "google.protobuf.StringValue",
];

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    pub fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let set = |message: &mut DynamicMessage, name: &str, value: Field| message.set_field_by_name(name, value);
        match descriptor.full_name() {
            "google.protobuf.Duration" => {
                let sign = self.of(&[1i64, -1]);
                let nanos = self.of(&[0, 0, 1, 500_000_000, 999_999_999, 1_000]);
                set(&mut message, "seconds", Field::I64(sign * self.below(1_000_000) as i64));
                set(&mut message, "nanos", Field::I32(sign as i32 * nanos));
            }
            "google.protobuf.Timestamp" => {
                set(&mut message, "seconds", Field::I64(self.below(4_000_000_000) as i64 - 2_000_000_000));
                let nanos = self.of(&[0, 1, 500_000_000, 999_999_999]);
                set(&mut message, "nanos", Field::I32(nanos));
            }
            "google.protobuf.FieldMask" => {
                let paths = ["a", "foo_bar", "a.b_c.d"].map(|path| Field::String(path.into()));
                set(&mut message, "paths", Field::List(paths.into_iter().take(self.below(4)).collect()));
            }
            "google.protobuf.Any" => self.pack(&mut message, depth),
            "google.protobuf.Value" => self.value(&mut message, depth),
            _ => self.fields(&mut message, depth),
        }
        message
    }

    fn pack(&mut self, any: &mut DynamicMessage, depth: usize) {
        let name = self.of(&PACKED);
        let descriptor = super::POOL.get_message_by_name(name).expect("known");
        let inner = self.message(&descriptor, depth + 1);
        any.set_field_by_name("type_url", Field::String(format!("type.googleapis.com/{name}")));
        any.set_field_by_name("value", Field::Bytes(inner.encode_to_vec().into()));
    }

    fn value(&mut self, value: &mut DynamicMessage, depth: usize) {
        let fields: Vec<FieldDescriptor> = value.descriptor().fields().collect();
        let field = &fields[self.below(if depth > 3 { 4 } else { 6 })];
        let content = match field.kind() {
            Kind::Enum(_) => Field::EnumNumber(0),
            kind => self.single(&kind, depth),
        };
        value.set_field(field, content);
    }

    fn fields(&mut self, message: &mut DynamicMessage, depth: usize) {
        let descriptor = message.descriptor();
        let fields: Vec<FieldDescriptor> = descriptor.fields().collect();
        let chance = if fields.len() < 4 { 60 } else { 30 } / (depth + 1);
        for field in fields {
            let taken = field.containing_oneof().is_some_and(|of| of.fields().any(|other| message.has_field(&other)));
            let is_deep = depth > 3 && matches!(field.kind(), Kind::Message(_));
            if taken || is_deep || self.below(100) > chance {
                continue;
            }
            let value = self.field(&field, depth);
            message.set_field(&field, value);
        }
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Field {
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { panic!("a map's entry is a message") };
            let (key, item) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let count = self.below(4);
            return Field::Map((0..count).map(|_| (self.key(&key.kind()), self.single(&item.kind(), depth))).collect());
        }
        if field.cardinality() == Cardinality::Repeated {
            let count = self.below(4);
            return Field::List((0..count).map(|_| self.single(&field.kind(), depth)).collect());
        }
        self.single(&field.kind(), depth)
    }

    fn key(&mut self, kind: &Kind) -> MapKey {
        match kind {
            Kind::String => MapKey::String(self.text()),
            Kind::Bool => MapKey::Bool(self.below(2) == 1),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(self.below(2000) as i32 - 1000),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(self.below(2000) as i64 - 1000),
            Kind::Uint32 | Kind::Fixed32 => MapKey::U32(self.below(2000) as u32),
            _ => MapKey::U64(self.next()),
        }
    }

    fn single(&mut self, kind: &Kind, depth: usize) -> Field {
        match kind {
            Kind::Double => Field::F64(self.of(&[0.0, 1.0, -2.5, 1e300, 0.1])),
            Kind::Float => Field::F32(self.of(&[0.0, 1.0, -2.5, 1e30, 0.1])),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Field::I32(self.of(&[0, 1, -1, i32::MIN, i32::MAX])),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Field::I64(self.of(&[0, 1, -1, i64::MIN, i64::MAX])),
            Kind::Uint32 | Kind::Fixed32 => Field::U32(self.of(&[0, 1, 300, u32::MAX])),
            Kind::Uint64 | Kind::Fixed64 => Field::U64(self.of(&[0, 1, 300, u64::MAX])),
            Kind::Bool => Field::Bool(self.below(2) == 1),
            Kind::String => Field::String(self.text()),
            Kind::Bytes => Field::Bytes(self.text().into_bytes().into()),
            Kind::Message(inner) => Field::Message(self.message(inner, depth + 1)),
            Kind::Enum(kind) => {
                let numbers: Vec<i32> = kind.values().map(|value| value.number()).collect();
                Field::EnumNumber(self.of(&numbers))
            }
        }
    }

    fn text(&mut self) -> String {
        self.of(&["", "a", "some text", "\u{e4}\u{1f980}", "\"quoted\"\n", "x.y/z", "0"]).to_owned()
    }

    /// Puts one random mistake somewhere (or what may be one).
    pub fn spoil(&mut self, value: &mut Value) {
        match value {
            Value::Object(object) if !object.is_empty() && self.below(4) > 0 => {
                let names: Vec<String> = object.keys().filter(|name| *name != "@type").cloned().collect();
                if names.is_empty() {
                    return;
                }
                let name = self.of(&names);
                if self.below(6) == 0 {
                    let moved = object.remove(&name).unwrap_or_default();
                    object.insert("no_such_field".into(), moved);
                } else if let Some(inner) = object.get_mut(&name) {
                    self.spoil(inner);
                }
            }
            Value::Array(items) if !items.is_empty() && self.below(4) > 0 => {
                let index = self.below(items.len());
                self.spoil(&mut items[index]);
            }
            other => {
                *other = self.of(&[
                    Value::Null,
                    json!(true),
                    json!(-1),
                    json!(1.5),
                    json!(7),
                    json!(1e30),
                    json!(""),
                    json!("abc"),
                    json!("12"),
                    json!("12s"),
                    json!([]),
                    json!([null]),
                    json!({ "x": 1 }),
                ]);
            }
        }
    }
}
