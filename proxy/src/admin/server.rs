//! Numbers of the process itself under Envoy's names (`server.*`): looked at when metrics are asked for.

use super::Admin;
use crate::linux;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Sets the numbers of now.
pub(super) fn refresh(admin: &Admin) {
    let scope = admin.context.stats.root().scope("server");
    let set = |name: &str, value: u64| scope.gauge(name).set(value);
    let state = admin.state();
    set("live", u64::from(state == "LIVE"));
    // Envoy's ServerInfo.State.
    set(
        "state",
        ["LIVE", "DRAINING", "PRE_INITIALIZING", "INITIALIZING"].iter().position(|one| *one == state).unwrap_or(0)
            as u64,
    );
    set("uptime", admin.started.elapsed().as_secs());
    set("concurrency", admin.concurrency as u64);
    if let (Ok(data), Ok(resident)) = (linux::data_bytes(), linux::resident_bytes()) {
        set("memory_heap_size", data);
        set("memory_physical_size", resident);
    }
    set("days_until_first_cert_expiring", days_left(admin));
}

/// Whole days until the first certificate ends; as many as there are if there is none, as in Envoy.
fn days_left(admin: &Admin) -> u64 {
    let secrets = admin.context.secrets.snapshot();
    let ends = secrets.iter().flat_map(|secret| secret.chain.iter().chain(&secret.roots)).map(|facts| facts.not_after);
    let Some(first) = ends.min() else { return u64::from(u32::MAX) };
    let left = first.saturating_sub(jiff::Timestamp::now().as_second());
    u64::try_from(left / DAY).unwrap_or(0)
}
