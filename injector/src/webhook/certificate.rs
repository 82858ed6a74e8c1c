//! The webhook's certificate: made here, by a CA of its own whose key is forgotten at once.
//!
//! Nothing secret is stored, so replicas share nothing: each one's CA certificate is in the API server's bundle.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use time::OffsetDateTime;

/// A certificate is valid from a little before now: clocks differ.
const SKEW: Duration = Duration::from_secs(300);

/// A certificate that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the webhook's certificate: {0}")]
pub struct CertificateError(String);

/// The certificate that is served, renewed in place.
#[derive(Debug)]
pub struct Certificate {
    names: Vec<String>,
    lifetime: Duration,
    served: Arc<Served>,
    ca_pem: String,
    made: SystemTime,
}

#[derive(Debug)]
struct Served(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    /// Makes one for `names`.
    ///
    /// # Errors
    /// If a name is not a DNS name, or the system gives no randomness.
    pub fn make(names: &[String], lifetime: Duration) -> Result<Self, CertificateError> {
        let (key, ca_pem) = make(names, lifetime)?;
        let served = Arc::new(Served(ArcSwap::from_pointee(key)));
        Ok(Self { names: names.to_vec(), lifetime, served, ca_pem, made: SystemTime::now() })
    }

    /// What a TLS server asks for the certificate.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.served) as _
    }

    /// PEM of the CA that signed it.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Whether half of its life is over.
    pub(super) fn is_due(&self) -> bool {
        self.made.elapsed().is_ok_and(|age| age >= self.lifetime / 2)
    }

    /// Makes the next one; it is served from [`Next::serve`] on, once the API server trusts it.
    pub(super) fn next(&self) -> Result<Next, CertificateError> {
        let (key, ca_pem) = make(&self.names, self.lifetime)?;
        Ok(Next { key, ca_pem })
    }

    pub(super) fn serve(&mut self, next: Next) {
        self.served.0.store(Arc::new(next.key));
        self.ca_pem = next.ca_pem;
        self.made = SystemTime::now();
    }
}

/// A certificate that is not served yet.
pub(super) struct Next {
    key: CertifiedKey,
    pub(super) ca_pem: String,
}

fn make(names: &[String], lifetime: Duration) -> Result<(CertifiedKey, String), CertificateError> {
    let failed = |error: rcgen::Error| CertificateError(error.to_string());
    let now = OffsetDateTime::now_utc();
    let (not_before, not_after) = (now - SKEW, now + lifetime);
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "ferromesh-injector webhook CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (ca.not_before, ca.not_after) = (not_before, not_after);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().map_err(failed)?).map_err(failed)?;
    let mut leaf = CertificateParams::new(names).map_err(failed)?;
    leaf.distinguished_name.push(DnType::CommonName, names.first().map_or("ferromesh-injector", String::as_str));
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (leaf.not_before, leaf.not_after) = (not_before, not_after);
    let key = KeyPair::generate().map_err(failed)?;
    let leaf = leaf.signed_by(&key, &ca).map_err(failed)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|reason| CertificateError(reason.to_owned()))?;
    let chain = vec![leaf.der().clone(), ca.der().clone()];
    let certified = CertifiedKey::from_der(chain, key, &ferromesh_core::tls::provider())
        .map_err(|error| CertificateError(error.to_string()))?;
    Ok((certified, ca.pem()))
}
