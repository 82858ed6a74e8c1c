//! One worker's listeners: which sockets it accepts on, which connections it holds, how they end.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::{FilterChain, Listener};
use crate::http::serve::{Drain, DrainSignal, ManagerHandle};
use crate::text::Text;
use crate::worker::Worker;

mod accept;
mod counted;

use accept::{Accepting, to_tokio};
pub(super) use counted::{Counted, Membership};

/// `traffic_direction` of inbound listeners.
const INBOUND: i32 = ferromesh_proto::envoy::config::core::v3::TrafficDirection::Inbound as i32;

/// The listeners of one worker. Lives in its thread, inside a `LocalSet`.
pub struct Listeners {
    pub(super) worker: Rc<Worker>,
    active: RefCell<FxHashMap<Text, Rc<Active>>>,
    connections: Cell<usize>,
    changed: Notify,
    came: Notify,
    /// How long connections of a changed or removed filter chain may go on.
    drain_time: Duration,
}

/// A listener as this worker serves it.
pub(super) struct Active {
    listener: RefCell<Arc<Listener>>,
    sockets: RefCell<Vec<Accepting>>,
    groups: RefCell<FxHashMap<u64, Rc<Group>>>,
    /// Connections of this listener in this worker; what exact balance compares.
    load: Arc<AtomicUsize>,
    handed: RefCell<Option<AbortHandle>>,
    /// Removed or draining; and how long connections that come still, or are in their handshake, may go on.
    ended: Cell<Option<Duration>>,
}

/// The connections of one filter chain; of all its versions that differ in the HTTP connection manager only.
pub(super) struct Group {
    drain: Drain,
    members: RefCell<FxHashMap<u64, AbortHandle>>,
    /// What the requests of the connections take, if the chain serves HTTP.
    manager: Option<ManagerHandle>,
}

impl Group {
    fn new(chain: &FilterChain, listener: &Listener) -> Rc<Self> {
        let drain = Drain::new();
        drain.with_health(listener.drains_with_health);
        Rc::new(Self {
            drain,
            members: RefCell::default(),
            manager: chain.network.manager().cloned().map(ManagerHandle::new),
        })
    }

    /// The chain has a new version.
    fn update(&self, chain: &FilterChain, listener: &Listener) {
        self.drain.with_health(listener.drains_with_health);
        if let (Some(handle), Some(manager)) = (&self.manager, chain.network.manager()) {
            handle.store(manager.clone());
        }
    }

    pub(super) fn manager(&self) -> Option<ManagerHandle> {
        self.manager.clone()
    }

    /// Ends the connections, with `deadline` for those that do not end by themselves.
    fn end_within(self: Rc<Self>, deadline: Duration) {
        self.drain.start();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(deadline).await;
            self.members.borrow().values().for_each(AbortHandle::abort);
        });
    }

    pub(super) fn signal(&self) -> DrainSignal {
        self.drain.signal()
    }
}

impl Listeners {
    /// No listeners yet.
    pub fn new(worker: Rc<Worker>, drain_time: Duration) -> Rc<Self> {
        Rc::new(Self {
            worker,
            active: RefCell::default(),
            connections: Cell::new(0),
            changed: Notify::new(),
            came: Notify::new(),
            drain_time,
        })
    }

    /// Serves a listener, or a new version of it. `sockets` are this worker's from [`super::bind`]; without any, those
    /// that it has go on, so that no connection is refused. Connections of filter chains that the new version does not
    /// have any more drain; where only the HTTP connection manager is a new one, they stay, and their next request
    /// takes it.
    ///
    /// # Errors
    /// If a socket cannot be used by the runtime.
    pub fn apply(self: &Rc<Self>, listener: Arc<Listener>, sockets: Vec<StdListener>) -> std::io::Result<()> {
        let sockets: Vec<TcpListener> = sockets.into_iter().map(to_tokio).collect::<Result<_, _>>()?;
        let known = self.active.borrow().get(&listener.name).cloned();
        let active = match known {
            Some(active) => {
                active.listener.replace(listener.clone());
                self.drain_groups(&active, |frame| listener.framed(frame).is_none());
                active.update_groups();
                active
            }
            None => {
                let active = Rc::new(Active::new(listener.clone()));
                self.active.borrow_mut().insert(listener.name.clone(), active.clone());
                active
            }
        };
        if let Some(task) = active.handed.take() {
            task.abort();
        }
        if listener.balancer.is_some() {
            let task = tokio::task::spawn_local(self.clone().take_handed(active.clone(), listener.clone()));
            active.handed.replace(Some(task.abort_handle()));
        }
        if !sockets.is_empty() || !listener.bind_to_port {
            // The new sockets listen already; only now the old ones stop.
            let accepting = sockets.into_iter().map(|socket| self.accept_on(&active, socket)).collect();
            active.sockets.replace(accepting).iter().for_each(Accepting::stop);
        }
        Ok(())
    }

    /// Stops a listener; its connections drain.
    pub fn remove(self: &Rc<Self>, name: &str) {
        let removed = self.active.borrow_mut().remove(&Text::from(name));
        if let Some(active) = removed {
            active.stop_accepting();
            active.ended.set(Some(self.drain_time));
            self.drain_groups(&active, |_| true);
        }
    }

    /// Open connections end within `deadline`. New ones are still served, each for one request, because clients
    /// that were told to close come back until the endpoint is taken away from them; [`Self::stop_accepting`] ends that.
    pub fn drain(self: &Rc<Self>, deadline: Duration, inbound_only: bool) {
        for active in self.of_direction(inbound_only) {
            active.ended.set(Some(deadline));
            self.drain_groups_within(&active, |_| true, deadline);
        }
    }

    /// Listeners take no new connections any more.
    pub fn stop_accepting(&self, inbound_only: bool) {
        self.of_direction(inbound_only).iter().for_each(|active| active.stop_accepting());
    }

    fn of_direction(&self, inbound_only: bool) -> Vec<Rc<Active>> {
        let is_meant = |active: &&Rc<Active>| !inbound_only || active.listener().direction == INBOUND;
        self.active.borrow().values().filter(is_meant).cloned().collect()
    }

    /// Comes back when this worker has had no connection for `quiet`.
    pub async fn quiet(&self, quiet: Duration) {
        loop {
            self.idle().await;
            let came = self.came.notified();
            if tokio::time::timeout(quiet, came).await.is_err() && self.connections.get() == 0 {
                return;
            }
        }
    }

    /// The connections of a chain, this one among them until the membership is dropped. While it came, the listener may
    /// have got a newer version of the chain, which it takes then, or have lost it: then it drains from the beginning.
    pub(super) fn join(&self, active: &Active, chain: &FilterChain, id: u64, task: AbortHandle) -> Membership {
        let listener = active.listener();
        let current = listener.framed(chain.frame).filter(|_| active.ended.get().is_none());
        let group = match current {
            Some(current) => {
                active.groups.borrow_mut().entry(chain.frame).or_insert_with(|| Group::new(current, &listener)).clone()
            }
            None => {
                let group = Group::new(chain, &listener);
                group.clone().end_within(active.ended.get().unwrap_or(self.drain_time));
                group
            }
        };
        group.members.borrow_mut().insert(id, task);
        Membership { group, id }
    }

    /// Connections of this worker now.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Comes back when this worker has no connection any more.
    pub async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            if self.connections.get() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Addresses that this worker accepts on, with the listener's name.
    pub fn addresses(&self) -> Vec<(Text, SocketAddr)> {
        let active = self.active.borrow();
        let of = |(name, active): (&Text, &Rc<Active>)| {
            active.sockets.borrow().iter().map(|socket| (name.clone(), socket.address)).collect::<Vec<_>>()
        };
        active.iter().flat_map(of).collect()
    }

    /// The listener that serves an original destination: the one on exactly this address, else on this port of any.
    pub(super) fn for_destination(&self, destination: SocketAddr, not: &Rc<Active>) -> Option<Rc<Active>> {
        let active = self.active.borrow();
        let find = |wanted: &dyn Fn(&SocketAddr) -> bool| {
            active.values().find(|active| active.listener.borrow().addresses.iter().any(wanted)).cloned()
        };
        let any_of_port = |address: &SocketAddr| address.ip().is_unspecified() && address.port() == destination.port();
        find(&|address| *address == destination).or_else(|| find(&any_of_port)).filter(|found| !Rc::ptr_eq(found, not))
    }

    /// A number for a connection that no other of this proxy has.
    pub(super) fn next_id(&self) -> u64 {
        self.worker.context.connection_ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn drain_groups(self: &Rc<Self>, active: &Active, gone: impl Fn(u64) -> bool) {
        self.drain_groups_within(active, gone, self.drain_time);
    }

    fn drain_groups_within(self: &Rc<Self>, active: &Active, gone: impl Fn(u64) -> bool, deadline: Duration) {
        let mut drained = Vec::new();
        active.groups.borrow_mut().retain(|frame, group| {
            let gone = gone(*frame);
            if gone {
                drained.push(group.clone());
            }
            !gone
        });
        for group in drained {
            group.end_within(deadline);
        }
    }
}

impl Active {
    fn new(listener: Arc<Listener>) -> Self {
        Self {
            listener: RefCell::new(listener),
            sockets: RefCell::default(),
            groups: RefCell::default(),
            load: Arc::default(),
            handed: RefCell::default(),
            ended: Cell::new(None),
        }
    }

    pub(super) fn listener(&self) -> Arc<Listener> {
        self.listener.borrow().clone()
    }

    /// Connections take the connection managers of the listener's current version.
    fn update_groups(&self) {
        let listener = self.listener();
        for (frame, group) in &*self.groups.borrow() {
            if let Some(chain) = listener.framed(*frame) {
                group.update(chain, &listener);
            }
        }
    }

    fn stop_accepting(&self) {
        self.sockets.take().iter().for_each(Accepting::stop);
        if let Some(task) = self.handed.take() {
            task.abort();
        }
    }
}
