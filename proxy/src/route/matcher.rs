//! Compiled matchers of paths, headers and query parameters: whether a route applies to a request.

use std::sync::OnceLock;

use ferromesh_proto::envoy::config::route::v3 as route;
use http::Method;
use regex::Regex;

use crate::config::{At, ConfigError, required};
use crate::connection::TlsInfo;
use crate::matcher::{
    HeaderMatcher, MetadataMatcher, QueryMatcher, StringMatcher, cookie, hit, metadata, re2, runtime_per_million,
};
use crate::message::RequestHead;

/// What a route match looks at.
#[derive(Clone, Copy)]
pub struct MatchInput<'a> {
    /// The request's head.
    pub request: &'a RequestHead,
    /// TLS of the client's connection.
    pub tls: Option<&'a TlsInfo>,
    /// Dynamic metadata.
    pub metadata: &'a metadata::Dynamic,
    /// Whether the request is internal (`require_tls: EXTERNAL_ONLY`).
    pub internal: bool,
    /// Decides fractions and weights; the same for the whole request.
    pub random: u64,
}

impl<'a> MatchInput<'a> {
    /// A plain-text request without metadata.
    pub fn plain(request: &'a RequestHead, random: u64) -> Self {
        static EMPTY: OnceLock<metadata::Dynamic> = OnceLock::new();
        Self { request, tls: None, metadata: EMPTY.get_or_init(Default::default), internal: false, random }
    }
}

/// When a route applies.
#[derive(Debug, Default)]
pub struct RouteMatch {
    pub(super) path: PathMatch,
    /// Everything but the path; most routes have none.
    rest: Option<Box<Rest>>,
}

/// How the path is matched; always without query.
#[derive(Debug, Default)]
pub(super) enum PathMatch {
    /// No request (the hidden route of `require_tls`).
    #[default]
    Never,
    Prefix(Box<str>, bool),
    Path(Box<str>, bool),
    /// A prefix that ends at a path separator.
    Separated(Box<str>, bool),
    Regex(Box<Regex>),
    Connect,
}

#[derive(Debug, Default)]
struct Rest {
    headers: Vec<HeaderMatcher>,
    query: Vec<QueryMatcher>,
    cookies: Vec<CookieMatcher>,
    metadata: Vec<MetadataMatcher>,
    grpc: bool,
    presented: Option<bool>,
    validated: Option<bool>,
    per_million: Option<u32>,
}

impl RouteMatch {
    /// Decodes a match.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(message: &route::RouteMatch) -> Result<Self, ConfigError> {
        use route::route_match::PathSpecifier;
        let exact = message.case_sensitive.unwrap_or(true);
        let path = match required(message.path_specifier.as_ref(), "path_specifier")? {
            PathSpecifier::Prefix(prefix) => PathMatch::Prefix(prefix.as_str().into(), exact),
            PathSpecifier::Path(path) => PathMatch::Path(path.as_str().into(), exact),
            PathSpecifier::PathSeparatedPrefix(prefix) => {
                if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                    let reason = "must start with '/', must not end with '/' nor have '?' or '#'";
                    return Err(ConfigError::new("path_separated_prefix", reason));
                }
                PathMatch::Separated(prefix.as_str().into(), exact)
            }
            PathSpecifier::SafeRegex(regex) => PathMatch::Regex(Box::new(
                re2::full(&regex.regex).map_err(|reason| ConfigError::new("safe_regex.regex", reason))?,
            )),
            PathSpecifier::ConnectMatcher(_) => PathMatch::Connect,
            PathSpecifier::PathMatchPolicy(_) => {
                return Err(ConfigError::new("path_match_policy", "is not implemented"));
            }
        };
        Ok(Self { path, rest: Rest::decode(message)? })
    }

    /// Whether the request matches.
    pub fn matches(&self, input: &MatchInput<'_>) -> bool {
        self.matches_path(input.request.path_only(), input.request) && self.matches_rest(input)
    }

    /// Whether all but the path matches.
    pub(super) fn matches_rest(&self, input: &MatchInput<'_>) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.matches(input))
    }

    /// Whether the path (without query) matches.
    pub(super) fn matches_path(&self, path: &str, request: &RequestHead) -> bool {
        if path.is_empty() {
            return matches!(self.path, PathMatch::Connect) && request.method == Method::CONNECT;
        }
        match &self.path {
            PathMatch::Never => false,
            PathMatch::Prefix(prefix, exact) => starts_with(path, prefix, *exact),
            PathMatch::Path(want, true) => path == &**want,
            PathMatch::Path(want, false) => path.eq_ignore_ascii_case(want),
            PathMatch::Separated(prefix, exact) => {
                starts_with(path, prefix, *exact) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
            PathMatch::Regex(regex) => regex.is_match(path),
            PathMatch::Connect => request.method == Method::CONNECT,
        }
    }

    /// Length of the part of the path that a prefix rewrite replaces.
    pub fn matched_length(&self, path: &str) -> usize {
        match &self.path {
            PathMatch::Prefix(prefix, _) | PathMatch::Separated(prefix, _) => prefix.len().min(path.len()),
            _ => path.len(),
        }
    }
}

fn starts_with(path: &str, prefix: &str, exact: bool) -> bool {
    path.as_bytes().get(..prefix.len()).is_some_and(|start| {
        if exact { start == prefix.as_bytes() } else { start.eq_ignore_ascii_case(prefix.as_bytes()) }
    })
}

impl Rest {
    fn decode(message: &route::RouteMatch) -> Result<Option<Box<Self>>, ConfigError> {
        let list = |index: usize, field: &str| format!("{field}[{index}]");
        let rest = Self {
            headers: HeaderMatcher::decode_list(&message.headers, "headers")?,
            query: QueryMatcher::decode_list(&message.query_parameters, "query_parameters")?,
            cookies: message
                .cookies
                .iter()
                .enumerate()
                .map(|(index, cookie)| CookieMatcher::decode(cookie).at(list(index, "cookies")))
                .collect::<Result<_, _>>()?,
            metadata: message
                .dynamic_metadata
                .iter()
                .enumerate()
                .map(|(index, one)| MetadataMatcher::decode(one).at(list(index, "dynamic_metadata")))
                .collect::<Result<_, _>>()?,
            grpc: message.grpc.is_some(),
            presented: message.tls_context.as_ref().and_then(|tls| tls.presented),
            validated: message.tls_context.as_ref().and_then(|tls| tls.validated),
            per_million: message.runtime_fraction.as_ref().map(runtime_per_million),
        };
        let any = !rest.headers.is_empty()
            || !rest.query.is_empty()
            || !rest.cookies.is_empty()
            || !rest.metadata.is_empty()
            || rest.grpc
            || rest.presented.is_some()
            || rest.validated.is_some()
            || rest.per_million.is_some();
        Ok(any.then(|| Box::new(rest)))
    }

    fn matches(&self, input: &MatchInput<'_>) -> bool {
        let presented = input.tls.is_some_and(|tls| tls.mtls);
        (!self.grpc || input.request.is_grpc())
            && self.per_million.is_none_or(|share| hit(share, input.random))
            && self.presented.is_none_or(|want| want == presented)
            && self.validated.is_none_or(|want| want == presented)
            && self.headers.iter().all(|matcher| matcher.matches_request(input.request))
            && self.query.iter().all(|matcher| matcher.matches(input.request.query()))
            && self.cookies.iter().all(|matcher| matcher.matches(input.request))
            && self.metadata.iter().all(|matcher| matcher.matches(input.metadata))
    }
}

#[derive(Debug)]
struct CookieMatcher {
    name: Box<str>,
    value: StringMatcher,
    invert: bool,
}

impl CookieMatcher {
    fn decode(message: &route::CookieMatcher) -> Result<Self, ConfigError> {
        let value =
            StringMatcher::decode(required(message.string_match.as_ref(), "string_match")?).at("string_match")?;
        Ok(Self { name: message.name.as_str().into(), value, invert: message.invert_match })
    }

    fn matches(&self, head: &RequestHead) -> bool {
        cookie(head, &self.name).is_some_and(|value| self.value.matches(value)) != self.invert
    }
}

#[cfg(test)]
mod tests;
