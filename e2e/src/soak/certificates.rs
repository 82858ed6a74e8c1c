//! One root, and workload certificates of it as SDS secrets: a leaf is renewed, what it is trusted by stays.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use crate::bench::certificates::SPIFFE_ID;

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(super) fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name.push(DnType::CommonName, "soak root");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = ca.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(ca, key), pem })
    }

    /// The secret `ROOTCA`.
    pub(super) fn root(&self) -> (String, Value) {
        let context = json!({
            "trusted_ca": { "inline_string": self.pem },
            "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": SPIFFE_ID } }],
        });
        ("ROOTCA".into(), json!({ "@type": SECRET, "name": "ROOTCA", "validation_context": context }))
    }

    /// The secret `default`, with a key and a certificate that were not there before.
    pub(super) fn leaf(&self) -> anyhow::Result<(String, Value)> {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new(Vec::new())?;
        leaf.distinguished_name = DistinguishedName::new();
        leaf.subject_alt_names = vec![SanType::URI(SPIFFE_ID.try_into()?)];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = json!({
            "certificate_chain": { "inline_string": leaf.signed_by(&key, &self.issuer)?.pem() },
            "private_key": { "inline_string": key.serialize_pem() },
        });
        Ok(("default".into(), json!({ "@type": SECRET, "name": "default", "tls_certificate": certificate })))
    }
}
