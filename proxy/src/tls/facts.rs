//! What a finished handshake showed, for logs, XFCC, metrics and policies.

use std::time::{Duration, SystemTime};

use rustls::{CommonState, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::material::{Certificate, sans_of};
use super::san::San;
use crate::connection::{CertificateName, TlsInfo};
use crate::text::Text;

/// `verified` says whether the context's rules prove something about a peer that passed.
pub(super) fn read(state: &CommonState, ours: Option<&Certificate>, verified: bool) -> TlsInfo {
    let mut info = TlsInfo {
        alpn: state.alpn_protocol().and_then(|name| std::str::from_utf8(name).ok()).map(Text::from),
        version: match state.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        },
        cipher: state.negotiated_cipher_suite().map(|suite| cipher_name(suite.suite())).unwrap_or_default(),
        group: state.negotiated_key_exchange_group().map(|group| group_name(group.name())).unwrap_or_default(),
        local_leaf: ours.map(|ours| ours.leaf.clone()),
        local_uri_sans: ours.map(|ours| texts(&ours.facts().uris)).unwrap_or_default(),
        ..TlsInfo::default()
    };
    if let Some(chain) = state.peer_certificates() {
        info.peer_chain = chain.to_vec();
        if let Some(leaf) = chain.first() {
            add_peer(&mut info, leaf, verified);
        }
    }
    info
}

fn add_peer(info: &mut TlsInfo, leaf: &CertificateDer<'_>, verified: bool) {
    info.mtls = verified;
    info.peer_sha256 = Text::from(hex(&Sha256::digest(leaf)));
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return };
    info.peer_subject = Text::from(rfc2253(parsed.subject()));
    info.peer_issuer = Text::from(rfc2253(parsed.issuer()));
    info.peer_serial = Text::from(hex(parsed.raw_serial()));
    for name in sans_of(&parsed) {
        match name {
            San::Uri(uri) => info.peer_uri_sans.push(Text::from(uri)),
            San::Dns(name) => info.peer_dns_sans.push(Text::from(name)),
            San::Email(_) | San::Ip(_) => {}
        }
    }
}

impl TlsInfo {
    /// PEM of the peer's certificate, URL-encoded; empty if it has shown none.
    pub fn peer_pem(&self) -> String {
        self.peer_chain.first().map(|leaf| url_encoded_pem(leaf)).unwrap_or_default()
    }

    /// From when and until when the peer's certificate is valid.
    pub fn peer_validity(&self) -> Option<(SystemTime, SystemTime)> {
        let (_, parsed) = X509Certificate::from_der(self.peer_chain.first()?).ok()?;
        let at = |seconds: i64| u64::try_from(seconds).map(|it| SystemTime::UNIX_EPOCH + Duration::from_secs(it)).ok();
        let validity = parsed.validity();
        Some((at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?))
    }

    /// SHA-256 of all certificates that the peer has shown, hex, with commas between.
    pub fn peer_chain_sha256(&self) -> String {
        self.peer_chain.iter().map(|one| hex(&Sha256::digest(one))).collect::<Vec<_>>().join(",")
    }

    /// Serial numbers of all certificates that the peer has shown, hex, with commas between.
    pub fn peer_chain_serials(&self) -> String {
        let serial = |der: &CertificateDer<'_>| Some(hex(X509Certificate::from_der(der).ok()?.1.raw_serial()));
        self.peer_chain.iter().filter_map(serial).collect::<Vec<_>>().join(",")
    }

    /// Names of a kind in the peer's certificate, with commas between.
    pub fn peer_names(&self, kind: CertificateName) -> String {
        self.peer_chain.first().map(|leaf| names(leaf, kind)).unwrap_or_default()
    }

    /// Names of a kind in our certificate, with commas between.
    pub fn local_names(&self, kind: CertificateName) -> String {
        self.local_leaf.as_deref().map(|leaf| names(leaf, kind)).unwrap_or_default()
    }

    /// Subject of our certificate, RFC 2253.
    pub fn local_subject(&self) -> String {
        let parsed = self.local_leaf.as_deref().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        parsed.map(|(_, parsed)| rfc2253(parsed.subject())).unwrap_or_default()
    }

    /// PEM of all certificates that the peer has shown, URL-encoded.
    pub fn peer_chain_pem(&self) -> String {
        self.peer_chain.iter().map(|one| url_encoded_pem(one)).collect()
    }
}

fn names(der: &[u8], kind: CertificateName) -> String {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else { return String::new() };
    let wanted = |name| match (name, kind) {
        (San::Dns(text), CertificateName::Dns) | (San::Email(text), CertificateName::Email) => Some(text),
        (San::Ip(ip), CertificateName::Ip) => Some(ip.to_string()),
        _ => None,
    };
    sans_of(&parsed).into_iter().filter_map(wanted).collect::<Vec<_>>().join(",")
}

fn texts(names: &[String]) -> Vec<Text> {
    names.iter().map(|name| Text::from(name.as_str())).collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// RFC 2253 puts the most specific part first.
fn rfc2253(name: &x509_parser::x509::X509Name<'_>) -> String {
    let parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let attributes: Vec<String> = rdn
                .iter()
                .map(|attribute| {
                    let kind =
                        x509_parser::objects::oid2abbrev(attribute.attr_type(), x509_parser::objects::oid_registry());
                    let kind = kind.map_or_else(|_| attribute.attr_type().to_id_string(), ToOwned::to_owned);
                    format!("{kind}={}", escape(attribute.as_str().unwrap_or_default()))
                })
                .collect();
            attributes.join("+")
        })
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let at_edge = (index == 0 && matches!(c, ' ' | '#')) || (index == last && c == ' ');
        if at_edge || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            escaped.push('\\');
        }
        if !c.is_control() {
            escaped.push(c);
        }
    }
    escaped
}

fn url_encoded_pem(der: &[u8]) -> String {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in base64.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(&pem, KEPT).to_string()
}

/// BoringSSL's name of a group.
fn group_name(group: rustls::NamedGroup) -> &'static str {
    match group {
        rustls::NamedGroup::X25519 => "X25519",
        rustls::NamedGroup::secp256r1 => "P-256",
        rustls::NamedGroup::secp384r1 => "P-384",
        rustls::NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        _ => "",
    }
}

/// OpenSSL's name of a suite.
fn cipher_name(suite: rustls::CipherSuite) -> &'static str {
    use rustls::CipherSuite as S;
    match suite {
        S::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        S::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        S::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}
