//! Who is calling: bearer token or client certificate in, one SPIFFE ID out.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub(crate) mod jwt;
mod kubernetes;
mod pods;
mod tokens;

use std::net::IpAddr;

use ferromesh_core::identity::{SvidError, spiffe_id_of_der};
use ferromesh_core::{SpiffeId, TrustDomain};
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataMap;

pub use kubernetes::{AUDIENCE, KubernetesTokens};
pub use tokens::{StaticTokens, TokenFolder};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_LEN: usize = 16 * 1024;

/// Tells whose a bearer token is.
#[tonic::async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Its name in logs and errors.
    fn name(&self) -> &'static str;

    /// The identity that the token stands for, in the hands of `peer`; `None` if it is not one of this authenticator's.
    ///
    /// # Errors
    /// If it is one of its own but not valid, or the authenticator cannot tell now.
    async fn authenticate(&self, token: &str, peer: Option<IpAddr>) -> Result<Option<SpiffeId>, AuthnError>;
}

/// Why a caller is nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthnError {
    /// Neither token nor certificate.
    #[error("the caller showed neither a bearer token (`authorization: Bearer ...`) nor a client certificate")]
    Missing,
    /// The header is not a bearer token.
    #[error("the `authorization` metadata is not one `Bearer <token>`")]
    Header,
    /// No authenticator knows the token.
    #[error("the bearer token is not known here; check that it was made for this CA and has not expired")]
    UnknownToken,
    /// An authenticator knows the token, and refuses it.
    #[error("{name} refuses the bearer token: {reason}")]
    Refused {
        /// The authenticator.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// An authenticator cannot tell now.
    #[error("{name} cannot check tokens now: {reason}")]
    Unavailable {
        /// The authenticator.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// The client certificate carries no identity.
    #[error("the client certificate proves no identity: {0}")]
    Certificate(#[from] SvidError),
    /// The identity is of another mesh.
    #[error("{id} is not of the trust domain {domain}")]
    TrustDomain {
        /// Whose.
        id: SpiffeId,
        /// The CA's domain.
        domain: TrustDomain,
    },
}

/// Who calls: by the token if one is shown (and then by nothing else), else by the client certificate, whose chain
/// the TLS handshake has verified against the current roots.
///
/// # Errors
/// If the caller does not prove an identity of `domain`.
pub async fn caller(
    metadata: &MetadataMap,
    client_cert: Option<&CertificateDer<'_>>,
    peer: Option<IpAddr>,
    authenticators: &[std::sync::Arc<dyn Authenticator>],
    domain: &TrustDomain,
) -> Result<SpiffeId, AuthnError> {
    let id = match bearer(metadata)? {
        Some(token) => by_token(token, peer, authenticators).await?,
        None => spiffe_id_of_der(client_cert.ok_or(AuthnError::Missing)?)?,
    };
    if !id.is_member_of(domain) {
        return Err(AuthnError::TrustDomain { id, domain: domain.clone() });
    }
    Ok(id)
}

async fn by_token(
    token: &str,
    peer: Option<IpAddr>,
    authenticators: &[std::sync::Arc<dyn Authenticator>],
) -> Result<SpiffeId, AuthnError> {
    for authenticator in authenticators {
        if let Some(id) = authenticator.authenticate(token, peer).await? {
            tracing::debug!(%id, by = authenticator.name(), "authenticated");
            return Ok(id);
        }
    }
    Err(AuthnError::UnknownToken)
}

fn bearer(metadata: &MetadataMap) -> Result<Option<&str>, AuthnError> {
    let mut values = metadata.get_all("authorization").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(AuthnError::Header);
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(AuthnError::Header)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > MAX_TOKEN_LEN {
        return Err(AuthnError::Header);
    }
    Ok(Some(token))
}
