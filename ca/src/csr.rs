//! A certificate signing request: PEM text and the proven identity in, the public key to certify out.

use ferromesh_core::SpiffeId;
use rcgen::{PublicKeyData, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// The longest request that is read, in bytes of PEM.
pub const MAX_CSR_LEN: usize = 32 * 1024;
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// It cannot be read.
    #[error("the CSR is not a PKCS#10 request in PEM: {0}")]
    Parse(String),
    /// The requester does not hold the key.
    #[error("the CSR's signature does not verify with its own public key")]
    Signature,
    /// The key's type or size is not accepted.
    #[error("the CSR's key is {0}; use EC P-256, EC P-384 or RSA with 2048 to 8192 bits")]
    Key(String),
    /// It asks for another identity than the one proven.
    #[error("the CSR asks for {asked:?}, but the caller is {proven}")]
    Identity {
        /// What it asks for.
        asked: String,
        /// Who asks.
        proven: SpiffeId,
    },
}

/// Checks a request that `id` made and gives its public key. Nothing else of the request is used.
///
/// # Errors
/// Names what is wrong with it.
pub fn check(pem: &str, id: &SpiffeId) -> Result<SubjectPublicKeyInfo, CsrError> {
    if pem.len() > MAX_CSR_LEN {
        return Err(CsrError::Parse(format!("it has {} bytes, at most {MAX_CSR_LEN} are read", pem.len())));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| CsrError::Parse(error.to_string()))?;
    let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|error| CsrError::Parse(error.to_string()))?;
    if !rest.is_empty() {
        return Err(CsrError::Parse("bytes follow the request".into()));
    }
    let key = check_key(&csr)?;
    csr.verify_signature().map_err(|_| CsrError::Signature)?;
    check_identity(&csr, id)?;
    Ok(key)
}

fn check_key(csr: &X509CertificationRequest<'_>) -> Result<SubjectPublicKeyInfo, CsrError> {
    let spki = &csr.certification_request_info.subject_pki;
    let key = SubjectPublicKeyInfo::from_der(spki.raw).map_err(|error| CsrError::Key(error.to_string()))?;
    let parsed = spki.parsed().map_err(|error| CsrError::Key(error.to_string()))?;
    let bits = parsed.key_size();
    match parsed {
        PublicKey::RSA(_) if RSA_BITS.contains(&bits) => Ok(key),
        PublicKey::RSA(_) => Err(CsrError::Key(format!("RSA with {bits} bits"))),
        PublicKey::EC(_) => {
            let algorithm = key.algorithm();
            if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 || *algorithm == rcgen::PKCS_ECDSA_P384_SHA384 {
                Ok(key)
            } else {
                Err(CsrError::Key("on another curve".into()))
            }
        }
        _ => Err(CsrError::Key("of another type".into())),
    }
}

/// A request may name no identity, or exactly the one that was proven.
fn check_identity(csr: &X509CertificationRequest<'_>, id: &SpiffeId) -> Result<(), CsrError> {
    let extensions = csr.requested_extensions().into_iter().flatten();
    for extension in extensions {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::URI(uri) if *uri != id.as_str() => {
                    return Err(CsrError::Identity { asked: (*uri).to_owned(), proven: id.clone() });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::PublicKeyData;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn id() -> SpiffeId {
        SpiffeId::parse("spiffe://cluster.local/ns/default/sa/web").unwrap()
    }

    fn csr(uris: &[&str], key: &KeyPair) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_request_for_ones_own_identity_or_for_none_is_accepted() {
        let key = KeyPair::generate().unwrap();
        for uris in [&[][..], &[id().as_str()]] {
            let accepted = check(&csr(uris, &key), &id()).unwrap();
            assert_eq!(accepted.der_bytes(), key.der_bytes());
        }
    }

    #[test]
    fn a_request_that_names_another_identity_is_refused() {
        let key = KeyPair::generate().unwrap();
        let other = "spiffe://cluster.local/ns/default/sa/admin";
        for uris in [&[other][..], &[id().as_str(), other], &["https://a"]] {
            assert!(matches!(check(&csr(uris, &key), &id()), Err(CsrError::Identity { .. })), "{uris:?}");
        }
    }

    #[test]
    fn curves_and_key_types_that_peers_may_not_know_are_refused() {
        for alg in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P521_SHA512] {
            let key = KeyPair::generate_for(alg).unwrap();
            assert!(matches!(check(&csr(&[], &key), &id()), Err(CsrError::Key(_))), "{alg:?}");
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(check(&csr(&[], &key), &id()).is_ok());
    }

    #[test]
    fn a_request_that_was_signed_with_another_key_is_refused() {
        let pem = csr(&[], &KeyPair::generate().unwrap());
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut bytes = der.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(check(&to_pem(&bytes), &id()).unwrap_err(), CsrError::Signature);
    }

    fn to_pem(der: &[u8]) -> String {
        crate::issuer::pem_of(&[der.to_vec().into()]).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_never_passes(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,100}") {
            prop_assert!(check(&to_pem(&bytes), &id()).is_err());
            prop_assert!(check(&text, &id()).is_err());
        }

        #[test]
        fn a_changed_request_never_panics_and_never_changes_the_identity(at in 0usize..400, with in 1u8..) {
            let key = KeyPair::generate().unwrap();
            let pem = csr(&[id().as_str()], &key);
            let mut der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
            let at = at % der.len();
            der[at] ^= with;
            // Outside of what is signed a reader may overlook a changed bit; the key stays the one that signed.
            if let Ok(checked) = check(&to_pem(&der), &id()) {
                prop_assert_eq!(checked.subject_public_key_info(), key.subject_public_key_info());
            }
        }
    }
}
