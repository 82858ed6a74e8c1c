//! A rule of an HTTPRoute (or a GRPCRoute, made into one by [`super::grpc_route`]) goes in; Envoy routes with their
//! precedence come out (Gateway API v1: HTTPRoute).

pub mod backend;
pub mod expressions;
pub mod filters;
pub mod matches;
pub mod rewrite;
pub mod texts;

use std::cmp::Reverse;

use ferromesh_api::gateway_api::filter::FilterType;
use ferromesh_api::gateway_api::{HttpRouteRule, http_route};
use ferromesh_proto::envoy::config::route::v3::{RetryPolicy, Route, RouteAction, route::Action};

use super::message::duration;
use super::route::{RETRY_ON, decorator, default_retries, direct_response, set_timeout};
use crate::index::references::Callers;
use crate::index::{Key, Kind, View};

/// Where a rule stands.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The cluster as known.
    pub view: &'a View,
    /// Kind of the route.
    pub kind: Kind,
    /// The route.
    pub key: &'a Key,
    /// Number of the rule.
    pub rule: usize,
    /// Port of the Gateway's listener (or the Service).
    pub port: u16,
    /// Whether the listener ends TLS.
    pub tls: bool,
    /// Whose requests they are.
    pub callers: Callers,
}

impl Place<'_> {
    /// `<namespace>.<name>.<rule>`.
    fn name(&self) -> String {
        format!("{}.{}.{}", self.key.namespace, self.key.name, self.rule)
    }
}

/// Gateway API's precedence among the rules of a host: higher comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Exact path, then prefix, then expression.
    pub path_kind: u8,
    /// The longer path.
    pub path_length: usize,
    /// One that names a method.
    pub method: bool,
    /// The one with more headers.
    pub headers: usize,
    /// The one with more query parameters.
    pub queries: usize,
}

/// A route with its precedence.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Precedence.
    pub rank: Rank,
    /// The route.
    pub route: Route,
}

/// Sorts by precedence; what is equal stays as it was given: oldest route first, rules in their order.
pub fn sorted(mut routes: Vec<Ranked>) -> Vec<Route> {
    routes.sort_by_key(|ranked| Reverse(ranked.rank));
    routes.into_iter().map(|ranked| ranked.route).collect()
}

/// The routes of a rule: one for each match.
pub fn rule(place: &Place<'_>, rule: &HttpRouteRule) -> Vec<Ranked> {
    let one = vec![http_route::HttpRouteMatch::default()];
    let matches = if rule.matches.is_empty() { &one } else { &rule.matches };
    let translated = matches.iter().filter_map(matches::translate);
    translated.map(|matched| Ranked { rank: matched.rank, route: route(place, rule, matched) }).collect()
}

/// The routes of a rule whose matches are translated already.
pub fn rule_with(place: &Place<'_>, rule: &HttpRouteRule, matches: Vec<matches::Matched>) -> Vec<Ranked> {
    matches.into_iter().map(|matched| Ranked { rank: matched.rank, route: route(place, rule, matched) }).collect()
}

/// What in a rule cannot be translated, by name. Requests for such a rule get 500.
pub fn unsupported(rule: &HttpRouteRule) -> Vec<String> {
    let mut found = Vec::new();
    for (index, filter) in rule.filters.iter().enumerate() {
        if let Some(why) = filters::unsupported(filter) {
            found.push(format!("filters[{index}]: {why}"));
        }
    }
    for (number, backend) in rule.backend_refs.iter().enumerate() {
        for (index, filter) in backend.filters.iter().enumerate() {
            let modifier =
                matches!(filter.type_, FilterType::RequestHeaderModifier | FilterType::ResponseHeaderModifier);
            if !modifier {
                found.push(format!(
                    "backendRefs[{number}].filters[{index}]: {} is not supported on a backend, only on a rule",
                    filter.type_
                ));
            } else if let Some(why) = texts::refusal(filter) {
                found.push(format!("backendRefs[{number}].filters[{index}]: {why}"));
            }
        }
    }
    let weights: u64 = rule.backend_refs.iter().map(|backend| u64::from(backend.weight())).sum();
    if weights > u64::from(u32::MAX) {
        found.push(format!("backendRefs: the sum of all weights is {weights}, and {} is the most", u32::MAX));
    }
    for (index, matching) in rule.matches.iter().enumerate() {
        if let Some(why) = matches::refusal(matching) {
            found.push(format!("matches[{index}]: {why}"));
        }
    }
    let has = |type_: FilterType| rule.filters.iter().any(|filter| filter.type_ == type_);
    if has(FilterType::RequestRedirect) && has(FilterType::UrlRewrite) {
        found.push("filters: RequestRedirect and URLRewrite do not go together".to_owned());
    }
    if rule.session_persistence.is_some() {
        found.push("sessionPersistence is not supported yet".to_owned());
    }
    found
}

/// Whether no request reaches a backend by this rule, since what it asks for cannot be translated.
pub fn refused(rule: &HttpRouteRule) -> bool {
    let matchless = !rule.matches.is_empty() && rule.matches.iter().all(|one| matches::refusal(one).is_some());
    matchless || !unsupported_filters(rule).is_empty()
}

fn route(place: &Place<'_>, rule: &HttpRouteRule, matched: matches::Matched) -> Route {
    let name = place.name();
    if !unsupported_filters(rule).is_empty() {
        return direct_response(matched.matching, &name, 500);
    }
    let redirect = rule.filters.iter().find_map(|filter| filter.request_redirect.as_ref());
    let mut route = Route { name: name.clone(), r#match: Some(matched.matching.clone()), ..Route::default() };
    filters::headers(&rule.filters, &mut route);
    filters::cors(&rule.filters, &mut route);
    if let Some(redirect) = redirect {
        route.action = Some(Action::Redirect(rewrite::redirect(place, redirect, matched.prefix.as_deref())));
        return route;
    }
    let chosen = backend::choose(place, rule);
    let Some(mut action) = chosen.action else {
        // Headers of the response are set on what the gateway says by itself, too.
        let answer = direct_response(matched.matching, &name, 500);
        return Route { action: answer.action, ..route };
    };
    route.decorator = chosen.host_port.as_deref().map(decorator);
    rewrite::apply(&rule.filters, matched.prefix.as_deref(), &mut action);
    action.request_mirror_policies = filters::mirrors(place, &rule.filters);
    time_and_retries(place, rule, &mut action);
    route.action = Some(Action::Route(action));
    route
}

fn unsupported_filters(rule: &HttpRouteRule) -> Vec<String> {
    unsupported(rule).into_iter().filter(|why| !why.starts_with("matches") && !why.starts_with("session")).collect()
}

fn time_and_retries(place: &Place<'_>, rule: &HttpRouteRule, action: &mut RouteAction) {
    let limit = |timeout: Option<ferromesh_api::Duration>| timeout.map(|timeout| timeout.0).filter(|t| !t.is_zero());
    let timeouts = rule.timeouts.unwrap_or_default();
    set_timeout(action, limit(timeouts.request));
    let mut retries = default_retries(&place.view.mesh);
    if let Some(retry) = &rule.retry {
        let base =
            retries.take().unwrap_or_else(|| RetryPolicy { retry_on: RETRY_ON.to_owned(), ..Default::default() });
        retries = Some(own_retries(retry, base));
    }
    if let Some(per_try) = limit(timeouts.backend_request) {
        // A limit for each try needs a policy, even one without tries.
        let policy = retries.get_or_insert_with(|| RetryPolicy { num_retries: Some(0), ..RetryPolicy::default() });
        policy.per_try_timeout = Some(duration(per_try));
    }
    action.retry_policy = retries.filter(|policy| policy.num_retries != Some(0) || policy.per_try_timeout.is_some());
}

fn own_retries(retry: &http_route::Retry, base: RetryPolicy) -> RetryPolicy {
    use ferromesh_proto::envoy::config::route::v3::retry_policy::RetryBackOff;
    let backoff = retry.backoff.map(|backoff| backoff.0).filter(|backoff| !backoff.is_zero());
    RetryPolicy {
        num_retries: Some(retry.attempts.unwrap_or(1)),
        retriable_status_codes: retry.codes.iter().map(|code| u32::from(*code)).collect(),
        retry_back_off: backoff.map(|backoff| RetryBackOff {
            base_interval: Some(duration(backoff)),
            // The API gives the least time between tries and leaves the growth open.
            max_interval: Some(duration(backoff.saturating_mul(10))),
        }),
        ..base
    }
}
