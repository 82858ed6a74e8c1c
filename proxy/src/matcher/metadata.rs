//! Compiled matchers of metadata values (`envoy.type.matcher.v3.MetadataMatcher`), and metadata as JSON.

use std::collections::BTreeMap;

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::r#type::matcher::v3 as matcher;
use ferromesh_proto::prost_types;
use serde_json::{Map, Value};

use super::StringMatcher;
use crate::config::{At, ConfigError, required};

/// Metadata of a request: values by filter name.
pub type Dynamic = BTreeMap<String, Map<String, Value>>;

/// Matches a value inside metadata.
#[derive(Debug, Clone)]
pub struct MetadataMatcher {
    filter: Box<str>,
    path: Vec<Box<str>>,
    value: ValueMatcher,
    invert: bool,
}

/// Matches a JSON value.
#[derive(Debug, Clone)]
pub enum ValueMatcher {
    /// null
    Null,
    /// A number in a range, end excluded.
    Range(f64, f64),
    /// This number.
    Number(f64),
    /// A text.
    Text(StringMatcher),
    /// This bool.
    Bool(bool),
    /// Whether there is a value.
    Present(bool),
    /// A list with an element that matches.
    OneOf(Box<ValueMatcher>),
    /// Any of these.
    Or(Vec<ValueMatcher>),
}

impl MetadataMatcher {
    /// Decodes a matcher.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(message: &matcher::MetadataMatcher) -> Result<Self, ConfigError> {
        let path = decode_path(&message.path)?;
        let value = ValueMatcher::decode(required(message.value.as_ref(), "value")?).at("value")?;
        Ok(Self { filter: message.filter.as_str().into(), path, value, invert: message.invert })
    }

    /// Whether `metadata` (values by filter name) matches.
    pub fn matches(&self, metadata: &Dynamic) -> bool {
        self.matches_map(metadata.get(&*self.filter))
    }

    /// As [`Self::matches`], for metadata of configuration.
    pub fn matches_static(&self, metadata: &Map<String, Value>) -> bool {
        self.matches_map(metadata.get(&*self.filter).and_then(Value::as_object))
    }

    /// Whether its filter and path name a value.
    pub fn is_in(&self, metadata: &Dynamic) -> bool {
        metadata.get(&*self.filter).and_then(|map| lookup(map, &self.path)).is_some()
    }

    fn matches_map(&self, map: Option<&Map<String, Value>>) -> bool {
        let value = map.and_then(|map| lookup(map, &self.path));
        self.value.matches(value) != self.invert
    }
}

fn decode_path(path: &[matcher::metadata_matcher::PathSegment]) -> Result<Vec<Box<str>>, ConfigError> {
    use matcher::metadata_matcher::path_segment::Segment;
    path.iter()
        .enumerate()
        .map(|(index, segment)| match &segment.segment {
            Some(Segment::Key(key)) => Ok(key.as_str().into()),
            None => Err(ConfigError::new(format!("path[{index}].key"), "must be set")),
        })
        .collect()
}

/// The value at `path` below `map`.
pub fn lookup<'a>(map: &'a Map<String, Value>, path: &[Box<str>]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(map.get(&**first)?, |value, key| value.as_object()?.get(&**key))
}

impl ValueMatcher {
    /// Decodes a matcher.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(message: &matcher::ValueMatcher) -> Result<Self, ConfigError> {
        use matcher::value_matcher::MatchPattern;
        Ok(match required(message.match_pattern.as_ref(), "match_pattern")? {
            MatchPattern::NullMatch(_) => Self::Null,
            MatchPattern::DoubleMatch(double) => {
                match required(double.match_pattern.as_ref(), "double_match.match_pattern")? {
                    matcher::double_matcher::MatchPattern::Range(range) => Self::Range(range.start, range.end),
                    matcher::double_matcher::MatchPattern::Exact(value) => Self::Number(*value),
                }
            }
            MatchPattern::StringMatch(text) => Self::Text(StringMatcher::decode(text).at("string_match")?),
            MatchPattern::BoolMatch(value) => Self::Bool(*value),
            MatchPattern::PresentMatch(value) => Self::Present(*value),
            MatchPattern::ListMatch(list) => {
                let matcher::list_matcher::MatchPattern::OneOf(one) =
                    required(list.match_pattern.as_ref(), "list_match.match_pattern")?;
                Self::OneOf(Box::new(Self::decode(one).at("list_match.one_of")?))
            }
            MatchPattern::OrMatch(or) => Self::Or(
                or.value_matchers
                    .iter()
                    .enumerate()
                    .map(|(index, one)| Self::decode(one).at(format!("or_match.value_matchers[{index}]")))
                    .collect::<Result<_, _>>()?,
            ),
        })
    }

    /// Whether the value matches; `None` is an absent one.
    pub fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Present(present), value) => *present == value.is_some(),
            (Self::Or(any), value) => any.iter().any(|one| one.matches(value)),
            (_, None) => false,
            (Self::Null, Some(value)) => value.is_null(),
            (Self::Range(start, end), Some(value)) => {
                value.as_f64().is_some_and(|value| value >= *start && value < *end)
            }
            #[expect(clippy::float_cmp, reason = "the matcher asks for the very number")]
            (Self::Number(want), Some(value)) => value.as_f64().is_some_and(|value| value == *want),
            (Self::Text(matcher), Some(value)) => value.as_str().is_some_and(|text| matcher.matches(text)),
            (Self::Bool(want), Some(value)) => value.as_bool() == Some(*want),
            (Self::OneOf(one), Some(value)) => {
                value.as_array().is_some_and(|list| list.iter().any(|value| one.matches(Some(value))))
            }
        }
    }
}

/// `filter_metadata` as JSON: an object by filter name.
pub fn static_metadata(metadata: Option<core::Metadata>) -> Map<String, Value> {
    metadata
        .unwrap_or_default()
        .filter_metadata
        .into_iter()
        .map(|(filter, values)| (filter, Value::Object(struct_to_json(values))))
        .collect()
}

/// A protobuf struct as a JSON object.
pub fn struct_to_json(message: prost_types::Struct) -> Map<String, Value> {
    message.fields.into_iter().map(|(key, value)| (key, value_to_json(value))).collect()
}

/// A protobuf value as JSON.
pub fn value_to_json(value: prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => number_to_json(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StructValue(values)) => Value::Object(struct_to_json(values)),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value_to_json).collect()),
    }
}

/// Whole numbers without a fraction, as people write them.
fn number_to_json(number: f64) -> Value {
    // 2^53: beyond it a double cannot tell neighbours apart.
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return Value::from(number as i64);
    }
    serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)
}
