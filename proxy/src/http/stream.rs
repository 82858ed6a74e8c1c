//! What is known about one request, from its head to its log line (Envoy's StreamInfo).

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;

use super::HttpConnectionManager;
use crate::cause::Cause;
use crate::connection::Connection;
use crate::format::{Info, Subject};
use crate::matcher::metadata::Dynamic;
use crate::message::{RequestHead, ResponseHead};
use crate::policy::Input;
use crate::route::{MatchInput, SelectedRoute};
use crate::stream::{FilterState, Traffic, Upstream};
use crate::worker::Worker;

/// One request.
pub struct Stream {
    /// Its worker.
    pub worker: Rc<Worker>,
    /// Its connection.
    pub connection: Rc<Connection>,
    /// The connection manager that serves it.
    pub manager: Arc<HttpConnectionManager>,
    /// The request's head, as the filters change it.
    pub request: RequestHead,
    /// The client's address after X-Forwarded-For rules; what RBAC `remote_ip` and logs use.
    pub remote: SocketAddr,
    /// Whether the request counts as internal (Envoy's x-envoy-internal).
    pub internal: bool,
    /// The route; `None` until matched, or if none matches.
    pub route: Option<SelectedRoute>,
    /// Monotonic start.
    pub start: Instant,
    /// Wall-clock start.
    pub start_time: SystemTime,
    /// What happened upstream.
    pub upstream: Upstream,
    /// Causes that applied; the response flags of the log.
    pub causes: smallvec::SmallVec<[Cause; 2]>,
    /// `response_code_details`: empty at first, `via_upstream` when the answer came from there.
    pub details: Cow<'static, str>,
    /// `connection_termination_details`.
    pub termination_details: Option<Cow<'static, str>>,
    /// Status sent to the client.
    pub status: Option<u16>,
    /// The answer is one of the proxy's own.
    pub is_answered_here: bool,
    /// Head sent to the client, kept for the log.
    pub response: Option<ResponseHead>,
    /// Trailers sent to the client, kept for the log.
    pub trailers: Option<HeaderMap>,
    /// Body bytes received from the client.
    pub bytes_received: u64,
    /// Body bytes sent to the client.
    pub bytes_sent: u64,
    /// Time to the last byte to the client; set when the stream is complete.
    pub duration: Option<Duration>,
    /// Time to the last byte of the request.
    pub request_duration: Option<Duration>,
    /// When the first byte of the response was sent.
    pub first_sent: Option<Instant>,
    /// Bytes on the client's connection, where it is HTTP/1.
    pub wire: Traffic,
    /// Typed values that filters leave for each other.
    pub state: FilterState,
    /// Values for logs and matchers, by filter name (Envoy's dynamic metadata).
    pub metadata: Dynamic,
    /// An HTTP/1 connection ends with this response.
    pub closes: bool,
    /// Sends a 1xx head to the client, if its protocol can (100-continue, 103).
    pub inform: Option<Rc<dyn Fn(ResponseHead)>>,
}

impl Stream {
    /// Notes a cause: its flag and details.
    pub fn note(&mut self, cause: Cause) {
        if !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
        self.details = Cow::Borrowed(cause.details());
    }

    /// What operators of logs and header rules read of it.
    pub fn info(&self) -> Info<'_> {
        Info {
            connection: &self.connection,
            request: Some(&self.request),
            response: self.response.as_ref(),
            trailers: self.trailers.as_ref(),
            remote: self.remote,
            start: self.start,
            start_time: self.start_time,
            duration: self.duration,
            request_duration: self.request_duration,
            first_sent: self.first_sent,
            wire: self.wire,
            upstream: &self.upstream,
            causes: &self.causes,
            details: &self.details,
            termination_details: self.termination_details.as_deref(),
            status: self.status,
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
            route: self.route.as_ref().map(SelectedRoute::info),
            metadata: Some(&self.metadata),
            state: Some(&self.state),
            local_reply: "",
        }
    }

    /// The route that the request matches now.
    pub fn select_route(&self) -> Option<SelectedRoute> {
        self.manager.routes.load()?.route(&self.match_input(fastrand::u64(..)))
    }

    /// The request begins anew, where it was redirected to: what was known of it is over, but for `kept` values.
    pub fn begin_again(&mut self, kept: &[std::any::TypeId]) {
        self.route = None;
        self.start = Instant::now();
        self.start_time = SystemTime::now();
        self.upstream = Upstream::default();
        self.causes.clear();
        self.details = Cow::Borrowed("");
        self.termination_details = None;
        self.status = None;
        self.is_answered_here = false;
        self.response = None;
        self.trailers = None;
        self.duration = None;
        self.request_duration = None;
        self.first_sent = None;
        self.state.keep(kept);
        self.metadata.clear();
    }

    /// What route matches read of it; `random` decides fractions and weights.
    pub fn match_input(&self, random: u64) -> MatchInput<'_> {
        MatchInput {
            request: &self.request,
            tls: self.connection.tls.as_deref(),
            metadata: &self.metadata,
            internal: self.internal,
            random,
        }
    }

    /// What policies read of it.
    pub fn policy_input(&self) -> Input<'_> {
        Input {
            request: Some(&self.request),
            path: Some(self.request.path_only()).filter(|path| !path.is_empty()),
            remote: self.remote,
            metadata: Some(&self.metadata),
            route_metadata: self.route.as_ref().map(|route| &route.route().metadata),
            ..Input::of_connection(&self.connection)
        }
    }
}

impl Subject for Stream {
    fn info(&self) -> Info<'_> {
        Self::info(self)
    }

    fn request_headers(&mut self) -> &mut HeaderMap {
        &mut self.request.headers
    }
}
