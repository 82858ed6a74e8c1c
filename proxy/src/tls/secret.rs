//! Secrets by name: set by SDS, by the bootstrap or by the workload's identity; read by TLS contexts.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::material::{Certificate, CertificateFacts, Validation};
use super::shared::Shared;
use super::upstream::Context;
use crate::config::{At, ConfigError, FetchLimit, required};

/// A secret's value.
#[derive(Debug, Clone)]
pub enum Secret {
    /// A chain with its key.
    Certificate(Arc<Certificate>),
    /// What peers are checked against.
    Validation(Arc<Validation>),
}

impl Secret {
    /// Decodes an SDS resource: its name and value.
    ///
    /// # Errors
    /// If it is neither a certificate nor a validation context, or does not parse; keys are never in the error.
    pub fn decode(proto: &tls::Secret) -> Result<(String, Self), ConfigError> {
        use tls::secret::Type;
        let value = match required(proto.r#type.as_ref(), "type")? {
            Type::TlsCertificate(certificate) => {
                Self::Certificate(Arc::new(Certificate::decode(certificate).at("tls_certificate")?))
            }
            Type::ValidationContext(context) => {
                Self::Validation(Arc::new(Validation::decode(context).at("validation_context")?))
            }
            Type::SessionTicketKeys(_) => return Err(ConfigError::new("session_ticket_keys", "is not implemented")),
            Type::GenericSecret(_) => return Err(ConfigError::new("generic_secret", "is not implemented")),
        };
        Ok((proto.name.clone(), value))
    }
}

/// Who set a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `static_resources.secrets` of the bootstrap.
    Static,
    /// SDS over xDS.
    Sds,
    /// The workload's own identity.
    Workload,
}

/// A secret as it stands.
#[derive(Debug, Clone)]
pub enum SecretState {
    /// Named, but not come.
    Missing,
    /// Here.
    Present(Secret),
    /// Was here and is not good any more; contexts that use it refuse connections.
    Withdrawn(Arc<str>),
}

/// Where a context says that a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SdsSource {
    /// The bootstrap's static secrets (no `sds_config`).
    Static,
    /// The ADS stream.
    Ads,
    /// An SDS server, by its cluster's name (`sds-grpc` in Istio's configuration).
    Cluster(String),
}

/// A secret that contexts name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Its name.
    pub name: String,
    /// Where it should come from.
    pub source: SdsSource,
    /// Whether it has come.
    pub present: bool,
}

/// What `/certs` and `/config_dump` show of a secret; never a key.
#[derive(Debug, Clone)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// Who set it; `None` if nobody has.
    pub origin: Option<Origin>,
    /// Version of the resource.
    pub version: String,
    /// When it was set.
    pub updated: Option<SystemTime>,
    /// Why it is not good any more, if so.
    pub withdrawn: Option<String>,
    /// The chain of a certificate, leaf first.
    pub chain: Vec<CertificateFacts>,
    /// The trusted CAs of a validation context.
    pub roots: Vec<CertificateFacts>,
}

/// The place of one secret; contexts hold it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    current: ArcSwap<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// Rises with each change, so that a context sees cheaply that it must look again.
    pub(super) serial: u64,
    pub(super) state: SecretState,
    origin: Option<Origin>,
    version: String,
    updated: Option<SystemTime>,
}

impl Slot {
    pub(super) fn load(&self) -> Arc<Entry> {
        self.current.load_full()
    }

    pub(super) fn serial(&self) -> u64 {
        self.current.load().serial
    }
}

/// A secret that a context names: its place, and how long the context waits for it.
#[derive(Debug, Clone)]
pub(super) struct NamedSecret {
    slot: Arc<Slot>,
    pub(super) limit: FetchLimit,
}

impl Deref for NamedSecret {
    type Target = Slot;
    fn deref(&self) -> &Slot {
        &self.slot
    }
}

#[derive(Debug)]
struct Named {
    slot: Arc<Slot>,
    source: Option<SdsSource>,
}

/// Secrets by name; a context waits for the ones that it names.
#[derive(Debug)]
pub struct SecretStore {
    named: Mutex<BTreeMap<String, Named>>,
    changes: watch::Sender<u64>,
    /// Contexts of clusters that follow these secrets.
    pub(super) upstream_contexts: Shared<Context>,
}

impl Default for SecretStore {
    fn default() -> Self {
        Self { named: Mutex::default(), changes: watch::Sender::new(0), upstream_contexts: Shared::default() }
    }
}

impl SecretStore {
    /// Sets a secret; contexts that name it use it from their next handshake on.
    pub fn set(&self, name: &str, secret: Secret, origin: Origin, version: &str) {
        self.put(name, SecretState::Present(secret), Some(origin), version);
    }

    /// Says that a secret is not good any more; contexts that name it refuse new connections with this reason.
    pub fn withdraw(&self, name: &str, reason: &str) {
        self.put(name, SecretState::Withdrawn(reason.into()), None, "");
    }

    fn put(&self, name: &str, state: SecretState, origin: Option<Origin>, version: &str) {
        {
            let mut named = self.named.lock();
            let slot = &named.entry(name.to_owned()).or_insert_with(|| Named::new(name)).slot;
            let before = slot.load();
            let origin = origin.or(before.origin);
            let (serial, version, updated) = (before.serial + 1, version.to_owned(), Some(SystemTime::now()));
            slot.current.store(Arc::new(Entry { serial, state, origin, version, updated }));
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// The secret's state now.
    pub fn get(&self, name: &str) -> SecretState {
        self.named.lock().get(name).map_or(SecretState::Missing, |named| named.slot.load().state.clone())
    }

    /// The secret's state now, and a number that rises with each change of it.
    pub fn versioned(&self, name: &str) -> (u64, SecretState) {
        let entry = self.named.lock().get(name).map(|named| named.slot.load());
        entry.map_or((0, SecretState::Missing), |entry| (entry.serial, entry.state.clone()))
    }

    /// Sees a new number each time that a secret is set, withdrawn, or named for the first time.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The secrets that living contexts name.
    pub fn wishes(&self) -> Vec<Wish> {
        let named = self.named.lock();
        let wish = |(name, named): (&String, &Named)| {
            let source = named.source.clone().filter(|_| Arc::strong_count(&named.slot) > 1)?;
            let present = matches!(named.slot.load().state, SecretState::Present(_));
            Some(Wish { name: name.clone(), source, present })
        };
        named.iter().filter_map(wish).collect()
    }

    /// Forgets secrets that came by SDS and that no context names any more.
    pub fn forget_unused(&self) {
        self.named.lock().retain(|_, named| {
            let used = Arc::strong_count(&named.slot) > 1;
            used || matches!(named.slot.load().origin, Some(Origin::Static | Origin::Workload))
        });
    }

    /// All secrets, to show.
    pub fn snapshot(&self) -> Vec<SecretInfo> {
        let slots: Vec<Arc<Slot>> = self.named.lock().values().map(|named| named.slot.clone()).collect();
        slots.iter().map(|slot| info(slot)).collect()
    }

    /// The place of a secret that a context names.
    pub(super) fn wish(&self, proto: &tls::SdsSecretConfig) -> Result<NamedSecret, ConfigError> {
        if proto.name.is_empty() {
            return Err(ConfigError::new("name", "must be set"));
        }
        let source = proto.sds_config.as_ref().map_or(Ok(SdsSource::Static), source_of).at("sds_config")?;
        let limit = proto.sds_config.as_ref().map(FetchLimit::of).transpose().at("sds_config")?.unwrap_or_default();
        let (slot, new) = {
            let mut named = self.named.lock();
            let named = named.entry(proto.name.clone()).or_insert_with(|| Named::new(&proto.name));
            let new = named.source.replace(source).is_none() || Arc::strong_count(&named.slot) == 1;
            (named.slot.clone(), new)
        };
        if new {
            self.changes.send_modify(|count| *count += 1);
        }
        Ok(NamedSecret { slot, limit })
    }
}

impl Named {
    fn new(name: &str) -> Self {
        let entry =
            Entry { serial: 0, state: SecretState::Missing, origin: None, version: String::new(), updated: None };
        Self { slot: Arc::new(Slot { name: name.to_owned(), current: ArcSwap::from_pointee(entry) }), source: None }
    }
}

fn info(slot: &Slot) -> SecretInfo {
    let entry = slot.load();
    let facts = |ders: &[rustls_pki_types::CertificateDer<'static>]| {
        ders.iter().filter_map(|der| CertificateFacts::read(der).ok()).collect()
    };
    let mut info = SecretInfo {
        name: slot.name.clone(),
        origin: entry.origin,
        version: entry.version.clone(),
        updated: entry.updated,
        withdrawn: None,
        chain: Vec::new(),
        roots: Vec::new(),
    };
    match &entry.state {
        SecretState::Missing => {}
        SecretState::Withdrawn(reason) => info.withdrawn = Some(reason.to_string()),
        SecretState::Present(Secret::Certificate(certificate)) => info.chain = facts(certificate.chain()),
        SecretState::Present(Secret::Validation(validation)) => info.roots = facts(validation.roots()),
    }
    info
}

fn source_of(proto: &core::ConfigSource) -> Result<SdsSource, ConfigError> {
    use core::config_source::ConfigSourceSpecifier;
    use core::grpc_service::TargetSpecifier;
    match required(proto.config_source_specifier.as_ref(), "config_source_specifier")? {
        ConfigSourceSpecifier::Ads(_) => Ok(SdsSource::Ads),
        ConfigSourceSpecifier::ApiConfigSource(api) => {
            match api.grpc_services.first().map(|grpc| &grpc.target_specifier) {
                Some(Some(TargetSpecifier::EnvoyGrpc(grpc))) => Ok(SdsSource::Cluster(grpc.cluster_name.clone())),
                _ => Err(ConfigError::new("api_config_source.grpc_services", "must name a cluster by envoy_grpc")),
            }
        }
        _ => Err(ConfigError::new("", "must be ads or api_config_source")),
    }
}
