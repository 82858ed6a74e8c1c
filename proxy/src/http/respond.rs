//! From a request to its response: head rules, route, filters in their order, action, filters back.

use std::any::TypeId;
use std::cell::Cell;
use std::rc::Rc;

use http::header::LOCATION;
use http::{HeaderValue, StatusCode};

use super::exchange::{self, Meter};
use super::filters::Flow;
use super::router::{self, Forwarded};
use super::{LocalReply, Response, grpc_timeout, head, local_reply};
use crate::body::Body;
use crate::cause::Cause;
use crate::connection::Peer;
use crate::http::manager::Routed;
use crate::http::stream::Stream;
use crate::route::internal_redirect::Followed;
use crate::route::rewrite::redirect_location;
use crate::route::{Action, SelectedRoute};

/// Makes the response. `passed` counts the filters that have seen the request, so that whoever drops this future
/// can still send them its own answer ([`reply`]).
pub async fn respond(stream: &mut Stream, mut body: Body, meter: &Rc<Meter>, passed: &Cell<usize>) -> Response {
    if let Err(refused) = head::request(stream) {
        return reply(stream, *refused, 0);
    }
    loop {
        match pass(stream, body, meter, passed).await {
            Forwarded::Answer(response) => return response,
            Forwarded::Redirected(redirected) => {
                stream.status = Some(redirected.answer.status.as_u16());
                stream.response = Some(redirected.answer);
                passed.set(0);
                exchange::finish_pass(stream, meter);
                // What the head says of the client's proxy was taken off it in the first pass.
                stream.begin_again(&[TypeId::of::<Followed>(), TypeId::of::<Peer>()]);
                stream.manager.stats.begin(stream.request.version);
                body = redirected.body;
            }
        }
    }
}

/// The way of a request through filters to its action and back; a request that is redirected here takes it again.
async fn pass(stream: &mut Stream, mut body: Body, meter: &Rc<Meter>, passed: &Cell<usize>) -> Forwarded {
    stream.route = stream.select_route();
    select_cluster(stream);
    set_limits(stream, meter);
    let filters = stream.manager.filters.clone();
    for entry in filters.iter() {
        passed.set(passed.get() + 1);
        if !entry.applies(stream) {
            continue;
        }
        let mut flow = entry.filter.on_request(stream, &mut body);
        loop {
            match flow {
                Flow::Next => break,
                Flow::Respond(answer) => return Forwarded::Answer(reply(stream, *answer, passed.get())),
                Flow::Wait(wait) => flow = wait.await,
            }
        }
    }
    let mut response = match act(stream, body).await {
        Forwarded::Answer(response) => response,
        redirected => return redirected,
    };
    back(stream, &mut response, passed.get());
    Forwarded::Answer(response)
}

/// Turns an answer of our own into a response, through the filters that the request has passed.
pub fn reply(stream: &mut Stream, answer: LocalReply, passed: usize) -> Response {
    let mut response = local_reply::response(stream, answer);
    back(stream, &mut response, passed);
    response
}

fn back(stream: &mut Stream, response: &mut Response, passed: usize) {
    // In an answer of our own they are already there.
    if let Some(route) = stream.route.clone().filter(|_| !stream.is_answered_here) {
        route.apply_response_headers(stream, &mut response.head);
    }
    let filters = stream.manager.filters.clone();
    for entry in filters.iter().take(passed).rev() {
        if entry.applies(stream) {
            entry.filter.on_response(stream, &mut response.head, &mut response.body);
        }
    }
    head::response(stream, &mut response.head);
}

/// The route's own limits go before the manager's.
fn set_limits(stream: &mut Stream, meter: &Meter) {
    meter.idle.set(stream.manager.stream_idle_timeout);
    meter.duration.set(stream.manager.max_stream_duration);
    let Some(route) = stream.route.clone() else { return };
    if let Action::Forward(forward) = &route.route().action {
        if let Some(idle) = forward.idle_timeout {
            meter.idle.set(Some(idle).filter(|idle| !idle.is_zero()));
        }
        if let Some(longest) = forward.max_stream_duration {
            meter.duration.set(Some(longest).filter(|longest| !longest.is_zero()));
        }
        if let Some(rule) = forward.grpc_timeout.as_ref().filter(|rule| rule.of_stream)
            && let Some(asked) = grpc_timeout::asked(&stream.request.headers)
        {
            let limit = grpc_timeout::bounded(asked, rule);
            meter.duration.set(Some(limit).filter(|limit| !limit.is_zero()));
            grpc_timeout::tell(&mut stream.request.headers, limit);
        }
    }
}

/// Notes the cluster of the route: filters and logs see it, whoever answers.
fn select_cluster(stream: &mut Stream) {
    stream.upstream.cluster_name = stream.route.as_ref().and_then(|route| route.cluster_name(&stream.request));
    let name = stream.upstream.cluster_name.as_ref();
    stream.upstream.cluster = name.and_then(|name| stream.worker.context.clusters.get(name));
}

async fn act(stream: &mut Stream, body: Body) -> Forwarded {
    stream.manager.stats.routed();
    let Some(route) = stream.route.clone() else {
        stream.manager.stats.answered_by_route(Routed::NoRoute);
        return Forwarded::Answer(local_reply::response(stream, LocalReply::new(Cause::RouteNotFound)));
    };
    if matches!(route.route().action, Action::Forward(_)) && is_upgrade_allowed(stream, &route) {
        return router::forward(stream, body).await;
    }
    Forwarded::Answer(answer_here(stream, &route))
}

/// The answer of a route that does not forward.
fn answer_here(stream: &mut Stream, route: &SelectedRoute) -> Response {
    match &route.route().action {
        Action::Forward(_) => local_reply::response(stream, LocalReply::new(Cause::UpgradeFailed)),
        Action::Direct { status, body } => {
            stream.manager.stats.answered_by_route(Routed::DirectResponse);
            let mut answer = LocalReply::new(Cause::DirectResponse).body(body.clone());
            answer.status = Some(*status);
            local_reply::response(stream, answer)
        }
        Action::Redirect(redirect) => {
            stream.manager.stats.answered_by_route(Routed::Redirect);
            let mut answer = LocalReply::new(Cause::DirectResponse);
            answer.status = Some(redirect.status);
            let location = redirect_location(redirect, route.route(), &stream.request);
            match HeaderValue::from_str(&location) {
                Ok(location) => answer.headers.insert(LOCATION, location),
                Err(_) => return local_reply::response(stream, LocalReply::new(Cause::InvalidPath)),
            };
            local_reply::response(stream, answer)
        }
        Action::NonForwarding => {
            let mut answer = LocalReply::new(Cause::RouteNotFound);
            answer.status = Some(StatusCode::NOT_FOUND);
            local_reply::response(stream, answer)
        }
    }
}

/// By the route if it says so, else by the manager.
fn is_upgrade_allowed(stream: &Stream, route: &SelectedRoute) -> bool {
    let Some(wanted) = &stream.request.upgrade else { return true };
    let of_route = match &route.route().action {
        Action::Forward(forward) => forward.upgrades.iter().find(|(kind, ..)| kind.eq_ignore_ascii_case(wanted)),
        _ => None,
    };
    match of_route {
        Some((_, enabled, _)) => *enabled,
        None => stream.manager.upgrades.iter().any(|kind| kind.eq_ignore_ascii_case(wanted)),
    }
}

/// Writes the access logs.
pub fn log(stream: &Stream) {
    let info = stream.info();
    for log in &stream.manager.access_logs {
        log.log(&info);
    }
}
