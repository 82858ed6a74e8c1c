//! What the CA signs and is served with now: the stored state in, the active issuer, bundle and TLS set-up out.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ferromesh_core::identity::{SpiffeId, TrustDomain};
use ferromesh_core::tls;
use rcgen::{KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::issuer::{Issuer, IssuerError, Material, client_verifier, pem_of, random_serial};
use crate::metrics::CaMetrics;
use crate::roots::{Phase, State};
use crate::store::Store;
use crate::store::secret::SecretStore;
use crate::{AuthoritySource, CaError, Config, issue};

/// Lifetime of the CA's own server certificate.
pub(super) const SERVING_TTL: Duration = issue::DEFAULT_TTL;
/// The CA's own identity within the trust domain.
const OWN_NAMESPACE: &str = "ferromesh-system";
const OWN_ACCOUNT: &str = "ferromesh-ca";

/// The signing key and its roots, replaced as a whole.
pub(super) struct Authority {
    domain: TrustDomain,
    dns_names: Vec<String>,
    metrics: CaMetrics,
    active: RwLock<Arc<Active>>,
    bundle: watch::Sender<Arc<str>>,
    /// Held while the state changes, so that what is stored and what is active change in one order.
    keeper: Mutex<Keeper>,
}

enum Keeper {
    Memory,
    Store(Store),
    /// The Secret, and its version that is active.
    Secret(SecretStore, String),
    Given,
}

/// One consistent view.
pub(super) struct Active {
    state: State,
    issuer: Issuer,
    bundle_pem: String,
    tls: Arc<rustls::ServerConfig>,
}

impl Authority {
    pub(super) async fn open(config: &Config, metrics: CaMetrics) -> Result<Self, CaError> {
        let now = OffsetDateTime::now_utc();
        let fresh = || Material::self_made(&config.trust_domain, now).map(State::new);
        let (state, keeper) = match &config.authority {
            AuthoritySource::Memory => (fresh()?, Keeper::Memory),
            AuthoritySource::Files(folder) => (State::new(Material::from_files(folder)?), Keeper::Given),
            AuthoritySource::Store(folder) => match Store::open(folder)? {
                (store, Some(state)) => (state, Keeper::Store(store)),
                (mut store, None) => {
                    let state = fresh()?;
                    store.save(&state)?;
                    (state, Keeper::Store(store))
                }
            },
            AuthoritySource::Secret(store) => first(store, fresh).await?,
        };
        let active = Active::new(state, &config.trust_domain, &config.dns_names, &metrics)?;
        Ok(Self {
            domain: config.trust_domain.clone(),
            dns_names: config.dns_names.clone(),
            metrics,
            bundle: watch::Sender::new(active.bundle_pem().into()),
            active: RwLock::new(Arc::new(active)),
            keeper: Mutex::new(keeper),
        })
    }

    pub(super) fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn bundles(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.subscribe()
    }

    pub(super) fn rotate_step(&self) -> Result<Phase, CaError> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*keeper, Keeper::Given) {
            return Err(CaError::GivenFiles);
        }
        let now = OffsetDateTime::now_utc();
        let state = self.active().state.clone().step(|| Material::self_made(&self.domain, now))?;
        let next = Active::new(state, &self.domain, &self.dns_names, &self.metrics)?;
        match &mut *keeper {
            Keeper::Store(store) => store.save(&next.state)?,
            Keeper::Secret(store, version) => {
                *version = save(store, &next.state, version)?;
            }
            Keeper::Memory | Keeper::Given => {}
        }
        let phase = next.phase();
        self.replace(next);
        tracing::info!(?phase, "the root's rotation went a step on");
        Ok(phase)
    }

    /// Takes up what another replica (or the operator) decided; `version` is the Secret's, if it comes from one.
    pub(super) fn adopt(&self, state: State, version: Option<String>) -> Result<(), CaError> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Keeper::Secret(_, held), Some(version)) = (&mut *keeper, version) {
            *held = version;
        }
        if state == self.active().state {
            return Ok(());
        }
        self.replace(Active::new(state, &self.domain, &self.dns_names, &self.metrics)?);
        tracing::info!(phase = ?self.active().phase(), "new signing key or roots are in use");
        Ok(())
    }

    pub(super) fn renew_serving(&self) -> Result<(), CaError> {
        let _keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(Active::new(self.active().state.clone(), &self.domain, &self.dns_names, &self.metrics)?);
        Ok(())
    }

    fn replace(&self, next: Active) {
        let bundle: Arc<str> = next.bundle_pem().into();
        self.bundle.send_if_modified(|old| std::mem::replace(old, Arc::clone(&bundle)) != bundle);
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

/// Saves the state in the Secret, from a thread of its own: rotation is no async matter, and the runtime goes on.
fn save(store: &SecretStore, state: &State, version: &str) -> Result<String, CaError> {
    let runtime = tokio::runtime::Handle::current();
    let saved = std::thread::scope(|scope| {
        scope.spawn(|| runtime.block_on(store.save(state, version))).join().unwrap_or(Ok(None))
    });
    saved?.ok_or(CaError::Raced)
}

/// The state of a Secret, made if it holds none; if another replica makes it first, that one's.
async fn first(
    store: &SecretStore,
    fresh: impl Fn() -> Result<State, IssuerError>,
) -> Result<(State, Keeper), CaError> {
    for _ in 0..5 {
        let (version, state) = store.load().await?;
        if let Some(state) = state {
            return Ok((state, Keeper::Secret(store.clone(), version)));
        }
        let state = fresh()?;
        if let Some(version) = store.save(&state, &version).await? {
            tracing::info!(secret = store.name(), "a new root was made");
            return Ok((state, Keeper::Secret(store.clone(), version)));
        }
    }
    Err(CaError::Raced)
}

impl Active {
    fn new(state: State, domain: &TrustDomain, dns_names: &[String], metrics: &CaMetrics) -> Result<Self, CaError> {
        let now = OffsetDateTime::now_utc();
        let issuer = Issuer::new(state.signing())?;
        issue::check_chain(&issuer, now)?;
        let bundle_pem = state.bundle_pem();
        let roots = tls::certs_from_pem(bundle_pem.as_bytes(), "the trust bundle").map_err(IssuerError::from)?;
        let tls = Arc::new(server_tls(&issuer, &roots, domain, dns_names, now)?);
        let root_end = issuer.roots().first().and_then(not_after).unwrap_or(now);
        metrics.set_expiry(root_end, issuer.not_after());
        Ok(Self { state, issuer, bundle_pem, tls })
    }

    pub(super) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub(super) fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    pub(super) fn root_pem(&self) -> String {
        pem_of(self.issuer.roots())
    }

    pub(super) fn phase(&self) -> Phase {
        self.state.phase()
    }

    pub(super) fn tls(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.tls)
    }
}

fn not_after(cert: &CertificateDer<'_>) -> Option<OffsetDateTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(cert).ok()?;
    Some(parsed.validity().not_after.to_datetime())
}

/// The CA's own server certificate (new key, own issuer), and a verifier that trusts the bundle.
fn server_tls(
    issuer: &Issuer,
    roots: &[CertificateDer<'static>],
    domain: &TrustDomain,
    dns_names: &[String],
    now: OffsetDateTime,
) -> Result<rustls::ServerConfig, CaError> {
    let serving = |error: String| CaError::Serving(error);
    let id = SpiffeId::workload(domain, OWN_NAMESPACE, OWN_ACCOUNT).map_err(|error| serving(error.to_string()))?;
    let mut names =
        vec![SanType::IpAddress([127, 0, 0, 1].into()), SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into())];
    for name in dns_names.iter().map(String::as_str).chain(["localhost"]) {
        names.push(SanType::DnsName(name.try_into().map_err(|_| serving(format!("{name:?} is not a DNS name")))?));
    }
    let key = KeyPair::generate().map_err(IssuerError::from)?;
    let serial = random_serial()?;
    let leaf = issue::issue(&key, &id, &names, issuer, now, SERVING_TTL, serial)?;
    let chain = std::iter::once(leaf).chain(issuer.chain().iter().cloned()).collect();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| serving(error.to_owned()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| serving(error.to_string()))?
        .with_client_cert_verifier(client_verifier(roots).map_err(serving)?)
        .with_single_cert(chain, key)
        .map_err(|error| serving(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would keep a client certificate alive beyond its end or its root's.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
