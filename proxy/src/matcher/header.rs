//! Compiled header matchers (`envoy.config.route.v3.HeaderMatcher`).

use std::borrow::Cow;

use ferromesh_proto::envoy::config::route::v3 as route;
use http::{HeaderMap, HeaderName};

use super::StringMatcher;
use crate::config::{At, ConfigError};
use crate::message::{RequestHead, ResponseHead};

/// The name of a header or pseudo-header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// `:authority` or `host`.
    Authority,
    /// `:path`, with query.
    Path,
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:protocol`, of extended CONNECT.
    Protocol,
    /// `:status`.
    Status,
    /// Any other.
    Header(HeaderName),
}

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// If it is no valid header name.
    pub fn parse(name: &str) -> Result<Self, ConfigError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            ":authority" | "host" => Self::Authority,
            ":path" => Self::Path,
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            ":protocol" => Self::Protocol,
            ":status" => Self::Status,
            other => Self::Header(
                HeaderName::from_bytes(other.as_bytes())
                    .map_err(|_| ConfigError::new("", format!("{name:?} is not a valid header name")))?,
            ),
        })
    }

    /// Its value in a request; several lines are joined with commas.
    pub fn in_request<'a>(&self, head: &'a RequestHead) -> Option<Cow<'a, str>> {
        // CONNECT has no path, and a request that could not be read has none of them.
        let some = |text: &'a str| Some(Cow::Borrowed(text)).filter(|text| !text.is_empty());
        match self {
            Self::Authority => some(head.authority.as_str()),
            Self::Path => some(head.path.as_str()),
            Self::Method => Some(Cow::Borrowed(head.method.as_str())),
            Self::Scheme => some(head.scheme.as_str()),
            Self::Protocol => head.upgrade.as_ref().map(|text| Cow::Borrowed(text.as_str())),
            Self::Status => None,
            Self::Header(name) => joined(&head.headers, name),
        }
    }

    /// Its first value in a request.
    pub fn first_in_request<'a>(&self, head: &'a RequestHead) -> Option<Cow<'a, str>> {
        match self {
            Self::Header(_) => self.first_in(&head.headers),
            other => other.in_request(head),
        }
    }

    /// Its first value in a response.
    pub fn first_in_response<'a>(&self, head: &'a ResponseHead) -> Option<Cow<'a, str>> {
        match self {
            Self::Header(_) => self.first_in(&head.headers),
            other => other.in_response(head),
        }
    }

    /// Its first value among headers; pseudo-headers have none.
    pub fn first_in<'a>(&self, headers: &'a HeaderMap) -> Option<Cow<'a, str>> {
        let Self::Header(name) = self else { return None };
        headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
    }

    /// Its value in a response; several lines are joined with commas.
    pub fn in_response<'a>(&self, head: &'a ResponseHead) -> Option<Cow<'a, str>> {
        match self {
            Self::Status => Some(Cow::Borrowed(head.status.as_str())),
            Self::Header(name) => joined(&head.headers, name),
            _ => None,
        }
    }
}

/// The value of a header; several lines are joined with commas, bytes that are not UTF-8 are replaced.
pub fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter();
    let first = String::from_utf8_lossy(values.next()?.as_bytes());
    let Some(second) = values.next() else { return Some(first) };
    let mut all = first.into_owned();
    for value in std::iter::once(second).chain(values) {
        all.push(',');
        all.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    Some(Cow::Owned(all))
}

/// Matches one header.
#[derive(Debug, Clone)]
pub struct HeaderMatcher {
    name: Name,
    kind: Kind,
    invert: bool,
    missing_as_empty: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Present(bool),
    Range(i64, i64),
    Text(StringMatcher),
}

impl HeaderMatcher {
    /// Decodes a matcher.
    ///
    /// # Errors
    /// Names the field that is wrong.
    #[allow(deprecated)]
    pub fn decode(message: &route::HeaderMatcher) -> Result<Self, ConfigError> {
        use route::header_matcher::HeaderMatchSpecifier as Specifier;
        let some = |text: &str, field: &str| match text {
            "" => Err(ConfigError::new(field, "must not be empty")),
            text => Ok(Box::<str>::from(text)),
        };
        let kind = match message.header_match_specifier.as_ref() {
            None => Kind::Present(true),
            Some(Specifier::PresentMatch(present)) => Kind::Present(*present),
            Some(Specifier::RangeMatch(range)) => Kind::Range(range.start, range.end),
            Some(Specifier::ExactMatch(text)) => Kind::Text(StringMatcher::Exact(text.as_str().into())),
            Some(Specifier::PrefixMatch(text)) => Kind::Text(StringMatcher::Prefix(some(text, "prefix_match")?, false)),
            Some(Specifier::SuffixMatch(text)) => Kind::Text(StringMatcher::Suffix(some(text, "suffix_match")?, false)),
            Some(Specifier::ContainsMatch(text)) => {
                Kind::Text(StringMatcher::Contains(some(text, "contains_match")?, false))
            }
            Some(Specifier::SafeRegexMatch(regex)) => Kind::Text(StringMatcher::regex(regex).at("safe_regex_match")?),
            Some(Specifier::StringMatch(text)) => Kind::Text(StringMatcher::decode(text).at("string_match")?),
        };
        Ok(Self {
            name: Name::parse(&message.name).at("name")?,
            kind,
            invert: message.invert_match,
            missing_as_empty: message.treat_missing_header_as_empty,
        })
    }

    /// One that asks for a header of this name; `None` if it is no name.
    pub fn present(name: &str) -> Option<Self> {
        let message = route::HeaderMatcher {
            name: name.to_owned(),
            header_match_specifier: Some(route::header_matcher::HeaderMatchSpecifier::PresentMatch(true)),
            ..Default::default()
        };
        Self::decode(&message).ok()
    }

    /// Decodes a list of matchers; errors name `field` and the place in it.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn decode_list(messages: &[route::HeaderMatcher], field: &str) -> Result<Vec<Self>, ConfigError> {
        messages
            .iter()
            .enumerate()
            .map(|(index, message)| Self::decode(message).at(format!("{field}[{index}]")))
            .collect()
    }

    /// Whether the request matches.
    pub fn matches_request(&self, head: &RequestHead) -> bool {
        match &self.name {
            Name::Header(name) => self.matches_lines(&head.headers, name),
            other => self.matches_value(other.in_request(head).as_deref()),
        }
    }

    /// Whether the response matches.
    pub fn matches_response(&self, head: &ResponseHead) -> bool {
        match &self.name {
            Name::Header(name) => self.matches_lines(&head.headers, name),
            other => self.matches_value(other.in_response(head).as_deref()),
        }
    }

    /// Each line counts for itself, so that a value which a policy looks for cannot hide behind another.
    fn matches_lines(&self, headers: &HeaderMap, name: &HeaderName) -> bool {
        let mut lines = headers.get_all(name).iter().peekable();
        if lines.peek().is_none() {
            return self.matches_value(None);
        }
        lines.any(|line| self.is_matched(&String::from_utf8_lossy(line.as_bytes()))) != self.invert
    }

    /// Whether the value of its header matches; `None` is an absent header.
    pub fn matches_value(&self, value: Option<&str>) -> bool {
        // An absent header matches only an inverted presence match, however the others are inverted.
        let value = match value {
            None if self.missing_as_empty => "",
            None => return matches!(self.kind, Kind::Present(present) if present == self.invert),
            Some(value) => value,
        };
        self.is_matched(value) != self.invert
    }

    fn is_matched(&self, value: &str) -> bool {
        match &self.kind {
            Kind::Present(present) => *present,
            Kind::Range(start, end) => value.parse::<i64>().is_ok_and(|value| value >= *start && value < *end),
            Kind::Text(matcher) => matcher.matches(value),
        }
    }
}
