//! What TLS showed, of either side. Whatever is not in the handshake's facts is read out of the certificates when a log asks.

use std::borrow::Cow;
use std::time::SystemTime;

use super::{owned, some};
use crate::connection::{CertificateName, TlsInfo};
use crate::format::Info;
use crate::text::Text;

type Borrowed = for<'a> fn(&'a Info<'a>) -> Option<Cow<'a, str>>;

/// Whose connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The server's.
    Upstream,
}

/// A bound of a certificate's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From when on.
    Start,
    /// Until when.
    End,
}

fn down<'a>(info: &'a Info<'a>) -> Option<&'a TlsInfo> {
    info.connection.tls.as_deref()
}

fn up<'a>(info: &'a Info<'a>) -> Option<&'a TlsInfo> {
    info.upstream.tls.as_deref()
}

fn list(texts: &[Text]) -> Option<Cow<'_, str>> {
    match texts {
        [] => None,
        [one] => Some(Cow::Borrowed(one.as_str())),
        many => Some(Cow::Owned(many.iter().map(Text::as_str).collect::<Vec<_>>().join(","))),
    }
}

/// The bound of the peer's certificate.
pub(super) fn bound(info: &Info<'_>, side: Side, validity: Validity) -> Option<SystemTime> {
    let tls = match side {
        Side::Downstream => info.connection.tls.as_deref(),
        Side::Upstream => info.upstream.tls.as_deref(),
    };
    let (start, end) = tls?.peer_validity()?;
    Some(if validity == Validity::Start { start } else { end })
}

pub(super) fn borrowed(name: &str) -> Option<Borrowed> {
    downstream(name).or_else(|| downstream_names(name)).or_else(|| upstream(name))
}

fn downstream(name: &str) -> Option<Borrowed> {
    Some(match name {
        "DOWNSTREAM_TLS_VERSION" => |info| some(down(info)?.version).map(Cow::Borrowed),
        "DOWNSTREAM_TLS_CIPHER" => |info| some(down(info)?.cipher).map(Cow::Borrowed),
        "DOWNSTREAM_TLS_GROUP" => |info| some(down(info)?.group).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_SUBJECT" => |info| some(&down(info)?.peer_subject).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_ISSUER" => |info| some(&down(info)?.peer_issuer).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_FINGERPRINT_256" => |info| some(&down(info)?.peer_sha256).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_SERIAL" => |info| some(&down(info)?.peer_serial).map(Cow::Borrowed),
        "DOWNSTREAM_PEER_CERT" => |info| owned(down(info)?.peer_pem()),
        "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256" => |info| owned(down(info)?.peer_chain_sha256()),
        "DOWNSTREAM_PEER_CHAIN_SERIALS" => |info| owned(down(info)?.peer_chain_serials()),
        "DOWNSTREAM_LOCAL_SUBJECT" => |info| owned(down(info)?.local_subject()),
        _ => return None,
    })
}

fn downstream_names(name: &str) -> Option<Borrowed> {
    Some(match name {
        "DOWNSTREAM_PEER_URI_SAN" => |info| list(&down(info)?.peer_uri_sans),
        "DOWNSTREAM_PEER_DNS_SAN" => |info| list(&down(info)?.peer_dns_sans),
        "DOWNSTREAM_PEER_IP_SAN" => |info| owned(down(info)?.peer_names(CertificateName::Ip)),
        "DOWNSTREAM_PEER_EMAIL_SAN" => |info| owned(down(info)?.peer_names(CertificateName::Email)),
        "DOWNSTREAM_LOCAL_URI_SAN" => |info| list(&down(info)?.local_uri_sans),
        "DOWNSTREAM_LOCAL_DNS_SAN" => |info| owned(down(info)?.local_names(CertificateName::Dns)),
        "DOWNSTREAM_LOCAL_IP_SAN" => |info| owned(down(info)?.local_names(CertificateName::Ip)),
        "DOWNSTREAM_LOCAL_EMAIL_SAN" => |info| owned(down(info)?.local_names(CertificateName::Email)),
        _ => return None,
    })
}

fn upstream(name: &str) -> Option<Borrowed> {
    Some(match name {
        "UPSTREAM_TLS_VERSION" => |info| some(up(info)?.version).map(Cow::Borrowed),
        "UPSTREAM_TLS_CIPHER" => |info| some(up(info)?.cipher).map(Cow::Borrowed),
        "UPSTREAM_TLS_GROUP" => |info| some(up(info)?.group).map(Cow::Borrowed),
        "UPSTREAM_PEER_SUBJECT" => |info| some(&up(info)?.peer_subject).map(Cow::Borrowed),
        "UPSTREAM_PEER_ISSUER" => |info| some(&up(info)?.peer_issuer).map(Cow::Borrowed),
        "UPSTREAM_PEER_CERT" => |info| owned(up(info)?.peer_pem()),
        "UPSTREAM_PEER_URI_SAN" => |info| list(&up(info)?.peer_uri_sans),
        "UPSTREAM_PEER_DNS_SAN" => |info| list(&up(info)?.peer_dns_sans),
        "UPSTREAM_PEER_IP_SAN" => |info| owned(up(info)?.peer_names(CertificateName::Ip)),
        "UPSTREAM_LOCAL_URI_SAN" => |info| list(&up(info)?.local_uri_sans),
        "UPSTREAM_LOCAL_DNS_SAN" => |info| owned(up(info)?.local_names(CertificateName::Dns)),
        "UPSTREAM_LOCAL_IP_SAN" => |info| owned(up(info)?.local_names(CertificateName::Ip)),
        _ => return None,
    })
}
