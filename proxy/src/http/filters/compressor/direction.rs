//! Which requests and responses are compressed, and what is counted of them.

use ferromesh_proto::envoy::config::core::v3::RuntimeFeatureFlag;
use ferromesh_proto::envoy::extensions::filters::http::compressor::v3::{self as proto, compressor};
use http::header::{CONTENT_LENGTH, ETAG};
use http::{HeaderMap, HeaderValue};

use super::choice::Choice;
use crate::config::{At, ConfigError};
use crate::matcher::StringMatcher;
use crate::message::ResponseHead;
use crate::stats::{Counter, Scope};

/// What is compressed if nothing else is said, as Envoy documents it.
const TYPES: &[&str] = &[
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
];
/// Bytes below which it does not pay, Envoy's default.
const LEAST: u32 = 30;

/// Numbers of bytes before and after.
#[derive(Clone)]
pub(super) struct Bytes {
    pub(super) uncompressed: Counter,
    pub(super) compressed: Counter,
}

/// One direction.
pub(super) struct Direction {
    pub(super) is_enabled: bool,
    least: u64,
    types: Types,
    pub(super) compressed: Counter,
    pub(super) not_compressed: Counter,
    too_small: Counter,
    pub(super) bytes: Bytes,
}

/// Which content types.
enum Types {
    /// These, in any case.
    Listed(Vec<String>),
    Matched(Vec<StringMatcher>),
}

impl Types {
    fn has(&self, kind: &str) -> bool {
        match self {
            Self::Listed(list) => list.iter().any(|listed| listed.eq_ignore_ascii_case(kind)),
            Self::Matched(matchers) => matchers.iter().any(|matcher| matcher.matches(kind)),
        }
    }
}

/// A content type without its parameters.
fn bare(kind: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(kind.as_bytes());
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

impl Direction {
    /// Requests are compressed only where it is said how.
    ///
    /// # Errors
    /// Names the matcher that is wrong.
    pub(super) fn of_requests(
        message: Option<&compressor::RequestDirectionConfig>,
        scope: &Scope,
    ) -> Result<Self, ConfigError> {
        let common = message.and_then(|message| message.common_config.clone()).unwrap_or_default();
        let mut direction = Self::decode(&common, scope)?;
        direction.is_enabled &= message.is_some();
        Ok(direction)
    }

    #[allow(deprecated, reason = "Istio's bootstrap sets it")]
    fn decode(common: &compressor::CommonDirectionConfig, scope: &Scope) -> Result<Self, ConfigError> {
        let matcher = |(index, matcher)| StringMatcher::decode(matcher).at(format!("content_type_matcher[{index}]"));
        let matchers: Vec<_> = common.content_type_matcher.iter().enumerate().map(matcher).collect::<Result<_, _>>()?;
        let listed = || match common.content_type.as_slice() {
            [] => TYPES.iter().map(|kind| (*kind).to_owned()).collect(),
            list => list.to_vec(),
        };
        let is_on = |flag: &RuntimeFeatureFlag| flag.default_value.unwrap_or(true);
        Ok(Self {
            is_enabled: common.enabled.as_ref().is_none_or(is_on),
            least: common.min_content_length.filter(|least| *least > 0).unwrap_or(LEAST).into(),
            types: if matchers.is_empty() { Types::Listed(listed()) } else { Types::Matched(matchers) },
            compressed: scope.counter("compressed"),
            not_compressed: scope.counter("not_compressed"),
            too_small: scope.counter("content_length_too_small"),
            bytes: Bytes {
                uncompressed: scope.counter("total_uncompressed_bytes"),
                compressed: scope.counter("total_compressed_bytes"),
            },
        })
    }

    /// Whether it pays; a body of unknown length does.
    pub(super) fn is_long_enough(&self, headers: &HeaderMap) -> bool {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let is_long = length.is_none_or(|length| length >= self.least);
        if !is_long {
            self.too_small.inc();
        }
        is_long
    }

    /// Whether a body of this type is compressed; one without a type is.
    pub(super) fn has_type(&self, kind: Option<&HeaderValue>) -> bool {
        kind.is_none_or(|kind| kind.is_empty() || self.types.has(&bare(kind)))
    }

    /// Whether it takes part in the choice among compressors.
    pub(super) fn competes_for(&self, kind: Option<&HeaderValue>) -> bool {
        self.has_type(kind)
    }
}

/// How often a client's `accept-encoding` led where.
pub(super) struct Headers {
    pub(super) none: Counter,
    identity: Counter,
    used: Counter,
    overshadowed: Counter,
    wildcard: Counter,
    not_valid: Counter,
}

impl Headers {
    fn of(scope: &Scope) -> Self {
        Self {
            none: scope.counter("no_accept_header"),
            identity: scope.counter("header_identity"),
            used: scope.counter("header_compressor_used"),
            overshadowed: scope.counter("header_compressor_overshadowed"),
            wildcard: scope.counter("header_wildcard"),
            not_valid: scope.counter("header_not_valid"),
        }
    }

    pub(super) fn count(&self, choice: &Choice, is_ours: bool) {
        match choice {
            Choice::Named(_) if is_ours => self.used.inc(),
            Choice::Named(_) => self.overshadowed.inc(),
            Choice::Wildcard(_) => self.wildcard.inc(),
            Choice::Identity => self.identity.inc(),
            Choice::Nothing => self.not_valid.inc(),
        }
    }
}

/// Responses.
pub(super) struct Responses {
    pub(super) direction: Direction,
    /// One with an entity tag stays as it is.
    etag_forbids: bool,
    /// A strong entity tag becomes a weak one; it goes otherwise.
    pub(super) weakens_etag: bool,
    /// Servers do not see what the client accepts.
    pub(super) removes: bool,
    statuses: Vec<u16>,
    /// A header says what was done.
    pub(super) tells: bool,
    not_compressed_etag: Counter,
    pub(super) headers: Headers,
}

impl Responses {
    /// Decodes `response_direction_config`, or the older fields that it replaces.
    ///
    /// # Errors
    /// Names the field that is wrong.
    #[allow(deprecated, reason = "older configurations set them")]
    pub(super) fn decode(message: &proto::Compressor, scope: &Scope) -> Result<Self, ConfigError> {
        let (responses, counted, field) = match &message.response_direction_config {
            Some(responses) => (responses.clone(), scope.scope("response"), "response_direction_config"),
            None => (older(message), scope.clone(), ""),
        };
        let statuses = statuses(&responses.uncompressible_response_codes)
            .map_err(|error| error.at("response_direction_config"))?;
        let common = responses.common_config.clone().unwrap_or_default();
        let direction = Direction::decode(&common, &counted).map_err(|error| error.at("common_config").at(field))?;
        Ok(Self {
            direction,
            etag_forbids: responses.disable_on_etag_header && !responses.weaken_etag_on_compress,
            weakens_etag: responses.weaken_etag_on_compress,
            removes: responses.remove_accept_encoding_header,
            statuses,
            tells: responses.status_header_enabled,
            not_compressed_etag: scope.counter("not_compressed_etag"),
            headers: Headers::of(scope),
        })
    }

    /// Why a response stays as it is, of what the configuration says, but for its length.
    pub(super) fn refusal(&self, head: &ResponseHead) -> Option<&'static str> {
        if !self.direction.has_type(head.headers.get(http::header::CONTENT_TYPE)) {
            return Some("ContentTypeNotAllowed");
        }
        if self.etag_forbids && head.headers.contains_key(ETAG) {
            self.not_compressed_etag.inc();
            return Some("EtagNotAllowed");
        }
        self.statuses.contains(&head.status.as_u16()).then_some("StatusCodeNotAllowed")
    }
}

#[allow(deprecated, reason = "that is what it is about")]
fn older(message: &proto::Compressor) -> compressor::ResponseDirectionConfig {
    compressor::ResponseDirectionConfig {
        common_config: Some(compressor::CommonDirectionConfig {
            enabled: message.runtime_enabled.clone(),
            min_content_length: message.content_length,
            content_type: message.content_type.clone(),
            content_type_matcher: Vec::new(),
        }),
        disable_on_etag_header: message.disable_on_etag_header,
        remove_accept_encoding_header: message.remove_accept_encoding_header,
        ..Default::default()
    }
}

fn statuses(codes: &[u32]) -> Result<Vec<u16>, ConfigError> {
    let mut statuses = Vec::with_capacity(codes.len());
    for (index, code) in codes.iter().enumerate() {
        let wrong = |reason: &str| ConfigError::new(format!("uncompressible_response_codes[{index}]"), reason);
        let status = u16::try_from(*code).ok().filter(|code| (200..600).contains(code));
        let status = status.ok_or_else(|| wrong("must be from 200 to 599"))?;
        if statuses.contains(&status) {
            return Err(wrong("is there twice"));
        }
        statuses.push(status);
    }
    Ok(statuses)
}
