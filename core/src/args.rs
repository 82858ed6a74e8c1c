//! Command-line arguments that every daemon has, to be flattened into its own (`#[command(flatten)]`).

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Log level, for all (`info`) or by module (`info,ferromesh_proxy=debug`).
    #[arg(long, env = "FERROMESH_LOG", default_value = "info")]
    pub log_level: String,
    /// Log format.
    #[arg(long, env = "FERROMESH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Plain)]
    pub log_format: LogFormat,
}

impl Default for LogArgs {
    fn default() -> Self {
        Self { log_level: "info".into(), log_format: LogFormat::Plain }
    }
}

/// Where the daemon's own traces go.
#[derive(Debug, Clone, Default, Args)]
pub struct OtlpArgs {
    /// Collector of the daemon's own traces (OTLP over gRPC, such as http://127.0.0.1:4317); off if not given.
    #[arg(long, env = "FERROMESH_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Share of the traces that is sent, from 0 to 1; 1 if not given.
    #[arg(long, env = "FERROMESH_OTLP_SAMPLE_RATIO", value_parser = parse_ratio)]
    pub otlp_sample_ratio: Option<f64>,
}

/// Where the admin server listens, and how long a drain may take.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// Address of the admin server (/metrics, /healthz/ready, /version).
    #[arg(long, env = "FERROMESH_ADMIN_ADDRESS", default_value = "127.0.0.1:15014")]
    pub admin_address: SocketAddr,
    /// Longest time that work in progress gets to finish after SIGTERM, in seconds.
    #[arg(long, env = "FERROMESH_DRAIN_SECONDS", default_value_t = 45)]
    pub drain_seconds: u64,
}

impl AdminArgs {
    /// Longest time that work in progress gets to finish.
    pub fn drain_deadline(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Daemon {
        #[command(flatten)]
        log: LogArgs,
        #[command(flatten)]
        otlp: OtlpArgs,
        #[command(flatten)]
        admin: AdminArgs,
    }

    #[test]
    fn a_daemon_flattens_the_groups_and_bad_values_are_refused() {
        let line = ["daemon", "--log-format", "json", "--otlp-sample-ratio", "0.5", "--drain-seconds", "3"];
        let daemon = Daemon::try_parse_from(line).unwrap();
        assert_eq!(daemon.log.log_format, LogFormat::Json);
        assert_eq!(daemon.otlp.otlp_sample_ratio, Some(0.5));
        assert_eq!(daemon.admin.drain_deadline(), Duration::from_secs(3));
        assert!(Daemon::try_parse_from(["daemon", "--otlp-sample-ratio", "2"]).is_err());
        assert!(Daemon::try_parse_from(["daemon", "--admin-address", "nowhere"]).is_err());
    }
}
