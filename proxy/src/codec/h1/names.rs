//! How names of headers are written: in lower case, as words, or as their sender wrote them.
//!
//! Rules: Envoy, "Header casing". A message keeps the names that it came with, and whoever writes it uses them,
//! whatever its own format is.

use std::sync::Arc;

use bytes::Bytes;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use ferromesh_proto::envoy::extensions::http::header_formatters::preserve_case::v3::preserve_case_formatter_config::FormatterTypeOnEnvoyHeaders as OnEnvoyHeaders;

use super::wire::Tail;
use crate::config::supported::Table;
use crate::config::{At, ConfigError, required};
use crate::message::PreservedNames;

/// Fields of these messages that are implemented.
pub const SUPPORTED: Table = &[
    ("envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat", "*"),
    ("envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.ProperCaseWords", "*"),
    ("envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig", "*"),
];

/// What one side does with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameFormat {
    /// Writes them in lower case.
    #[default]
    Lower,
    /// Writes each word with a capital.
    Proper,
    /// Keeps those of messages that it reads.
    Preserve {
        /// Also the reason phrase of responses.
        reason: bool,
        /// Names that the message did not have are written as words.
        proper: bool,
    },
}

impl NameFormat {
    /// Decodes `header_key_format`.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode(options: &core::Http1ProtocolOptions) -> Result<Self, ConfigError> {
        use core::http1_protocol_options::header_key_format::HeaderFormat;
        let Some(format) = &options.header_key_format else { return Ok(Self::Lower) };
        match required(format.header_format.as_ref(), "header_format").at("header_key_format")? {
            HeaderFormat::ProperCaseWords(_) => Ok(Self::Proper),
            HeaderFormat::StatefulFormatter(extension) => {
                let at = "header_key_format.stateful_formatter.typed_config";
                let any = required(extension.typed_config.as_ref(), at)?;
                if !any.is::<PreserveCaseFormatterConfig>() {
                    return Err(ConfigError::new(at, format!("formatter {:?} is not implemented", any.type_url)));
                }
                let message: PreserveCaseFormatterConfig =
                    any.unpack().map_err(|error| ConfigError::new(at, error.to_string()))?;
                let proper = message.formatter_type_on_envoy_headers() == OnEnvoyHeaders::ProperCase;
                Ok(Self::Preserve { reason: message.forward_reason_phrase, proper })
            }
        }
    }
}

/// Keeps the names of a head that `bytes` holds, if the format says so.
pub(super) fn preserved(
    format: NameFormat,
    bytes: &Bytes,
    parsed: &[httparse::Header<'_>],
    phrase: Option<&str>,
) -> Option<Arc<PreservedNames>> {
    let NameFormat::Preserve { reason, proper } = format else { return None };
    let kept = |name: &&str| proper || name.bytes().any(|byte| byte.is_ascii_uppercase());
    let names = parsed.iter().map(|header| header.name).filter(kept);
    let names = names.map(|name| bytes.slice_ref(name.as_bytes())).collect();
    let reason = phrase.filter(|phrase| reason && !phrase.is_empty()).map(|it| bytes.slice_ref(it.as_bytes()));
    Some(Arc::new(PreservedNames { names, reason, proper }))
}

/// Writes the names of one message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Names<'a> {
    Lower,
    Proper,
    As(&'a PreservedNames),
}

impl<'a> Names<'a> {
    /// By the message, else by the side that writes it.
    pub fn of(message: Option<&'a Arc<PreservedNames>>, format: NameFormat) -> Self {
        match (message, format) {
            (Some(preserved), _) => Self::As(preserved),
            (None, NameFormat::Proper) => Self::Proper,
            (None, NameFormat::Lower | NameFormat::Preserve { .. }) => Self::Lower,
        }
    }

    /// Appends a name, given in lower case.
    pub fn put(self, tail: &mut Tail<'_>, name: &str) {
        match self {
            Self::Lower => tail.put(name.as_bytes()),
            Self::Proper => put_words(tail, name),
            Self::As(preserved) => {
                match preserved.names.iter().find(|known| known.eq_ignore_ascii_case(name.as_bytes())) {
                    Some(known) => tail.put(known),
                    None if preserved.proper => put_words(tail, name),
                    None => tail.put(name.as_bytes()),
                }
            }
        }
    }
}

/// A letter after anything but a letter or digit is a capital.
fn put_words(tail: &mut Tail<'_>, name: &str) {
    let mut starts = true;
    for byte in name.bytes() {
        tail.put(&[if starts { byte.to_ascii_uppercase() } else { byte }]);
        starts = !byte.is_ascii_alphanumeric();
    }
}
