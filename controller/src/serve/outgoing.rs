//! A response as bytes: made piece by piece as the client reads, so that no stream keeps a whole one.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::Resource;
use super::resources::Resources;
use super::session::{Protocol, Push};

/// Bytes of a piece; HTTP/2 sends frames of as many.
const PIECE: usize = 16 << 10;
/// Payloads from this size on are sent as they lie there.
const LARGE: usize = 8 << 10;
/// Longest response, bytes; only a full set (state-of-the-world LDS, CDS) gets near.
const MAX_RESPONSE: usize = 256 << 20;

/// Fields of `DeltaDiscoveryResponse` and `DiscoveryResponse`: those that both have bear the same numbers.
const VERSION: u32 = 1;
const RESOURCES: u32 = 2;
const TYPE_URL: u32 = 4;
const NONCE: u32 = 5;
const REMOVED: u32 = 6;
/// Fields of delta's `Resource`.
const RESOURCE_VERSION: u32 = 1;
const RESOURCE_ANY: u32 = 2;
const RESOURCE_NAME: u32 = 3;
/// Fields of `Any`.
const ANY_TYPE_URL: u32 = 1;
const ANY_VALUE: u32 = 2;
/// Length of a version as text.
const VERSION_LEN: usize = 16;

/// A response is longer than clients would read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a response of {bytes} bytes; at most {MAX_RESPONSE} are sent: ask by delta, which sends parts")]
pub(super) struct TooLong {
    /// How long it is.
    bytes: usize,
}

/// A message that is being sent, with the five bytes that gRPC puts before it.
#[derive(Debug)]
pub(super) struct Outgoing {
    protocol: Protocol,
    head: Bytes,
    resources: Resources,
    next: usize,
    payload: Option<Bytes>,
}

impl Outgoing {
    pub(super) fn new(protocol: Protocol, push: Push) -> Result<Self, TooLong> {
        let Push { kind, nonce, version, resources, removed } = push;
        let (kind, removed) = (kind.type_url(), removed.iter().map(|name| &**name));
        let texts = [(VERSION, version.as_str()), (TYPE_URL, kind), (NONCE, nonce.as_str())];
        let texts = || texts.into_iter().chain(removed.clone().map(|name| (REMOVED, name)));
        let resource = |resource| field_len(RESOURCES, resource_len(protocol, resource));
        let length = texts().map(|(number, text)| field_len(number, text.len())).sum::<usize>()
            + resources.iter().map(resource).sum::<usize>();
        let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_RESPONSE).ok_or(TooLong { bytes: length })?;
        let mut head = BytesMut::new();
        head.put_u8(0);
        head.put_u32(prefix);
        texts().for_each(|(number, text)| put(&mut head, number, text.as_bytes()));
        Ok(Self { protocol, head: head.freeze(), resources, next: 0, payload: None })
    }

    /// The next piece; `None` at the end.
    pub(super) fn piece(&mut self) -> Option<Bytes> {
        if let Some(payload) = self.payload.take() {
            return Some(payload);
        }
        let head = std::mem::take(&mut self.head);
        if self.next == self.resources.len() {
            return (!head.is_empty()).then_some(head);
        }
        let mut piece = BytesMut::with_capacity(PIECE.min(self.rest() + head.len()));
        piece.extend_from_slice(&head);
        while let Some(resource) = self.resources.get(self.next) {
            let length = resource_len(self.protocol, resource);
            let is_large = resource.any.value.len() >= LARGE;
            if !is_large && !piece.is_empty() && piece.len() + field_len(RESOURCES, length) > PIECE {
                break;
            }
            self.next += 1;
            put_before_payload(&mut piece, self.protocol, resource);
            if is_large {
                self.payload = Some(resource.any.value.clone());
                break;
            }
            piece.extend_from_slice(&resource.any.value);
        }
        Some(piece.freeze())
    }

    /// Bytes of the resources that are left, or [`PIECE`] if there are more.
    fn rest(&self) -> usize {
        let mut bytes = 0;
        for resource in self.resources.iter().skip(self.next) {
            bytes += field_len(RESOURCES, resource_len(self.protocol, resource));
            if bytes >= PIECE {
                return PIECE;
            }
        }
        bytes
    }
}

fn field_len(number: u32, payload: usize) -> usize {
    key_len(number) + encoded_len_varint(payload as u64) + payload
}

fn any_len(resource: &Resource) -> usize {
    field_len(ANY_TYPE_URL, resource.any.type_url.len()) + field_len(ANY_VALUE, resource.any.value.len())
}

/// The length of one entry of `resources`.
fn resource_len(protocol: Protocol, resource: &Resource) -> usize {
    match protocol {
        Protocol::StateOfTheWorld => any_len(resource),
        Protocol::Delta => {
            field_len(RESOURCE_VERSION, VERSION_LEN)
                + field_len(RESOURCE_NAME, resource.name.len())
                + field_len(RESOURCE_ANY, any_len(resource))
        }
    }
}

fn open(buffer: &mut BytesMut, number: u32, length: usize) {
    encode_key(number, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
}

fn put(buffer: &mut BytesMut, number: u32, bytes: &[u8]) {
    open(buffer, number, bytes.len());
    buffer.extend_from_slice(bytes);
}

/// An entry of `resources` up to the payload, with which it ends.
fn put_before_payload(buffer: &mut BytesMut, protocol: Protocol, resource: &Resource) {
    open(buffer, RESOURCES, resource_len(protocol, resource));
    if protocol == Protocol::Delta {
        let version = format!("{:0VERSION_LEN$x}", resource.version);
        put(buffer, RESOURCE_VERSION, version.as_bytes());
        put(buffer, RESOURCE_NAME, resource.name.as_bytes());
        open(buffer, RESOURCE_ANY, any_len(resource));
    }
    put(buffer, ANY_TYPE_URL, resource.any.type_url.as_bytes());
    open(buffer, ANY_VALUE, resource.any.value.len());
}

#[cfg(test)]
mod tests {
    use ferromesh_proto::Any;
    use ferromesh_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use ferromesh_proto::prost::Message;
    use proptest::prelude::*;

    use super::super::Kind;
    use super::*;

    fn push(sizes: &[usize], removed: &[&str]) -> Push {
        let resource = |(number, size): (usize, &usize)| Resource {
            name: format!("name-{number}").into(),
            version: number as u64,
            any: Any { type_url: Kind::Cluster.type_url().into(), value: vec![number as u8; *size].into() },
        };
        Push {
            kind: Kind::Cluster,
            nonce: "a1".into(),
            version: "v".into(),
            resources: sizes.iter().enumerate().map(resource).collect::<Vec<_>>().into(),
            removed: removed.iter().map(|name| (*name).into()).collect(),
        }
    }

    /// All pieces behind each other, without gRPC's prefix.
    fn sent(protocol: Protocol, push: Push) -> Vec<u8> {
        let mut outgoing = Outgoing::new(protocol, push).unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = outgoing.piece() {
            assert!(!piece.is_empty());
            bytes.extend_from_slice(&piece);
        }
        let (prefix, message) = bytes.split_at(5);
        assert_eq!((prefix[0], u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize), (0, message.len()));
        message.to_vec()
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_message(sizes in prop::collection::vec(0..40_000_usize, 0..30)) {
            let given = push(&sizes, &["gone"]);
            let delta = DeltaDiscoveryResponse::decode(&*sent(Protocol::Delta, given.clone())).unwrap();
            let sotw = DiscoveryResponse::decode(&*sent(Protocol::StateOfTheWorld, push(&sizes, &[]))).unwrap();
            prop_assert_eq!((&*delta.nonce, &*delta.type_url), ("a1", Kind::Cluster.type_url()));
            prop_assert_eq!((&*delta.system_version_info, &*delta.removed_resources), ("v", &["gone".to_owned()][..]));
            prop_assert_eq!((&*sotw.nonce, &*sotw.type_url, &*sotw.version_info), ("a1", Kind::Cluster.type_url(), "v"));
            prop_assert_eq!(delta.resources.len(), sizes.len());
            for ((resource, delta), any) in given.resources.iter().zip(&delta.resources).zip(&sotw.resources) {
                prop_assert_eq!((&*delta.name, &delta.version), (&*resource.name, &format!("{:016x}", resource.version)));
                prop_assert_eq!(delta.resource.as_ref(), Some(&resource.any));
                prop_assert_eq!(any, &resource.any);
            }
        }
    }

    #[test]
    fn a_response_that_nobody_would_read_is_not_begun() {
        let large = Resource {
            name: "large".into(),
            version: 0,
            any: Any { type_url: String::new(), value: vec![0; 1 << 20].into() },
        };
        let mut push = push(&[], &[]);
        push.resources = vec![large; 257].into();
        assert!(Outgoing::new(Protocol::StateOfTheWorld, push).unwrap_err().bytes > MAX_RESPONSE);
    }
}
