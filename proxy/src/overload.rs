//! The overload manager: watches resources, and takes load off the proxy before they are used up.
//!
//! Names and rules: Envoy, "Overload manager". Monitors: `fixed_heap` (resident memory of the process),
//! `cgroup_memory`, `injected_resource`, `global_downstream_max_connections`. Actions: `stop_accepting_connections`,
//! `reject_incoming_connections`, `stop_accepting_requests`, `disable_http_keepalive`, `shrink_heap`.
//!
//! Workers read atomics only; the admin thread measures. What follows a scaled trigger is done to that share of
//! connections or requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::watch;

mod decode;
mod monitor;

pub use decode::{Config, SUPPORTED};

/// What an action's value is out of: wholly active.
const WHOLE: u32 = 1000;

/// What is done under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Connections wait in the kernel's queue.
    StopAcceptingConnections,
    /// Connections are accepted and closed.
    RejectIncomingConnections,
    /// Requests are answered with 503.
    StopAcceptingRequests,
    /// Connections end with their request.
    DisableHttpKeepalive,
    /// Memory that is kept for later is given back.
    ShrinkHeap,
}

impl Action {
    const ALL: [Self; 5] = [
        Self::StopAcceptingConnections,
        Self::RejectIncomingConnections,
        Self::StopAcceptingRequests,
        Self::DisableHttpKeepalive,
        Self::ShrinkHeap,
    ];

    /// Envoy's name.
    fn name(self) -> &'static str {
        match self {
            Self::StopAcceptingConnections => "envoy.overload_actions.stop_accepting_connections",
            Self::RejectIncomingConnections => "envoy.overload_actions.reject_incoming_connections",
            Self::StopAcceptingRequests => "envoy.overload_actions.stop_accepting_requests",
            Self::DisableHttpKeepalive => "envoy.overload_actions.disable_http_keepalive",
            Self::ShrinkHeap => "envoy.overload_actions.shrink_heap",
        }
    }
}

/// The state of the actions, and the connections of all listeners.
#[derive(Debug)]
pub struct Overload {
    values: [AtomicU32; Action::ALL.len()],
    paused: watch::Sender<bool>,
    shrinking: watch::Sender<u64>,
    connections: AtomicU64,
    most: u64,
}

impl Default for Overload {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Overload {
    /// Nothing is overloaded; `most` connections are let in.
    pub fn new(most: u64) -> Self {
        Self {
            values: Default::default(),
            paused: watch::Sender::new(false),
            shrinking: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            most,
        }
    }

    /// Whether this one is met by the action.
    pub fn meets(&self, action: Action) -> bool {
        match self.values[action as usize].load(Ordering::Relaxed) {
            0 => false,
            WHOLE => true,
            value => fastrand::u32(..WHOLE) < value,
        }
    }

    /// Tells when accepting stops, and goes on.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    /// Tells when memory should be given back.
    pub fn shrinking(&self) -> watch::Receiver<u64> {
        self.shrinking.subscribe()
    }

    /// A connection of any listener; `None` if there are too many, unless its listener does not mind.
    pub fn connection(self: &Arc<Self>, ignore_limit: bool) -> Option<Connected> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let connected = Connected(self.clone());
        (before < self.most || ignore_limit).then_some(connected)
    }

    /// Connections of all listeners now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    fn set(&self, action: Action, value: f64) {
        let value = (value.clamp(0.0, 1.0) * f64::from(WHOLE)) as u32;
        self.values[action as usize].store(value, Ordering::Relaxed);
        if action == Action::StopAcceptingConnections {
            self.paused.send_if_modified(|paused| std::mem::replace(paused, value == WHOLE) != (value == WHOLE));
        }
        if action == Action::ShrinkHeap && value == WHOLE {
            self.shrinking.send_modify(|count| *count += 1);
        }
    }
}

/// Counts a connection while it lives.
#[derive(Debug)]
pub struct Connected(Arc<Overload>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_action_meets_its_share_and_a_whole_one_everybody() {
        let overload = Overload::default();
        let met = |overload: &Overload| (0..10_000).filter(|_| overload.meets(Action::StopAcceptingRequests)).count();
        assert_eq!(met(&overload), 0);
        overload.set(Action::StopAcceptingRequests, 0.25);
        assert!((2000..3000).contains(&met(&overload)));
        overload.set(Action::StopAcceptingRequests, 1.0);
        assert_eq!(met(&overload), 10_000);
    }

    #[test]
    fn connections_beyond_the_limit_are_not_counted_on() {
        let overload = Arc::new(Overload::new(1));
        let first = overload.connection(false);
        assert!(first.is_some() && overload.connection(false).is_none());
        assert!(overload.connection(true).is_some());
        drop(first);
        assert!(overload.connection(false).is_some());
        assert_eq!(overload.connections(), 0);
    }
}
