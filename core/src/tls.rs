//! The one crypto provider of the mesh, and PEM files read with errors that name the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

mod following;

pub use following::{Current, Following};

/// Why certificates or a key could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not PEM, or has not what was looked for.
    #[error("{what}: {reason}")]
    Pem {
        /// The file, or what else the text is.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The crypto provider that every TLS configuration of the mesh is built with (aws-lc-rs).
///
/// It is handed to builders (`ServerConfig::builder_with_provider`), not installed for the process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificates of a PEM file, in the file's order.
///
/// # Errors
/// If the file cannot be read, is not PEM, or has no certificate.
pub fn certs_from_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certs_from_pem(&read(path)?, &path.display().to_string())
}

/// The certificates of a PEM text; `what` names it in errors.
///
/// # Errors
/// If the text is not PEM, or has no certificate.
pub fn certs_from_pem(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem_error = |reason: String| TlsError::Pem { what: what.to_owned(), reason };
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certs = certs.map_err(|error| pem_error(error.to_string()))?;
    if certs.is_empty() {
        return Err(pem_error("there is no `BEGIN CERTIFICATE` in it".into()));
    }
    Ok(certs)
}

/// The private key of a PEM file (PKCS#8, PKCS#1 or SEC1).
///
/// # Errors
/// If the file cannot be read, is not PEM, or has no key.
pub fn key_from_file(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    key_from_pem(&read(path)?, &path.display().to_string())
}

/// The private key of a PEM text; `what` names it in errors, which never show the text itself.
///
/// # Errors
/// If the text is not PEM, or has no key.
pub fn key_from_pem(pem: &[u8], what: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let reason = match error {
            rustls_pki_types::pem::Error::NoItemsFound => "there is no `BEGIN PRIVATE KEY` in it".into(),
            _ => "the private key is not valid PEM".to_owned(),
        };
        TlsError::Pem { what: what.to_owned(), reason }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file_and_never_show_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken-key.pem");
        assert!(key_from_file(&path).unwrap_err().to_string().contains("broken-key.pem"));
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0!\n-----END PRIVATE KEY-----\n").unwrap();
        let error = key_from_file(&path).unwrap_err().to_string();
        assert!(error.contains("broken-key.pem") && !error.contains("c2VjcmV0"), "{error}");
        std::fs::write(&path, "no PEM at all").unwrap();
        assert!(certs_from_file(&path).unwrap_err().to_string().contains("BEGIN CERTIFICATE"));
    }

    #[test]
    fn certificates_come_in_the_order_of_the_file() {
        let make = || rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let (first, second) = (make(), make());
        let certs = certs_from_pem(format!("{}{}", first.cert.pem(), second.cert.pem()).as_bytes(), "test").unwrap();
        assert_eq!(certs, [first.cert.der().clone(), second.cert.der().clone()]);
        assert!(key_from_pem(first.signing_key.serialize_pem().as_bytes(), "test").is_ok());
    }
}
