//! A rule of a GRPCRoute goes in; the same as a rule of an HTTPRoute, with its matches translated, comes out
//! (Gateway API v1: GRPCRoute; a gRPC call is a POST to `/<service>/<method>`).

use ferromesh_api::gateway_api::filter::HttpRouteFilter;
use ferromesh_api::gateway_api::grpc_route::{GrpcMethodMatch, GrpcRouteFilter, GrpcRouteMatch, GrpcRouteRule};
use ferromesh_api::gateway_api::http_route::ValueMatchType;
use ferromesh_api::gateway_api::{BackendRef, HttpRouteRule};
use ferromesh_proto::envoy::config::route::v3::{RouteMatch, route_match::PathSpecifier};

use super::http_route::expressions;
use super::http_route::matches::{self, Matched};
use super::http_route::{Place, Rank, Ranked, rule_with, texts};
use super::message::regex;

/// The longest that a method's name may be, as the CRD has it.
const LONGEST_METHOD: usize = 1024;

/// The routes of a rule: one for each match.
pub fn rule(place: &Place<'_>, rule: &GrpcRouteRule) -> Vec<Ranked> {
    let one = vec![GrpcRouteMatch::default()];
    let all = if rule.matches.is_empty() { &one } else { &rule.matches };
    rule_with(place, &as_http(rule), all.iter().filter_map(translate).collect())
}

/// What in a rule cannot be translated, by name.
pub fn unsupported(rule: &GrpcRouteRule) -> Vec<String> {
    let mut found = super::http_route::unsupported(&as_http(rule));
    for (index, matching) in rule.matches.iter().enumerate() {
        if let Some(why) = refusal(matching) {
            found.push(format!("matches[{index}]: {why}"));
        }
    }
    found
}

/// Whether no request reaches a backend by this rule, since what it asks for cannot be translated.
pub fn refused(rule: &GrpcRouteRule) -> bool {
    let matchless = !rule.matches.is_empty() && rule.matches.iter().all(|one| refusal(one).is_some());
    matchless || super::http_route::refused(&as_http(rule))
}

fn as_http(rule: &GrpcRouteRule) -> HttpRouteRule {
    let backends = rule.backend_refs.iter().map(|backend| BackendRef {
        object: backend.object.clone(),
        weight: backend.weight,
        filters: backend.filters.iter().map(filter).collect(),
    });
    HttpRouteRule {
        name: rule.name.clone(),
        filters: rule.filters.iter().map(filter).collect(),
        backend_refs: backends.collect(),
        session_persistence: rule.session_persistence.clone(),
        ..HttpRouteRule::default()
    }
}

fn filter(filter: &GrpcRouteFilter) -> HttpRouteFilter {
    HttpRouteFilter {
        type_: filter.type_.clone(),
        request_header_modifier: filter.request_header_modifier.clone(),
        response_header_modifier: filter.response_header_modifier.clone(),
        request_mirror: filter.request_mirror.clone(),
        extension_ref: filter.extension_ref.clone(),
        ..HttpRouteFilter::default()
    }
}

fn refusal(matching: &GrpcRouteMatch) -> Option<String> {
    let headers = ferromesh_api::gateway_api::http_route::HttpRouteMatch {
        headers: matching.headers.clone(),
        ..Default::default()
    };
    if let Some(why) = matches::refusal(&headers) {
        return Some(why);
    }
    let method = matching.method.as_ref()?;
    match &method.type_ {
        ValueMatchType::Unknown(word) => Some(format!("method.type {word:?} is not known")),
        ValueMatchType::RegularExpression => method
            .service
            .iter()
            .chain(&method.method)
            .filter(|text| !text.is_empty())
            .find_map(|text| expressions::refusal(text)),
        ValueMatchType::Exact => {
            let mut words = method.service.iter().chain(&method.method);
            let odd = words.find(|word| word.contains(['/', '?', '#']) || !texts::is_visible(word))?;
            Some(format!("method: {odd:?} has a character that no name has"))
        }
    }
}

fn translate(matching: &GrpcRouteMatch) -> Option<Matched> {
    if refusal(matching).is_some() {
        return None;
    }
    let (path_kind, path_length, specifier) = path(matching.method.as_ref());
    let headers = matches::headers(&matching.headers);
    let rank = Rank { path_kind, path_length, method: false, headers: headers.len(), queries: 0 };
    let matching = RouteMatch { path_specifier: Some(specifier), headers, ..RouteMatch::default() };
    Some(Matched { rank, matching, prefix: None })
}

/// Kind and length of the path for precedence (GRPCRouteRule: characters of the service, of the method, then headers).
fn path(method: Option<&GrpcMethodMatch>) -> (u8, usize, PathSpecifier) {
    // What names no service and no method comes after all that does.
    let everything = || (0, 0, PathSpecifier::Prefix("/".to_owned()));
    // Expressions cannot be told apart by their own length: the API compares the service's first, then the method's.
    let expressed = |service: usize, method: usize| 1 + service * (LONGEST_METHOD + 1) + method.min(LONGEST_METHOD);
    let Some(found) = method else { return everything() };
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, method) = (some(&found.service), some(&found.method));
    if found.type_ == ValueMatchType::RegularExpression {
        if service.is_none() && method.is_none() {
            return everything();
        }
        let length = |text: &Option<String>| text.as_ref().map_or(0, |text| text.chars().count());
        let length = expressed(length(&service), length(&method));
        let any = || "[^/]+".to_owned();
        let expression = format!("/{}/{}", service.unwrap_or_else(any), method.unwrap_or_else(any));
        return (0, length, PathSpecifier::SafeRegex(regex(&expression)));
    }
    match (service, method) {
        (Some(service), Some(method)) => {
            let path = format!("/{service}/{method}");
            (2, path.len(), PathSpecifier::Path(path))
        }
        (Some(service), None) => {
            let path = format!("/{service}/");
            (1, path.len(), PathSpecifier::Prefix(path))
        }
        (None, Some(method)) => {
            let expression = format!("/[^/]+/{}", regex::escape(&method));
            (0, expressed(0, method.chars().count()), PathSpecifier::SafeRegex(regex(&expression)))
        }
        (None, None) => everything(),
    }
}
