//! The router: forwards a request to a cluster (retries, timeouts, mirrors).
//!
//! ```text
//! plan (limits, retries, rewrites) -> [host -> pool -> exchange] once for each try -> response, watched to its end
//! ```

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::{LocalReply, RequestHead, Response, local_reply};
use crate::body::Body;
use crate::cause::Cause;
use crate::cluster::UpstreamProtocol;
use crate::http::manager::Routed;
use crate::http::stream::Stream;
use crate::route::rewrite::{rewrite_host, rewrite_path};
use crate::route::{Action, Forward, SelectedRoute, hash};
use crate::text::Text;

mod answer;
mod failure;
mod levels;
mod limits;
mod mirror;
mod outcome;
pub mod plan;
mod redirect;
mod replay;
pub mod retry;
mod tries;
mod unprocessed;
mod wanted;

pub use redirect::Redirected;
use replay::Replay;
use tries::Tries;

/// Bodies up to this size can be sent again.
const REPLAY_LIMIT: usize = 64 * 1024;

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What came of forwarding.
pub enum Forwarded {
    /// An answer for the client.
    Answer(Response),
    /// The request begins anew, where the upstream redirected it to.
    Redirected(Box<Redirected>),
}

/// Forwards the request of `stream` as its route says.
pub async fn forward(stream: &mut Stream, body: Body) -> Forwarded {
    let route = stream.route.clone();
    let mut response = match &route {
        Some(route) => match exchange(stream, route, body).await {
            Ok(Forwarded::Answer(response)) => response,
            Ok(redirected) => return redirected,
            Err(reply) => local_reply::response(stream, *reply),
        },
        None => local_reply::response(stream, LocalReply::new(Cause::RouteNotFound)),
    };
    let Some(route) = route else { return Forwarded::Answer(response) };
    if route.virtual_host().include_attempt_count_in_response && stream.upstream.attempts > 0 {
        response.head.headers.insert(ATTEMPT_COUNT, HeaderValue::from(stream.upstream.attempts));
    }
    Forwarded::Answer(response)
}

async fn exchange(stream: &mut Stream, route: &SelectedRoute, body: Body) -> Result<Forwarded, Box<LocalReply>> {
    let Action::Forward(forward) = &route.route().action else {
        return Err(Box::new(LocalReply::new(Cause::RouteNotFound)));
    };
    let Some(cluster) = stream.upstream.cluster.clone() else {
        stream.manager.stats.answered_by_route(Routed::NoCluster);
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
    // Only a balancer that hashes asks for it; for others no cookie is made.
    let policies = if cluster.hashes() { forward.hash.as_slice() } else { &[] };
    let (hash, cookie) = hash::hash(policies, &stream.request, stream.remote, fastrand::u64(..));
    finish_request(stream, route, forward);
    // A server that says GOAWAY gets what it has not processed again, on its next connection.
    let keep = plan.retry.is_some()
        || forward.internal_redirect.is_some()
        || (cluster.config.protocol != UpstreamProtocol::Http1 && !is_tunnel);
    let limit = if keep { REPLAY_LIMIT.min(cluster.config.buffer_limit) } else { 0 };
    let body = Replay::new(body, limit);
    mirror::start(stream, route, forward, &body, plan.timeout);
    let mut tries = Tries::new(route, forward, cluster, &plan, body, hash, stream.worker.timers.take());
    let forwarded = tries.run(stream).await;
    stream.worker.timers.give(tries.into_timer());
    let mut forwarded = forwarded?;
    if let Forwarded::Answer(response) = &mut forwarded
        && let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok())
    {
        response.head.headers.append(http::header::SET_COOKIE, cookie);
    }
    Ok(forwarded)
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

#[cfg(test)]
mod tests;
