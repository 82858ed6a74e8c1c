//! Log lines: `tracing` events in, text or JSON on standard error out; the level can be changed while running.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::otlp;
use crate::args::{LogArgs, LogFormat, OtlpArgs};

/// Why telemetry could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is not one.
    #[error("log level {level:?}: {reason}; write e.g. `info` or `info,ferromesh_proxy=debug`")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The collector's address is not one.
    #[error("OTLP endpoint {endpoint:?}: {reason}; write e.g. `http://127.0.0.1:4317`")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another part of the process took `tracing`'s one subscriber.
    #[error("logs were set up by something else in this process, so the level cannot be changed here")]
    Taken,
}

/// Changes the log level of the process. Clones change the same one.
#[derive(Clone)]
pub struct LogHandle(Arc<State>);

struct State {
    reload: reload::Handle<EnvFilter, Registry>,
    level: Mutex<String>,
}

/// The process's logs and traces.
pub struct Telemetry {
    log: LogHandle,
    traces: Option<SdkTracerProvider>,
}

/// `tracing` has one subscriber for each process; so its handle is kept beside it, and nothing else.
static INSTALLED: OnceLock<LogHandle> = OnceLock::new();

/// Sets up logs, and traces if `otlp` names a collector (then a tokio runtime must be there).
///
/// If called again in one process, the first call's subscriber goes on: its level is set to the one given, format
/// and collector stay.
///
/// # Errors
/// If a level or address cannot be read, or something else set up `tracing` before.
pub fn init(log: &LogArgs, otlp: &OtlpArgs, service: &'static str) -> Result<Telemetry, TelemetryError> {
    let filter = parse_level(&log.log_level)?;
    if let Some(handle) = INSTALLED.get() {
        handle.set_level(&log.log_level)?;
        return Ok(Telemetry { log: handle.clone(), traces: None });
    }
    let traces = otlp::provider(otlp, service).map_err(|reason| TelemetryError::Endpoint {
        endpoint: otlp.otlp_endpoint.clone().unwrap_or_default(),
        reason,
    })?;
    let (filter, reload) = reload::Layer::new(filter);
    let spans = traces.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.log_format {
        LogFormat::Plain => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(spans)
        .try_init()
        .map_err(|_| TelemetryError::Taken)?;
    let handle = LogHandle(Arc::new(State { reload, level: Mutex::new(log.log_level.clone()) }));
    Ok(Telemetry { log: INSTALLED.get_or_init(|| handle).clone(), traces })
}

fn parse_level(level: &str) -> Result<EnvFilter, TelemetryError> {
    let refuse = |reason: String| TelemetryError::Level { level: level.into(), reason };
    if level.trim().is_empty() {
        return Err(refuse("is empty".into()));
    }
    let known: Vec<String> = level.split(',').map(directive).collect::<Result<_, _>>().map_err(refuse)?;
    EnvFilter::builder().parse(known.join(",")).map_err(|error| refuse(error.to_string()))
}

/// One part of a filter, with Envoy's words for levels as well.
///
/// A word alone must be a level: `EnvFilter` would take what is none for the name of a module, and log nothing else.
fn directive(part: &str) -> Result<String, String> {
    let (target, word) = match part.rsplit_once('=') {
        Some((target, word)) => (Some(target), word.trim()),
        None => (None, part.trim()),
    };
    let word = match word.to_ascii_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "critical" => "error".to_owned(),
        other => other.to_owned(),
    };
    // Nothing would be read as `error`.
    if word.is_empty() || word.parse::<LevelFilter>().is_err() {
        return Err(format!("{word:?} is not a level (off, error, warn, info, debug, trace)"));
    }
    Ok(target.map_or_else(|| word.clone(), |target| format!("{target}={word}")))
}

impl LogHandle {
    /// Changes what is logged, at once.
    ///
    /// # Errors
    /// If the level cannot be read; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        self.0.reload.reload(parse_level(level)?).map_err(|_| TelemetryError::Taken)?;
        *self.0.level.lock().unwrap_or_else(PoisonError::into_inner) = level.into();
        Ok(())
    }

    /// What is logged now, as last set.
    pub fn level(&self) -> String {
        self.0.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Telemetry {
    /// What changes the log level.
    pub fn log(&self) -> &LogHandle {
        &self.log
    }

    /// Sends the traces that still wait (blocks for some seconds at most); call it last.
    pub fn shutdown(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "traces were not all sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_is_refused_and_envoys_words_are_taken() {
        for level in
            ["info", "OFF", "warning", "info,ferromesh_proxy=debug", "critical,a::b=trace", "a[span{x=1}]=info"]
        {
            assert!(parse_level(level).is_ok(), "{level}");
        }
        assert_eq!(parse_level("warning,a=critical").unwrap().to_string(), "a=error,warn");
        for level in ["bogus", "", " ", "info,", "info,bogus", "a=bogus", "=,=", "info;debug"] {
            let said = parse_level(level).map(drop).unwrap_err().to_string();
            assert!(said.contains("log level"), "{level}: {said}");
        }
    }
}
