//! GRPCRoute.

use super::{Broken, filters, http_route, parents};
use crate::gateway_api::GrpcRoute;
use crate::gateway_api::filter::HttpRouteFilter;
use crate::gateway_api::grpc_route::{GrpcMethodMatch, GrpcRouteFilter, GrpcRouteRule};
use crate::gateway_api::http_route::ValueMatchType;

/// What in a GRPCRoute breaks a rule.
pub fn grpc_route(route: &GrpcRoute) -> Vec<String> {
    let (mut broken, spec) = (Broken::default(), &route.spec);
    parents::check(&mut broken, &spec.parent_refs, &spec.hostnames);
    broken.most(spec.rules.len(), 16, "spec.rules");
    let matches = spec.rules.iter().map(|rule| rule.matches.len()).sum();
    broken.most(matches, 128, "spec.rules: matches of all rules");
    parents::rule_names(&mut broken, spec.rules.iter().map(|rule| rule.name.as_deref()));
    for (index, one) in spec.rules.iter().enumerate() {
        rule(&mut broken, one, &format!("spec.rules[{index}]"));
    }
    broken.0
}

fn rule(broken: &mut Broken, rule: &GrpcRouteRule, path: &str) {
    broken.most(rule.matches.len(), 64, &format!("{path}.matches"));
    for (index, matching) in rule.matches.iter().enumerate() {
        let path = format!("{path}.matches[{index}]");
        http_route::headers(broken, &matching.headers, &format!("{path}.headers"));
        for (number, header) in matching.headers.iter().enumerate() {
            let good = (1..=4096).contains(&header.value.len());
            broken.check(good, &format!("{path}.headers[{number}].value"), "is empty or too long");
        }
        if let Some(found) = &matching.method {
            method(broken, found, &format!("{path}.method"));
        }
    }
    filters::check(broken, &as_http(&rule.filters), &format!("{path}.filters"));
    broken.most(rule.backend_refs.len(), 16, &format!("{path}.backendRefs"));
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        let path = format!("{path}.backendRefs[{index}]");
        broken.backend(&backend.object, &path);
        broken.check(backend.weight() <= 1_000_000, &format!("{path}.weight"), "is more than 1000000");
        filters::check(broken, &as_http(&backend.filters), &format!("{path}.filters"));
    }
}

fn as_http(filters: &[GrpcRouteFilter]) -> Vec<HttpRouteFilter> {
    let one = |filter: &GrpcRouteFilter| HttpRouteFilter {
        type_: filter.type_.clone(),
        request_header_modifier: filter.request_header_modifier.clone(),
        response_header_modifier: filter.response_header_modifier.clone(),
        request_mirror: filter.request_mirror.clone(),
        extension_ref: filter.extension_ref.clone(),
        ..HttpRouteFilter::default()
    };
    filters.iter().map(one).collect()
}

/// Names as protobuf has them, unless they are expressions.
fn method(broken: &mut Broken, method: &GrpcMethodMatch, path: &str) {
    let one = method.service.is_some() || method.method.is_some();
    broken.check(one, path, "service or method must be written");
    if method.type_ != ValueMatchType::Exact {
        return;
    }
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if let Some(service) = &method.service {
        let good = service.strip_prefix('.').unwrap_or(service).split('.').all(word);
        broken.check(good, &format!("{path}.service"), &format!("{service:?} is not a name of a service"));
    }
    if let Some(name) = &method.method {
        broken.check(word(name), &format!("{path}.method"), &format!("{name:?} is not a name of a method"));
    }
}
