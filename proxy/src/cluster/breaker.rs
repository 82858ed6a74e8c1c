//! Circuit breakers: bounds on connections, pending requests, requests and retries, shared by the workers.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use ferromesh_proto::envoy::config::cluster::v3::circuit_breakers::Thresholds;

use crate::config::ConfigError;
use crate::stats::{Family, Level, Value};

mod budget;

use budget::Budget;

/// One bounded resource.
#[derive(Debug)]
pub struct Resource {
    max: u32,
    used: AtomicU32,
    /// 1 while the limit is reached.
    open: Level,
    /// What is left, if `track_remaining` asks for it.
    remaining: Option<Level>,
}

impl Resource {
    /// With a limit.
    pub fn new(max: u32) -> Self {
        Self { max, used: AtomicU32::new(0), open: Level::default(), remaining: None }
    }

    fn shown(max: u32, track_remaining: bool) -> Self {
        let made = Self { remaining: track_remaining.then(Level::default), ..Self::new(max) };
        made.show(0);
        made
    }

    fn show(&self, used: u32) {
        // The gauge is a cache line that all workers share; it is written only where it may change.
        if used.saturating_add(1) >= self.max {
            self.open.set(u64::from(used >= self.max));
        }
        if let Some(remaining) = &self.remaining {
            remaining.set(u64::from(self.max.saturating_sub(used)));
        }
    }

    /// Takes one; `None` if the limit is reached. Given back when the permit is dropped.
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < self.max).then_some(used + 1))
            .ok()?;
        self.show(taken + 1);
        Some(Permit(self.clone()))
    }

    /// Takes one although the limit may be reached.
    pub fn take_always(self: &Arc<Self>) -> Permit {
        let before = self.used.fetch_add(1, Ordering::Relaxed);
        self.show(before.saturating_add(1));
        Permit(self.clone())
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
        let before = self.0.used.fetch_sub(1, Ordering::Relaxed);
        self.0.show(before.saturating_sub(1));
    }
}

/// The breakers of one priority; what they count with is made when first used, which most clusters of a big mesh are
/// not, and the high priority of hardly any.
#[derive(Debug)]
pub struct Breakers {
    limits: Limits,
    /// Takes the place of the limit of `retries`.
    budget: Option<Box<Budget>>,
    made: OnceLock<Box<Resources>>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: u32,
    pending: u32,
    requests: u32,
    /// `None` where a budget decides: the permits then only count.
    retries: Option<u32>,
    track_remaining: bool,
}

/// What the breakers of one priority count.
#[derive(Debug)]
pub struct Resources {
    /// Connections.
    pub connections: Arc<Resource>,
    /// Requests that wait for a connection.
    pub pending: Arc<Resource>,
    /// Requests in flight.
    pub requests: Arc<Resource>,
    /// Retries in flight.
    pub retries: Arc<Resource>,
}

impl Resources {
    fn new(limits: &Limits) -> Self {
        let resource = |max| Arc::new(Resource::shown(max, limits.track_remaining));
        Self {
            connections: resource(limits.connections),
            pending: resource(limits.pending),
            requests: resource(limits.requests),
            // How many are left by a budget depends on the requests.
            retries: limits.retries.map_or_else(|| Arc::new(Resource::new(u32::MAX)), resource),
        }
    }

    fn each(&self, see: &mut dyn FnMut(&str, Value)) {
        // Envoy's names of what is left differ in one.
        let resources = [
            (&self.connections, "cx_open", "remaining_cx"),
            (&self.pending, "rq_pending_open", "remaining_pending"),
            (&self.requests, "rq_open", "remaining_rq"),
            (&self.retries, "rq_retry_open", "remaining_retries"),
        ];
        for (resource, open, left) in resources {
            see(open, Value::Gauge(resource.open.get()));
            if let Some(remaining) = &resource.remaining {
                see(left, Value::Gauge(remaining.get()));
            }
        }
    }
}

impl Deref for Breakers {
    type Target = Resources;
    fn deref(&self) -> &Resources {
        self.made.get_or_init(|| Box::new(Resources::new(&self.limits)))
    }
}

impl Breakers {
    /// Decodes thresholds; what is not set is Envoy's default.
    ///
    /// # Errors
    /// If a number of the retry budget is out of its range.
    pub(super) fn decode(config: &Thresholds) -> Result<Self, ConfigError> {
        let budget = config.retry_budget.as_ref().map(Budget::decode).transpose()?.map(Box::new);
        let limits = Limits {
            connections: config.max_connections.unwrap_or(1024),
            pending: config.max_pending_requests.unwrap_or(1024),
            requests: config.max_requests.unwrap_or(1024),
            retries: budget.is_none().then(|| config.max_retries.unwrap_or(3)),
            track_remaining: config.track_remaining,
        };
        Ok(Self { limits, budget, made: OnceLock::new() })
    }

    /// Limits of connections, pending requests, requests and retries.
    pub fn limits(&self) -> [u32; 4] {
        let Limits { connections, pending, requests, retries, .. } = self.limits;
        [connections, pending, requests, retries.unwrap_or(u32::MAX)]
    }

    /// Takes the right to one request; `None` if the limit is reached.
    pub fn take_request(&self) -> Option<Permit> {
        let permit = self.requests.take()?;
        self.note_request();
        Some(permit)
    }

    /// Takes the right to one request although the limit may be reached.
    pub fn take_request_always(&self) -> Permit {
        self.note_request();
        self.requests.take_always()
    }

    fn note_request(&self) {
        if let Some(budget) = &self.budget {
            budget.note();
        }
    }

    /// Takes the right to one retry; `None` if the limit or budget is used up.
    pub fn take_retry(&self) -> Option<Permit> {
        if let Some(budget) = &self.budget {
            let active = u64::from(self.requests.used()) + u64::from(self.pending.used());
            if u64::from(self.retries.used()) >= budget.allowed(active) {
                return None;
            }
        }
        self.retries.take()
    }
}

impl Family for Breakers {
    fn each(&self, see: &mut dyn FnMut(&str, Value)) {
        match self.made.get() {
            Some(made) => made.each(see),
            // To be looked at is no use.
            None => Resources::new(&self.limits).each(see),
        }
    }

    /// There are gauges only.
    fn reset(&self) {}
}
