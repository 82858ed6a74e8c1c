//! The mesh's certificate authority: a certificate signing request and proof of identity in, a short-lived
//! certificate with its chain out (`istio.v1.auth.IstioCertificateService`).
//!
//! ```text
//! request --server--> authn (who is it?) --> limit --> csr (may it have this key?) --issue--> leaf, chain, roots
//!                                                       issuer, roots (rotation) <--> store (a folder or Secret)
//! ```
//!
//! # Invariants
//! * An identity comes from what authenticated (token or client certificate), never from the request's content.
//! * A client certificate renews itself and nothing else.
//! * Nothing of the request but its public key gets into a certificate.
//! * What is signed with is on disk before it is used; a crash at any point leaves the old state or the new one.
//!
//! # Use
//! ```no_run
//! # async fn example() -> Result<(), ferromesh_ca::CaError> {
//! use std::sync::Arc;
//! use ferromesh_ca::{Ca, Config, StaticTokens};
//! use ferromesh_core::{SpiffeId, TrustDomain};
//!
//! let tokens = Arc::new(StaticTokens::default());
//! let domain = TrustDomain::default();
//! # let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/web").unwrap();
//! tokens.add("a secret", id); // more can be added while the CA runs
//! let mut config = Config::new(([127, 0, 0, 1], 0).into(), domain);
//! config.authenticators.push(tokens);
//! let ca = Ca::start(config).await?;
//! println!("https://{} trusts {}", ca.addr(), ca.root_pem());
//! ca.shutdown().await;
//! # Ok(())
//! # }
//! ```

pub mod app;
pub mod args;
pub mod authn;
pub mod bundle;
pub mod csr;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod issue;
pub mod issuer;
pub mod limit;
pub mod metrics;
pub mod roots;
mod server;
pub mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_core::telemetry::Metrics;
use ferromesh_core::{SpiffeId, TrustDomain};

pub use authn::{Authenticator, AuthnError, KubernetesTokens, StaticTokens, TokenFolder};
pub use issuer::IssuerError;
pub use limit::RateLimit;
pub use roots::Phase;
pub use server::{Ca, Rotation, RunningCa};
pub use store::StoreError;
pub use store::secret::{SecretError, SecretStore};

/// How a CA is set up.
#[derive(Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The trust domain of every identity that it certifies.
    pub trust_domain: TrustDomain,
    /// Where the signing key comes from.
    pub authority: AuthoritySource,
    /// Who can tell whose a bearer token is, asked in order. Renewal with a client certificate needs none.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// DNS names of its own server certificate, beside `localhost` and the loopback addresses.
    pub dns_names: Vec<String>,
    /// Lifetime of a leaf when the request asks for none.
    pub default_ttl: Duration,
    /// The longest lifetime of a leaf; longer requests are cut to it.
    pub max_ttl: Duration,
    /// DNS names that go into the certificates of these identities: services of the control plane, whose webhooks the
    /// API server calls by name.
    pub serving_names: Vec<(SpiffeId, Vec<String>)>,
    /// How many certificates each identity may have.
    pub rate_limit: RateLimit,
    /// Where its metrics are registered.
    pub metrics: Metrics,
}

/// Where the signing key and the root come from.
#[derive(Debug, Clone)]
pub enum AuthoritySource {
    /// Self-made, and gone with the process.
    Memory,
    /// Self-made at the first start, and kept in this folder from then on.
    Store(PathBuf),
    /// Self-made by the first replica, and kept in a Secret that all share.
    Secret(SecretStore),
    /// Given: a folder with Istio's `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and `cert-chain.pem`,
    /// or a TLS Secret's `tls.crt`, `tls.key` and `ca.crt`; followed.
    Files(PathBuf),
}

impl Config {
    /// Self-made in memory, 24 h leaves, no way to authenticate yet.
    pub fn new(listen: SocketAddr, trust_domain: TrustDomain) -> Self {
        Self {
            listen,
            trust_domain,
            authority: AuthoritySource::Memory,
            authenticators: Vec::new(),
            dns_names: Vec::new(),
            default_ttl: issue::DEFAULT_TTL,
            max_ttl: issue::MAX_TTL,
            serving_names: Vec::new(),
            rate_limit: RateLimit::default(),
            metrics: Metrics::new(),
        }
    }
}

/// Why the CA could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The address cannot be bound.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Signing key, certificates or roots are not usable.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The folder that keeps them is not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Secret that keeps them is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Another replica changed the Secret first.
    #[error("another replica of the CA changed its Secret first; try again")]
    Raced,
    /// Its own server certificate could not be made.
    #[error("the CA's own server certificate: {0}")]
    Serving(String),
    /// Keys that are given as files rotate by giving other files.
    #[error("the CA's keys are files that were given; to rotate, replace them and start again")]
    GivenFiles,
}
