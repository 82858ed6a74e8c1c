//! Why a handshake failed: whose fault, what was shown, what was expected.

use std::fmt;
use std::sync::Arc;

/// Who refused the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This proxy refused the peer.
    Ours,
    /// The peer refused us, or went away.
    Peer,
}

/// Why there is no TLS connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// Secrets that the context names have not come.
    #[error("TLS cannot start: no value yet for the secret(s) {}; check the SDS source or the workload's CA", names.join(", "))]
    NotWarm {
        /// Names of the secrets.
        names: Vec<String>,
    },
    /// A secret was withdrawn.
    #[error("TLS cannot start: secret {name:?} was withdrawn: {reason}")]
    Withdrawn {
        /// Name of the secret.
        name: String,
        /// Why.
        reason: String,
    },
    /// The secrets do not make a usable configuration.
    #[error("TLS cannot start: {0}")]
    Unusable(String),
    /// The peer's certificate is not good for this context.
    #[error("we refused the peer's certificate: {0}")]
    Rejected(Arc<Rejection>),
    /// The name that the peer asks for is required.
    #[error("we refused the client: it sent no server name (SNI), and this context requires one")]
    NoServerName,
    /// The handshake failed for another reason.
    #[error("{}: {detail}", match side { Side::Ours => "we refused the peer's handshake", Side::Peer => "the peer refused our handshake or went away" })]
    Handshake {
        /// Who refused.
        side: Side,
        /// The TLS library's words.
        detail: String,
    },
}

impl TlsError {
    /// Whether the fault is with this proxy's configuration, not with the peer.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::NotWarm { .. } | Self::Withdrawn { .. } | Self::Unusable(_))
    }

    pub(super) fn from_io(error: &std::io::Error) -> Self {
        let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Handshake { side: Side::Peer, detail: error.to_string() };
        };
        if let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = cause
            && let Some(rejection) = other.0.downcast_ref::<Rejection>()
        {
            return Self::Rejected(Arc::new(rejection.clone()));
        }
        let side = match cause {
            rustls::Error::AlertReceived(_) => Side::Peer,
            _ => Side::Ours,
        };
        Self::Handshake { side, detail: cause.to_string() }
    }
}

/// Why a certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The rule that it breaks.
    pub reason: String,
    /// Names in the certificate that was shown.
    pub presented: Vec<String>,
    /// Names that would have been accepted; empty if names play no part.
    pub expected: Vec<String>,
}

impl Rejection {
    pub(super) fn into_rustls(self) -> rustls::Error {
        rustls::CertificateError::Other(rustls::OtherError(Arc::new(self))).into()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; it shows [{}]", self.reason, self.presented.join(", "))?;
        if !self.expected.is_empty() {
            write!(f, "; expected is any of [{}]", self.expected.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejection {}
