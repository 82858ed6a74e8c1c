//! Logs in a process of their own, because `tracing` has one subscriber for each process.

use ferromesh_core::args::{LogArgs, OtlpArgs};
use ferromesh_core::telemetry::{TelemetryError, init};

#[test]
fn logs_can_be_set_up_twice_and_the_level_changed_while_running() {
    let args = |level: &str| LogArgs { log_level: level.into(), ..LogArgs::default() };
    assert!(matches!(init(&args("=,="), &OtlpArgs::default(), "test"), Err(TelemetryError::Level { .. })));

    let first = init(&args("warn"), &OtlpArgs::default(), "test").unwrap();
    assert!(!tracing::enabled!(tracing::Level::INFO));
    let second = init(&args("info"), &OtlpArgs::default(), "test").unwrap();
    assert!(tracing::enabled!(tracing::Level::INFO));

    second.log().set_level("error").unwrap();
    assert!(!tracing::enabled!(tracing::Level::WARN));
    assert_eq!(first.log().level(), "error");
    assert!(first.log().set_level("=,=").is_err());
    assert_eq!(first.log().level(), "error");
    second.shutdown();
    first.shutdown();
}
