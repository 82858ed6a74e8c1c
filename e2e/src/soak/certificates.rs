//! One root, and workload certificates of it as SDS secrets: a leaf is renewed, what it is trusted by stays.

use rcgen::{Issuer, KeyPair};
use serde_json::{Value, json};

use crate::bench::certificates::{self, SPIFFE_ID};

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(super) fn new() -> anyhow::Result<Self> {
        let (issuer, pem) = certificates::root("soak root")?;
        Ok(Self { issuer, pem })
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
        let (chain, key) = certificates::leaf(&self.issuer)?;
        let certificate = json!({
            "certificate_chain": { "inline_string": chain },
            "private_key": { "inline_string": key },
        });
        Ok(("default".into(), json!({ "@type": SECRET, "name": "default", "tls_certificate": certificate })))
    }
}
