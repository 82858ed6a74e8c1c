//! Compiled string matchers (`envoy.type.matcher.v3.StringMatcher`).

use ferromesh_proto::envoy::r#type::matcher::v3 as matcher;
use regex::Regex;

use crate::config::{At, ConfigError, required};
use crate::matcher::re2;

/// Matches a text.
#[derive(Debug, Clone)]
pub enum StringMatcher {
    /// Equal.
    Exact(Box<str>),
    /// Equal but for ASCII case.
    ExactIgnoreCase(Box<str>),
    /// Starts so.
    Prefix(Box<str>, bool),
    /// Ends so.
    Suffix(Box<str>, bool),
    /// Has it somewhere; the bool says that case is ignored (the text is then in lower case).
    Contains(Box<str>, bool),
    /// Matches as a whole.
    Regex(Box<Regex>),
}

impl StringMatcher {
    /// Decodes a matcher.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(message: &matcher::StringMatcher) -> Result<Self, ConfigError> {
        use matcher::string_matcher::MatchPattern;
        let ignore = message.ignore_case;
        Ok(match required(message.match_pattern.as_ref(), "match_pattern")? {
            MatchPattern::Exact(text) if ignore => Self::ExactIgnoreCase(text.as_str().into()),
            MatchPattern::Exact(text) => Self::Exact(text.as_str().into()),
            MatchPattern::Prefix(text) => Self::Prefix(text.as_str().into(), ignore),
            MatchPattern::Suffix(text) => Self::Suffix(text.as_str().into(), ignore),
            MatchPattern::Contains(text) if ignore => Self::Contains(text.to_ascii_lowercase().into(), true),
            MatchPattern::Contains(text) => Self::Contains(text.as_str().into(), false),
            MatchPattern::SafeRegex(regex) => return Self::regex(regex).at("safe_regex"),
            MatchPattern::Custom(_) => return Err(ConfigError::new("custom", "is not implemented")),
        })
    }

    /// Decodes a regex that must match the whole text.
    ///
    /// # Errors
    /// If the pattern is not valid.
    pub fn regex(message: &matcher::RegexMatcher) -> Result<Self, ConfigError> {
        let regex = re2::full(&message.regex).map_err(|reason| ConfigError::new("regex", reason))?;
        Ok(Self::Regex(Box::new(regex)))
    }

    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        match self {
            Self::Exact(want) => text == &**want,
            Self::ExactIgnoreCase(want) => text.eq_ignore_ascii_case(want),
            Self::Prefix(want, false) => text.starts_with(&**want),
            Self::Prefix(want, true) => {
                bytes.get(..want.len()).is_some_and(|start| start.eq_ignore_ascii_case(want.as_bytes()))
            }
            Self::Suffix(want, false) => text.ends_with(&**want),
            Self::Suffix(want, true) => bytes
                .len()
                .checked_sub(want.len())
                .and_then(|from| bytes.get(from..))
                .is_some_and(|end| end.eq_ignore_ascii_case(want.as_bytes())),
            Self::Contains(want, false) => text.contains(&**want),
            Self::Contains(want, true) => text.to_ascii_lowercase().contains(&**want),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use matcher::string_matcher::MatchPattern;

    #[test]
    fn every_kind_matches_with_and_without_case() {
        let regex =
            |text: &str| MatchPattern::SafeRegex(matcher::RegexMatcher { regex: text.into(), ..Default::default() });
        let table = [
            (MatchPattern::Exact("Ab".into()), false, "Ab", true),
            (MatchPattern::Exact("Ab".into()), false, "ab", false),
            (MatchPattern::Exact("Ab".into()), true, "aB", true),
            (MatchPattern::Prefix("Ab".into()), false, "Abc", true),
            (MatchPattern::Prefix("Ab".into()), true, "aBc", true),
            (MatchPattern::Prefix("Ab".into()), true, "a", false),
            (MatchPattern::Suffix("bC".into()), false, "abC", true),
            (MatchPattern::Suffix("bC".into()), true, "aBc", true),
            (MatchPattern::Suffix("bC".into()), true, "é", false),
            (MatchPattern::Contains("X".into()), false, "aXb", true),
            (MatchPattern::Contains("X".into()), true, "axb", true),
            (MatchPattern::Contains("X".into()), false, "axb", false),
            (regex("a.c"), false, "abc", true),
            (regex("a.c"), false, "abcd", false),
        ];
        for (pattern, ignore_case, text, want) in table {
            let message = matcher::StringMatcher { ignore_case, match_pattern: Some(pattern.clone()) };
            assert_eq!(StringMatcher::decode(&message).expect("valid").matches(text), want, "{pattern:?} on {text}");
        }
    }
}
