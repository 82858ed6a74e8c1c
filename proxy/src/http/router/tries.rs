//! The tries of one request: [host -> pool -> exchange] until an answer is good, or the policy wants no more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};

use super::answer::Watched;
use super::failure::{self, is_transport};
use super::levels::AvoidedLevels;
use super::limits::{Limits, within};
use super::outcome;
use super::plan::{self, Plan};
use super::redirect::{self, Redirected};
use super::replay::Replay;
use super::retry::{self, Ended};
use super::unprocessed::{self, UNPROCESSED};
use super::{ATTEMPT_COUNT, Forwarded, set_authority, wanted};
use crate::body::Body;
use crate::cause::Cause;
use crate::cluster::breaker::Permit;
use crate::cluster::{Cluster, Host, LbContext, RESELECT};
use crate::http::stream::Stream;
use crate::http::{LocalReply, RequestHead, Response, ResponseHead};
use crate::route::{Forward, HostRewrite, SelectedRoute};
use crate::text::Text;
use crate::timer::Timer;
use crate::upstream::{Active, UpstreamError};

const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// How one try ended.
pub(super) enum Try {
    Answer(ResponseHead, Body, Active),
    Failed(UpstreamError),
}

/// The tries of one request.
pub(super) struct Tries<'a> {
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

impl<'a> Tries<'a> {
    /// None was made yet.
    pub(super) fn new(
        route: &'a SelectedRoute,
        forward: &'a Forward,
        cluster: Arc<Cluster>,
        plan: &'a Plan,
        body: Replay,
        hash: Option<u64>,
        timer: Timer,
    ) -> Self {
        Self {
            route,
            forward,
            cluster,
            plan,
            body,
            hash,
            previous: Vec::new(),
            levels: AvoidedLevels::default(),
            timer,
            begun: crate::timer::now(),
            retries: 0,
            free: 0,
            elsewhere: false,
            permit: None,
            give_up: None,
        }
    }

    /// The timer, for the next request.
    pub(super) fn into_timer(self) -> Timer {
        self.timer
    }

    /// Tries until an answer is good, or none will be.
    pub(super) async fn run(&mut self, stream: &mut Stream) -> Result<Forwarded, Box<LocalReply>> {
        loop {
            let host = self.pick(stream)?;
            let ended = self.one(stream, &host).await;
            outcome::report(&self.cluster, &host, &ended);
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
                Try::Answer(head, body, active) => Ok(match self.redirect(stream, &head) {
                    Some(body) => Forwarded::Redirected(Box::new(Redirected { answer: head, body })),
                    None => Forwarded::Answer(self.answer(stream, host, head, body, active)),
                }),
                Try::Failed(error) => Err(self.failure(stream, &error)),
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
            reselect: if elsewhere { reselect.max(RESELECT) } else { reselect },
            may_repeat: !avoid_previous && !elsewhere,
            omit,
            avoid_levels: &self.levels.avoided,
            original_dst: stream.connection.original_dst,
            original_dst_header: wanted::original_dst_header(&self.cluster, &stream.request),
        };
        let host = self.cluster.pick(&context).map_err(|cause| LocalReply::new(cause).body("no healthy upstream"))?;
        self.levels.picked(&host, self.previous.len());
        stream.upstream.begin(host.clone());
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
                upstream.connection_id = Some(tunnel.id);
                upstream.tls.clone_from(&tunnel.tls);
                let (head, body) = tunnel.into_answer(body);
                return Ok((head, body, active));
            }
            let asked = crate::timer::now();
            let connection = pools.stream(cluster, host, &wanted).await;
            upstream.times.has_waited(asked, connection.as_ref().ok().map(|connection| connection.dial));
            let connection = connection?;
            upstream.attempted = Some(host.clone());
            upstream.local = connection.local;
            upstream.connection_id = connection.id;
            upstream.wire.clone_from(&connection.wire);
            upstream.version = Some(connection.version);
            upstream.tls.clone_from(&connection.tls);
            connection.start(head, body, inform.as_deref()).await
        };
        let begun = crate::timer::now();
        self.begun = begun;
        let limits = Limits { plan: self.plan, progress: &self.body.progress, begun };
        let result = within(exchange, &limits, &mut self.timer).await;
        stream.upstream.times.has_ended(self.body.progress.finished.get(), result.is_ok());
        match result {
            Ok((head, body, active)) => Try::Answer(head, body, active),
            Err(error) => {
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
        if let Ended::Answer(head) = ended {
            stats.count_retried(head.status.as_u16());
        }
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
        within(slept, &limits, &mut self.timer).await.map_err(|error| self.failure(stream, &error))
    }

    /// Follows a redirect, if the route asks for that; the body of the request that begins anew.
    fn redirect(&self, stream: &mut Stream, head: &ResponseHead) -> Option<Body> {
        let policy = self.forward.internal_redirect.as_ref()?;
        if !policy.is_for(head.status.as_u16()) {
            return None;
        }
        let stats = &self.cluster.stats;
        // What is still on its way, or is not kept any more, cannot be sent again.
        let is_there = self.body.is_whole() && self.body.progress.finished.get().is_some();
        let is_told = head.headers.contains_key(http::header::LOCATION) && stream.request.upgrade.is_none();
        let followed = (is_there && is_told).then(|| redirect::follow(stream, self.route, policy, head));
        match followed {
            Some(Ok(with_body)) => {
                stats.upstream_internal_redirect_succeeded_total.inc();
                return Some(if with_body { self.body.body() } else { Body::Empty });
            }
            Some(Err(refusal)) => stream.manager.stats.redirect_refused(refusal),
            None => {}
        }
        stats.upstream_internal_redirect_failed_total.inc();
        None
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
            self.cluster.stats.count_status(head.status.as_u16(), stream.internal);
            head.headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(0));
            return Response { head, body: Body::Empty };
        }
        self.cluster.stats.count_status(head.status.as_u16(), stream.internal);
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
            if let Some(service) = stream.upstream.service_time {
                self.cluster.stats.upstream_rq_time.record(service);
            }
            return Response { head, body };
        }
        let body =
            Watched::new(body, active, self.cluster.clone(), host, &stream.request, &head, self.body.progress.clone());
        let body = body.within(self.plan, self.begun);
        Response { head, body: Body::new(body) }
    }

    /// The answer of our own that stands for a failure.
    fn failure(&self, stream: &Stream, error: &UpstreamError) -> Box<LocalReply> {
        let reply = failure::reply(stream, error, self.retries > 0, self.plan.late_status);
        let status = reply.status.map_or(error.cause.status(), |status| status.as_u16());
        if status != 0 && StatusCode::from_u16(status).is_ok() && stream.upstream.attempts > 0 {
            self.cluster.stats.count_status(status, stream.internal);
        }
        Box::new(reply)
    }
}

/// Whether an answer to a WebSocket handshake is neither its grant nor an error: then nobody can tell what its body is.
fn is_failed_websocket(request: &RequestHead, head: &ResponseHead) -> bool {
    let asked = request.upgrade.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"));
    asked && head.upgrade.is_none() && !head.status.is_client_error() && !head.status.is_server_error()
}

/// Whether a CONNECT request ends at this proxy (`connect_config`), which then carries its bytes as TCP.
fn ends_here(head: &RequestHead, forward: &Forward) -> bool {
    let of_connect =
        |(kind, enabled, ends): &(Text, bool, bool)| *ends && *enabled && kind.eq_ignore_ascii_case("CONNECT");
    head.method == http::Method::CONNECT && forward.upgrades.iter().any(of_connect)
}
