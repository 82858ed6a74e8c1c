//! Accepted configuration: decoded, warmed, published to the workers.
//!
//! A cluster is published once its first hosts are known and checked and its secrets are there, a listener once its route tables, secrets and
//! configurations of filters are there, or the `initial_fetch_timeout` of each that is not has passed. A resource that is refused leaves the last good one in place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::Any;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::dump::{Dump, Known, State, Waiting};
use super::session::Update;
use super::{Kind, NameTables};
use crate::cluster::Cluster;
use crate::config::{Awaited, ConfigError, FetchLimit};
use crate::context::Context;
use crate::listener::Listener;
use crate::route::RouteConfiguration;
use crate::stats::Counter;
use crate::supported;
use crate::text::Text;
use crate::tls::SdsSource;
use crate::workers::Workers;

mod apply;
mod numbers;

use numbers::Numbers;

/// A resource that was accepted.
struct Held<T> {
    value: Arc<T>,
    /// Its bytes, to see that a new version is the same.
    bytes: bytes::Bytes,
    is_static: bool,
    /// Since when it waits to be published.
    warming_since: Option<Instant>,
}

/// How long a route table waits for clusters that it leads to. They may warm for longer, or for ever; then their requests
/// fail, and those of the table's other clusters do not.
const TABLE_WAITS: Duration = Duration::from_secs(5);

/// A route table that leads to clusters which still warm.
struct WaitingTable {
    table: Arc<RouteConfiguration>,
    clusters: BTreeSet<String>,
    until: Instant,
}

/// The configuration of one proxy; lives in the admin thread.
pub struct Store {
    context: Arc<Context>,
    dump: Arc<Dump>,
    workers: Workers,
    clusters: BTreeMap<String, Held<Cluster>>,
    /// What serves: may be an older form of a cluster whose new form warms.
    published: BTreeMap<String, Arc<Cluster>>,
    listeners: BTreeMap<String, Held<Listener>>,
    /// New forms of route tables that lead to clusters which still warm.
    waiting_routes: BTreeMap<String, WaitingTable>,
    /// Last endpoints by service name, encoded (decoded they take ten times the room): an updated cluster starts with
    /// them, since delta xDS does not send them again.
    assignments: BTreeMap<String, bytes::Bytes>,
    /// Clusters whose endpoints have another name than they themselves, by the name of the endpoints.
    aliases: BTreeMap<String, BTreeSet<String>>,
    /// Whether the names of endpoints may have changed since they were asked for last.
    services_changed: bool,
    /// Who is told of names, if anybody.
    names: Option<NameTables>,
    /// Kinds whose first answer is awaited before the proxy is ready, one after the other, and how long.
    awaited: Vec<(Kind, FetchLimit)>,
    /// Since when the first of them is awaited.
    awaited_since: Instant,
    /// The runtime's serial when resources were decoded.
    runtime: u64,
    /// What was decoded of tables and filter configurations, as hashes of their bytes: they need not be decoded again.
    decoded: BTreeMap<(Kind, String), u64>,
    cluster_numbers: Numbers,
    listener_numbers: Numbers,
    woken: Arc<Notify>,
    secrets: watch::Receiver<u64>,
    ready: watch::Sender<bool>,
    started: Instant,
    /// When it was looked for what has become warm.
    looked: Instant,
    dirty: bool,
}

impl Held<Cluster> {
    /// Secrets that the cluster still waits for. Those of the bootstrap do not wait: the control plane is reached by one.
    fn awaits_secrets(&self, now: Instant) -> impl Iterator<Item = Awaited> {
        let since = self.warming_since.filter(|_| !self.is_static);
        let secrets =
            since.into_iter().flat_map(|since| self.value.awaits_secrets().map(move |awaited| (since, awaited)));
        let still = move |(since, awaited): (Instant, Awaited)| {
            let is_over = awaited.limit.ends(since).is_some_and(|end| end <= now);
            (!is_over).then_some(awaited)
        };
        secrets.filter_map(still)
    }
}

impl Store {
    /// An empty store; the proxy is ready when the kinds in `awaited` have come and are warm.
    pub fn new(
        context: Arc<Context>,
        dump: Arc<Dump>,
        workers: Workers,
        awaited: &[(Kind, FetchLimit)],
        ready: watch::Sender<bool>,
    ) -> Self {
        let store = Self {
            secrets: context.secrets.changes(),
            cluster_numbers: Numbers::of_clusters(&context.stats),
            listener_numbers: Numbers::of_listeners(&context.stats),
            context,
            dump,
            workers,
            clusters: BTreeMap::new(),
            published: BTreeMap::new(),
            listeners: BTreeMap::new(),
            waiting_routes: BTreeMap::new(),
            assignments: BTreeMap::new(),
            aliases: BTreeMap::new(),
            services_changed: true,
            names: None,
            awaited: awaited.to_vec(),
            awaited_since: Instant::now(),
            runtime: 0,
            decoded: BTreeMap::new(),
            woken: Arc::new(Notify::new()),
            ready,
            started: Instant::now(),
            looked: Instant::now(),
            dirty: true,
        };
        for (kind, _) in awaited {
            // To be seen before the first refusal.
            store.updates(*kind, "update_rejected");
        }
        store
    }

    /// Hands name tables on; with nobody to hand them to they are not asked for.
    pub fn with_names(self, names: Option<NameTables>) -> Self {
        Self { names, ..self }
    }

    /// Whether somebody wants name tables.
    pub fn takes_names(&self) -> bool {
        self.names.is_some()
    }

    /// Takes a resource of the bootstrap.
    ///
    /// # Errors
    /// Names the resource's field.
    pub fn add_static(&mut self, kind: Kind, name: &str, any: Any) -> Result<(), ConfigError> {
        supported::check(&any)?;
        self.apply_one(kind, name, "", &any, true)
    }

    /// Applies an update; gives (name, why) of what is refused.
    pub fn apply(&mut self, kind: Kind, update: Update) -> Vec<(String, ConfigError)> {
        let mut errors = Vec::new();
        for name in &update.removed {
            self.remove(kind, name);
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (name, _, _) in &update.resources {
            *counts.entry(name.clone()).or_default() += 1;
        }
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 1) {
            // Nobody can say which one is meant.
            self.count(kind, false);
            let error = ConfigError::new("name", format!("{count} resources of this name came in one response"));
            errors.push((name, error.of_type(&kind.type_url())));
        }
        let is_single = |name: &String| !errors.iter().any(|(double, _)| double == name);
        let resources: Vec<_> = update.resources.into_iter().filter(|(name, _, _)| is_single(name)).collect();
        for (name, version, any) in resources {
            let result = supported::check(&any).and_then(|()| self.apply_one(kind, &name, &version, &any, false));
            self.count(kind, result.is_ok());
            if let Err(error) = result {
                self.dump.refuse(kind, &name, &version, &error.to_string());
                errors.push((name, error));
            }
        }
        self.no_longer_awaits(|awaited| awaited == kind);
        errors
    }

    fn no_longer_awaits(&mut self, is_meant: impl Fn(Kind) -> bool) {
        let before = self.awaited.first().copied();
        self.awaited.retain(|(kind, _)| !is_meant(*kind));
        if self.awaited.first().copied() != before {
            self.awaited_since = Instant::now();
        }
    }

    fn count(&self, kind: Kind, accepted: bool) {
        let name = if accepted { "update_success" } else { "update_rejected" };
        self.updates(kind, name).inc();
    }

    fn updates(&self, kind: Kind, name: &str) -> Counter {
        let manager = match kind {
            Kind::Cluster | Kind::Endpoint => "cluster_manager.cds",
            Kind::Listener => "listener_manager.lds",
            Kind::Route => "http.rds",
            Kind::Secret => "sds",
            Kind::Extension => "extension_config_discovery",
            Kind::NameTable => "nds",
        };
        self.context.stats.root().scope(manager).counter(name)
    }

    fn apply_one(
        &mut self,
        kind: Kind,
        name: &str,
        version: &str,
        any: &Any,
        is_static: bool,
    ) -> Result<(), ConfigError> {
        if kind.type_url().rsplit('/').next() != Some(any.type_name()) {
            return Err(ConfigError::new("", format!("expected {}, got {}", kind.type_url(), any.type_url)));
        }
        // A slice of a response would keep all of it; this copy is shared by all who keep the resource.
        let any = &Any { type_url: any.type_url.clone(), value: bytes::Bytes::copy_from_slice(&any.value) };
        let resolved = self.context.runtime.apply(any);
        if matches!(kind, Kind::Route | Kind::Extension) {
            self.decoded.insert((kind, name.to_owned()), xxh3_64(&resolved.value));
        }
        let state = match kind {
            Kind::Cluster => self.apply_cluster(name, &resolved, is_static),
            Kind::Listener => self.apply_listener(name, &resolved, is_static),
            Kind::Endpoint => self.apply_endpoints(&resolved),
            Kind::Route => self.apply_route(&resolved),
            Kind::Secret => self.apply_secret(&resolved, version, is_static),
            Kind::Extension => self.apply_extension(&resolved),
            // Not kept here: its reader keeps what it needs of it.
            Kind::NameTable => return self.apply_names(any),
        }
        .map_err(|error| error.of_type(&any.type_url))?;
        let state = if is_static { State::Static } else { state };
        self.dump.set(kind, name, version, any, state);
        Ok(())
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Cluster if self.clusters.get(name).is_some_and(|held| !held.is_static) => {
                self.forget_cluster(name);
                self.cluster_numbers.removed();
                if let Some(old) = self.published.remove(name) {
                    old.retire();
                }
                self.dirty = true;
            }
            Kind::Listener if self.listeners.get(name).is_some_and(|held| !held.is_static) => {
                self.listeners.remove(name);
                self.listener_numbers.removed();
                self.workers.remove(name);
            }
            Kind::Endpoint => {
                // Clusters that serve keep their hosts, as in Envoy; those that wait need wait no longer.
                self.assignments.remove(name);
                self.users_of(name).for_each(|cluster| cluster.stop_waiting());
            }
            Kind::Extension => {
                self.decoded.remove(&(kind, name.to_owned()));
                self.context.extensions.remove(name);
            }
            Kind::Secret => self.context.secrets.withdraw(name, "the control plane removed it"),
            // A route table that a listener still names goes on serving, as in Envoy.
            _ => return,
        }
        self.dump.remove(kind, name);
    }

    /// Publishes what has become warm.
    pub fn publish(&mut self) {
        self.follow_runtime();
        let now = Instant::now();
        self.looked = now;
        self.publish_clusters(now);
        self.publish_routes(now);
        for (name, held) in &mut self.listeners {
            let Some(since) = held.warming_since else { continue };
            if held.value.awaits().all(|awaited| awaited.limit.ends(since).is_some_and(|end| end <= now)) {
                held.warming_since = None;
                self.workers.apply(&held.value);
                self.dump.activate(Kind::Listener, name);
            }
        }
        while let Some((kind, limit)) = self.awaited.first().copied() {
            if limit.ends(self.awaited_since).is_none_or(|end| end > now) {
                break;
            }
            tracing::warn!(?kind, "the control plane has sent none in time; the proxy goes on without");
            self.no_longer_awaits(|awaited| awaited == kind);
        }
        let clusters = self.clusters.values().filter(|held| held.warming_since.is_some()).count();
        let listeners = self.listeners.values().filter(|held| held.warming_since.is_some()).count();
        self.cluster_numbers.are(self.published.len(), clusters);
        self.listener_numbers.are(self.listeners.len() - listeners, listeners);
        let settled = self.awaited.is_empty() && clusters + listeners == 0;
        if settled && !*self.ready.borrow() {
            tracing::info!(milliseconds = self.started.elapsed().as_millis() as u64, "ready");
            self.ready.send_replace(true);
        }
        self.dump.set_waiting(self.waiting(now));
    }

    fn publish_clusters(&mut self, now: Instant) {
        for (name, held) in &mut self.clusters {
            let Some(since) = held.warming_since else { continue };
            let end = held.value.awaits().and_then(|awaited| awaited.limit.ends(since));
            if end.is_some_and(|end| end <= now) {
                held.value.stop_waiting();
            }
            if held.value.is_warm() && held.awaits_secrets(now).next().is_none() {
                held.warming_since = None;
                if let Some(old) = self.published.insert(name.clone(), held.value.clone()) {
                    old.retire();
                }
                self.dump.activate(Kind::Cluster, name);
                self.dirty = true;
            }
        }
        if std::mem::take(&mut self.dirty) {
            let clusters = self.published.iter().map(|(name, cluster)| {
                let own = &cluster.config.name;
                (if **own == **name { own.clone() } else { Text::from(name.as_str()) }, cluster.clone())
            });
            self.context.clusters.publish(clusters.collect());
        }
    }

    /// Decodes anew what a change of the runtime changes.
    fn follow_runtime(&mut self) {
        let serial = self.context.runtime.serial();
        if std::mem::replace(&mut self.runtime, serial) == serial {
            return;
        }
        for kind in [Kind::Cluster, Kind::Listener, Kind::Route, Kind::Extension] {
            for Known { name, version, any, is_static } in self.dump.known(kind) {
                let hash = xxh3_64(&self.context.runtime.apply(&any).value);
                if self.decoded.get(&(kind, name.clone())) == Some(&hash) {
                    continue;
                }
                if let Err(error) = self.apply_one(kind, &name, &version, &any, is_static) {
                    tracing::warn!(?kind, name, %error, "the runtime's values cannot be used");
                }
            }
        }
    }

    /// What waits, and for what.
    fn waiting(&self, now: Instant) -> Vec<Waiting> {
        let server = self.awaited.iter().map(|(kind, _)| format!("{kind:?} resources")).collect::<Vec<_>>();
        let server = (!server.is_empty()).then(|| Waiting { who: "Server".into(), targets: server });
        let shown = |awaited: Awaited| format!("{} {}", awaited.what, awaited.name);
        let clusters = self.clusters.iter().filter(|(_, held)| held.warming_since.is_some()).map(|(name, held)| {
            let awaited = held.value.awaits().into_iter().chain(held.awaits_secrets(now));
            let mut targets: Vec<String> = awaited.map(shown).collect();
            if targets.is_empty() {
                targets.push("first answers of DNS or health checks".into());
            }
            Waiting { who: format!("Cluster {name}"), targets }
        });
        let listeners = self.listeners.iter().filter(|(_, held)| held.warming_since.is_some()).map(|(name, held)| {
            Waiting { who: format!("Listener {name}"), targets: held.value.awaits().map(shown).collect() }
        });
        server.into_iter().chain(clusters).chain(listeners).collect()
    }

    /// Publishes tables whose clusters serve: make before break, whatever order the control plane sends in.
    fn publish_routes(&mut self, now: Instant) {
        let (clusters, published) = (&self.clusters, &self.published);
        let routes = &self.context.routes;
        self.waiting_routes.retain(|name, waiting| {
            let warms = |name: &String| {
                !published.contains_key(name) && clusters.get(name).is_some_and(|held| held.warming_since.is_some())
            };
            let waits = waiting.until > now && waiting.clusters.iter().any(warms);
            if !waits {
                routes.handle(name).store(waiting.table.clone());
            }
            waits
        });
    }

    /// What is asked for by name: endpoints of EDS clusters, tables of RDS listeners, secrets by ADS. A kind that is not
    /// among them is asked for as before.
    pub fn interest(&mut self) -> Vec<(Kind, BTreeSet<String>)> {
        let secrets = self.context.secrets.wishes().into_iter().filter(|wish| wish.source == SdsSource::Ads);
        let mut interest = vec![
            (Kind::Route, self.context.routes.names().into_iter().collect()),
            (Kind::Extension, self.context.extensions.names()),
            (Kind::Secret, secrets.map(|wish| wish.name).collect()),
        ];
        if std::mem::take(&mut self.services_changed) {
            let services = self.clusters.values().filter_map(|held| held.value.eds_service_name().map(str::to_owned));
            interest.insert(0, (Kind::Endpoint, services.collect()));
        }
        interest
    }

    /// Waits until something may have become warm, or ask for something new.
    pub async fn changed(&mut self) {
        // A limit that has passed since then is still to be seen.
        let now = self.looked;
        let clusters = self.clusters.values().filter_map(|held| {
            let since = held.warming_since?;
            let awaited = held.value.awaits().into_iter().chain(held.awaits_secrets(now));
            awaited.filter_map(|awaited| awaited.limit.ends(since)).min()
        });
        let listeners = self.listeners.values().filter_map(|held| held.warming_since.map(|since| (since, &held.value)));
        let listeners = listeners.flat_map(|(since, listener)| {
            listener.awaits().filter_map(move |awaited| awaited.limit.ends(since)).filter(|end| *end > now)
        });
        let kinds = self.awaited.first().and_then(|(_, limit)| limit.ends(self.awaited_since));
        let tables = self.waiting_routes.values().map(|waiting| waiting.until);
        let next = clusters.chain(listeners).chain(kinds).chain(tables).min();
        let deadline = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        let (woken, context) = (self.woken.clone(), self.context.clone());
        tokio::select! {
            () = woken.notified() => {}
            () = context.runtime.changed() => {}
            // The sender lives in the context that this holds.
            _ = self.secrets.changed() => {}
            () = deadline => {}
        }
    }

    /// The workers, to drain and end them.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }
}

/// The name of a resource, which is field 1 of every kind that has names; found also where what follows it is broken.
pub fn name_of(kind: Kind, any: &Any) -> Option<String> {
    use ferromesh_proto::prost::encoding::{DecodeContext, WireType, decode_key, skip_field, string};
    if kind == Kind::NameTable {
        return None;
    }
    let mut bytes = any.value.clone();
    while !bytes.is_empty() {
        let (tag, kind) = decode_key(&mut bytes).ok()?;
        if tag == 1 && kind == WireType::LengthDelimited {
            let mut name = String::new();
            string::merge(kind, &mut name, &mut bytes, DecodeContext::default()).ok()?;
            return Some(name);
        }
        skip_field(kind, tag, &mut bytes, DecodeContext::default()).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use ferromesh_proto::envoy::config::cluster::v3::Cluster as ClusterProto;
    use ferromesh_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use ferromesh_proto::envoy::config::listener::v3::Listener as ListenerProto;
    use ferromesh_proto::envoy::config::route::v3::RouteConfiguration as RouteProto;
    use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3::Secret as SecretProto;

    use super::*;

    #[test]
    fn every_kind_of_resource_has_its_name_in_field_one() {
        let named = [
            Any::pack(&ClusterProto { name: "x".into(), ..Default::default() }),
            Any::pack(&ListenerProto { name: "x".into(), ..Default::default() }),
            Any::pack(&RouteProto { name: "x".into(), ..Default::default() }),
            Any::pack(&SecretProto { name: "x".into(), ..Default::default() }),
            Any::pack(&ClusterLoadAssignment { cluster_name: "x".into(), ..Default::default() }),
        ];
        for any in named {
            let kind = Kind::of(&any.type_url).expect("a kind");
            assert_eq!(name_of(kind, &any).as_deref(), Some("x"), "{kind:?}");
            let broken = Any { value: [any.value.as_ref(), &[0x1a, 50, 1]].concat().into(), ..any };
            assert_eq!(name_of(kind, &broken).as_deref(), Some("x"), "{kind:?}");
        }
    }
}
