//! The controller's own certificate in a mesh on one machine: from the CA like every other workload's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ferromesh_controller::serve::ServerTls;
use ferromesh_core::TrustDomain;
use ferromesh_proxy::identity::{self, ROOT_SECRET, WORKLOAD_SECRET};
use ferromesh_proxy::tls::{Secret, SecretState, SecretStore};
use rustls::RootCertStore;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
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
        ServerTls {
            certificate: Arc::new(Current(self.secrets.clone())),
            client_verifier: Arc::new(Current(self.secrets.clone())),
            trust_domain: trust_domain.clone(),
        }
    }
}

/// The secrets as they are at each handshake.
struct Current(Arc<SecretStore>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl Current {
    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let SecretState::Present(Secret::Validation(validation)) = self.0.get(ROOT_SECRET) else {
            return Err(rustls::Error::General("the mesh's roots have not come".into()));
        };
        let mut roots = RootCertStore::empty();
        for root in validation.roots() {
            roots.add(root.clone())?;
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ferromesh_core::tls::provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let SecretState::Present(Secret::Certificate(certificate)) = self.0.get(WORKLOAD_SECRET) else { return None };
        let key = certificate.key().der().clone_key();
        let provider = ferromesh_core::tls::provider();
        CertifiedKey::from_der(certificate.chain().to_vec(), key, &provider).ok().map(Arc::new)
    }
}

impl ClientCertVerifier for Current {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier()?.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().map(|verifier| verifier.supported_verify_schemes()).unwrap_or_default()
    }
}
