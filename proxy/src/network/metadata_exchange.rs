//! Istio's TCP metadata exchange: each side tells its labels before the first byte, where ALPN has agreed on it.
//!
//! A message is a magic number, a length, and an `Any` with a `google.protobuf.Struct` (Istio, "Metadata exchange").

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3::Node;
use ferromesh_proto::envoy::tcp::metadataexchange::config::MetadataExchange as Proto;
use ferromesh_proto::prost::Message;
use ferromesh_proto::prost_types::{Struct, Value, value::Kind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::connection::{Connection, Peer, TlsInfo};
use crate::text::Text;

const MAGIC: u32 = 0x3D23_0467;
/// Labels of a workload are small; more than this is not a workload.
const MAX_LENGTH: u32 = 64 * 1024;
const STRUCT_URL: &str = "type.googleapis.com/google.protobuf.Struct";
const METADATA_KEY: &str = "x-envoy-peer-metadata";
const ID_KEY: &str = "x-envoy-peer-metadata-id";

/// Longest that an exchange may take: the other side answers at once, or does not speak the protocol.
const TIME: Duration = Duration::from_secs(10);

/// What the proxy tells of itself, encoded once.
#[derive(Debug, Clone)]
pub struct OwnMetadata(Arc<[u8]>);

impl OwnMetadata {
    /// What is told of `node`.
    pub fn new(node: &Node) -> Self {
        Self(encode(node).into())
    }

    /// Tells our labels and reads the peer's, if ALPN has agreed on `protocol`; does nothing otherwise. Both sides tell
    /// first: Istio's client waits with its own until one of the applications speaks, and that may be the server's.
    ///
    /// # Errors
    /// If the peer breaks the protocol, takes too long or goes away.
    pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        protocol: &str,
        tls: Option<&TlsInfo>,
        io: &mut S,
    ) -> io::Result<Option<Peer>> {
        let agreed = tls.and_then(|tls| tls.alpn.as_ref());
        if agreed.is_none_or(|alpn| alpn.as_str() != protocol) {
            return Ok(None);
        }
        let both = async {
            io.write_all(&self.0).await?;
            io.flush().await?;
            read(io).await
        };
        match tokio::time::timeout(TIME, both).await {
            Ok(peer) => peer.map(Some),
            Err(_) => {
                let reason = format!("metadata exchange: the peer told nothing within {TIME:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, reason))
            }
        }
    }
}

/// The configured exchange with clients.
#[derive(Debug)]
pub struct MetadataExchange {
    protocol: String,
    own: OwnMetadata,
}

impl MetadataExchange {
    /// An exchange that tells of `node`.
    pub fn new(proto: &Proto, node: &Node) -> Self {
        Self { protocol: proto.protocol.clone(), own: OwnMetadata::new(node) }
    }

    /// The server's side.
    ///
    /// # Errors
    /// If the client breaks the protocol, takes too long or goes away.
    pub async fn as_server<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: &mut S,
        connection: &Connection,
    ) -> io::Result<Option<Peer>> {
        self.own.exchange(&self.protocol, connection.tls.as_deref(), io).await
    }
}

pub(super) async fn read<S: AsyncRead + Unpin>(io: &mut S) -> io::Result<Peer> {
    let bad = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, format!("metadata exchange: {reason}"));
    if io.read_u32().await? != MAGIC {
        return Err(bad("the first bytes are not the protocol's magic number"));
    }
    let length = io.read_u32().await?;
    if length > MAX_LENGTH {
        return Err(bad("the message is too long"));
    }
    let mut bytes = vec![0; length as usize];
    io.read_exact(&mut bytes).await?;
    let any = Any::decode(bytes.as_slice()).map_err(|error| bad(&error.to_string()))?;
    let outer = Struct::decode(any.value).map_err(|error| bad(&error.to_string()))?;
    Ok(peer(&outer))
}

fn encode(node: &Node) -> Vec<u8> {
    let mut inner = BTreeMap::new();
    let known = node.metadata.as_ref().map(|metadata| &metadata.fields);
    for key in ["NAME", "NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID", "MESH_ID", "OWNER"] {
        if let Some(value) = known.and_then(|fields| fields.get(key)) {
            inner.insert(key.to_owned(), value.clone());
        }
    }
    let wanted = |key: &str| {
        matches!(key, "app" | "version")
            || key.starts_with("app.kubernetes.io/")
            || key.starts_with("service.istio.io/canonical-")
    };
    if let Some(Kind::StructValue(labels)) =
        known.and_then(|fields| fields.get("LABELS")).and_then(|value| value.kind.as_ref())
    {
        let fields = labels.fields.iter().filter(|(key, _)| wanted(key));
        let fields = fields.map(|(key, value)| (key.clone(), value.clone())).collect();
        inner.insert("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(Struct { fields })) });
    }
    let metadata = Value { kind: Some(Kind::StructValue(Struct { fields: inner })) };
    let id = Value { kind: Some(Kind::StringValue(node.id.clone())) };
    let fields = [(METADATA_KEY.to_owned(), metadata), (ID_KEY.to_owned(), id)].into_iter().collect();
    let payload = Struct { fields }.encode_to_vec();
    let any = Any { type_url: STRUCT_URL.to_owned(), value: payload.into() }.encode_to_vec();
    let mut message = Vec::with_capacity(8 + any.len());
    message.extend_from_slice(&MAGIC.to_be_bytes());
    // A node's labels come from its bootstrap; they are far below 4 GiB.
    message.extend_from_slice(&u32::try_from(any.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend_from_slice(&any);
    message
}

fn text(fields: &BTreeMap<String, Value>, key: &str) -> Option<Text> {
    match fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) if !text.is_empty() => Some(Text::from(text.as_str())),
        _ => None,
    }
}

fn inner<'a>(fields: &'a BTreeMap<String, Value>, key: &str) -> Option<&'a BTreeMap<String, Value>> {
    match fields.get(key)?.kind.as_ref()? {
        Kind::StructValue(inner) => Some(&inner.fields),
        _ => None,
    }
}

fn peer(outer: &Struct) -> Peer {
    let empty = BTreeMap::new();
    let metadata = inner(&outer.fields, METADATA_KEY).unwrap_or(&empty);
    let labels = inner(metadata, "LABELS").unwrap_or(&empty);
    let label = |names: &[&str]| names.iter().find_map(|name| text(labels, name));
    let workload = text(metadata, "WORKLOAD_NAME").unwrap_or_default();
    let app = label(&["app", "app.kubernetes.io/name"]);
    let version = label(&["version", "app.kubernetes.io/version"]);
    let canonical = label(&["service.istio.io/canonical-name"]).or_else(|| app.clone());
    Peer {
        id: text(&outer.fields, ID_KEY).unwrap_or_default(),
        namespace: text(metadata, "NAMESPACE").unwrap_or_default(),
        cluster: text(metadata, "CLUSTER_ID").unwrap_or_default(),
        canonical_name: canonical.unwrap_or_else(|| workload.clone()),
        canonical_revision: label(&["service.istio.io/canonical-revision"])
            .or_else(|| version.clone())
            .unwrap_or_else(|| Text::from_static("latest")),
        app: app.unwrap_or_default(),
        version: version.unwrap_or_default(),
        workload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value { kind: Some(Kind::StringValue(text.into())) }
    }

    #[tokio::test]
    async fn both_sides_learn_each_other_s_labels() {
        let labels = Struct { fields: [("app".into(), string("web")), ("secret".into(), string("x"))].into() };
        let fields = [
            ("WORKLOAD_NAME".to_owned(), string("web-v1")),
            ("NAMESPACE".to_owned(), string("default")),
            ("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(labels)) }),
        ];
        let node =
            Node { id: "web.default".into(), metadata: Some(Struct { fields: fields.into() }), ..Default::default() };
        let own = OwnMetadata::new(&node);
        let (mut one, mut other) = tokio::io::duplex(4096);
        let tls = TlsInfo { alpn: Some("istio-peer-exchange".into()), ..TlsInfo::default() };
        let (seen_by_client, seen_by_server) = tokio::join!(
            own.exchange("istio-peer-exchange", Some(&tls), &mut one),
            own.exchange("istio-peer-exchange", Some(&tls), &mut other)
        );
        let peer = seen_by_client.unwrap().unwrap();
        assert_eq!(Some(&peer), seen_by_server.unwrap().as_ref());
        assert_eq!((&*peer.workload, &*peer.namespace, &*peer.app), ("web-v1", "default", "web"));
        assert_eq!((&*peer.canonical_name, &*peer.canonical_revision), ("web", "latest"));
        assert!(!own.0.windows(6).any(|bytes| bytes == b"secret"));
    }

    #[tokio::test]
    async fn without_the_protocol_not_a_byte_is_sent() {
        let (mut one, mut other) = tokio::io::duplex(4096);
        let own = OwnMetadata::new(&Node::default());
        let tls = TlsInfo { alpn: Some("istio".into()), ..TlsInfo::default() };
        for tls in [None, Some(&tls)] {
            assert_eq!(own.exchange("istio-peer-exchange", tls, &mut one).await.unwrap(), None);
        }
        drop(one);
        let mut sent = Vec::new();
        other.read_to_end(&mut sent).await.unwrap();
        assert!(sent.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_tells_nothing_is_not_waited_for_for_ever() {
        let (mut one, _other) = tokio::io::duplex(4096);
        let tls = TlsInfo { alpn: Some("istio-peer-exchange".into()), ..TlsInfo::default() };
        let own = OwnMetadata::new(&Node::default());
        let error = own.exchange("istio-peer-exchange", Some(&tls), &mut one).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_message_that_is_not_one_is_refused_before_its_length_is_believed() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], &[0x3D, 0x23, 0x04, 0x67, 0xff, 0xff, 0xff, 0xff]] {
            let mut bytes = bytes;
            assert!(read(&mut bytes).await.is_err());
        }
    }
}
