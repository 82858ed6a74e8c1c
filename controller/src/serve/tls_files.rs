//! TLS of the xDS port from PEM files: what a controller uses that is not given its certificate by a CA.

use std::path::Path;
use std::sync::Arc;

use ferromesh_core::tls::{certs_from_file, key_from_file, provider};
use ferromesh_core::{TrustDomain, tls};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::ServerTls;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] tls::TlsError),
    /// Certificate and key do not go together, or a root is none.
    #[error("{what}: {reason}")]
    Unusable {
        /// The file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ServerTls {
    /// The server's chain and key, and the roots that clients' certificates must lead to. Read once.
    ///
    /// # Errors
    /// If a file cannot be read, or does not hold what it should.
    pub fn from_files(cert: &Path, key: &Path, roots: &Path, domain: TrustDomain) -> Result<Self, TlsFilesError> {
        let unusable =
            |path: &Path, reason: String| TlsFilesError::Unusable { what: path.display().to_string(), reason };
        let provider = provider();
        let certified = CertifiedKey::from_der(certs_from_file(cert)?, key_from_file(key)?, &provider);
        let certified = certified.map_err(|error| unusable(cert, error.to_string()))?;
        let mut store = RootCertStore::empty();
        for root in certs_from_file(roots)? {
            store.add(root).map_err(|error| unusable(roots, error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
        let verifier = verifier.build().map_err(|error| unusable(roots, error.to_string()))?;
        Ok(Self {
            certificate: Arc::new(SingleCertAndKey::from(certified)),
            client_verifier: verifier,
            trust_domain: domain,
        })
    }
}
