//! What a daemon tells about itself: events in; log lines, traces and metrics out.

pub mod log;
pub mod metrics;
pub mod otlp;

pub use log::{LogHandle, Telemetry, TelemetryError, init};
pub use metrics::Metrics;
