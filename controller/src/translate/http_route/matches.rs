//! A match of an HTTPRoute goes in; an Envoy match with its precedence comes out.

use ferromesh_api::gateway_api::http_route::{
    HttpRouteMatch, NameValueMatch, PathMatch, PathMatchType, ValueMatchType,
};
use ferromesh_api::gateway_api::rules::text::is_token;
use ferromesh_proto::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
};
use ferromesh_proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

use super::super::message::{exact, regex};
use super::{Rank, expressions, texts};

/// A translated match.
#[derive(Clone, Debug)]
pub struct Matched {
    /// Precedence.
    pub rank: Rank,
    /// The match.
    pub matching: RouteMatch,
    /// The prefix that it matches, if it matches one; without a slash at its end.
    pub prefix: Option<String>,
}

/// Translates a match; nothing for one that cannot be.
pub fn translate(matching: &HttpRouteMatch) -> Option<Matched> {
    if refusal(matching).is_some() {
        return None;
    }
    let default = PathMatch { type_: PathMatchType::PathPrefix, value: "/".to_owned() };
    let path = matching.path.as_ref().unwrap_or(&default);
    let (path_kind, specifier, prefix) = path_specifier(path);
    let mut headers = headers(&matching.headers);
    let queries = queries(&matching.query_params);
    let rank = Rank {
        path_kind,
        path_length: path.value.chars().count(),
        method: matching.method.is_some(),
        headers: headers.len(),
        queries: queries.len(),
    };
    if let Some(method) = &matching.method {
        headers.push(header(":method", HeaderMatchSpecifier::StringMatch(exact(method))));
    }
    let matching =
        RouteMatch { path_specifier: Some(specifier), headers, query_parameters: queries, ..RouteMatch::default() };
    Some(Matched { rank, matching, prefix })
}

/// Why a match cannot be translated.
pub fn refusal(matching: &HttpRouteMatch) -> Option<String> {
    if let Some(path) = &matching.path {
        match &path.type_ {
            PathMatchType::Unknown(word) => return Some(format!("path.type {word:?} is not known")),
            PathMatchType::RegularExpression => {
                if let Some(why) = expressions::refusal(&path.value) {
                    return Some(format!("path.value: {why}"));
                }
            }
            _ if path.value.contains(['?', '#']) => {
                return Some(format!("path.value {:?} has a character that no path has", path.value));
            }
            _ if !texts::is_visible(&path.value) => {
                return Some(format!("path.value {:?} has a character that no path has", path.value));
            }
            _ if !path.value.starts_with('/') => {
                return Some(format!("path.value {:?} does not begin with a slash", path.value));
            }
            _ => {}
        }
    }
    let values = matching.headers.iter().map(|value| ("headers", value));
    for (what, value) in values.chain(matching.query_params.iter().map(|value| ("queryParams", value))) {
        match &value.type_ {
            ValueMatchType::Unknown(word) => {
                return Some(format!("{what} {:?}: type {word:?} is not known", value.name));
            }
            ValueMatchType::RegularExpression => {
                if let Some(why) = expressions::refusal(&value.value) {
                    return Some(format!("{what} {:?}: {why}", value.name));
                }
            }
            ValueMatchType::Exact => {}
        }
        if value.name.is_empty() {
            return Some(format!("{what}: a name is empty"));
        }
    }
    if let Some(odd) = matching.headers.iter().find(|value| !is_token(&value.name)) {
        return Some(format!("headers: {:?} is not a name of a header", odd.name));
    }
    if let Some(long) = matching.query_params.iter().find(|value| value.name.len() > LONGEST_QUERY) {
        return Some(format!("queryParams: a name of {} bytes; {LONGEST_QUERY} is the most", long.name.len()));
    }
    let method = matching.method.as_ref().filter(|method| !is_token(method))?;
    Some(format!("method {method:?} is not a method of HTTP"))
}

/// The longest name of a query parameter that Envoy takes.
const LONGEST_QUERY: usize = 1024;

fn path_specifier(path: &PathMatch) -> (u8, PathSpecifier, Option<String>) {
    match path.type_ {
        PathMatchType::Exact => (2, PathSpecifier::Path(path.value.clone()), None),
        PathMatchType::RegularExpression => (0, PathSpecifier::SafeRegex(regex(&path.value)), None),
        _ => {
            // Prefixes go by elements, and a slash at the end means nothing.
            let prefix = path.value.trim_end_matches('/').to_owned();
            if prefix.is_empty() {
                (1, PathSpecifier::Prefix("/".to_owned()), Some(prefix))
            } else {
                (1, PathSpecifier::PathSeparatedPrefix(prefix.clone()), Some(prefix))
            }
        }
    }
}

/// Of several with one name the first counts.
fn first_of_each(values: &[NameValueMatch], same: fn(&str, &str) -> bool) -> Vec<&NameValueMatch> {
    let mut kept: Vec<&NameValueMatch> = Vec::new();
    for value in values {
        if !kept.iter().any(|other| same(&other.name, &value.name)) {
            kept.push(value);
        }
    }
    kept
}

fn string_matcher(value: &NameValueMatch) -> StringMatcher {
    match value.type_ {
        ValueMatchType::RegularExpression => StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(regex(&value.value))),
            ..StringMatcher::default()
        },
        _ => exact(&value.value),
    }
}

fn header(name: &str, specifier: HeaderMatchSpecifier) -> HeaderMatcher {
    HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..HeaderMatcher::default() }
}

/// Header matches; also for GRPCRoute.
pub fn headers(values: &[NameValueMatch]) -> Vec<HeaderMatcher> {
    let values = first_of_each(values, str::eq_ignore_ascii_case);
    values
        .into_iter()
        .map(|value| header(&value.name, HeaderMatchSpecifier::StringMatch(string_matcher(value))))
        .collect()
}

fn queries(values: &[NameValueMatch]) -> Vec<QueryParameterMatcher> {
    let values = first_of_each(values, |a, b| a == b);
    let one = |value: &NameValueMatch| QueryParameterMatcher {
        name: value.name.clone(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(string_matcher(value))),
    };
    values.into_iter().map(one).collect()
}
