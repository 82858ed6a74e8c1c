//! Matching of subject alternative names (Envoy's SubjectAltNameMatcher).

use std::fmt;
use std::net::IpAddr;

use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use ferromesh_proto::envoy::r#type::matcher::v3 as matcher;
use x509_parser::extensions::GeneralName;

use crate::config::{At, ConfigError, required};

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum San {
    Email(String),
    Dns(String),
    Uri(String),
    Ip(IpAddr),
}

impl San {
    /// The name, unless it is of a kind that nothing matches or has control characters in it (NUL tricks).
    pub(super) fn read(name: &GeneralName<'_>) -> Option<Self> {
        let clean = |text: &str| (!text.chars().any(char::is_control)).then(|| text.to_owned());
        match name {
            GeneralName::RFC822Name(text) => clean(text).map(Self::Email),
            GeneralName::DNSName(text) => clean(text).map(Self::Dns),
            GeneralName::URI(text) => clean(text).map(Self::Uri),
            GeneralName::IPAddress(bytes) => ip(bytes).map(Self::Ip),
            _ => None,
        }
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(text) => write!(f, "email:{text}"),
            Self::Dns(text) => write!(f, "DNS:{text}"),
            Self::Uri(text) => write!(f, "URI:{text}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Email,
    Dns,
    Uri,
    Ip,
}

#[derive(Debug, Clone)]
enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(regex::Regex),
}

/// One accepted name, or form of names.
#[derive(Debug, Clone)]
pub(super) struct SanMatcher {
    kind: Kind,
    pattern: Pattern,
    ignore_case: bool,
}

impl SanMatcher {
    pub(super) fn decode(proto: &tls::SubjectAltNameMatcher) -> Result<Self, ConfigError> {
        use tls::subject_alt_name_matcher::SanType;
        let kind = match proto.san_type() {
            SanType::Email => Kind::Email,
            SanType::Dns => Kind::Dns,
            SanType::Uri => Kind::Uri,
            SanType::IpAddress => Kind::Ip,
            other => {
                return Err(ConfigError::new("san_type", format!("{} is not implemented", other.as_str_name())));
            }
        };
        Self::of_kind(kind, required(proto.matcher.as_ref(), "matcher")?).at("matcher")
    }

    /// The deprecated form, which looks at names of every kind.
    pub(super) fn decode_untyped(proto: &matcher::StringMatcher) -> Result<Self, ConfigError> {
        Self::of_kind(Kind::Any, proto)
    }

    fn of_kind(kind: Kind, proto: &matcher::StringMatcher) -> Result<Self, ConfigError> {
        use matcher::string_matcher::MatchPattern;
        let fold = |text: &str| if proto.ignore_case { text.to_lowercase() } else { text.to_owned() };
        let pattern = match required(proto.match_pattern.as_ref(), "match_pattern")? {
            MatchPattern::Exact(text) => Pattern::Exact(fold(text)),
            MatchPattern::Prefix(text) => Pattern::Prefix(fold(text)),
            MatchPattern::Suffix(text) => Pattern::Suffix(fold(text)),
            MatchPattern::Contains(text) => Pattern::Contains(fold(text)),
            MatchPattern::SafeRegex(regex) => {
                let regex = regex::RegexBuilder::new(&format!("^(?:{})$", regex.regex)).size_limit(1 << 20).build();
                Pattern::Regex(regex.map_err(|error| ConfigError::new("safe_regex.regex", error.to_string()))?)
            }
            MatchPattern::Custom(_) => return Err(ConfigError::new("custom", "is not implemented")),
        };
        Ok(Self { kind, pattern, ignore_case: proto.ignore_case })
    }

    /// Whether this accepts SPIFFE IDs, so that the certificate must be an X509-SVID.
    pub(super) fn is_spiffe(&self) -> bool {
        let text = match &self.pattern {
            Pattern::Exact(text) | Pattern::Prefix(text) => text.as_str(),
            Pattern::Regex(regex) => regex.as_str().trim_start_matches("^(?:").trim_start_matches('^'),
            Pattern::Suffix(_) | Pattern::Contains(_) => "",
        };
        matches!(self.kind, Kind::Uri | Kind::Any) && text.starts_with("spiffe:")
    }

    pub(super) fn matches(&self, name: &San) -> bool {
        match (self.kind, name) {
            (Kind::Dns | Kind::Any, San::Dns(name)) => match &self.pattern {
                // DNS names compare without case, and a certificate's wildcard stands for one label.
                Pattern::Exact(expected) => dns_matches(name, expected),
                _ => self.matches_text(name),
            },
            (Kind::Uri | Kind::Any, San::Uri(name)) | (Kind::Email | Kind::Any, San::Email(name)) => {
                self.matches_text(name)
            }
            (Kind::Ip | Kind::Any, San::Ip(address)) => self.matches_text(&address.to_string()),
            _ => false,
        }
    }

    fn matches_text(&self, text: &str) -> bool {
        let folded;
        let text = if self.ignore_case {
            folded = text.to_lowercase();
            &folded
        } else {
            text
        };
        match &self.pattern {
            Pattern::Exact(expected) => text == expected,
            Pattern::Prefix(expected) => text.starts_with(expected),
            Pattern::Suffix(expected) => text.ends_with(expected),
            Pattern::Contains(expected) => text.contains(expected),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Whether the certificate's DNS name `shown` (perhaps `*.example.com`) covers the name `wanted`.
pub(super) fn dns_matches(shown: &str, wanted: &str) -> bool {
    if shown.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let (Some(parent), Some((label, rest))) = (shown.strip_prefix("*."), wanted.split_once('.')) else {
        return false;
    };
    !label.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(rest)
}

impl fmt::Display for SanMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Any => "any",
            Kind::Email => "email",
            Kind::Dns => "DNS",
            Kind::Uri => "URI",
            Kind::Ip => "IP",
        };
        match &self.pattern {
            Pattern::Exact(text) => write!(f, "{kind}:{text}"),
            Pattern::Prefix(text) => write!(f, "{kind}:{text}*"),
            Pattern::Suffix(text) => write!(f, "{kind}:*{text}"),
            Pattern::Contains(text) => write!(f, "{kind}:*{text}*"),
            Pattern::Regex(regex) => write!(f, "{kind}:/{regex}/"),
        }
    }
}
