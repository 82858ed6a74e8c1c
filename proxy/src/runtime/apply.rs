//! Puts runtime values into an encoded resource, at any depth.

use ferromesh_proto::fields::{self, Message};
use ferromesh_proto::prost::{Message as _, Name};
use ferromesh_proto::wire::{self, MAX_DEPTH, Parts, Payload};
use ferromesh_proto::{Any, json};

use super::{Runtime, rules};

impl Runtime {
    /// The resource with the values of this runtime. What cannot be read stays as it is: its decoder says why.
    pub fn apply(&self, resource: &Any) -> Any {
        if self.is_empty() {
            return resource.clone();
        }
        self.any(resource, 0).unwrap_or_else(|| resource.clone())
    }

    /// As [`Runtime::apply`].
    pub fn resolve<M: ferromesh_proto::prost::Message + Name + Default + Clone>(&self, message: &M) -> M {
        if self.is_empty() {
            return message.clone();
        }
        self.apply(&Any::pack(message)).unpack().unwrap_or_else(|_| message.clone())
    }

    /// `None` if it stays as it is.
    fn any(&self, any: &Any, depth: u32) -> Option<Any> {
        let any = json::resolve_typed_struct(any).ok()?;
        let value = self.message(fields::message(&any.type_url)?, &any.value, depth)?;
        Some(Any { type_url: any.type_url, value: value.into() })
    }

    /// `None` if it stays as it is.
    fn message(&self, message: Message, bytes: &[u8], depth: u32) -> Option<Vec<u8>> {
        if depth > MAX_DEPTH {
            return None;
        }
        let inner = self.fields(message, bytes, depth);
        rules::edit(self, message.name(), inner.as_deref().unwrap_or(bytes)).or(inner)
    }

    fn fields(&self, message: Message, bytes: &[u8], depth: u32) -> Option<Vec<u8>> {
        let mut changed: Option<Vec<u8>> = None;
        let mut passed = 0;
        for part in Parts::of(bytes) {
            let part = part.ok()?;
            let edited = match (part.payload, message.field(part.number).and_then(fields::Field::message)) {
                (Payload::Bytes(payload), Some(inner)) => self.inner(inner, payload, depth + 1),
                _ => None,
            };
            if let Some(edited) = edited {
                let out = changed.get_or_insert_with(|| bytes.get(..passed).unwrap_or_default().to_vec());
                wire::bytes(part.number, &edited, out);
            } else if let Some(out) = &mut changed {
                out.extend_from_slice(part.raw);
            }
            passed += part.raw.len();
        }
        changed
    }

    fn inner(&self, inner: Message, payload: &[u8], depth: u32) -> Option<Vec<u8>> {
        match inner.name() {
            "google.protobuf.Any" => {
                let any = Any::decode(payload).ok()?;
                Some(self.any(&any, depth)?.encode_to_vec())
            }
            name if name.starts_with("google.protobuf.") => None,
            _ => self.message(inner, payload, depth),
        }
    }
}
