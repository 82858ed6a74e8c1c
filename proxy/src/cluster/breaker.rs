//! Circuit breakers: bounds on connections, pending requests, requests and retries, shared by the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// One bounded resource.
#[derive(Debug)]
pub struct Resource {
    max: u32,
    used: AtomicU32,
}

impl Resource {
    /// With a limit.
    pub fn new(max: u32) -> Self {
        Self { max, used: AtomicU32::new(0) }
    }

    /// Takes one; `None` if the limit is reached. Given back when the permit is dropped.
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < self.max).then_some(used + 1))
            .is_ok()
            .then(|| Permit(self.clone()))
    }

    /// In use now.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit.
    pub fn max(&self) -> u32 {
        self.max
    }
}

/// One unit of a [`Resource`].
#[derive(Debug)]
pub struct Permit(Arc<Resource>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The breakers of one priority.
#[derive(Debug)]
pub struct Breakers {
    /// Connections.
    pub connections: Arc<Resource>,
    /// Requests that wait for a connection.
    pub pending: Arc<Resource>,
    /// Requests in flight.
    pub requests: Arc<Resource>,
    /// Retries in flight.
    pub retries: Arc<Resource>,
    /// Retry budget: (percent of active requests, least retries always allowed), instead of `retries`.
    pub retry_budget: Option<(f64, u32)>,
}

impl Default for Breakers {
    fn default() -> Self {
        let resource = |max| Arc::new(Resource::new(max));
        Self {
            connections: resource(1024),
            pending: resource(1024),
            requests: resource(1024),
            retries: resource(3),
            retry_budget: None,
        }
    }
}
