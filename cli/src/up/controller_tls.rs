//! The controller's own certificate in a mesh on one machine: from the CA like every other workload's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ferromesh_controller::serve::ServerTls;
use ferromesh_core::TrustDomain;
use ferromesh_core::tls::{Current, Following, provider};
use ferromesh_proxy::identity::{self, ROOT_SECRET, WORKLOAD_SECRET};
use ferromesh_proxy::tls::{Secret, SecretState, SecretStore};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};
use tokio::sync::oneshot;

/// Longest that the first certificate may take.
const FIRST: Duration = Duration::from_secs(10);

/// Keeps the controller's certificate fresh; dropping it stops that.
pub struct ControllerTls {
    secrets: Arc<SecretStore>,
    _stop: oneshot::Sender<()>,
}

impl ControllerTls {
    /// Fetches the first certificate.
    ///
    /// # Errors
    /// If none comes in 10 s.
    pub async fn start(config: identity::Config) -> anyhow::Result<Self> {
        let secrets = Arc::new(SecretStore::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let kept = secrets.clone();
        std::thread::Builder::new().name("controller-identity".into()).spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let keeping = identity::start(config, kept);
                // Both a message and a dropped sender mean the end.
                let _ = stopped.await;
                keeping.abort();
            });
        })?;
        let mut changes = secrets.changes();
        let first = async {
            while !matches!(secrets.get(WORKLOAD_SECRET), SecretState::Present(_)) {
                changes.changed().await.context("the identity thread ended")?;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(FIRST, first).await {
            Ok(done) => done?,
            Err(_) => bail!("the CA gave the controller no certificate in {FIRST:?}"),
        }
        Ok(Self { secrets, _stop: stop })
    }

    /// What the controller's xDS port needs; follows rotations.
    pub fn server_tls(&self, trust_domain: &TrustDomain) -> ServerTls {
        let current = Arc::new(Following(Newest(self.secrets.clone())));
        ServerTls { certificate: current.clone(), client_verifier: current, trust_domain: trust_domain.clone() }
    }
}

/// The secrets as they are at each handshake.
struct Newest(Arc<SecretStore>);

impl Current for Newest {
    fn certificate(&self) -> Option<Arc<CertifiedKey>> {
        let SecretState::Present(Secret::Certificate(certificate)) = self.0.get(WORKLOAD_SECRET) else { return None };
        let key = certificate.key().der().clone_key();
        CertifiedKey::from_der(certificate.chain().to_vec(), key, &provider()).ok().map(Arc::new)
    }

    fn clients(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let SecretState::Present(Secret::Validation(validation)) = self.0.get(ROOT_SECRET) else {
            return Err(Error::General("the mesh's roots have not come".into()));
        };
        let mut roots = RootCertStore::empty();
        for root in validation.roots() {
            roots.add(root.clone())?;
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))
    }
}
