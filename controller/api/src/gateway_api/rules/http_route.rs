//! HTTPRoute.

use super::{Broken, filters, parents, text};
use crate::gateway_api::http_route::{HttpRouteMatch, NameValueMatch, PathMatchType};
use crate::gateway_api::{HttpRoute, HttpRouteRule};

/// What in an HTTPRoute breaks a rule.
pub fn http_route(route: &HttpRoute) -> Vec<String> {
    let (mut broken, spec) = (Broken::default(), &route.spec);
    parents::check(&mut broken, &spec.parent_refs, &spec.hostnames);
    broken.check(!spec.rules.is_empty(), "spec.rules", "is empty");
    broken.most(spec.rules.len(), 16, "spec.rules");
    let matches = spec.rules.iter().map(|rule| rule.matches.len()).sum();
    broken.most(matches, 128, "spec.rules: matches of all rules");
    parents::rule_names(&mut broken, spec.rules.iter().map(|rule| rule.name.as_deref()));
    for (index, one) in spec.rules.iter().enumerate() {
        rule(&mut broken, one, &format!("spec.rules[{index}]"));
    }
    broken.0
}

fn rule(broken: &mut Broken, rule: &HttpRouteRule, path: &str) {
    broken.most(rule.matches.len(), 64, &format!("{path}.matches"));
    for (index, matching) in rule.matches.iter().enumerate() {
        matches(broken, matching, &format!("{path}.matches[{index}]"));
    }
    filters::check(broken, &rule.filters, &format!("{path}.filters"));
    broken.most(rule.backend_refs.len(), 16, &format!("{path}.backendRefs"));
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        let path = format!("{path}.backendRefs[{index}]");
        broken.backend(&backend.object, &path);
        broken.check(backend.weight() <= 1_000_000, &format!("{path}.weight"), "is more than 1000000");
        filters::check(broken, &backend.filters, &format!("{path}.filters"));
    }
    let redirects = rule.filters.iter().any(|filter| filter.request_redirect.is_some());
    let both = redirects && !rule.backend_refs.is_empty();
    broken.check(!both, path, "a rule with a RequestRedirect has no backendRefs");
    replaces_prefix(broken, rule, path);
    if let Some(timeouts) = &rule.timeouts
        && let (Some(request), Some(each)) = (timeouts.request, timeouts.backend_request)
    {
        let good = request.0.is_zero() || each <= request;
        broken.check(good, &format!("{path}.timeouts.backendRequest"), "is longer than timeouts.request");
    }
    if let Some(retry) = &rule.retry {
        broken.check(retry.attempts != Some(0), &format!("{path}.retry.attempts"), "must not be 0");
        let good = retry.codes.iter().all(|code| (400..=599).contains(code));
        broken.check(good, &format!("{path}.retry.codes"), "a code is not between 400 and 599");
    }
}

/// What is put in place of a prefix needs one match, of a prefix.
fn replaces_prefix(broken: &mut Broken, rule: &HttpRouteRule, path: &str) {
    let prefix = |one: &HttpRouteMatch| one.path.as_ref().is_none_or(|path| path.type_ == PathMatchType::PathPrefix);
    // No match at all stands for the prefix `/`.
    let good = rule.matches.len() <= 1 && rule.matches.iter().all(prefix);
    let own = rule.filters.iter().map(|filter| (filter, "filters".to_owned()));
    let backends = rule.backend_refs.iter().enumerate();
    let theirs = backends.flat_map(|(index, backend)| {
        backend.filters.iter().map(move |filter| (filter, format!("backendRefs[{index}].filters")))
    });
    for (_, place) in own.chain(theirs).filter(|(filter, _)| filters::replaces_prefix(filter)) {
        broken.check(good, &format!("{path}.{place}"), "ReplacePrefixMatch needs exactly one match, of a PathPrefix");
    }
}

fn matches(broken: &mut Broken, matching: &HttpRouteMatch, path: &str) {
    if let Some(found) = &matching.path {
        let path = format!("{path}.path.value");
        broken.most(found.value.len(), 1024, &format!("{path}: characters"));
        if matches!(found.type_, PathMatchType::Exact | PathMatchType::PathPrefix) {
            literal(broken, &found.value, &path);
        }
    }
    if let Some(method) = &matching.method {
        let good = filters::METHODS.contains(&method.as_str());
        broken.check(good, &format!("{path}.method"), &format!("{method:?} is not a method of HTTP"));
    }
    headers(broken, &matching.headers, &format!("{path}.headers"));
    for (index, header) in matching.headers.iter().enumerate() {
        filters::value(broken, &header.value, &format!("{path}.headers[{index}].value"));
    }
    headers(broken, &matching.query_params, &format!("{path}.queryParams"));
    for (index, query) in matching.query_params.iter().enumerate() {
        let good = (1..=1024).contains(&query.value.len());
        broken.check(good, &format!("{path}.queryParams[{index}].value"), "is empty or too long");
    }
}

/// Names to compare with; also for GRPCRoute.
pub(super) fn headers(broken: &mut Broken, list: &[NameValueMatch], path: &str) {
    broken.most(list.len(), 16, path);
    broken.unique(list.iter().map(|one| one.name.as_str()), path);
    for (index, one) in list.iter().enumerate() {
        filters::name(broken, &one.name, &format!("{path}[{index}].name"));
    }
}

/// A path that is compared as it is written: normalized, without a query.
fn literal(broken: &mut Broken, value: &str, path: &str) {
    broken.check(value.starts_with('/'), path, &format!("{value:?} does not begin with a slash"));
    broken.check(text::is_path(value), path, &format!("{value:?} has a character that no path has"));
    for part in ["//", "/./", "/../", "%2f", "%2F"] {
        broken.check(!value.contains(part), path, &format!("{value:?} has {part:?} in it"));
    }
    for end in ["/..", "/."] {
        broken.check(!value.ends_with(end), path, &format!("{value:?} ends with {end:?}"));
    }
}
