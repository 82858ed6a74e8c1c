//! Certificates, keys and trust anchors, out of their messages.

use std::fmt;
use std::sync::Arc;

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroize;

use super::san::{San, SanMatcher};
use crate::config::{At, ConfigError};

/// A private key; wiped when dropped, never printed.
pub struct SecretKey(PrivateKeyDer<'static>);

impl SecretKey {
    /// Takes a key.
    pub fn new(key: PrivateKeyDer<'static>) -> Self {
        Self(key)
    }

    /// The key's DER, for whoever serves it on (SDS).
    pub fn der(&self) -> &PrivateKeyDer<'static> {
        &self.0
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// What may be shown of a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Serial number, hex.
    pub serial: String,
    /// Subject, RFC 2253.
    pub subject: String,
    /// DNS names.
    pub dns: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl CertificateFacts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// If it is not X.509.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| format!("not X.509: {error}"))?;
        let mut facts = Self {
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            subject: parsed.subject().to_string(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            ..Self::default()
        };
        for name in sans_of(&parsed) {
            match name {
                San::Dns(name) => facts.dns.push(name),
                San::Uri(uri) => facts.uris.push(uri),
                San::Email(_) | San::Ip(_) => {}
            }
        }
        Ok(facts)
    }
}

pub(super) fn sans_of(parsed: &X509Certificate<'_>) -> Vec<San> {
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    names.value.general_names.iter().filter_map(San::read).collect()
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Certificate {
    pub(super) certified: Arc<CertifiedKey>,
    key: SecretKey,
    facts: CertificateFacts,
    /// The leaf, for whoever shows it.
    pub(super) leaf: Arc<[u8]>,
}

impl Certificate {
    /// Checks that key and certificate belong together.
    ///
    /// # Errors
    /// If the chain is empty or not X.509, or the key is another's or of a kind that TLS cannot use.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: SecretKey) -> Result<Self, String> {
        let leaf = chain.first().ok_or("the certificate chain is empty")?;
        let facts = CertificateFacts::read(leaf)?;
        let leaf = Arc::from(leaf.as_ref());
        let certified = CertifiedKey::from_der(chain, key.0.clone_key(), &ferromesh_core::tls::provider())
            .map_err(|error| format!("certificate and key: {error}"))?;
        Ok(Self { certified: Arc::new(certified), key, facts, leaf })
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The key.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// What may be shown of the leaf.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    pub(super) fn decode(proto: &tls::TlsCertificate) -> Result<Self, ConfigError> {
        let chain = read(proto.certificate_chain.as_ref(), "certificate_chain")?;
        let mut key = read(proto.private_key.as_ref(), "private_key")?;
        let chain = ferromesh_core::tls::certs_from_pem(&chain, "certificate chain")
            .map_err(|error| ConfigError::new("certificate_chain", error.to_string()))?;
        let parsed = ferromesh_core::tls::key_from_pem(&key, "private key")
            .map_err(|error| ConfigError::new("private_key", error.to_string()));
        key.zeroize();
        Self::new(chain, SecretKey::new(parsed?)).map_err(|reason| ConfigError::new("", reason))
    }
}

/// What a peer's certificate is checked against (Envoy's CertificateValidationContext).
#[derive(Debug, Clone, Default)]
pub struct Validation {
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// The certificates behind the anchors, to show and to serve.
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) sans: Vec<SanMatcher>,
    pub(super) hashes: Vec<[u8; 32]>,
    pub(super) spkis: Vec<[u8; 32]>,
    pub(super) accept_untrusted: bool,
    pub(super) max_depth: Option<u32>,
    pub(super) suppress_ca_list: bool,
}

impl Validation {
    /// Trust in these roots and nothing else.
    ///
    /// # Errors
    /// If one of them is not X.509.
    pub fn of_roots(roots: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let anchors = roots
            .iter()
            .map(|root| webpki::anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("a trusted CA certificate cannot be read: {error}"))?;
        Ok(Self { anchors, roots, ..Self::default() })
    }

    /// The trusted CA certificates.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Whether nothing at all is checked.
    pub(super) fn is_empty(&self) -> bool {
        self.anchors.is_empty() && self.sans.is_empty() && self.hashes.is_empty() && self.spkis.is_empty()
    }

    /// Envoy's merge of a default context with the one that came by SDS: lists are joined, the rest overwritten.
    pub(super) fn merge(&self, dynamic: &Self) -> Self {
        let mut merged = self.clone();
        if !dynamic.roots.is_empty() {
            merged.anchors.clone_from(&dynamic.anchors);
            merged.roots.clone_from(&dynamic.roots);
        }
        merged.sans.extend(dynamic.sans.iter().cloned());
        merged.hashes.extend(&dynamic.hashes);
        merged.spkis.extend(&dynamic.spkis);
        merged.accept_untrusted |= dynamic.accept_untrusted;
        merged.max_depth = dynamic.max_depth.or(merged.max_depth);
        merged.suppress_ca_list |= dynamic.suppress_ca_list;
        merged
    }

    pub(super) fn decode(proto: &tls::CertificateValidationContext) -> Result<Self, ConfigError> {
        let mut validation = match &proto.trusted_ca {
            Some(source) => {
                let pem = read(Some(source), "trusted_ca")?;
                let roots = ferromesh_core::tls::certs_from_pem(&pem, "trusted CA")
                    .map_err(|error| ConfigError::new("trusted_ca", error.to_string()))?;
                Self::of_roots(roots).map_err(|reason| ConfigError::new("trusted_ca", reason))?
            }
            None if proto.system_root_certs.is_some() => {
                let found = rustls_native_certs::load_native_certs();
                if found.certs.is_empty() {
                    return Err(ConfigError::new("system_root_certs", "this system has no root certificates"));
                }
                // A system store may hold certificates that are not usable as anchors; those are left out.
                let usable = |root: &CertificateDer<'static>| webpki::anchor_from_trusted_cert(root).is_ok();
                Self::of_roots(found.certs.into_iter().filter(usable).collect())
                    .map_err(|reason| ConfigError::new("system_root_certs", reason))?
            }
            None => Self::default(),
        };
        for (index, matcher) in proto.match_typed_subject_alt_names.iter().enumerate() {
            let path = format!("match_typed_subject_alt_names[{index}]");
            validation.sans.push(SanMatcher::decode(matcher).at(path)?);
        }
        #[allow(deprecated)]
        for (index, matcher) in proto.match_subject_alt_names.iter().enumerate() {
            let path = format!("match_subject_alt_names[{index}]");
            validation.sans.push(SanMatcher::decode_untyped(matcher).at(path)?);
        }
        for (index, text) in proto.verify_certificate_hash.iter().enumerate() {
            let path = format!("verify_certificate_hash[{index}]");
            validation.hashes.push(
                hex_digest(text).ok_or_else(|| ConfigError::new(path, "must be a SHA-256 in hex (colons allowed)"))?,
            );
        }
        for (index, text) in proto.verify_certificate_spki.iter().enumerate() {
            let path = format!("verify_certificate_spki[{index}]");
            validation
                .spkis
                .push(base64_digest(text).ok_or_else(|| ConfigError::new(path, "must be a SHA-256 in base64"))?);
        }
        use tls::certificate_validation_context::TrustChainVerification;
        validation.accept_untrusted = proto.trust_chain_verification() == TrustChainVerification::AcceptUntrusted;
        validation.max_depth = proto.max_verify_depth;
        validation.suppress_ca_list = proto.suppress_client_ca_list;
        Ok(validation)
    }
}

fn hex_digest(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

fn base64_digest(text: &str) -> Option<[u8; 32]> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}

/// The bytes of a data source.
pub(crate) fn read(source: Option<&core::DataSource>, field: &str) -> Result<Vec<u8>, ConfigError> {
    use core::data_source::Specifier;
    let bytes = match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::InlineBytes(bytes)) => bytes.to_vec(),
        Some(Specifier::InlineString(text)) => text.clone().into_bytes(),
        Some(Specifier::Filename(path)) => std::fs::read(path)
            .map_err(|error| ConfigError::new(format!("{field}.filename"), format!("{path}: {error}")))?,
        Some(Specifier::EnvironmentVariable(name)) => std::env::var(name)
            .map_err(|error| ConfigError::new(format!("{field}.environment_variable"), format!("{name}: {error}")))?
            .into_bytes(),
        None => return Err(ConfigError::new(field, "must be set")),
    };
    if bytes.is_empty() { Err(ConfigError::new(field, "is empty")) } else { Ok(bytes) }
}
