//! What is known about one connection: addresses, TLS, the workload at its other end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::text::Text;

mod peer;

pub use peer::{Peer, UpstreamPeer};

/// A downstream connection, as filters and logs see it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Unique within the process.
    pub id: u64,
    /// The peer, after PROXY protocol if a listener filter read it.
    pub remote: SocketAddr,
    /// The peer of the socket itself.
    pub direct_remote: SocketAddr,
    /// The socket's own address.
    pub direct_local: SocketAddr,
    /// Where the peer wanted to go (original destination if redirected).
    pub local: SocketAddr,
    /// Original destination, if the connection was redirected.
    pub original_dst: Option<SocketAddr>,
    /// SNI of the TLS hello, if any.
    pub server_name: Option<Text>,
    /// TLS facts, if the proxy ended TLS.
    pub tls: Option<Rc<TlsInfo>>,
    /// Labels of the peer, if metadata was exchanged on the connection (ALPN `istio-peer-exchange`).
    pub peer: Option<Rc<Peer>>,
    /// Name of the listener.
    pub listener: Text,
    /// `traffic_direction` of the listener: 0 unspecified, 1 inbound, 2 outbound (Envoy's enum).
    pub direction: i32,
    /// Name of the filter chain.
    pub filter_chain: Text,
    /// When it was accepted.
    pub start: Instant,
}

/// How a connection to a server came to be.
#[derive(Debug, Clone, Copy)]
pub struct Dial {
    /// The connect began.
    pub began: Instant,
    /// TCP was connected.
    pub connected: Instant,
    /// TLS was established.
    pub secured: Option<Instant>,
}

impl Dial {
    /// How long it took, TLS included.
    pub fn took(&self) -> std::time::Duration {
        self.secured.unwrap_or(self.connected).saturating_duration_since(self.began)
    }
}

/// Kinds of names in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateName {
    /// DNS name.
    Dns,
    /// IP address.
    Ip,
    /// Mail address.
    Email,
}

/// What a TLS handshake showed.
#[derive(Debug, Clone, Default)]
pub struct TlsInfo {
    /// Negotiated application protocol.
    pub alpn: Option<Text>,
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// Cipher suite, OpenSSL's name.
    pub cipher: &'static str,
    /// URI SANs of the peer's verified certificate (SPIFFE ID).
    pub peer_uri_sans: Vec<Text>,
    /// DNS SANs of the peer's verified certificate.
    pub peer_dns_sans: Vec<Text>,
    /// URI SANs of our own certificate.
    pub local_uri_sans: Vec<Text>,
    /// Subject of the peer's certificate, RFC 2253.
    pub peer_subject: Text,
    /// Issuer of the peer's certificate, RFC 2253.
    pub peer_issuer: Text,
    /// Hex SHA-256 of the peer's certificate.
    pub peer_sha256: Text,
    /// The certificates that the peer has shown, its own first.
    pub peer_chain: Vec<rustls_pki_types::CertificateDer<'static>>,
    /// Serial of the peer's certificate, hex.
    pub peer_serial: Text,
    /// Group of the key exchange.
    pub group: &'static str,
    /// Our own certificate, DER.
    pub local_leaf: Option<Arc<[u8]>>,
    /// Whether the peer's certificate was asked for and verified.
    pub mtls: bool,
}
