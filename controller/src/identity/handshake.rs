//! What rustls asks at each handshake, answered with what the CA gave last.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ferromesh_core::tls::Current;
use rustls::Error;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use super::Held;

/// The certificate and roots as they are now.
pub(super) struct Newest(pub(super) Arc<ArcSwapOption<Held>>);

impl Current for Newest {
    fn certificate(&self) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|held| Arc::clone(&held.key))
    }

    fn clients(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let held = self.0.load_full();
        let held = held.ok_or_else(|| Error::General("the mesh's roots have not come yet".into()))?;
        Ok(Arc::clone(&held.clients))
    }
}
