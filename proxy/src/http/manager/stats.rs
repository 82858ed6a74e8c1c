//! Counters of a connection manager, under Envoy's names (`http.<stat_prefix>.*`).

use http::Version;

use crate::codec::h2::guard::Flood;
use crate::http::stream::Stream;
use crate::route::internal_redirect::Refusal;
use crate::stats::{Counter, Gauge, Scope};

/// Handles, made once.
#[derive(Debug, Clone)]
pub struct Stats {
    connections: [Counter; 2],
    connections_all: Counter,
    connections_active: Gauge,
    requests: Counter,
    active: Gauge,
    classes: [Counter; 5],
    completed: Counter,
    resets: Counter,
    protocol_errors: Counter,
    floods: [Counter; 5],
    bytes: [Counter; 2],
    time: crate::stats::Histogram,
    redirects: [Counter; 5],
    versions: [Counter; 2],
    routed: Counter,
    routes: [Counter; 4],
}

/// How the router came to its own answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routed {
    /// The route holds the answer.
    DirectResponse,
    /// The route redirects.
    Redirect,
    /// No route matches.
    NoRoute,
    /// The route's cluster is not there.
    NoCluster,
}

/// Counts a connection as long as it lives.
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Stats {
    /// Handles of the manager named `prefix`; `root` has no prefix.
    pub fn new(root: &Scope, prefix: &str) -> Self {
        let scope = root.scope("http").tagged("envoy_http_conn_manager_prefix", prefix);
        let class = |class: char| scope.counter(&format!("downstream_rq_{class}xx"));
        Self {
            connections: [scope.counter("downstream_cx_http1_total"), scope.counter("downstream_cx_http2_total")],
            connections_all: scope.counter("downstream_cx_total"),
            connections_active: scope.gauge("downstream_cx_active"),
            requests: scope.counter("downstream_rq_total"),
            active: scope.gauge("downstream_rq_active"),
            classes: ['1', '2', '3', '4', '5'].map(class),
            completed: scope.counter("downstream_rq_completed"),
            resets: scope.counter("downstream_rq_rx_reset"),
            protocol_errors: scope.counter("downstream_cx_protocol_error"),
            floods: [
                root.scope("http2").counter("outbound_control_flood"),
                root.scope("http2").counter("inbound_priority_frames_flood"),
                root.scope("http2").counter("inbound_empty_frames_flood"),
                root.scope("http2").counter("inbound_window_update_frames_flood"),
                scope.counter("downstream_rq_too_many_premature_resets"),
            ],
            bytes: [scope.counter("downstream_cx_rx_bytes_total"), scope.counter("downstream_cx_tx_bytes_total")],
            time: scope.histogram("downstream_rq_time"),
            redirects: ["bad_location", "unsafe_scheme", "too_many_redirects", "no_route", "predicate"]
                .map(|why| scope.counter(&format!("passthrough_internal_redirect_{why}"))),
            versions: [scope.counter("downstream_rq_http1_total"), scope.counter("downstream_rq_http2_total")],
            routed: scope.counter("rq_total"),
            routes: ["rq_direct_response", "rq_redirect", "no_route", "no_cluster"].map(|name| scope.counter(name)),
        }
    }

    /// A connection has come.
    pub fn connection(&self) -> Connected {
        self.connections_all.inc();
        self.connections_active.inc();
        Connected(self.connections_active.clone())
    }

    /// Its codec is known.
    pub fn codec(&self, http2: bool) {
        self.connections[usize::from(http2)].inc();
    }

    /// A connection is closed because its client broke a rule of HTTP/2.
    pub fn protocol_error(&self) {
        self.protocol_errors.inc();
    }

    /// A connection is cut off because of a flood of frames; a protocol error, too.
    pub fn flood(&self, flood: Flood) {
        let [control, priorities, empty, updates, resets] = &self.floods;
        match flood {
            Flood::Control => control.inc(),
            Flood::Priority => priorities.inc(),
            Flood::Empty => empty.inc(),
            Flood::WindowUpdate => updates.inc(),
            Flood::Reset => resets.inc(),
        }
        self.protocol_error();
    }

    /// A request has come.
    pub fn begin(&self, version: Version) {
        self.requests.inc();
        self.versions[usize::from(version >= Version::HTTP_2)].inc();
        self.active.inc();
    }

    /// A request has reached the router.
    pub fn routed(&self) {
        self.routed.inc();
    }

    /// The router has answered itself.
    pub fn answered_by_route(&self, how: Routed) {
        self.routes[how as usize].inc();
    }

    /// A redirect was not followed.
    pub fn redirect_refused(&self, refusal: Refusal) {
        let [location, scheme, many, route, predicate] = &self.redirects;
        match refusal {
            Refusal::BadLocation => location.inc(),
            Refusal::UnsafeScheme => scheme.inc(),
            Refusal::TooMany => many.inc(),
            Refusal::NoRoute => route.inc(),
            Refusal::Predicate => predicate.inc(),
        }
    }

    /// A request is over.
    pub fn end(&self, stream: &Stream) {
        let [received, sent] = &self.bytes;
        received.add(stream.bytes_received);
        sent.add(stream.bytes_sent);
        self.end_pass(stream);
    }

    /// A request is over, or begins anew where it was redirected to.
    pub fn end_pass(&self, stream: &Stream) {
        self.active.dec();
        match stream.status {
            Some(status) => {
                self.completed.inc();
                if let Some(class) = self.classes.get(usize::from(status / 100).wrapping_sub(1)) {
                    class.inc();
                }
            }
            None => self.resets.inc(),
        }
        if let Some(duration) = stream.duration {
            self.time.record(duration.as_secs_f64() * 1000.0);
        }
    }
}
