//! The identity in a leaf certificate, by the rules of the X509-SVID specification.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{IdentityError, SpiffeId};

/// Why a certificate proves no SPIFFE identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// The bytes are not one X.509 certificate in DER.
    #[error("not an X.509 certificate in DER: {0}")]
    Parse(String),
    /// There is not exactly one URI among the subject alternative names.
    #[error("a leaf certificate has exactly one URI among its subject alternative names, this one has {0}")]
    UriCount(usize),
    /// The URI is not a SPIFFE ID.
    #[error("the certificate's URI {uri:?} is not a SPIFFE ID: {reason}")]
    Identity {
        /// The URI found.
        uri: String,
        /// The rule that it breaks.
        reason: IdentityError,
    },
    /// The ID names a trust domain, not a workload.
    #[error("a leaf certificate's SPIFFE ID needs a path, {0:?} has none")]
    NoPath(SpiffeId),
    /// A CA certificate was shown; those never authenticate.
    #[error("a CA certificate never authenticates a workload")]
    IsCa,
    /// The key usage does not fit a leaf.
    #[error("key usage: {0}")]
    KeyUsage(&'static str),
    /// The extended key usage lacks one of its two purposes.
    #[error("extended key usage, if there, has both serverAuth and clientAuth")]
    ExtendedKeyUsage,
}

/// The identity that a leaf certificate carries.
///
/// This checks the certificate's form only; whether its chain leads to a trusted root is the TLS verifier's work.
///
/// # Errors
/// Names the rule of the X509-SVID specification that the certificate breaks.
pub fn spiffe_id_of_der(cert: &[u8]) -> Result<SpiffeId, SvidError> {
    let (rest, cert) = X509Certificate::from_der(cert).map_err(|error| SvidError::Parse(error.to_string()))?;
    if !rest.is_empty() {
        return Err(SvidError::Parse(format!("{} bytes follow the certificate", rest.len())));
    }
    check_leaf_usages(&cert)?;
    let id = single_uri(&cert)?;
    if id.path().is_empty() {
        return Err(SvidError::NoPath(id));
    }
    Ok(id)
}

fn check_leaf_usages(cert: &X509Certificate<'_>) -> Result<(), SvidError> {
    let parse = |error: x509_parser::error::X509Error| SvidError::Parse(error.to_string());
    if cert.basic_constraints().map_err(parse)?.is_some_and(|constraints| constraints.value.ca) {
        return Err(SvidError::IsCa);
    }
    let usage = cert.key_usage().map_err(parse)?.ok_or(SvidError::KeyUsage("is missing"))?;
    if !usage.critical {
        return Err(SvidError::KeyUsage("must be marked critical"));
    }
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(SvidError::KeyUsage("keyCertSign and cRLSign are for CAs"));
    }
    if !usage.value.digital_signature() {
        return Err(SvidError::KeyUsage("digitalSignature must be set"));
    }
    match cert.extended_key_usage().map_err(parse)? {
        Some(extended) if !(extended.value.server_auth && extended.value.client_auth) => {
            Err(SvidError::ExtendedKeyUsage)
        }
        _ => Ok(()),
    }
}

fn single_uri(cert: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names = cert.subject_alternative_name().map_err(|error| SvidError::Parse(error.to_string()))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris.as_slice() else { return Err(SvidError::UriCount(uris.len())) };
    SpiffeId::parse(uri).map_err(|reason| SvidError::Identity { uri: (*uri).to_owned(), reason })
}
