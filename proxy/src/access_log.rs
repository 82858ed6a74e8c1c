//! Access logs: which requests, in which format, to which file.

use std::sync::Arc;

use ferromesh_proto::envoy::config::accesslog::v3 as accesslog;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::access_loggers::file::v3 as file;
use ferromesh_proto::envoy::extensions::access_loggers::stream::v3 as stream_log;
use ferromesh_proto::json;

use crate::config::supported::Table;
use crate::config::unpack;
use crate::config::{At, ConfigError};
use crate::format::{Formatter, Info, JsonFormatter, Substitution};

mod filter;
mod sink;

pub use filter::{Filter, HealthCheckRequest};
pub use sink::{Sink, Sinks};

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[
    ("envoy.config.accesslog.v3.AccessLog", "name filter typed_config"),
    (
        "envoy.config.accesslog.v3.AccessLogFilter",
        "status_code_filter duration_filter not_health_check_filter traceable_filter runtime_filter and_filter \
         or_filter header_filter response_flag_filter grpc_status_filter metadata_filter",
    ),
    ("envoy.config.accesslog.v3.ComparisonFilter", "*"),
    ("envoy.config.accesslog.v3.StatusCodeFilter", "*"),
    ("envoy.config.accesslog.v3.DurationFilter", "*"),
    ("envoy.config.accesslog.v3.NotHealthCheckFilter", "*"),
    ("envoy.config.accesslog.v3.TraceableFilter", "*"),
    ("envoy.config.accesslog.v3.RuntimeFilter", "*"),
    ("envoy.config.accesslog.v3.AndFilter", "*"),
    ("envoy.config.accesslog.v3.OrFilter", "*"),
    ("envoy.config.accesslog.v3.HeaderFilter", "*"),
    ("envoy.config.accesslog.v3.ResponseFlagFilter", "*"),
    ("envoy.config.accesslog.v3.GrpcStatusFilter", "*"),
    ("envoy.config.accesslog.v3.MetadataFilter", "*"),
    ("envoy.extensions.access_loggers.file.v3.FileAccessLog", "path format json_format typed_json_format log_format"),
    ("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", "log_format"),
    ("envoy.extensions.access_loggers.stream.v3.StderrAccessLog", "log_format"),
    (
        "envoy.config.core.v3.SubstitutionFormatString",
        "text_format json_format text_format_source omit_empty_values content_type json_format_options",
    ),
    ("envoy.config.core.v3.JsonFormatOptions", "*"),
];

/// Envoy's format where none is given.
const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// One configured access log.
#[derive(Debug)]
pub struct AccessLog {
    filter: Option<Filter>,
    format: Substitution,
    sink: Arc<Sink>,
}

impl AccessLog {
    /// Decodes one log, which writes to one of `sinks`.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode(message: &accesslog::AccessLog, sinks: &Sinks) -> Result<Self, ConfigError> {
        let filter = message.filter.as_ref().map(Filter::decode).transpose().at("filter")?;
        let Some(accesslog::access_log::ConfigType::TypedConfig(any)) = &message.config_type else {
            return Err(ConfigError::new("typed_config", "must be set"));
        };
        let any =
            json::resolve_typed_struct(any).map_err(|error| ConfigError::new("typed_config", error.to_string()))?;
        let (path, format) = decode_config(&any).at("typed_config")?;
        let sink = sinks.open(&path).at("typed_config.path")?;
        Ok(Self { filter, format, sink })
    }

    /// Decodes a list; errors name `access_log` and the place in it.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode_list(messages: &[accesslog::AccessLog], sinks: &Sinks) -> Result<Vec<Self>, ConfigError> {
        messages
            .iter()
            .enumerate()
            .map(|(index, message)| Self::decode(message, sinks).at(format!("access_log[{index}]")))
            .collect()
    }

    /// Writes a line, if the filter wants one. Never blocks: if the writer cannot follow, the line is dropped and counted.
    pub fn log(&self, info: &Info<'_>) {
        if self.filter.as_ref().is_some_and(|filter| !filter.wants(info, fastrand::u64(..))) {
            return;
        }
        let mut line = Vec::with_capacity(512);
        self.format.log(info, &mut line);
        self.sink.write(line);
    }
}

/// Path and format of a logger.
fn decode_config(any: &ferromesh_proto::Any) -> Result<(String, Substitution), ConfigError> {
    if any.is::<file::FileAccessLog>() {
        let message: file::FileAccessLog = unpack(any)?;
        if message.path.is_empty() {
            return Err(ConfigError::new("path", "must be set"));
        }
        return Ok((message.path, decode_file_format(message.access_log_format)?));
    }
    if any.is::<stream_log::StdoutAccessLog>() {
        let message: stream_log::StdoutAccessLog = unpack(any)?;
        let format = message.access_log_format.map(|format| match format {
            stream_log::stdout_access_log::AccessLogFormat::LogFormat(format) => format,
        });
        return Ok(("/dev/stdout".to_owned(), decode_format(format).at("log_format")?));
    }
    if any.is::<stream_log::StderrAccessLog>() {
        let message: stream_log::StderrAccessLog = unpack(any)?;
        let format = message.access_log_format.map(|format| match format {
            stream_log::stderr_access_log::AccessLogFormat::LogFormat(format) => format,
        });
        return Ok(("/dev/stderr".to_owned(), decode_format(format).at("log_format")?));
    }
    Err(ConfigError::new("", format!("access logger {:?} is not implemented", any.type_url)))
}

#[allow(deprecated)]
fn decode_file_format(format: Option<file::file_access_log::AccessLogFormat>) -> Result<Substitution, ConfigError> {
    use file::file_access_log::AccessLogFormat as Kind;
    match format {
        None => decode_format(None),
        Some(Kind::Format(text)) => Formatter::parse(&text).map(|text| Substitution::Text(text, "-")).at("format"),
        Some(Kind::JsonFormat(object)) => {
            JsonFormatter::decode(object, false).map(Substitution::Json).at("json_format")
        }
        Some(Kind::TypedJsonFormat(object)) => {
            JsonFormatter::decode(object, false).map(Substitution::Json).at("typed_json_format")
        }
        Some(Kind::LogFormat(format)) => decode_format(Some(format)).at("log_format"),
    }
}

fn decode_format(format: Option<core::SubstitutionFormatString>) -> Result<Substitution, ConfigError> {
    match format {
        Some(format) => Substitution::decode(format),
        None => Formatter::parse(DEFAULT_FORMAT).map(|text| Substitution::Text(text, "-")),
    }
}
