//! The router: forwards a request to a cluster (retries, timeouts, mirrors).
//!
//! ```text
//! plan (limits, retries, rewrites) -> [host -> pool -> exchange] once for each try -> response, watched to its end
//! ```

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};

use super::{LocalReply, RequestHead, Response, ResponseHead, local_reply};
use crate::body::Body;
use crate::cause::Cause;
use crate::cluster::breaker::Permit;
use crate::cluster::outlier::Outcome;
use crate::cluster::{Cluster, Host, LbContext, UpstreamProtocol};
use crate::http::stream::Stream;
use crate::route::rewrite::{rewrite_host, rewrite_path};
use crate::route::{Action, Forward, HostRewrite, SelectedRoute, hash};
use crate::stream::UpstreamTimes;
use crate::text::Text;
use crate::timer::Timer;
use crate::upstream::{Active, UpstreamError};

mod answer;
mod levels;
mod mirror;
pub mod plan;
mod replay;
pub mod retry;
mod unprocessed;
mod wanted;

use answer::Watched;
use levels::AvoidedLevels;
use plan::Plan;
use replay::Replay;
use retry::Ended;
use unprocessed::UNPROCESSED;

/// Bodies up to this size can be sent again.
const REPLAY_LIMIT: usize = 64 * 1024;

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// Forwards the request of `stream` as its route says.
pub async fn forward(stream: &mut Stream, body: Body) -> Response {
    let Some(route) = stream.route.clone() else {
        return local_reply::response(stream, LocalReply::new(Cause::RouteNotFound));
    };
    let Action::Forward(forward) = &route.route().action else {
        return local_reply::response(stream, LocalReply::new(Cause::RouteNotFound));
    };
    let mut response = match exchange(stream, &route, forward, body).await {
        Ok(response) => response,
        Err(reply) => local_reply::response(stream, *reply),
    };
    if route.virtual_host().include_attempt_count_in_response && stream.upstream.attempts > 0 {
        response.head.headers.insert(ATTEMPT_COUNT, HeaderValue::from(stream.upstream.attempts));
    }
    response
}

async fn exchange(
    stream: &mut Stream,
    route: &SelectedRoute,
    forward: &Forward,
    body: Body,
) -> Result<Response, Box<LocalReply>> {
    let Some(cluster) = stream.upstream.cluster.clone() else {
        let mut reply = LocalReply::new(Cause::ClusterNotFound);
        reply.status = Some(forward.cluster_not_found);
        return Err(Box::new(reply));
    };
    let is_tunnel = stream.request.upgrade.is_some();
    let mut plan = plan::decide(&stream.request, forward, route.virtual_host(), stream.internal);
    plan.stream = plan.stream.or(cluster.config.max_stream_duration);
    plan::finish_headers(&mut stream.request.headers);
    plan::set_expected(&mut stream.request.headers, &plan, Duration::ZERO);
    stream.upstream.attempts = 1;
    let (hash, cookie) = hash::hash(&forward.hash, &stream.request, stream.remote, fastrand::u64(..));
    finish_request(stream, route, forward);
    // A server that says GOAWAY gets what it has not processed again, on its next connection.
    let keep = plan.retry.is_some() || (cluster.config.protocol != UpstreamProtocol::Http1 && !is_tunnel);
    let limit = if keep { REPLAY_LIMIT.min(cluster.config.buffer_limit) } else { 0 };
    let body = Replay::new(body, limit);
    mirror::start(stream, route, forward, &body, plan.timeout);
    let mut tries = Tries {
        route,
        forward,
        cluster,
        plan: &plan,
        body,
        hash,
        previous: Vec::new(),
        levels: AvoidedLevels::default(),
        timer: stream.worker.timers.take(),
        begun: crate::timer::now(),
        retries: 0,
        free: 0,
        elsewhere: false,
        permit: None,
        give_up: None,
    };
    let response = tries.run(stream).await;
    stream.worker.timers.give(tries.timer);
    let mut response = response?;
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        response.head.headers.append(http::header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Header rules, authority and path, as they go upstream; the host's own name comes when it is chosen.
fn finish_request(stream: &mut Stream, route: &SelectedRoute, forward: &Forward) {
    route.apply_request_headers(stream);
    let of_share = route.weighted().and_then(|share| share.host_rewrite.as_ref());
    if let Some(host) = of_share {
        stream.request.authority = host.clone();
    } else if let Some(host) = rewrite_host(&forward.host_rewrite, &stream.request, "") {
        let host = Text::from(&*host);
        set_authority(&mut stream.request, host, forward.append_x_forwarded_host);
    }
    if let Some(rewrite) = &forward.path_rewrite {
        let path = rewrite_path(rewrite, route.route(), &stream.request.path);
        if let Ok(original) = HeaderValue::from_bytes(stream.request.path.as_bytes()) {
            stream.request.headers.insert(ORIGINAL_PATH, original);
        }
        stream.request.path = path.into();
    }
}

fn set_authority(head: &mut RequestHead, authority: Text, forwarded: bool) {
    if let Ok(original) = HeaderValue::from_bytes(head.authority.as_bytes()) {
        if forwarded {
            head.headers.append(FORWARDED_HOST, original.clone());
        }
        head.headers.insert(ORIGINAL_HOST, original);
    }
    head.authority = authority;
}

/// How one try ended.
enum Try {
    Answer(ResponseHead, Body, Active),
    Failed(UpstreamError),
}

/// The tries of one request.
struct Tries<'a> {
    route: &'a SelectedRoute,
    forward: &'a Forward,
    cluster: Arc<Cluster>,
    plan: &'a Plan,
    body: Replay,
    hash: Option<u64>,
    previous: Vec<Arc<Host>>,
    levels: AvoidedLevels,
    timer: Timer,
    /// When the last try began.
    begun: Instant,
    retries: u32,
    /// Repetitions that needed no policy.
    free: u32,
    /// The next try goes to a host that was not tried, because one said that it has not processed the request.
    elsewhere: bool,
    /// The right to the retry that runs.
    permit: Option<Permit>,
    /// Why there was no further try, although the policy wants one.
    give_up: Option<Cause>,
}

impl Tries<'_> {
    async fn run(&mut self, stream: &mut Stream) -> Result<Response, Box<LocalReply>> {
        loop {
            let host = self.pick(stream)?;
            let ended = self.one(stream, &host).await;
            self.count(&host, &ended);
            if self.is_free(stream, &ended) {
                stream.upstream.attempts += 1;
                self.elsewhere = matches!(ended, Try::Answer(..));
                if self.elsewhere {
                    self.previous.push(host);
                }
                continue;
            }
            if self.wants_another(stream, &ended) {
                let asked = self.asked_pause(&ended);
                drop(ended);
                self.previous.push(host);
                self.pause(stream, asked).await?;
                continue;
            }
            self.permit = None;
            if let Some(cause) = self.give_up
                && !stream.causes.contains(&cause)
            {
                stream.causes.push(cause);
            }
            return match ended {
                Try::Answer(head, body, active) => Ok(self.answer(stream, host, head, body, active)),
                Try::Failed(error) => Err(self.failure(stream, error)),
            };
        }
    }

    fn pick(&mut self, stream: &mut Stream) -> Result<Arc<Host>, Box<LocalReply>> {
        let policy = self.plan.retry.as_deref().filter(|_| self.retries > 0);
        let omit = policy.map(|policy| policy.omit_hosts.as_slice()).unwrap_or_default();
        let avoid_previous = policy.is_some_and(|policy| policy.avoid_previous_hosts);
        let again = avoid_previous || !omit.is_empty();
        let reselect = policy.filter(|_| again).map_or(0, |policy| policy.host_selection_attempts);
        let elsewhere = std::mem::take(&mut self.elsewhere);
        if let Some(every) = policy.and_then(|policy| policy.avoid_priorities_every) {
            self.levels.update(&self.previous, every);
        }
        let share = self.route.weighted().and_then(|share| share.metadata_match.as_deref());
        let context = LbContext {
            hash: self.hash,
            metadata_match: share.or(self.forward.metadata_match.as_deref()),
            previous: &self.previous,
            reselect: if elsewhere { reselect.max(unprocessed::RESELECT) } else { reselect },
            may_repeat: !avoid_previous && !elsewhere,
            omit,
            avoid_levels: &self.levels.avoided,
            original_dst: stream.connection.original_dst,
            original_dst_header: wanted::original_dst_header(&self.cluster, &stream.request),
        };
        let host = self.cluster.pick(&context).map_err(|cause| LocalReply::new(cause).body("no healthy upstream"))?;
        self.levels.picked(&host, self.previous.len());
        stream.upstream.host = Some(host.clone());
        stream.upstream.attempted = None;
        stream.upstream.times = UpstreamTimes::default();
        stream.upstream.local = None;
        Ok(host)
    }

    /// One try: a connection, the request, the head of its answer, within the limits.
    async fn one(&mut self, stream: &mut Stream, host: &Arc<Host>) -> Try {
        let attempts = stream.upstream.attempts;
        if attempts > 1 {
            plan::set_expected(&mut stream.request.headers, self.plan, self.elapsed());
        }
        if self.route.virtual_host().include_request_attempt_count {
            stream.request.headers.insert(ATTEMPT_COUNT, HeaderValue::from(attempts));
        }
        if matches!(self.forward.host_rewrite, HostRewrite::Auto) && !host.hostname.is_empty() {
            match attempts {
                1 => set_authority(&mut stream.request, host.hostname.clone(), self.forward.append_x_forwarded_host),
                _ => stream.request.authority = host.hostname.clone(),
            }
        }
        let wanted = wanted::wanted(stream, &self.cluster, self.forward.high_priority);
        let pools = stream.worker.pools.clone();
        let ends_here = ends_here(&stream.request, self.forward);
        let (head, upstream, inform) = (&stream.request, &mut stream.upstream, stream.inform.clone());
        let (cluster, body) = (&self.cluster, self.body.body());
        let exchange = async {
            if ends_here {
                let (tunnel, active) = pools.tunnel(cluster, host, &wanted).await?;
                upstream.attempted = Some(host.clone());
                upstream.local = tunnel.local;
                upstream.tls.clone_from(&tunnel.tls);
                let (head, body) = tunnel.into_answer(body);
                return Ok((head, body, active));
            }
            let asked = crate::timer::now();
            let connection = pools.stream(cluster, host, &wanted).await;
            let now = crate::timer::now();
            upstream.times.waited = Some(now.saturating_duration_since(asked));
            let connection = connection?;
            upstream.attempted = Some(host.clone());
            upstream.times.dial = connection.dial;
            upstream.times.first_sent = Some(now);
            upstream.local = connection.local;
            upstream.version = Some(connection.version);
            upstream.tls.clone_from(&connection.tls);
            connection.start(head, body, inform.as_deref()).await
        };
        let begun = crate::timer::now();
        self.begun = begun;
        let limits = Limits { plan: self.plan, progress: &self.body.progress, begun };
        let result = within(exchange, &limits, &mut self.timer).await;
        match result {
            Ok((head, body, active)) => {
                let times = &mut stream.upstream.times;
                times.last_sent = self.body.progress.finished.get().max(times.first_sent);
                times.first_received = Some(crate::timer::now());
                Try::Answer(head, body, active)
            }
            Err(error) => {
                let times = &mut stream.upstream.times;
                let finished = self.body.progress.finished.get();
                times.last_sent = times.first_sent.and_then(|first| finished.map(|finished| finished.max(first)));
                if matches!(error.cause, Cause::MaxPendingRequests | Cause::MaxConnections) {
                    // It got no connection, so that no host has seen it.
                    stream.upstream.host = None;
                }
                if !error.detail.is_empty() && is_transport(error.cause) {
                    stream.upstream.transport_failure = Some(error.detail.clone());
                }
                Try::Failed(error)
            }
        }
    }

    /// Time since the request is complete; its limits count from then.
    fn elapsed(&self) -> Duration {
        let since = self.body.progress.finished.get();
        since.map_or(Duration::ZERO, |since| crate::timer::now().saturating_duration_since(since))
    }

    /// Counters and outlier detection.
    fn count(&self, host: &Host, ended: &Try) {
        let stats = &self.cluster.stats;
        let outcome = match ended {
            Try::Answer(head, body, _) => {
                let grpc = retry::grpc_status(&head.headers).filter(|_| matches!(body, Body::Empty));
                Outcome::Status(grpc.map_or(head.status.as_u16(), retry::http_status))
            }
            Try::Failed(error) => match error.cause {
                Cause::PerTryTimeout => {
                    stats.upstream_rq_per_try_timeout.inc();
                    Outcome::Timeout
                }
                Cause::ResponseTimeout => {
                    stats.upstream_rq_timeout.inc();
                    Outcome::Timeout
                }
                cause if is_transport(cause) => Outcome::ConnectFailed,
                Cause::UpstreamRemoteReset | Cause::UpstreamRefusedStream => {
                    stats.upstream_rq_rx_reset.inc();
                    Outcome::Reset
                }
                Cause::UpstreamConnectionTermination
                | Cause::UpstreamProtocolError
                | Cause::ResponseHeadersTooLarge => Outcome::Reset,
                // Our own limits, or the client's fault: nothing to hold against the host.
                _ => return,
            },
        };
        self.cluster.report(host, outcome);
    }

    /// Whether the request goes out again without any policy.
    fn is_free(&mut self, stream: &Stream, ended: &Try) -> bool {
        let harmless = match ended {
            Try::Failed(error) => retry::is_free(&stream.request.method, error.race, error.before_request, self.free),
            Try::Answer(head, ..) => self.free < retry::FREE && unprocessed::is_told(&stream.connection, head),
        };
        let free = harmless && self.body.is_whole();
        if free {
            self.free += 1;
            self.cluster.stats.upstream_rq_retry.inc();
        }
        free
    }

    fn wants_another(&mut self, stream: &mut Stream, ended: &Try) -> bool {
        let Some(policy) = &self.plan.retry else { return false };
        let ended = match ended {
            Try::Answer(head, ..) => Ended::Answer(head),
            Try::Failed(error) => Ended::Failed { cause: error.cause, before_request: error.before_request },
        };
        let stats = &self.cluster.stats;
        if !retry::is_wanted(policy, &ended) {
            if self.retries > 0 && matches!(ended, Ended::Answer(_)) {
                stats.upstream_rq_retry_success.inc();
            }
            return false;
        }
        if self.retries >= policy.num_retries {
            stats.upstream_rq_retry_limit_exceeded.inc();
            self.give_up = Some(Cause::UpstreamRetryLimitExceeded);
            return false;
        }
        if !self.body.is_whole() {
            return false;
        }
        self.permit = None;
        let Some(permit) = self.cluster.breakers[usize::from(self.forward.high_priority)].take_retry() else {
            stats.upstream_rq_retry_overflow.inc();
            self.give_up = Some(Cause::RetryOverflow);
            return false;
        };
        self.permit = Some(permit);
        self.retries += 1;
        stream.upstream.attempts += 1;
        stats.upstream_rq_retry.inc();
        true
    }

    /// The pause that a rate-limited answer asks for.
    fn asked_pause(&self, ended: &Try) -> Option<Duration> {
        let (Try::Answer(head, ..), Some(policy)) = (ended, &self.plan.retry) else { return None };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        retry::asked_pause(policy, &head.headers, now.as_secs(), fastrand::f64())
    }

    /// The back-off before the next try; the whole request's limit runs on.
    async fn pause(&mut self, stream: &mut Stream, asked: Option<Duration>) -> Result<(), Box<LocalReply>> {
        let Some(policy) = &self.plan.retry else { return Ok(()) };
        let pause = asked.unwrap_or_else(|| retry::pause(policy, self.retries, fastrand::f64()));
        let begun = crate::timer::now();
        let whole = Plan { timeout: self.plan.timeout, ..Plan::default() };
        let limits = Limits { plan: &whole, progress: &self.body.progress, begun };
        let slept = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        within(slept, &limits, &mut self.timer).await.map_err(|error| self.failure(stream, error))
    }

    fn answer(
        &mut self,
        stream: &mut Stream,
        host: Arc<Host>,
        mut head: ResponseHead,
        body: Body,
        active: Active,
    ) -> Response {
        self.body.settle();
        head.headers.remove(UNPROCESSED);
        if is_failed_websocket(&stream.request, &head) {
            stream.details = Cause::WebsocketHandshake.details().into();
            stream.status = Some(head.status.as_u16());
            self.cluster.stats.count_status(head.status.as_u16());
            head.headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(0));
            return Response { head, body: Body::Empty };
        }
        self.cluster.stats.count_status(head.status.as_u16());
        stream.details = "via_upstream".into();
        stream.status = Some(head.status.as_u16());
        // An answer that comes before the request is complete has no service time (nor has a tunnel's).
        if self.body.progress.finished.get().is_some() {
            let service = self.elapsed();
            stream.upstream.service_time = Some(service);
            let millis = u64::try_from(service.as_millis()).unwrap_or(u64::MAX);
            head.headers.insert(SERVICE_TIME, plan::number(millis));
        }
        if matches!(body, Body::Empty) {
            return Response { head, body };
        }
        let body = Watched::new(body, active, self.cluster.clone(), host, &stream.request, &head);
        let body = body.within(self.plan, self.body.progress.clone(), self.begun);
        Response { head, body: Body::new(body) }
    }

    /// The answer of our own that stands for a failure.
    fn failure(&self, stream: &Stream, error: UpstreamError) -> Box<LocalReply> {
        let cause = error.cause;
        let mut reply = LocalReply::new(cause);
        if let Some(reason) = reset_reason(cause) {
            let transport = is_transport(cause).then_some(error.detail.as_str()).filter(|detail| !detail.is_empty());
            // Why the connection failed is for logs only: it tells of the network behind the proxy.
            let which = if self.retries > 0 { "retried and the latest reset reason" } else { "reset reason" };
            let text = format!("upstream connect error or disconnect/reset before headers. {which}: {reason}");
            let mut details = format!("upstream_reset_before_response_started{{{reason}");
            if let Some(transport) = transport {
                details.push('|');
                details.push_str(transport);
            }
            details.push('}');
            reply = reply.body(text);
            reply.details = Some(details.replace(char::is_whitespace, "_").into());
        } else if matches!(cause, Cause::ResponseTimeout | Cause::PerTryTimeout) {
            reply.status = self.plan.late_status;
            if reply.status.is_none() {
                reply = reply.body("upstream request timeout");
            }
        } else if cause == Cause::UpstreamMaxStreamDuration {
            reply = reply.body("upstream max stream duration reached");
        }
        if matches!(cause, Cause::MaxConnections | Cause::MaxPendingRequests | Cause::MaxRequests) {
            reply.headers.insert(OVERLOADED, HeaderValue::from_static("true"));
        }
        if unprocessed::is_to_tell(&stream.connection, &stream.request.method, &error) {
            reply.headers.insert(UNPROCESSED, HeaderValue::from_static("true"));
        }
        let status = reply.status.map_or(cause.status(), |status| status.as_u16());
        if status != 0 && StatusCode::from_u16(status).is_ok() && stream.upstream.attempts > 0 {
            self.cluster.stats.count_status(status);
        }
        Box::new(reply)
    }
}

/// Whether an answer to a WebSocket handshake is neither its grant nor an error: then nobody can tell what its body is.
fn is_failed_websocket(request: &RequestHead, head: &ResponseHead) -> bool {
    let asked = request.upgrade.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"));
    asked && head.upgrade.is_none() && !head.status.is_client_error() && !head.status.is_server_error()
}

/// Envoy's word for why there is no answer.
fn reset_reason(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::UpstreamConnectionFailure | Cause::UpstreamTlsFailure => "remote connection failure",
        Cause::UpstreamConnectTimeout => "connection timeout",
        Cause::UpstreamConnectionTermination => "connection termination",
        Cause::UpstreamRemoteReset => "remote reset",
        Cause::UpstreamRefusedStream => "remote refused stream reset",
        Cause::UpstreamProtocolError | Cause::ResponseHeadersTooLarge => "protocol error",
        Cause::MaxConnections | Cause::MaxPendingRequests | Cause::MaxRequests => "overflow",
        _ => return None,
    })
}

/// Whether a CONNECT request ends at this proxy (`connect_config`), which then carries its bytes as TCP.
fn ends_here(head: &RequestHead, forward: &Forward) -> bool {
    let of_connect =
        |(kind, enabled, ends): &(Text, bool, bool)| *ends && *enabled && kind.eq_ignore_ascii_case("CONNECT");
    head.method == http::Method::CONNECT && forward.upgrades.iter().any(of_connect)
}

/// The connection itself was not made.
fn is_transport(cause: Cause) -> bool {
    matches!(cause, Cause::UpstreamConnectionFailure | Cause::UpstreamTlsFailure | Cause::UpstreamConnectTimeout)
}

/// The limits of a try.
struct Limits<'a> {
    plan: &'a Plan,
    progress: &'a Rc<replay::Progress>,
    begun: Instant,
}

impl Limits<'_> {
    /// What runs out first, and when. The clocks of whole request and try start when the request is complete.
    fn next(&self) -> Option<(Instant, Cause)> {
        let finished = self.progress.finished.get();
        let whole = finished.zip(self.plan.timeout).map(|(since, limit)| (since + limit, Cause::ResponseTimeout));
        let per_try =
            finished.zip(self.plan.per_try).map(|(since, limit)| (since.max(self.begun) + limit, Cause::PerTryTimeout));
        let idle = self.plan.per_try_idle;
        let idle = idle.map(|limit| (self.progress.moved.get().max(self.begun) + limit, Cause::PerTryTimeout));
        let stream = self.plan.stream.map(|limit| (self.begun + limit, Cause::UpstreamMaxStreamDuration));
        [whole, per_try, idle, stream].into_iter().flatten().min_by_key(|(deadline, _)| *deadline)
    }
}

/// Runs `work` until it is done or a limit has passed.
async fn within<T>(
    work: impl Future<Output = Result<T, UpstreamError>>,
    limits: &Limits<'_>,
    timer: &mut Timer,
) -> Result<T, UpstreamError> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(result) = work.as_mut().poll(cx) {
            return std::task::Poll::Ready(result);
        }
        while let Some((deadline, cause)) = limits.next() {
            std::task::ready!(timer.poll_until(cx, deadline));
            if limits.next().is_some_and(|(again, _)| again <= deadline) {
                let waited = Duration::from_millis(0).max(deadline.saturating_duration_since(limits.begun));
                let detail = format!("no answer within {waited:?}");
                return std::task::Poll::Ready(Err(UpstreamError::late(cause, detail)));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests;
