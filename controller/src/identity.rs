//! The controller's own certificate, from the mesh's CA like every workload's: for the xDS port and the webhook.
//!
//! ```text
//! new key + CSR ── CreateCertificate (istio-ca token) ──> chain, roots ──> every handshake from then on
//! ```
//!
//! A new key for each certificate, in memory only. If the CA cannot be reached the old certificate serves until it ends.

mod ca;
mod handshake;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use ferromesh_core::TrustDomain;
use ferromesh_core::backoff::Backoff;
use ferromesh_core::tls::Following;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::serve::ServerTls;

/// Nothing is asked of the CA more often than this.
const SOONEST: Duration = Duration::from_secs(1);

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The CA, as `<name>:<port>`; its certificate must have that name.
    pub ca_address: String,
    /// PEM file of the mesh's roots.
    pub ca_root: PathBuf,
    /// File with a service account token for the audience `istio-ca`.
    pub token_file: PathBuf,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The CA cannot be reached.
    #[error("the CA at {address}: {reason}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// The CA refuses.
    #[error("the CA refuses: {0}")]
    Refused(String),
    /// Key, request or answer cannot be used.
    #[error("the certificate: {0}")]
    Unusable(String),
}

/// What the CA gave last.
struct Held {
    key: Arc<CertifiedKey>,
    clients: Arc<dyn ClientCertVerifier>,
    roots_pem: Arc<str>,
    expires: SystemTime,
}

/// The certificate, kept fresh until the last clone is gone.
#[derive(Clone)]
pub struct Identity {
    held: Arc<ArcSwapOption<Held>>,
    changed: watch::Receiver<u64>,
    _task: Arc<Renewal>,
}

/// Ends the renewal when dropped.
struct Renewal(AbortHandle);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Identity {
    /// Begins to ask the CA, on the caller's runtime.
    pub fn start(config: Config) -> Self {
        let held = Arc::<ArcSwapOption<Held>>::default();
        let (sender, changed) = watch::channel(0);
        let task = tokio::spawn(renew(config, Arc::clone(&held), sender)).abort_handle();
        Self { held, changed, _task: Arc::new(Renewal(task)) }
    }

    /// Waits for the first certificate.
    pub async fn ready(&self) {
        // An error means that the renewal has ended, with the program.
        let _ = self.changed.clone().wait_for(|count| *count > 0).await;
    }

    /// Tells of each new certificate.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// The mesh's roots as PEM, once the CA has given them.
    pub fn roots_pem(&self) -> Option<Arc<str>> {
        self.held.load().as_ref().map(|held| Arc::clone(&held.roots_pem))
    }

    /// When the certificate ends.
    pub fn expires(&self) -> Option<SystemTime> {
        self.held.load().as_ref().map(|held| held.expires)
    }

    /// What the xDS port needs; follows renewals and rotations of the root.
    pub fn server_tls(&self, trust_domain: TrustDomain) -> ServerTls {
        let current = Arc::new(Following(handshake::Newest(Arc::clone(&self.held))));
        ServerTls { certificate: current.clone(), client_verifier: current, trust_domain }
    }

    /// What a port needs whose clients have no certificates (the webhook: the API server has none to show).
    ///
    /// # Errors
    /// If the TLS library refuses.
    pub fn webhook_tls(&self) -> Result<rustls::ServerConfig, rustls::Error> {
        let mut config = rustls::ServerConfig::builder_with_provider(ferromesh_core::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Following(handshake::Newest(Arc::clone(&self.held)))));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

async fn renew(config: Config, held: Arc<ArcSwapOption<Held>>, changed: watch::Sender<u64>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
    let mut rng = fastrand::Rng::new();
    loop {
        match ca::fetch(&config).await {
            Ok(fresh) => {
                backoff.reset();
                let wait = renew_in(SystemTime::now(), fresh.expires, rng.f64());
                held.store(Some(Arc::new(fresh)));
                changed.send_modify(|count| *count += 1);
                tokio::time::sleep(wait).await;
            }
            Err(error) => {
                tracing::warn!(%error, "no new certificate for the controller");
                tokio::time::sleep(backoff.next_delay(&mut rng) + Duration::from_millis(50)).await;
            }
        }
    }
}

/// Half of the time that is left, give or take a tenth of it. `chance` is from 0 to 1.
fn renew_in(now: SystemTime, expires: SystemTime, chance: f64) -> Duration {
    expires.duration_since(now).unwrap_or_default().mul_f64(0.4 + 0.2 * chance).max(SOONEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_around_half_life_and_never_in_a_rush() {
        let now = SystemTime::UNIX_EPOCH;
        let hours = |n: u64| Duration::from_secs(n * 3600);
        assert_eq!(renew_in(now, now + hours(24), 0.5), hours(12));
        assert_eq!(renew_in(now + hours(2), now, 0.5), SOONEST);
    }
}
