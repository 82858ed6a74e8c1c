//! Connections as they are counted: of the worker, of the listener, of the filter chain.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::{Active, Group, Listeners};
use crate::overload::Connected;

/// A connection's place among those of its chain.
pub(in crate::listener) struct Membership {
    pub(in crate::listener) group: Rc<Group>,
    pub(super) id: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.group.members.borrow_mut().remove(&self.id);
    }
}

/// Counts a connection while it lives.
pub(in crate::listener) struct Counted {
    listeners: Rc<Listeners>,
    active: Rc<Active>,
    _connected: Connected,
}

impl Counted {
    pub(super) fn new(listeners: Rc<Listeners>, active: Rc<Active>, connected: Connected) -> Self {
        listeners.connections.set(listeners.connections.get() + 1);
        listeners.came.notify_waiters();
        let counted = Self { listeners, active, _connected: connected };
        counted.enter();
        counted
    }

    fn enter(&self) {
        let stats = &self.active.listener.borrow().stats;
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        self.active.load.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self) {
        let stats = &self.active.listener.borrow().stats;
        stats.downstream_cx_active.dec();
        stats.downstream_cx_destroy.inc();
        self.active.load.fetch_sub(1, Ordering::Relaxed);
    }

    /// The connection is another listener's from now on.
    pub(in crate::listener) fn hand_over(&mut self, to: Rc<Active>) {
        self.leave();
        self.active = to;
        self.enter();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.leave();
        self.listeners.connections.set(self.listeners.connections.get().saturating_sub(1));
        self.listeners.changed.notify_waiters();
    }
}
