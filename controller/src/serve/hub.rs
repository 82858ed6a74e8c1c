//! Where views meet streams: each new view flows to every stream, each stream's state can be read by operators.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::ClientError;
use super::session::{Nack, Protocol, Session, TypeSync, Wanted};
use super::{Client, Kind, Kinds, ResourceSet};

/// Steps that are remembered for streams that are busy; who is further behind looks at every type.
const HISTORY: usize = 64;

/// One immutable state of the world, as resources.
pub trait Snapshot: Send + Sync + 'static {
    /// The resources of `kind` for `client`: all that apply if the wildcard is wanted, and the named ones that exist.
    fn resources(&self, client: &Client, kind: Kind, wanted: &Wanted) -> ResourceSet;

    /// The same if it is there already, without work.
    fn ready(&self, client: &Client, kind: Kind, wanted: &Wanted) -> Option<ResourceSet> {
        let _ = (client, kind, wanted);
        None
    }

    /// Whether `client` is what it says to be, as far as this state knows.
    ///
    /// # Errors
    /// Why it may not be served: [`ClientError::UnknownPod`] may mend itself, everything else does not.
    fn admits(&self, client: &Client) -> Result<(), ClientError> {
        let _ = client;
        Ok(())
    }
}

/// Which types a step from one view to the next may have changed for a client.
pub type Affected = Arc<dyn Fn(&Client) -> Kinds + Send + Sync>;

struct Step {
    generation: u64,
    since: Instant,
    affected: Affected,
}

/// The newest view, and the last steps that led to it.
pub(super) struct World {
    pub(super) generation: u64,
    pub(super) snapshot: Arc<dyn Snapshot>,
    steps: VecDeque<Arc<Step>>,
}

impl World {
    /// What changed for `client` after `generation`, and when the first event of that came.
    pub(super) fn after(&self, generation: u64, client: &Client) -> (Kinds, Option<Instant>) {
        let mut kinds = Kinds::NONE;
        let mut since = None;
        let complete = self.steps.front().is_some_and(|step| step.generation <= generation + 1);
        for step in self.steps.iter().filter(|step| step.generation > generation) {
            let affected = if complete { (step.affected)(client) } else { Kinds::ALL };
            if !affected.is_empty() {
                kinds = kinds.union(affected);
                since = since.or(Some(step.since));
            }
        }
        (kinds, since)
    }
}

/// A stream that is open.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) protocol: Protocol,
    pub(super) session: Mutex<Session>,
    /// The newest view that the client has completely.
    pub(super) acked: AtomicU64,
    connected: SystemTime,
}

/// Where a proxy stands.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ProxySync {
    /// Number of the stream, new for each.
    pub connection: u64,
    /// The node id.
    pub node: String,
    /// `<pod>.<namespace>`.
    pub proxy: String,
    /// What the node says it runs.
    pub user_agent: String,
    /// Where it connects from.
    pub address: Option<String>,
    /// The identity that it proved.
    pub identity: Option<String>,
    /// When the stream began, in seconds since 1970.
    pub connected: u64,
    /// Whether the stream is delta.
    pub delta: bool,
    /// The newest view that it has acknowledged completely; 0 for none.
    pub generation: u64,
    /// Its types.
    pub types: Vec<TypeSync>,
}

impl ProxySync {
    /// The state of one type, if the proxy asked for it.
    pub fn of(&self, kind: Kind) -> Option<&TypeSync> {
        self.types.iter().find(|sync| sync.kind == kind)
    }

    /// Whether everything that was sent was accepted.
    pub fn is_synced(&self) -> bool {
        self.types.iter().all(|sync| !sync.pending && sync.nack.is_none() && sync.sent == sync.acked)
    }
}

/// A response that a proxy rejected and that no better one has followed yet.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The proxy.
    pub client: Client,
    /// The type.
    pub kind: Kind,
    /// What it answered.
    pub nack: Nack,
}

/// Publishes views and keeps the list of streams; clones share it.
#[derive(Clone)]
pub struct Hub {
    world: watch::Sender<Option<Arc<World>>>,
    connections: Arc<Mutex<BTreeMap<u64, Arc<Connection>>>>,
    last_connection: Arc<AtomicU64>,
    /// Counts answers by which the list of rejected responses may have changed.
    rejections: watch::Sender<u64>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            world: watch::Sender::new(None),
            connections: Arc::default(),
            last_connection: Arc::default(),
            rejections: watch::Sender::new(0),
        }
    }
}

impl Hub {
    /// A hub without a view: streams wait for the first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `snapshot` the newest view; `since` is when the first event that led to it came. Gives its number.
    pub fn publish(&self, snapshot: Arc<dyn Snapshot>, affected: Affected, since: Instant) -> u64 {
        let mut published = 0;
        self.world.send_modify(|world| {
            let (last, mut steps) = world.as_ref().map_or((0, VecDeque::new()), |w| (w.generation, w.steps.clone()));
            published = last + 1;
            steps.push_back(Arc::new(Step { generation: published, since, affected }));
            if steps.len() > HISTORY {
                steps.pop_front();
            }
            *world = Some(Arc::new(World { generation: published, snapshot, steps }));
        });
        published
    }

    /// The number of the newest view; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.world.borrow().as_ref().map_or(0, |world| world.generation)
    }

    /// Where each proxy stands, in the order in which they connected.
    pub fn sync(&self) -> Vec<ProxySync> {
        let connections: Vec<_> = self.connections.lock().iter().map(|(id, c)| (*id, Arc::clone(c))).collect();
        connections.into_iter().map(|(id, connection)| connection.sync(id)).collect()
    }

    /// What is rejected now, in the order in which the proxies connected.
    pub fn rejected(&self) -> Vec<Rejected> {
        let connections: Vec<_> = self.connections.lock().values().cloned().collect();
        let one = |connection: &Arc<Connection>| {
            let nacks = connection.session.lock().nacks();
            nacks.into_iter().map(|(kind, nack)| Rejected { client: connection.client.clone(), kind, nack }).collect()
        };
        connections.iter().flat_map(|connection| -> Vec<Rejected> { one(connection) }).collect()
    }

    /// Tells whenever [`Self::rejected`] may say something else.
    pub fn rejections(&self) -> watch::Receiver<u64> {
        self.rejections.subscribe()
    }

    /// An answer came by which the list of rejected responses may have changed.
    pub(super) fn answered(&self) {
        self.rejections.send_modify(|count| *count += 1);
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        self.connections.lock().len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything that the proxy called `name` (node id or `<pod>.<namespace>`) would be sent now.
    pub fn dump(&self, name: &str) -> Option<Vec<(Kind, ResourceSet)>> {
        let connection = self.find(name)?;
        let snapshot = Arc::clone(&self.world.borrow().as_ref()?.snapshot);
        let dump = |kind| {
            let wanted = connection.session.lock().wanted(kind);
            (kind, snapshot.resources(&connection.client, kind, &wanted))
        };
        Some(Kind::ALL.into_iter().map(dump).collect())
    }

    /// Names that the proxy on stream `connection` subscribes to, at most `limit` for each type.
    pub fn watched(&self, connection: u64, limit: usize) -> Vec<(Kind, Vec<Arc<str>>)> {
        let Some(connection) = self.connections.lock().get(&connection).cloned() else { return Vec::new() };
        let session = connection.session.lock();
        let watched = |kind| {
            let wanted = session.wanted(kind);
            let star = wanted.wildcard.then(|| Arc::from("*"));
            (kind, star.into_iter().chain(wanted.names.iter().take(limit).cloned()).collect())
        };
        Kind::ALL.into_iter().map(watched).collect()
    }

    fn find(&self, name: &str) -> Option<Arc<Connection>> {
        let is_it = |c: &&Arc<Connection>| c.client.proto.id == name || c.client.name() == name;
        self.connections.lock().values().rev().find(is_it).cloned()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<World>>> {
        self.world.subscribe()
    }

    pub(super) fn connect(&self, client: Client, protocol: Protocol, session: Session) -> Registered {
        let connection = Arc::new(Connection {
            client,
            protocol,
            session: Mutex::new(session),
            acked: AtomicU64::new(0),
            connected: SystemTime::now(),
        });
        let id = self.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        self.connections.lock().insert(id, Arc::clone(&connection));
        Registered { id, connection, hub: self.clone() }
    }
}

impl Connection {
    fn sync(&self, id: u64) -> ProxySync {
        let node = &self.client.proto;
        ProxySync {
            connection: id,
            node: node.id.clone(),
            proxy: self.client.name(),
            user_agent: node.user_agent_name.clone(),
            address: self.client.peer.address.map(|address| address.to_string()),
            identity: self.client.peer.identity.as_ref().map(|identity| identity.as_str().to_owned()),
            connected: self.connected.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            delta: self.protocol == Protocol::Delta,
            generation: self.acked.load(Ordering::Relaxed),
            types: self.session.lock().sync(),
        }
    }
}

/// Keeps a stream in the hub's list while it lives.
pub(super) struct Registered {
    id: u64,
    pub(super) connection: Arc<Connection>,
    hub: Hub,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.hub.connections.lock().remove(&self.id);
        if !self.connection.session.lock().nacks().is_empty() {
            self.hub.answered();
        }
    }
}
