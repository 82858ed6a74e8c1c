//! The labels of Istio's standard metrics.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_128;

use super::overrides::Values;
use crate::connection::Peer;
use crate::connection::TlsInfo;
use crate::format::{Info, grpc_status, response_flags};
use crate::text::Text;

const UNKNOWN: &str = "unknown";
/// A revision that is not told.
const LATEST: &str = "latest";

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

/// Room for what tells label sets apart, without an allocation.
pub(super) const KEY: usize = 512;

/// What the labels of one request or connection are made of. Texts are made only for a label set that is new.
pub(super) struct Labels<'a> {
    side: Side,
    source: Workload<'a>,
    destination: Workload<'a>,
    source_principal: &'a str,
    destination_principal: &'a str,
    service: Service<'a>,
    protocol: &'static str,
    /// `None` of a connection.
    status: Option<u16>,
    grpc: Option<u32>,
    flags: Cow<'a, str>,
    security: &'static str,
}

/// What is known of the workload on one side.
#[derive(Clone, Copy)]
enum Workload<'a> {
    Unknown,
    /// By itself.
    Told(&'a Peer),
    /// By its endpoint's metadata `istio.workload`.
    Endpoint(&'a str),
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

fn known(value: &str) -> &str {
    if value.is_empty() { UNKNOWN } else { value }
}

impl<'a> Labels<'a> {
    pub(super) fn of(info: &'a Info<'a>, reporter: &'a Reporter) -> Self {
        let node = &reporter.node;
        let side = match (reporter.gateway, info.connection.direction) {
            (true, _) => Side::Gateway,
            (false, INBOUND) => Side::Destination,
            (false, _) => Side::Source,
        };
        let downstream = info.downstream_peer().map_or(Workload::Unknown, Workload::Told);
        let (source, destination) = match side {
            Side::Source => (Workload::Told(node), upstream(info)),
            Side::Destination => (downstream, Workload::Told(node)),
            Side::Gateway => (downstream, upstream(info)),
        };
        let tls = match side {
            Side::Source => info.upstream.tls.as_deref(),
            _ => info.connection.tls.as_deref(),
        }
        .filter(|tls| tls.mtls);
        let peer = tls.and_then(peer_principal).unwrap_or_default();
        let own = tls.and_then(|tls| tls.local_uri_sans.first().map(|san| san.as_str())).unwrap_or_default();
        let (source_principal, destination_principal) = if side == Side::Source { (own, peer) } else { (peer, own) };
        let is_tcp = info.request.is_none();
        let own_service = if side == Side::Destination { node.canonical_name.as_str() } else { "" };
        Self {
            side,
            source,
            destination,
            source_principal,
            destination_principal,
            service: Service::of(info, reporter.host_fallback && !is_tcp, own_service),
            protocol: protocol(info),
            status: (!is_tcp).then(|| info.status.unwrap_or(0)),
            grpc: grpc_status(info),
            flags: response_flags(info).unwrap_or(Cow::Borrowed("-")),
            security: match (side, tls) {
                (Side::Source, _) => UNKNOWN,
                (_, Some(_)) => "mutual_tls",
                (_, None) => "none",
            },
        }
    }

    /// A hash that tells label sets apart; more than one may stand for the same set.
    pub(super) fn hash(&self, values: &Values) -> u128 {
        let mut key = smallvec::SmallVec::<[u8; KEY]>::new();
        self.source.put(&mut key);
        self.destination.put(&mut key);
        let Service { host, name, namespace } = self.service;
        let texts = [
            self.side.name(),
            self.source_principal,
            self.destination_principal,
            host,
            name,
            namespace,
            self.protocol,
            &self.flags,
            self.security,
        ];
        texts.iter().for_each(|text| put(&mut key, text.as_bytes()));
        key.extend_from_slice(&self.status.map_or(u32::MAX, u32::from).to_le_bytes());
        key.extend_from_slice(&self.grpc.unwrap_or(u32::MAX).to_le_bytes());
        values.put(&mut key);
        xxh3_128(&key)
    }

    /// (name, value) of every label.
    pub(super) fn list(&self) -> Vec<(String, String)> {
        let is_tcp = self.status.is_none();
        let http_only = ["response_code", "grpc_response_status"];
        NAMES
            .iter()
            .zip(self.values())
            .filter(|(name, _)| !(is_tcp && http_only.contains(name)))
            .map(|(name, value)| ((*name).to_owned(), value))
            .collect()
    }

    fn values(&self) -> [String; COUNT] {
        let [sw, mut sns, sapp, sver, scan, srev, scl] = self.source.fields(LATEST);
        let untold = if self.side == Side::Gateway { UNKNOWN } else { LATEST };
        let [dw, mut dns, dapp, dver, dcan, drev, dcl] = self.destination.fields(untold);
        // What the peer's certificate says goes before what it tells.
        let (peer, namespace) = match self.side {
            Side::Source => (self.destination_principal, &mut dns),
            Side::Destination | Side::Gateway => (self.source_principal, &mut sns),
        };
        if let Some(certain) = namespace_of(peer) {
            certain.clone_into(namespace);
        }
        let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let Service { host, name, namespace } = self.service;
        let namespace = match (self.side, namespace) {
            (Side::Source, "") | (Side::Destination, _) => dns.clone(),
            (_, namespace) => known(namespace).to_owned(),
        };
        [
            self.side.name().to_owned(),
            sw,
            scan,
            srev,
            sns,
            known(self.source_principal).to_owned(),
            sapp,
            sver,
            scl,
            dw,
            dns,
            known(self.destination_principal).to_owned(),
            dapp,
            dver,
            known(host).to_owned(),
            dcan,
            drev,
            known(name).to_owned(),
            namespace,
            dcl,
            self.protocol.to_owned(),
            number(self.status.map(u32::from)),
            number(self.grpc),
            self.flags.to_string(),
            self.security.to_owned(),
        ]
    }
}

fn put(key: &mut smallvec::SmallVec<[u8; KEY]>, text: &[u8]) {
    key.extend_from_slice(text);
    // In no UTF-8 text, so that it ends one.
    key.push(0xff);
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Gateway => "waypoint",
        }
    }
}

impl Workload<'_> {
    fn put(self, key: &mut smallvec::SmallVec<[u8; KEY]>) {
        match self {
            Self::Unknown => {}
            Self::Told(peer) => of_peer(peer).iter().for_each(|text| put(key, text.as_bytes())),
            Self::Endpoint(workload) => put(key, workload.as_bytes()),
        }
        key.push(0xfe);
    }

    /// `revision` stands for one that is not told.
    fn fields(self, revision: &str) -> [String; 7] {
        let fields = |peer: &Peer| {
            let mut fields = of_peer(peer).map(|text| known(text).to_owned());
            if peer.canonical_revision.is_empty() {
                revision.clone_into(&mut fields[5]);
            }
            fields
        };
        match self {
            Self::Unknown => fields(&Peer::default()),
            Self::Told(peer) => fields(peer),
            Self::Endpoint(workload) => fields(&Peer::from_endpoint(workload)),
        }
    }
}

/// What labels show of a workload.
fn of_peer(peer: &Peer) -> [&Text; 7] {
    [
        &peer.workload,
        &peer.namespace,
        &peer.app,
        &peer.version,
        &peer.canonical_name,
        &peer.canonical_revision,
        &peer.cluster,
    ]
}

/// What headers told of the upstream, else what its endpoint's metadata says.
fn upstream<'a>(info: &'a Info<'a>) -> Workload<'a> {
    if let Some(peer) = info.upstream_peer() {
        return Workload::Told(peer);
    }
    let host = info.upstream.host.as_ref();
    let workload = host.and_then(|host| host.metadata.get("istio")?.get("workload")?.as_str());
    workload.map_or(Workload::Unknown, Workload::Endpoint)
}

fn peer_principal(tls: &TlsInfo) -> Option<&str> {
    tls.peer_uri_sans.first().map(|san| san.as_str())
}

/// The namespace in a SPIFFE name as Istio's: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
fn namespace_of(principal: &str) -> Option<&str> {
    let (_, rest) = principal.split_once("/ns/")?;
    rest.split('/').next().filter(|namespace| !namespace.is_empty())
}

#[derive(Clone, Copy)]
struct Service<'a> {
    host: &'a str,
    name: &'a str,
    /// Empty where only the destination's is known.
    namespace: &'a str,
}

impl<'a> Service<'a> {
    /// From the name of the route or cluster that stands for no service, else the cluster's metadata `istio.services`,
    /// else the request's authority, else the own service.
    fn of(info: &'a Info<'a>, host_fallback: bool, own: &'a str) -> Self {
        let or = |first: &'a str, second: &'a str| if first.is_empty() { second } else { first };
        let authority = info.request.filter(|_| host_fallback).map(|head| head.authority.as_str()).unwrap_or_default();
        if let Some(name) = no_service(info) {
            return Self { host: or(authority, own), name, namespace: "" };
        }
        let cluster = info.upstream.cluster.as_ref();
        let service = cluster.and_then(|cluster| cluster.config.metadata.get("istio")?.get("services")?.get(0));
        let field =
            |name: &str| service.and_then(|service| service.get(name)?.as_str()).filter(|text| !text.is_empty());
        if let Some(host) = field("host") {
            let name = field("name").unwrap_or_else(|| host.split('.').next().unwrap_or(host));
            return Self { host, name, namespace: field("namespace").unwrap_or_default() };
        }
        let host = or(authority, own);
        Self { host, name: host, namespace: "" }
    }
}

/// What stands in place of a service's name.
fn no_service<'a>(info: &'a Info<'a>) -> Option<&'a str> {
    match (info.route.map(|route| route.name), info.upstream.cluster_name.as_deref()) {
        (Some("block_all"), _) => Some("BlackHoleCluster"),
        (Some("allow_any"), _) => Some("PassthroughCluster"),
        (
            _,
            Some(
                name @ ("BlackHoleCluster"
                | "PassthroughCluster"
                | "InboundPassthroughCluster"
                | "InboundPassthroughClusterIpv4"
                | "InboundPassthroughClusterIpv6"),
            ),
        ) => Some(name),
        _ => None,
    }
}

fn protocol(info: &Info<'_>) -> &'static str {
    match info.request {
        None => "tcp",
        Some(head) if head.is_grpc() => "grpc",
        Some(_) => "http",
    }
}
