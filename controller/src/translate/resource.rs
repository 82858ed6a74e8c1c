//! A message goes in; a named resource with its encoding and the hash of it comes out.

use std::sync::Arc;

use ferromesh_proto::Any;
use prost::{Message, Name};
use xxhash_rust::xxh3::xxh3_64;

/// One xDS resource, encoded once for all proxies that it is sent to; clones share name and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: Arc<str>,
    /// Hash of its content: the same content has the same version.
    pub version: u64,
    /// The encoded message.
    pub any: Any,
}

impl Resource {
    /// Encodes a message. Maps in messages are ordered, so the same message always gives the same bytes.
    pub fn new<M: Message + Name>(name: &str, message: &M) -> Self {
        Self::of_any(name, Any::pack(message))
    }

    /// Of an encoded message.
    pub fn of_any(name: &str, any: Any) -> Self {
        Self { name: name.into(), version: xxh3_64(&any.value), any }
    }
}
