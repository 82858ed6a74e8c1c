//! `istio.stats` as a network filter: Istio's standard metrics of TCP connections.
//!
//! What is sent goes to the client, what is received comes from it, on both sides of a hop (Istio, "Standard metrics").

use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::stats as proto;

use super::definitions::Custom;
use super::{Maker, Metrics};
use crate::config::{ConfigError, duration};
use crate::context::Context;
use crate::format::Info;
use crate::stats::Counter;

/// Istio's default of `tcp_reporting_duration`.
const REPORTING: Duration = Duration::from_secs(5);

/// The metrics of one `istio.stats` filter of connections.
pub struct TcpStats {
    metrics: Metrics<Series>,
    every: Option<Duration>,
}

/// The metrics of one label set, but for those that are dropped.
struct Series {
    opened: Option<Counter>,
    closed: Option<Counter>,
    sent: Option<Counter>,
    received: Option<Counter>,
    custom: Vec<Custom>,
}

/// What was reported of one connection.
#[derive(Default)]
pub struct Account {
    has_begun: bool,
    /// `None` if there are too many label sets. Labels stay as they were at first, so that one series has both the
    /// begin and the end of a connection.
    series: Option<Arc<Series>>,
    sent: u64,
    received: u64,
}

impl TcpStats {
    /// Decodes the configuration.
    ///
    /// # Errors
    /// Names what of its rules is wrong, or cannot be evaluated.
    pub fn decode(message: &proto::PluginConfig, context: &Context) -> Result<Self, ConfigError> {
        let every = duration(message.tcp_reporting_duration, "tcp_reporting_duration")?.unwrap_or(REPORTING);
        let metrics = Metrics::decode(message, context)?;
        Ok(Self { metrics, every: (!every.is_zero()).then_some(every) })
    }

    /// How often an open connection is to be reported; `None`: only at its end.
    pub fn reporting_duration(&self) -> Option<Duration> {
        self.every
    }

    /// Reports what is new of a connection.
    pub fn report(&self, account: &mut Account, info: &Info<'_>, is_over: bool) {
        let inc = |counter: &Option<Counter>, by: u64| counter.iter().for_each(|counter| counter.add(by));
        if !std::mem::replace(&mut account.has_begun, true) {
            account.series = self.metrics.of(info, Series::make);
            account.series.iter().for_each(|series| inc(&series.opened, 1));
        }
        let Some(series) = &account.series else { return };
        inc(&series.sent, info.bytes_sent.saturating_sub(account.sent));
        inc(&series.received, info.bytes_received.saturating_sub(account.received));
        (account.sent, account.received) = (info.bytes_sent, info.bytes_received);
        if is_over {
            inc(&series.closed, 1);
            self.metrics.definitions.record(&series.custom, info);
        }
    }
}

impl Series {
    fn make(maker: &Maker<'_, Self>) -> Self {
        Self {
            opened: maker.counter("istio_tcp_connections_opened_total"),
            closed: maker.counter("istio_tcp_connections_closed_total"),
            sent: maker.counter("istio_tcp_sent_bytes_total"),
            received: maker.counter("istio_tcp_received_bytes_total"),
            custom: maker.custom(),
        }
    }
}
