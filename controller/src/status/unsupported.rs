//! What a rule asks for and translation does not do, by name. Translation answers such a rule with an error, and status
//! says so: a filter is never passed over silently.

use ferromesh_api::gateway_api::HttpRouteRule;
use ferromesh_api::gateway_api::filter::{FilterType, HttpRouteFilter};
use ferromesh_api::gateway_api::grpc_route::{GrpcRouteFilter, GrpcRouteRule};
use ferromesh_api::gateway_api::http_route::{NameValueMatch, PathMatchType, ValueMatchType};

/// What is not supported in a rule of an HTTPRoute; empty if all is.
pub fn unsupported_in_http_rule(rule: &HttpRouteRule) -> Vec<String> {
    let mut found = Vec::new();
    for (index, wanted) in rule.matches.iter().enumerate() {
        if let Some(path) = &wanted.path {
            match &path.type_ {
                PathMatchType::Unknown(word) => found.push(format!("matches[{index}].path.type {word}")),
                PathMatchType::RegularExpression => regex(&mut found, &format!("matches[{index}].path"), &path.value),
                PathMatchType::PathPrefix | PathMatchType::Exact => {}
            }
        }
        values(&mut found, &format!("matches[{index}].headers"), &wanted.headers);
        values(&mut found, &format!("matches[{index}].queryParams"), &wanted.query_params);
    }
    for (index, filter) in rule.filters.iter().enumerate() {
        found.extend(http_filter(filter).map(|what| format!("filters[{index}]: {what}")));
    }
    let has = |type_: FilterType| rule.filters.iter().any(|filter| filter.type_ == type_);
    if has(FilterType::RequestRedirect) && has(FilterType::UrlRewrite) {
        found.push("filters: RequestRedirect and URLRewrite do not go together".to_owned());
    }
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        for filter in &backend.filters {
            if !matches!(filter.type_, FilterType::RequestHeaderModifier | FilterType::ResponseHeaderModifier) {
                found.push(format!("backendRefs[{index}].filters: {}", filter.type_));
            }
        }
    }
    if rule.session_persistence.is_some() {
        found.push("sessionPersistence".to_owned());
    }
    found
}

/// What is not supported in a rule of a GRPCRoute; empty if all is.
pub fn unsupported_in_grpc_rule(rule: &GrpcRouteRule) -> Vec<String> {
    let mut found = Vec::new();
    for (index, wanted) in rule.matches.iter().enumerate() {
        if let Some(method) = &wanted.method {
            match &method.type_ {
                ValueMatchType::Unknown(word) => found.push(format!("matches[{index}].method.type {word}")),
                ValueMatchType::RegularExpression => {
                    for text in [&method.service, &method.method].into_iter().flatten() {
                        regex(&mut found, &format!("matches[{index}].method"), text);
                    }
                }
                ValueMatchType::Exact => {}
            }
        }
        values(&mut found, &format!("matches[{index}].headers"), &wanted.headers);
    }
    for (index, filter) in rule.filters.iter().enumerate() {
        found.extend(grpc_filter(filter).map(|what| format!("filters[{index}]: {what}")));
    }
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        for filter in &backend.filters {
            if !matches!(filter.type_, FilterType::RequestHeaderModifier | FilterType::ResponseHeaderModifier) {
                found.push(format!("backendRefs[{index}].filters: {}", filter.type_));
            }
        }
    }
    if rule.session_persistence.is_some() {
        found.push("sessionPersistence".to_owned());
    }
    found
}

fn values(found: &mut Vec<String>, at: &str, wanted: &[NameValueMatch]) {
    for wanted in wanted {
        match &wanted.type_ {
            ValueMatchType::Unknown(word) => found.push(format!("{at} {:?}: type {word}", wanted.name)),
            ValueMatchType::RegularExpression => regex(found, &format!("{at} {:?}", wanted.name), &wanted.value),
            ValueMatchType::Exact => {}
        }
    }
}

fn regex(found: &mut Vec<String>, at: &str, text: &str) {
    if regex::Regex::new(text).is_err() {
        found.push(format!("{at}: {text:?} is not a regular expression (RE2)"));
    }
}

/// What is wrong with a filter of an HTTPRoute, if anything.
fn http_filter(filter: &HttpRouteFilter) -> Option<String> {
    let written = match filter.type_ {
        FilterType::RequestHeaderModifier => filter.request_header_modifier.is_some(),
        FilterType::ResponseHeaderModifier => filter.response_header_modifier.is_some(),
        FilterType::RequestMirror => filter.request_mirror.is_some(),
        FilterType::RequestRedirect => filter.request_redirect.is_some(),
        FilterType::UrlRewrite => filter.url_rewrite.is_some(),
        FilterType::Cors => filter.cors.is_some(),
        FilterType::ExternalAuth | FilterType::ExtensionRef | FilterType::Unknown(_) => {
            return Some(format!("type {}", filter.type_));
        }
    };
    (!written).then(|| format!("type {} without its field", filter.type_))
}

/// What is wrong with a filter of a GRPCRoute, if anything.
fn grpc_filter(filter: &GrpcRouteFilter) -> Option<String> {
    let written = match filter.type_ {
        FilterType::RequestHeaderModifier => filter.request_header_modifier.is_some(),
        FilterType::ResponseHeaderModifier => filter.response_header_modifier.is_some(),
        FilterType::RequestMirror => filter.request_mirror.is_some(),
        _ => return Some(format!("type {}", filter.type_)),
    };
    (!written).then(|| format!("type {} without its field", filter.type_))
}
