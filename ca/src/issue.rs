//! The one act of a CA, pure: a public key, an identity, an issuer and the time in; a leaf certificate out.

use std::time::Duration;

use ferromesh_core::SpiffeId;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::issuer::{BACKDATE, Issuer, IssuerError, random_serial, verify_client_chain};

/// Lifetime of a leaf when none is asked for.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// The longest lifetime of a leaf, unless configured.
pub const MAX_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// Makes the leaf certificate of `id` for `key`; `other_names` are the CA server's own DNS names and addresses.
///
/// # Errors
/// If signing fails.
pub fn issue(
    key: &impl PublicKeyData,
    id: &SpiffeId,
    other_names: &[SanType],
    issuer: &Issuer,
    now: OffsetDateTime,
    ttl: Duration,
    serial: [u8; 16],
) -> Result<CertificateDer<'static>, IssuerError> {
    let mut params = CertificateParams::default();
    // With an empty subject, the alternative names become critical, as RFC 5280 4.1.2.6 wants.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.subject_alt_names.extend_from_slice(other_names);
    params.serial_number = Some(serial.to_vec().into());
    params.not_before = now - BACKDATE;
    params.not_after = (now + ttl).min(issuer.not_after());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(key, &issuer.signer)?.der().clone())
}

/// The lifetime that a request gets: what it asks for in seconds, the default for 0, never more than `max`.
///
/// # Errors
/// If it asks for a negative one.
pub fn lifetime(requested: i64, default: Duration, max: Duration) -> Result<Duration, String> {
    match u64::try_from(requested) {
        Ok(0) => Ok(default.min(max)),
        Ok(seconds) => Ok(Duration::from_secs(seconds).min(max)),
        Err(_) => Err(format!("validity_duration is {requested} s; give a positive number, or 0 for the default")),
    }
}

/// Checks that what `issuer` signs leads to its root: signs a leaf for a key that is thrown away, and verifies it as
/// a peer would.
///
/// # Errors
/// What the peer would say.
pub fn check_chain(issuer: &Issuer, now: OffsetDateTime) -> Result<(), IssuerError> {
    let probe = KeyPair::generate()?;
    let id = SpiffeId::parse("spiffe://probe/probe").map_err(|error| IssuerError::Chain(error.to_string()))?;
    let leaf = issue(&probe, &id, &[], issuer, now, DEFAULT_TTL, random_serial()?)?;
    let certs: Vec<_> = std::iter::once(leaf).chain(issuer.chain().iter().cloned()).collect();
    verify_client_chain(&certs, issuer.roots(), now).map_err(IssuerError::Chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_what_it_asks_for_within_the_cap() {
        let day = DEFAULT_TTL;
        assert_eq!(lifetime(0, day, MAX_TTL), Ok(day));
        assert_eq!(lifetime(60, day, MAX_TTL), Ok(Duration::from_secs(60)));
        assert_eq!(lifetime(i64::MAX, day, MAX_TTL), Ok(MAX_TTL));
        assert_eq!(lifetime(0, day, Duration::from_secs(5)), Ok(Duration::from_secs(5)));
        assert!(lifetime(-1, day, MAX_TTL).unwrap_err().contains("validity_duration"));
    }
}
