//! What certificates are signed with: PEM texts (self-made or given) in, a checked issuer out.

use std::path::Path;

use ferromesh_core::identity::TrustDomain;
use ferromesh_core::tls;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Lifetime of a self-made root and its intermediate.
const SELF_MADE_TTL: time::Duration = time::Duration::days(3650);

/// Certificates are valid from this long before they are made, for peers whose clocks are late.
pub const BACKDATE: time::Duration = time::Duration::minutes(2);

/// The texts that an [`Issuer`] is made of; this is what is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// The root certificate, or several.
    pub root_pem: String,
    /// The signing certificate, then those between it and the root; empty if the root itself signs.
    pub chain_pem: String,
    /// The signing certificate's private key.
    pub key_pem: String,
}

/// A signing key with its certificates, ready to sign.
pub struct Issuer {
    pub(crate) signer: rcgen::Issuer<'static, KeyPair>,
    /// The signing certificate and those between it and the root, without the root.
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    not_after: OffsetDateTime,
}

/// Why keys or certificates are not usable.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A file or text is not readable as PEM.
    #[error(transparent)]
    Pem(#[from] tls::TlsError),
    /// A certificate is not one.
    #[error("{what}: {reason}")]
    Certificate {
        /// Which.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the private key does not belong to the signing certificate; check that ca-key.pem and ca-cert.pem are a pair"
    )]
    KeyMismatch,
    /// What it signs would not lead to the root.
    #[error("certificates signed with this key do not lead to the root: {0}; check root-cert.pem and cert-chain.pem")]
    Chain(String),
    /// Signing failed.
    #[error("signing: {0}")]
    Sign(#[from] rcgen::Error),
}

impl Material {
    /// A new root and a new intermediate below it (P-256).
    ///
    /// The root's key is forgotten once it has signed its one intermediate; nothing can leak it.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn self_made(domain: &TrustDomain, now: OffsetDateTime) -> Result<Self, IssuerError> {
        let root_key = KeyPair::generate()?;
        let root_params = ca_params(domain, "Root CA", None, now)?;
        let root = root_params.self_signed(&root_key)?;
        let key = KeyPair::generate()?;
        let root_issuer = rcgen::Issuer::new(root_params, root_key);
        let intermediate = ca_params(domain, "Intermediate CA", Some(0), now)?.signed_by(&key, &root_issuer)?;
        Ok(Self { root_pem: root.pem(), chain_pem: intermediate.pem(), key_pem: key.serialize_pem() })
    }

    /// Reads Istio's `cacerts` files: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and, if there, `cert-chain.pem`.
    ///
    /// # Errors
    /// If a file is missing or not PEM; the error names it.
    pub fn from_files(folder: &Path) -> Result<Self, IssuerError> {
        if !folder.join("ca-cert.pem").exists() && folder.join("tls.crt").exists() {
            return Self::from_tls_secret(folder);
        }
        let roots = tls::certs_from_file(&folder.join("root-cert.pem"))?;
        let mut chain = tls::certs_from_file(&folder.join("ca-cert.pem"))?;
        chain.truncate(1);
        let rest = folder.join("cert-chain.pem");
        if rest.exists() {
            let known = chain.clone();
            chain.extend(tls::certs_from_file(&rest)?.into_iter().filter(|cert| !known.contains(cert)));
        }
        let key_path = folder.join("ca-key.pem");
        tls::key_from_file(&key_path)?;
        let key_pem = std::fs::read_to_string(&key_path)
            .map_err(|source| tls::TlsError::Read { path: key_path.clone(), source })?;
        Ok(Self { root_pem: pem_of(&roots), chain_pem: pem_of(&chain), key_pem })
    }

    /// Reads the files of a Secret of type `kubernetes.io/tls` (cert-manager's form): `tls.crt` is the signing
    /// certificate with those between it and the root, `ca.crt` the root.
    fn from_tls_secret(folder: &Path) -> Result<Self, IssuerError> {
        let chain = tls::certs_from_file(&folder.join("tls.crt"))?;
        let roots = tls::certs_from_file(&folder.join("ca.crt"))?;
        let path = folder.join("tls.key");
        tls::key_from_file(&path)?;
        let key_pem = std::fs::read_to_string(&path).map_err(|source| tls::TlsError::Read { path, source })?;
        Ok(Self { root_pem: pem_of(&roots), chain_pem: pem_of(&chain), key_pem })
    }
}

fn ca_params(
    domain: &TrustDomain,
    role: &str,
    path_len: Option<u8>,
    now: OffsetDateTime,
) -> Result<CertificateParams, IssuerError> {
    let serial = random_serial()?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, domain.as_str());
    // Two roots with one name would confuse verifiers while both are trusted.
    let tag: String = serial.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    name.push(DnType::CommonName, format!("Ferromesh {role} {tag}"));
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(serial.to_vec().into());
    params.not_before = now - BACKDATE;
    params.not_after = now + SELF_MADE_TTL;
    params.is_ca = IsCa::Ca(path_len.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A CA's SPIFFE ID is the trust domain's, without a path.
    params.subject_alt_names = vec![SanType::URI(domain.id().as_str().try_into()?)];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

impl Issuer {
    /// Checks the texts and makes them ready to sign: the certificate is a CA's, and the key is its own.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn new(material: &Material) -> Result<Self, IssuerError> {
        let roots = tls::certs_from_pem(material.root_pem.as_bytes(), "the root certificate")?;
        let mut chain = match material.chain_pem.trim() {
            "" => roots.iter().take(1).cloned().collect(),
            pem => tls::certs_from_pem(pem.as_bytes(), "the signing certificate's chain")?,
        };
        let signing = chain.first().cloned().ok_or_else(|| wrong("signing certificate", "is missing"))?;
        let key = KeyPair::try_from(&PrivateKeyDer::from_pem_slice(material.key_pem.as_bytes()).map_err(|_| {
            tls::TlsError::Pem { what: "the CA's private key".into(), reason: "is not valid PEM".into() }
        })?)?;
        let not_after = check_ca(&signing, &key)?;
        chain.retain(|cert| !roots.contains(cert));
        let signer = rcgen::Issuer::from_ca_cert_der(&signing, key)?;
        Ok(Self { signer, chain, roots, not_after })
    }

    /// The signing certificate and those between it and the root, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The roots that what it signs leads to.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The signing certificate's end; nothing that it signs lives longer.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }
}

/// Verifies a chain (leaf first) as a TLS server verifies its client's, at the time `now`.
///
/// # Errors
/// What the verifier said.
pub fn verify_client_chain(
    certs: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
    now: OffsetDateTime,
) -> Result<(), String> {
    let verifier = client_verifier(roots)?;
    let (leaf, rest) = certs.split_first().ok_or("there is no certificate")?;
    let seconds = u64::try_from(now.unix_timestamp()).map_err(|_| "the time is before 1970")?;
    let now = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    verifier.verify_client_cert(leaf, rest, now).map(|_| ()).map_err(|error| error.to_string())
}

/// A verifier of client certificates that trusts `roots`, and lets clients without a certificate in.
pub(crate) fn client_verifier(
    roots: &[CertificateDer<'static>],
) -> Result<std::sync::Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| error.to_string())?;
    }
    rustls::server::WebPkiClientVerifier::builder_with_provider(store.into(), tls::provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())
}

fn check_ca(cert: &CertificateDer<'_>, key: &KeyPair) -> Result<OffsetDateTime, IssuerError> {
    let what = "signing certificate";
    let (_, parsed) = X509Certificate::from_der(cert).map_err(|error| wrong(what, &error.to_string()))?;
    if !parsed.is_ca() {
        return Err(wrong(what, "is not a CA's (basicConstraints CA is not true)"));
    }
    if parsed.key_usage().ok().flatten().is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(wrong(what, "may not sign certificates (keyUsage lacks keyCertSign)"));
    }
    if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(key) {
        return Err(IssuerError::KeyMismatch);
    }
    Ok(parsed.validity().not_after.to_datetime())
}

fn wrong(what: &'static str, reason: &str) -> IssuerError {
    IssuerError::Certificate { what, reason: reason.to_owned() }
}

/// A random serial number: positive, 127 bits.
///
/// # Errors
/// If the system has no randomness.
pub fn random_serial() -> Result<[u8; 16], IssuerError> {
    let mut serial = [0u8; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

/// Certificates as PEM, one after the other.
pub fn pem_of(certs: &[CertificateDer<'_>]) -> String {
    use base64::Engine;
    let mut text = String::new();
    for cert in certs {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = base64::engine::general_purpose::STANDARD.encode(cert);
        for line in body.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Material(private)")
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer(until {})", self.not_after)
    }
}
