//! Compiled matchers of query parameters (`envoy.config.route.v3.QueryParameterMatcher`).

use std::borrow::Cow;

use ferromesh_proto::envoy::config::route::v3 as route;

use super::StringMatcher;
use crate::config::{At, ConfigError};

/// Matches one query parameter.
#[derive(Debug, Clone)]
pub struct QueryMatcher {
    name: Box<str>,
    /// `None` asks only for presence.
    value: Option<StringMatcher>,
    present: bool,
}

impl QueryMatcher {
    /// Decodes a matcher.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn decode(message: &route::QueryParameterMatcher) -> Result<Self, ConfigError> {
        use route::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
        let (value, present) = match &message.query_parameter_match_specifier {
            None => (None, true),
            Some(Specifier::PresentMatch(present)) => (None, *present),
            Some(Specifier::StringMatch(text)) => (Some(StringMatcher::decode(text).at("string_match")?), true),
        };
        Ok(Self { name: message.name.as_str().into(), value, present })
    }

    /// Decodes a list of matchers; errors name `field` and the place in it.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn decode_list(messages: &[route::QueryParameterMatcher], field: &str) -> Result<Vec<Self>, ConfigError> {
        messages
            .iter()
            .enumerate()
            .map(|(index, message)| Self::decode(message).at(format!("{field}[{index}]")))
            .collect()
    }

    /// Whether the query (without `?`) matches. Its bytes are compared as they are, as Envoy does.
    pub fn matches(&self, query: Option<&str>) -> bool {
        let value = query_pairs(query).find(|(key, _)| *key == &*self.name).map(|(_, value)| value);
        match &self.value {
            None => self.present == value.is_some(),
            Some(matcher) => value.is_some_and(|value| matcher.matches(value)),
        }
    }
}

fn query_pairs(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query.into_iter().flat_map(|query| query.split('&')).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The first value of a query parameter, percent-decoded.
pub fn query_value<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    let decode = |text: &'a str| percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    query_pairs(query).find_map(|(key, value)| {
        let same = key == name || (key.contains('%') && decode(key) == name);
        same.then(|| decode(value))
    })
}
