//! The workload's own identity: a key made here, a certificate from the CA, renewed before it ends.
//!
//! ```text
//! key + CSR -> CreateCertificate (token, or mTLS to renew) -> secrets `default` and `ROOTCA` -> every TLS context
//! ```
//!
//! The key lives in memory only. If the CA cannot be reached the certificate serves until it ends; then the secret is
//! withdrawn and connections fail closed. Source: Istio's `IstioCertificateService`; X.509-SVID for the names.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ferromesh_core::SpiffeId;
use ferromesh_core::backoff::Backoff;
use rustls_pki_types::CertificateDer;

use crate::tls::{Origin, Secret, SecretState, SecretStore};

mod ca_client;
mod sds_server;

pub use sds_server::serve_sds;

/// Name of the secret with the workload's chain and key.
pub const WORKLOAD_SECRET: &str = "default";
/// Name of the secret with the mesh's roots.
pub const ROOT_SECRET: &str = "ROOTCA";
/// A certificate is renewed at least this long before it ends.
const MARGIN: Duration = Duration::from_secs(60);
/// Nothing is asked of the CA more often than this.
const SOONEST: Duration = Duration::from_secs(1);

/// A bearer token for the CA.
#[derive(Clone)]
pub enum TokenSource {
    /// Read from this file for each certificate.
    File(PathBuf),
    /// Given.
    Given(Arc<str>),
    /// None: only a client certificate that is held already authenticates.
    None,
}

/// PEM of roots.
#[derive(Clone, Debug)]
pub enum Pem {
    /// Read from this file for each connection.
    File(PathBuf),
    /// Given.
    Given(Arc<str>),
}

/// How the workload gets its certificate.
#[derive(Clone)]
pub struct Config {
    /// The CA, `<name or address>:<port>`.
    pub ca_address: String,
    /// DNS name in the CA's server certificate.
    pub ca_server_name: String,
    /// What the CA's server certificate chains to.
    pub ca_root: Pem,
    /// Who we are, to the CA.
    pub token: TokenSource,
    /// The identity that is expected and put in the CSR; `None` leaves the CSR without names (the CA knows).
    pub id: Option<SpiffeId>,
    /// Lifetime to ask for; `None` leaves it to the CA.
    pub lifetime: Option<Duration>,
}

impl Config {
    /// With a token that is given, for the CA at `ca_address` as `localhost`.
    pub fn new(
        ca_address: SocketAddr,
        root_pem: impl Into<Arc<str>>,
        token: impl Into<Arc<str>>,
        id: SpiffeId,
    ) -> Self {
        Self {
            ca_address: ca_address.to_string(),
            ca_server_name: "localhost".into(),
            ca_root: Pem::Given(root_pem.into()),
            token: TokenSource::Given(token.into()),
            id: Some(id),
            lifetime: None,
        }
    }
}

/// Shows where the certificate comes from, never the token.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("ca_address", &self.ca_address).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{what} {path}: {source}")]
    File {
        /// Which.
        what: &'static str,
        /// Where.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Key or CSR could not be made.
    #[error("the certificate request: {0}")]
    Request(String),
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
    /// The CA's answer cannot be used.
    #[error("the CA's answer: {0}")]
    Answer(String),
}

/// Keeps the workload's secrets fresh in the caller's `LocalSet` until the handle is aborted.
pub fn start(config: Config, secrets: Arc<SecretStore>) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_local(keep(config, secrets))
}

async fn keep(config: Config, secrets: Arc<SecretStore>) {
    let problem = RefCell::new(None);
    tokio::select! {
        () = renew(&config, &secrets, &problem) => {}
        () = withdraw_at_end(&secrets, &problem) => {}
    }
}

/// Gets certificates, for ever; notes in `problem` why there is no new one.
async fn renew(config: &Config, secrets: &SecretStore, problem: &RefCell<Option<IdentityError>>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut rng = fastrand::Rng::new();
    let mut version = 0u64;
    loop {
        match ca_client::fetch(config, &ca_client::Held { certificate: held(secrets), roots: held_roots(secrets) })
            .await
        {
            Ok(fresh) => {
                version += 1;
                let expires = at(fresh.certificate.facts().not_after);
                let version = version.to_string();
                problem.replace(None);
                // Roots first: a peer's new chain must be trusted before ours is shown.
                secrets.set(ROOT_SECRET, Secret::Validation(Arc::new(fresh.roots)), Origin::Workload, &version);
                let certificate = Secret::Certificate(Arc::new(fresh.certificate));
                secrets.set(WORKLOAD_SECRET, certificate, Origin::Workload, &version);
                backoff.reset();
                tokio::time::sleep(renew_in(SystemTime::now(), expires, rng.f64())).await;
            }
            Err(error) => {
                tracing::warn!(%error, "no new workload certificate");
                problem.replace(Some(error));
                tokio::time::sleep(backoff.next_delay(&mut rng).max(Duration::from_millis(50))).await;
            }
        }
    }
}

/// Withdraws a certificate when it ends, whatever the renewal is at.
async fn withdraw_at_end(secrets: &SecretStore, problem: &RefCell<Option<IdentityError>>) {
    let mut changes = secrets.changes();
    loop {
        changes.borrow_and_update();
        let ends = held(secrets).map(|held| at(held.facts().not_after));
        let end = async {
            match ends {
                Some(ends) => tokio::time::sleep(ends.duration_since(SystemTime::now()).unwrap_or_default()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The sender lives in the store that this holds.
            _ = changes.changed() => {}
            () = end => {
                // The wall clock may have been set back meanwhile.
                if ends.is_some_and(|ends| ends <= SystemTime::now()) {
                    let why = problem.borrow().as_ref().map(ToString::to_string);
                    let why = why.unwrap_or_else(|| "the CA has not answered yet".to_owned());
                    let reason = format!("the workload's certificate has ended and there is no new one: {why}");
                    secrets.withdraw(WORKLOAD_SECRET, &reason);
                }
            }
        }
    }
}

/// A certificate's time; before 1970 is 1970.
fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn held(secrets: &SecretStore) -> Option<Arc<crate::tls::Certificate>> {
    match secrets.get(WORKLOAD_SECRET) {
        SecretState::Present(Secret::Certificate(certificate)) => Some(certificate),
        _ => None,
    }
}

fn held_roots(secrets: &SecretStore) -> Vec<CertificateDer<'static>> {
    match secrets.get(ROOT_SECRET) {
        SecretState::Present(Secret::Validation(roots)) => roots.roots().to_vec(),
        _ => Vec::new(),
    }
}

/// How long to wait before renewal: half of the time that is left, give or take a tenth, and at least a minute before
/// the end if there is that much. `chance` is from 0 to 1.
///
/// It counts from now, not from the certificate's begin, which CAs put before the time of issue.
fn renew_in(now: SystemTime, expires: SystemTime, chance: f64) -> Duration {
    let left = expires.duration_since(now).unwrap_or_default();
    left.mul_f64(0.45 + 0.1 * chance).min(left.saturating_sub(MARGIN.min(left / 2))).max(SOONEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn renewal_is_at_half_life_give_or_take_a_tenth() {
        let now = SystemTime::UNIX_EPOCH + HOUR;
        let wait = |chance| renew_in(now, now + 24 * HOUR, chance);
        assert_eq!(wait(0.5), 12 * HOUR);
        assert!(wait(0.0) >= 10 * HOUR && wait(1.0) <= 14 * HOUR);
    }

    #[test]
    fn a_short_certificate_is_renewed_in_time_but_not_in_a_rush() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(renew_in(now + HOUR, now + HOUR, 0.5), SOONEST);
        assert_eq!(renew_in(now, now + Duration::from_secs(10), 0.5), Duration::from_secs(5));
        assert_eq!(renew_in(now, now + Duration::from_secs(110), 1.0), Duration::from_secs(55));
    }
}
