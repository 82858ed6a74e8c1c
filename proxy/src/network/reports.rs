//! What the `istio.stats` filters of one connection report of it, while it runs and when it is over.

use tokio::time::Instant;

use crate::format::Info;
use crate::http::filters::istio_stats::tcp::{Account, TcpStats};

/// All of them.
pub(super) struct Reports<'a>(Vec<Report<'a>>);

struct Report<'a> {
    stats: &'a TcpStats,
    account: Account,
    /// When an open connection is reported next.
    due: Option<Instant>,
}

impl<'a> Reports<'a> {
    /// A connection begins.
    pub(super) fn new(filters: impl Iterator<Item = &'a TcpStats>) -> Self {
        let report = |stats: &'a TcpStats| {
            let due = stats.reporting_duration().and_then(|every| Instant::now().checked_add(every));
            Report { stats, account: Account::default(), due }
        };
        Self(filters.map(report).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Comes back when a report is due; never if there will be none.
    pub(super) async fn due(&self) {
        match self.0.iter().filter_map(|report| report.due).min() {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Makes the reports that are due.
    pub(super) fn report(&mut self, info: &Info<'_>) {
        let now = Instant::now();
        for report in self.0.iter_mut().filter(|report| report.due.is_some_and(|due| due <= now)) {
            report.stats.report(&mut report.account, info, false);
            report.due = report.stats.reporting_duration().and_then(|every| now.checked_add(every));
        }
    }

    /// The connection is over.
    pub(super) fn end(&mut self, info: &Info<'_>) {
        for report in &mut self.0 {
            report.stats.report(&mut report.account, info, true);
        }
    }
}
