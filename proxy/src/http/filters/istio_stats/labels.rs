//! The labels of Istio's standard metrics.

use std::borrow::Cow;

use xxhash_rust::xxh3::Xxh3;

use super::overrides::Values;
use crate::connection::TlsInfo;
use crate::connection::{Peer, UpstreamPeer};
use crate::format::{Info, grpc_status, response_flags};

const UNKNOWN: &str = "unknown";

/// Names, in the order in which values are kept.
const NAMES: [&str; COUNT] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

/// How many labels there are.
const COUNT: usize = 25;

/// The values of one request or connection.
pub(super) struct Labels<'a> {
    values: [Cow<'a, str>; COUNT],
    tcp: bool,
}

/// Who reports.
pub(super) struct Reporter {
    /// The proxy's own workload.
    pub(super) node: Peer,
    /// A gateway or waypoint that reports for the service (`SERVER_GATEWAY`).
    pub(super) gateway: bool,
    /// The request's host stands for a service that nothing else names.
    pub(super) host_fallback: bool,
}

/// Which side reports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
    /// A gateway or waypoint that reports for the service (`SERVER_GATEWAY`).
    Gateway,
}

/// Envoy's `INBOUND` traffic direction.
const INBOUND: i32 = 1;

fn known(value: &str) -> Cow<'_, str> {
    Cow::Borrowed(if value.is_empty() { UNKNOWN } else { value })
}

impl<'a> Labels<'a> {
    pub(super) fn of(info: &'a Info<'a>, reporter: &'a Reporter) -> Self {
        let node = &reporter.node;
        let side = match (reporter.gateway, info.connection.direction) {
            (true, _) => Side::Gateway,
            (false, INBOUND) => Side::Destination,
            (false, _) => Side::Source,
        };
        let downstream = info.state.and_then(|state| state.get::<Peer>()).or(info.connection.peer.as_deref());
        let upstream = upstream_peer(info);
        let empty = || Cow::Owned(Peer::default());
        let borrowed = |peer: Option<&'a Peer>| peer.map_or_else(empty, Cow::Borrowed);
        let (source, destination) = match side {
            Side::Source => (Cow::Borrowed(node), upstream),
            Side::Destination => (borrowed(downstream), Cow::Borrowed(node)),
            Side::Gateway => (borrowed(downstream), upstream),
        };
        let tls = match side {
            Side::Source => info.upstream.tls.as_deref(),
            _ => info.connection.tls.as_deref(),
        }
        .filter(|tls| tls.mtls);
        let peer = tls.and_then(peer_principal);
        let own = tls.and_then(|tls| tls.local_uri_sans.first().map(|san| san.as_str()));
        let (source_principal, destination_principal) = if side == Side::Source { (own, peer) } else { (peer, own) };
        let tcp = info.request.is_none();
        let own_service = if side == Side::Destination { node.canonical_name.as_str() } else { "" };
        let service = Service::of(info, reporter.host_fallback && !tcp, &destination, own_service);
        let [sw, sns, sapp, sver, scan, srev, scl] = fields(source, "latest");
        let [dw, dns, dapp, dver, dcan, drev, dcl] =
            fields(destination, if side == Side::Gateway { UNKNOWN } else { "latest" });
        let values = [
            Cow::Borrowed(match side {
                Side::Source => "source",
                Side::Destination => "destination",
                Side::Gateway => "waypoint",
            }),
            sw,
            scan,
            srev,
            sns,
            known(source_principal.unwrap_or_default()),
            sapp,
            sver,
            scl,
            dw,
            dns,
            known(destination_principal.unwrap_or_default()),
            dapp,
            dver,
            service.host,
            dcan,
            drev,
            service.name,
            service.namespace,
            dcl,
            Cow::Borrowed(protocol(info)),
            Cow::Owned(if tcp { String::new() } else { info.status.unwrap_or(0).to_string() }),
            grpc(info),
            response_flags(info).unwrap_or(Cow::Borrowed("-")),
            Cow::Borrowed(match (side, tls) {
                (Side::Source, _) => UNKNOWN,
                (_, Some(_)) => "mutual_tls",
                (_, None) => "none",
            }),
        ];
        Self { values, tcp }
    }

    /// A hash that tells label sets apart, and what rules may make of them.
    pub(super) fn hash(&self, values: &Values) -> u128 {
        let mut hasher = Xxh3::new();
        for value in &self.values {
            hasher.update(value.as_bytes());
            hasher.update(&[0xff]);
        }
        hasher.update(&[u8::from(self.tcp)]);
        values.hash(&mut hasher);
        hasher.digest128()
    }

    /// (name, value) of every label.
    pub(super) fn list(&self) -> Vec<(String, String)> {
        let http_only = ["response_code", "grpc_response_status"];
        NAMES
            .iter()
            .zip(&self.values)
            .filter(|(name, _)| !(self.tcp && http_only.contains(name)))
            .map(|(name, value)| ((*name).to_owned(), value.to_string()))
            .collect()
    }
}

/// `revision` stands for one that is not told.
fn fields<'a>(peer: Cow<'a, Peer>, revision: &'static str) -> [Cow<'a, str>; 7] {
    let keep = |borrowed: &Peer| -> [String; 7] {
        [
            &borrowed.workload,
            &borrowed.namespace,
            &borrowed.app,
            &borrowed.version,
            &borrowed.canonical_name,
            &borrowed.canonical_revision,
            &borrowed.cluster,
        ]
        .map(|text| known(text).into_owned())
    };
    let is_told = !peer.canonical_revision.is_empty();
    let mut fields = match peer {
        Cow::Borrowed(peer) => [
            known(&peer.workload),
            known(&peer.namespace),
            known(&peer.app),
            known(&peer.version),
            known(&peer.canonical_name),
            known(&peer.canonical_revision),
            known(&peer.cluster),
        ],
        Cow::Owned(peer) => keep(&peer).map(Cow::Owned),
    };
    if !is_told {
        fields[5] = Cow::Borrowed(revision);
    }
    fields
}

/// What headers told of the upstream, else what its endpoint's metadata says.
fn upstream_peer<'a>(info: &'a Info<'a>) -> Cow<'a, Peer> {
    if let Some(peer) = info.state.and_then(|state| state.get::<UpstreamPeer>()) {
        return Cow::Borrowed(&peer.0);
    }
    let host = info.upstream.host.as_ref();
    let workload = host.and_then(|host| host.metadata.get("istio")?.get("workload")?.as_str());
    Cow::Owned(workload.map(Peer::from_endpoint).unwrap_or_default())
}

fn peer_principal(tls: &TlsInfo) -> Option<&str> {
    tls.peer_uri_sans.first().map(|san| san.as_str())
}

struct Service<'a> {
    host: Cow<'a, str>,
    name: Cow<'a, str>,
    namespace: Cow<'a, str>,
}

impl<'a> Service<'a> {
    /// From the cluster's metadata `istio.services`, else its name, else the request's authority, else the own service.
    fn of(info: &'a Info<'a>, host_fallback: bool, destination: &Peer, own: &'a str) -> Self {
        let cluster = info.upstream.cluster.as_ref();
        let service = cluster.and_then(|cluster| cluster.config.metadata.get("istio")?.get("services")?.get(0));
        let field =
            |name: &str| service.and_then(|service| service.get(name)?.as_str()).filter(|text| !text.is_empty());
        if let Some(host) = field("host") {
            let name = field("name").unwrap_or(host);
            return Self {
                host: Cow::Borrowed(host),
                name: Cow::Borrowed(name),
                namespace: known(field("namespace").unwrap_or_default()),
            };
        }
        let authority = info.request.filter(|_| host_fallback).map(|head| head.authority.as_str()).unwrap_or_default();
        let authority = if authority.is_empty() { own } else { authority };
        let namespace = Cow::Owned(known(&destination.namespace).into_owned());
        let name = match info.upstream.cluster_name.as_deref() {
            Some(name @ ("PassthroughCluster" | "InboundPassthroughCluster" | "BlackHoleCluster")) => {
                Cow::Borrowed(name)
            }
            None if info.route.is_some_and(|route| route.name == "block_all") => Cow::Borrowed("BlackHoleCluster"),
            _ => known(authority),
        };
        Self { host: known(authority), name, namespace }
    }
}

fn protocol(info: &Info<'_>) -> &'static str {
    match info.request {
        None => "tcp",
        Some(head) if head.is_grpc() => "grpc",
        Some(_) => "http",
    }
}

fn grpc<'a>(info: &Info<'_>) -> Cow<'a, str> {
    match info.request {
        Some(head) if head.is_grpc() => {
            grpc_status(info).map_or(Cow::Borrowed(""), |status| Cow::Owned(status.to_string()))
        }
        _ => Cow::Borrowed(""),
    }
}
