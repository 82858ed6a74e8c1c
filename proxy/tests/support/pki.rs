//! A certificate authority of a test, and TLS contexts with its certificates.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pub root: String,
}

/// Chain and key, as PEM.
pub type Leaf = (String, String);

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a root of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// Chain and key of a workload.
    pub fn workload(&self, account: &str, expired: bool) -> Leaf {
        let uri = format!("spiffe://cluster.local/ns/test/sa/{account}");
        self.leaf(vec![SanType::URI(uri.try_into().unwrap())], expired)
    }

    pub fn leaf(&self, names: Vec<SanType>, expired: bool) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - 2 * DAY).into();
        params.not_after = if expired { (SystemTime::now() - DAY).into() } else { (SystemTime::now() + DAY).into() };
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A TLS context of `kind`: shows `own`, trusts this root, expects `peer`; `more` are fields beside the common ones.
    pub fn context(&self, kind: &str, own: &Leaf, peer: &str, more: &Value) -> Value {
        let mut context = json!({
            "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"),
            "common_tls_context": {
                "tls_certificates": [{"certificate_chain": {"inline_string": own.0}, "private_key": {"inline_string": own.1}}],
                "validation_context": {"trusted_ca": {"inline_string": self.root},
                    "match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"exact": format!("spiffe://cluster.local/ns/test/sa/{peer}")}}]}}});
        for (name, value) in more.as_object().into_iter().flatten() {
            context[name] = value.clone();
        }
        json!({"name": "tls", "typed_config": context})
    }
}
