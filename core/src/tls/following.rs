//! A server whose certificate and roots change while it serves: each handshake asks for those of now.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// What a server has at this moment.
pub trait Current: Send + Sync + 'static {
    /// Its certificate; `None` if it has none yet.
    fn certificate(&self) -> Option<Arc<CertifiedKey>>;

    /// Who checks its clients.
    ///
    /// # Errors
    /// If there are no roots, or they cannot be used.
    fn clients(&self) -> Result<Arc<dyn ClientCertVerifier>, Error>;
}

/// Follows what a server has; clients must show a certificate.
pub struct Following<C>(pub C);

impl<C> fmt::Debug for Following<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Following")
    }
}

impl<C: Current> ResolvesServerCert for Following<C> {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.certificate()
    }
}

impl<C: Current> ClientCertVerifier for Following<C> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.clients()?.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.clients()?.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.clients()?.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // The provider's, whatever the roots are: a handshake without roots fails at the certificate.
        super::provider().signature_verification_algorithms.supported_schemes()
    }
}
