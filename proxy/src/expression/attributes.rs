//! The attributes that expressions may name, and where each is read.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::node::Node;
use crate::cluster::HostAddress;
use crate::connection::{Peer, TlsInfo};
use crate::format::{Info, PeerField, grpc_status, protocol};

/// What is known when expressions are evaluated.
pub(super) struct Facts<'a> {
    pub(super) info: &'a Info<'a>,
    /// The proxy's own node.
    pub(super) node: &'a Value,
}

/// Reads an attribute; `None` if it is absent.
pub(super) type Read = for<'a> fn(&Facts<'a>) -> Option<Node<'a>>;

/// What may stand after an attribute.
#[derive(Debug, Clone, Copy)]
pub(super) enum Inner {
    /// Nothing: it is a text, number or bool.
    Nothing,
    /// Any name.
    Any,
    /// One of these names.
    Names(&'static [&'static str]),
}

/// The fields of a root. A root that is an attribute by itself has one, without name.
pub(super) type Fields = &'static [(&'static str, Inner, Read)];

/// Every attribute, by its first name.
pub(super) const ROOTS: &[(&str, Fields)] = &[
    ("request", REQUEST),
    ("response", RESPONSE),
    ("connection", CONNECTION),
    ("upstream", UPSTREAM),
    ("source", SOURCE),
    ("destination", DESTINATION),
    ("metadata", &[("filter_metadata", Inner::Any, |facts| facts.info.metadata.map(Node::Dynamic))]),
    ("filter_state", FILTER_STATE),
    ("xds", XDS),
    ("node", &[("", Inner::Any, |facts| Some(Node::Json(facts.node)))]),
    ("downstream_peer", &[("", Inner::Names(PEER), downstream_peer)]),
    ("upstream_peer", &[("", Inner::Names(PEER), upstream_peer)]),
];

const REQUEST: Fields = &[
    ("path", Inner::Nothing, |facts| text(facts.info.request?.path.as_str())),
    ("url_path", Inner::Nothing, |facts| text(facts.info.request?.path_only())),
    ("host", Inner::Nothing, |facts| text(facts.info.request?.authority.as_str())),
    ("scheme", Inner::Nothing, |facts| text(facts.info.request?.scheme.as_str())),
    ("method", Inner::Nothing, |facts| text(facts.info.request?.method.as_str())),
    ("headers", Inner::Any, |facts| facts.info.request.map(Node::Request)),
    ("referer", Inner::Nothing, |facts| header(facts, "referer")),
    ("useragent", Inner::Nothing, |facts| header(facts, "user-agent")),
    ("id", Inner::Nothing, |facts| header(facts, "x-request-id")),
    ("protocol", Inner::Nothing, |facts| text(protocol(facts.info.request?.version))),
    ("query", Inner::Nothing, |facts| Some(Node::Text(facts.info.request?.query().unwrap_or_default().into()))),
    ("size", Inner::Nothing, |facts| {
        let told = facts.info.request?.headers.get(http::header::CONTENT_LENGTH);
        let told = told.and_then(|length| length.to_str().ok()?.parse().ok());
        number(told.unwrap_or(facts.info.bytes_received))
    }),
];

const RESPONSE: Fields = &[
    ("code", Inner::Nothing, |facts| number(facts.info.status?.into())),
    ("code_details", Inner::Nothing, |facts| text(facts.info.details)),
    ("flags", Inner::Nothing, |facts| Some(Node::Int(flags(facts.info)))),
    ("grpc_status", Inner::Nothing, |facts| number(grpc_status(facts.info)?.into())),
    ("headers", Inner::Any, |facts| facts.info.response.map(Node::Response)),
    ("trailers", Inner::Any, |facts| facts.info.trailers.map(Node::Trailers)),
    ("size", Inner::Nothing, |facts| number(facts.info.bytes_sent)),
];

const CONNECTION: Fields = &[
    ("id", Inner::Nothing, |facts| number(facts.info.connection.id)),
    ("mtls", Inner::Nothing, |facts| Some(Node::Bool(client(facts).is_some_and(|tls| tls.mtls)))),
    ("requested_server_name", Inner::Nothing, |facts| text(facts.info.connection.server_name.as_deref()?)),
    ("termination_details", Inner::Nothing, |facts| text(facts.info.termination_details?)),
    ("tls_version", Inner::Nothing, |facts| text(client(facts)?.version)),
    ("subject_local_certificate", Inner::Nothing, |facts| owned(client(facts)?.local_subject())),
    ("subject_peer_certificate", Inner::Nothing, |facts| text(&client(facts)?.peer_subject)),
    ("uri_san_local_certificate", Inner::Nothing, |facts| text(client(facts)?.local_uri_sans.first()?)),
    ("uri_san_peer_certificate", Inner::Nothing, |facts| text(client(facts)?.peer_uri_sans.first()?)),
    ("dns_san_peer_certificate", Inner::Nothing, |facts| text(client(facts)?.peer_dns_sans.first()?)),
    ("sha256_peer_certificate_digest", Inner::Nothing, |facts| text(&client(facts)?.peer_sha256)),
];

const UPSTREAM: Fields = &[
    ("address", Inner::Nothing, |facts| match &facts.info.upstream.host.as_ref()?.address {
        HostAddress::Tcp(address) => owned(address.to_string()),
        HostAddress::Unix(path) => text(path),
    }),
    ("port", Inner::Nothing, |facts| match &facts.info.upstream.host.as_ref()?.address {
        HostAddress::Tcp(address) => number(address.port().into()),
        HostAddress::Unix(_) => None,
    }),
    ("local_address", Inner::Nothing, |facts| owned(facts.info.upstream.local?.to_string())),
    ("request_attempt_count", Inner::Nothing, |facts| number(facts.info.upstream.attempts.into())),
    ("transport_failure_reason", Inner::Nothing, |facts| text(facts.info.upstream.transport_failure.as_deref()?)),
    ("tls_version", Inner::Nothing, |facts| text(server(facts)?.version)),
    ("subject_local_certificate", Inner::Nothing, |facts| owned(server(facts)?.local_subject())),
    ("subject_peer_certificate", Inner::Nothing, |facts| text(&server(facts)?.peer_subject)),
    ("uri_san_local_certificate", Inner::Nothing, |facts| text(server(facts)?.local_uri_sans.first()?)),
    ("uri_san_peer_certificate", Inner::Nothing, |facts| text(server(facts)?.peer_uri_sans.first()?)),
    ("dns_san_peer_certificate", Inner::Nothing, |facts| text(server(facts)?.peer_dns_sans.first()?)),
    ("sha256_peer_certificate_digest", Inner::Nothing, |facts| text(&server(facts)?.peer_sha256)),
];

const SOURCE: Fields = &[
    ("address", Inner::Nothing, |facts| owned(facts.info.remote.to_string())),
    ("port", Inner::Nothing, |facts| number(facts.info.remote.port().into())),
];

const DESTINATION: Fields = &[
    ("address", Inner::Nothing, |facts| owned(facts.info.connection.local.to_string())),
    ("port", Inner::Nothing, |facts| number(facts.info.connection.local.port().into())),
];

const FILTER_STATE: Fields = &[
    ("downstream_peer", Inner::Names(PEER), downstream_peer),
    ("upstream_peer", Inner::Names(PEER), upstream_peer),
    ("wasm.downstream_peer", Inner::Names(PEER), downstream_peer),
    ("wasm.upstream_peer", Inner::Names(PEER), upstream_peer),
];

const METADATA: Inner = Inner::Names(&["filter_metadata"]);

const XDS: Fields = &[
    ("node", Inner::Any, |facts| Some(Node::Json(facts.node))),
    ("cluster_name", Inner::Nothing, |facts| text(&facts.info.upstream.cluster.as_ref()?.config.name)),
    ("cluster_metadata", METADATA, |facts| Some(metadata(&facts.info.upstream.cluster.as_ref()?.config.metadata))),
    ("route_name", Inner::Nothing, |facts| text(facts.info.route?.name)),
    ("route_metadata", METADATA, |facts| facts.info.route?.metadata.map(metadata)),
    ("virtual_host_name", Inner::Nothing, |facts| text(facts.info.route?.virtual_host)),
    ("upstream_host_metadata", METADATA, |facts| Some(metadata(&facts.info.upstream.host.as_ref()?.metadata))),
    ("filter_chain_name", Inner::Nothing, |facts| text(&facts.info.connection.filter_chain)),
    ("listener_direction", Inner::Nothing, |facts| Some(Node::Int(facts.info.connection.direction.into()))),
];

/// What is known of a peer.
const PEER: &[&str] = &["name", "workload", "namespace", "service", "revision", "app", "version", "cluster"];

fn peer(peer: &Peer) -> Node<'_> {
    let field = |name: &&'static str| Some((*name, Node::Text(PeerField::parse(name)?.of(peer)?)));
    Node::Group(PEER.iter().filter_map(field).collect())
}

fn downstream_peer<'a>(facts: &Facts<'a>) -> Option<Node<'a>> {
    facts.info.downstream_peer().map(peer)
}

fn upstream_peer<'a>(facts: &Facts<'a>) -> Option<Node<'a>> {
    facts.info.upstream_peer().map(peer)
}

fn metadata(map: &Map<String, Value>) -> Node<'_> {
    Node::Group(vec![("filter_metadata", Node::Object(map))])
}

fn client<'a>(facts: &Facts<'a>) -> Option<&'a TlsInfo> {
    facts.info.connection.tls.as_deref()
}

fn server<'a>(facts: &Facts<'a>) -> Option<&'a TlsInfo> {
    facts.info.upstream.tls.as_deref()
}

fn header<'a>(facts: &Facts<'a>, name: &str) -> Option<Node<'a>> {
    facts.info.request?.headers.get(name).map(|value| Node::Text(String::from_utf8_lossy(value.as_bytes())))
}

fn text(text: &str) -> Option<Node<'_>> {
    (!text.is_empty()).then_some(Node::Text(Cow::Borrowed(text)))
}

fn owned<'a>(text: String) -> Option<Node<'a>> {
    (!text.is_empty()).then_some(Node::Text(Cow::Owned(text)))
}

fn number<'a>(number: u64) -> Option<Node<'a>> {
    Some(Node::Int(i64::try_from(number).unwrap_or(i64::MAX)))
}

/// The response flags as bits, at the places that Envoy's `CoreResponseFlag` gives them.
fn flags(info: &Info<'_>) -> i64 {
    const PLACES: [&str; 30] = [
        "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI",
        "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR", "UDO",
    ];
    let place = |flag: &str| PLACES.iter().position(|known| *known == flag);
    info.causes.iter().filter_map(|cause| place(cause.flag())).fold(0, |bits, place| bits | 1 << place)
}
