//! A root and one workload certificate, which both sides of a pair use.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Identity of both proxies.
pub const SPIFFE_ID: &str = "spiffe://cluster.local/ns/bench/sa/default";

/// A root: who signs by it, and its certificate.
///
/// # Errors
/// If the system gives no randomness.
pub fn root(name: &str) -> anyhow::Result<(Issuer<'static, KeyPair>, String)> {
    let key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    // Subject and issuer of the leaf must differ, or OpenSSL takes it for self-signed.
    ca.distinguished_name.push(DnType::CommonName, name);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = ca.self_signed(&key)?.pem();
    Ok((Issuer::new(ca, key), pem))
}

/// A workload's certificate and its key, which were not there before.
///
/// # Errors
/// As [`root`].
pub fn leaf(issuer: &Issuer<'_, KeyPair>) -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(Vec::new())?;
    leaf.distinguished_name = DistinguishedName::new();
    leaf.subject_alt_names = vec![SanType::URI(SPIFFE_ID.try_into()?)];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok((leaf.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

/// Writes `ca.pem`, `cert.pem`, `key.pem`, and the last two together as `both.pem`.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    let (issuer, ca) = root("bench root")?;
    let (certificate, key) = leaf(&issuer)?;
    std::fs::write(folder.join("ca.pem"), ca)?;
    std::fs::write(folder.join("cert.pem"), &certificate)?;
    std::fs::write(folder.join("key.pem"), &key)?;
    // HAProxy reads both from one file.
    std::fs::write(folder.join("both.pem"), certificate + &key)?;
    Ok(())
}
