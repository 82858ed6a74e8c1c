//! What decoding has in common: errors that name type URL and field path, and the check of supported fields.

use std::fmt::Display;
use std::time::Duration;

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::{Any, prost, prost_types};
use tokio::time::Instant;

use crate::text::Text;

mod header_text;
pub mod supported;
pub mod visit;

/// Why a resource is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", if type_url.is_empty() { String::new() } else { format!("{type_url}: ") }, if path.is_empty() { "." } else { path })]
pub struct ConfigError {
    /// Type URL of the resource, as far as it is known.
    pub type_url: String,
    /// Path of the field in the resource, e.g. `filter_chains[0].filters[1].typed_config.route_config`.
    pub path: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl ConfigError {
    /// An error at `path` (may be empty: the message itself).
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { type_url: String::new(), path: path.into(), reason: reason.into() }
    }

    /// Puts `segment` before the path.
    #[must_use]
    pub fn at(mut self, segment: impl Display) -> Self {
        self.path = match self.path.as_str() {
            "" => segment.to_string(),
            path if path.starts_with('[') => format!("{segment}{path}"),
            path => format!("{segment}.{path}"),
        };
        self
    }

    /// Names the resource's type.
    #[must_use]
    pub fn of_type(mut self, type_url: &str) -> Self {
        self.type_url = type_url.to_owned();
        self
    }
}

/// Adds a path segment to the error of a decoding step.
pub trait At<T> {
    /// Puts `segment` before the path of the error.
    fn at(self, segment: impl Display) -> Result<T, ConfigError>;
}

impl<T> At<T> for Result<T, ConfigError> {
    fn at(self, segment: impl Display) -> Self {
        self.map_err(|error| error.at(segment))
    }
}

/// The value of a field that must be set.
///
/// # Errors
/// Names the field.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T, ConfigError> {
    value.ok_or_else(|| ConfigError::new(field, "must be set"))
}

/// A protobuf duration; negative ones are refused.
///
/// # Errors
/// Names the field.
pub fn duration(value: Option<prost_types::Duration>, field: &str) -> Result<Option<Duration>, ConfigError> {
    value
        .map(|value| Duration::try_from(value).map_err(|_| ConfigError::new(field, "must not be negative")))
        .transpose()
}

/// Envoy's default of `initial_fetch_timeout`.
const FETCH: Duration = Duration::from_secs(15);

/// How long what waits for a resource does so (`ConfigSource.initial_fetch_timeout`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimit(Option<Duration>);

impl Default for FetchLimit {
    fn default() -> Self {
        Self(Some(FETCH))
    }
}

impl FetchLimit {
    /// Of a source; 0 is without end.
    ///
    /// # Errors
    /// If it is negative.
    pub fn of(source: &core::ConfigSource) -> Result<Self, ConfigError> {
        let limit = duration(source.initial_fetch_timeout, "initial_fetch_timeout")?.unwrap_or(FETCH);
        Ok(Self((!limit.is_zero()).then_some(limit)))
    }

    /// When the wait that has begun then ends; `None` if never.
    pub fn ends(self, begun: Instant) -> Option<Instant> {
        // What is further away than the clock goes does not end either.
        begun.checked_add(self.0?)
    }
}

/// A resource that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// What it is, for people.
    pub what: &'static str,
    /// Its name.
    pub name: Text,
    /// How long.
    pub limit: FetchLimit,
}

/// A source that resources come from must be the control plane's aggregated stream; no other is implemented. Gives how
/// long they are waited for.
///
/// # Errors
/// Names the source that is not.
pub fn from_ads(source: Option<&core::ConfigSource>) -> Result<FetchLimit, ConfigError> {
    use core::config_source::ConfigSourceSpecifier;
    let Some(source) = source else { return Err(ConfigError::new("", "must be set; only ads is implemented here")) };
    let field = match &source.config_source_specifier {
        Some(ConfigSourceSpecifier::Ads(_)) => return FetchLimit::of(source),
        None => return Err(ConfigError::new("", "must be set; only ads is implemented here")),
        Some(ConfigSourceSpecifier::PathConfigSource(_)) => "path_config_source",
        Some(ConfigSourceSpecifier::ApiConfigSource(_)) => "api_config_source",
        Some(ConfigSourceSpecifier::Self_(_)) => "self",
        Some(_) => "",
    };
    Err(ConfigError::new(field, "is not implemented here; only ads is"))
}

/// The message inside.
///
/// # Errors
/// If its bytes are not an `M`.
pub fn unpack<M: prost::Message + prost::Name + Default>(any: &Any) -> Result<M, ConfigError> {
    any.unpack().map_err(|error| ConfigError::new("", error.to_string()))
}

/// The text of a data source; files and variables are read when the resource is decoded.
///
/// # Errors
/// If the source is missing, cannot be read or is not UTF-8.
pub fn data_source(source: core::DataSource) -> Result<Text, ConfigError> {
    use core::data_source::Specifier;
    let utf8 = |bytes: Vec<u8>, field: &str| {
        String::from_utf8(bytes).map(Text::from).map_err(|_| ConfigError::new(field, "must be UTF-8"))
    };
    match required(source.specifier, "specifier")? {
        Specifier::InlineString(text) => Ok(text.into()),
        Specifier::InlineBytes(bytes) => utf8(bytes.to_vec(), "inline_bytes"),
        Specifier::Filename(path) => {
            let bytes =
                std::fs::read(&path).map_err(|error| ConfigError::new("filename", format!("{path}: {error}")))?;
            utf8(bytes, "filename")
        }
        Specifier::EnvironmentVariable(name) => std::env::var(&name)
            .map(Text::from)
            .map_err(|_| ConfigError::new("environment_variable", format!("{name} is not set or not UTF-8"))),
    }
}
