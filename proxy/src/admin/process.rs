//! Pages about the process itself: memory, what it waits for, and what can be changed of it while it runs.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Admin, decoded, json as json_reply, pairs, text};
use crate::{hot_restart, linux};

/// Pages of Envoy that there are not, and why.
pub(super) const ABSENT: &[(&str, &str)] = &[
    ("/allocprofiler", "allocations are not sampled; /memory has the totals"),
    ("/contention", "no lock is waited for on a request's way, so that nothing is counted"),
    ("/cpuprofiler", "use perf on the process"),
    ("/heap_dump", "allocations are not sampled; /memory has the totals"),
    ("/heapprofiler", "allocations are not sampled; /memory has the totals"),
    ("/memory/tcmalloc", "the allocator is another one; /memory has the totals"),
    ("/peak_heap_dump", "allocations are not sampled; /memory has the totals"),
    ("/stats/recentlookups", "metrics are not looked up by their names"),
    ("/stats/recentlookups/clear", "metrics are not looked up by their names"),
    ("/stats/recentlookups/disable", "metrics are not looked up by their names"),
    ("/stats/recentlookups/enable", "metrics are not looked up by their names"),
    ("/tap", "the tap filter is refused, so that there is nothing to watch; access logs show single requests"),
];

const USAGE: &str = "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n\
                     or send the parameters as form values\n\
                     use an empty value to remove a previously added override\n";

/// What the system knows; how an allocator divides it is its own affair.
pub(super) fn memory(_: &Admin, _: &str) -> Response<Full<Bytes>> {
    match (linux::data_bytes(), linux::resident_bytes()) {
        (Ok(data), Ok(resident)) => json_reply(&json!({
            "heap_size": data.to_string(),
            "total_physical_bytes": resident.to_string(),
        })),
        (Err(error), _) | (_, Err(error)) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("the system does not say: {error}\n"))
        }
    }
}

pub(super) fn hot_restart_version(admin: &Admin, _: &str) -> Response<Full<Bytes>> {
    let version = hot_restart::VERSION;
    text(StatusCode::OK, if admin.hot_restart { format!("{version}\n") } else { "disabled\n".into() })
}

pub(super) fn init_dump(admin: &Admin, _: &str) -> Response<Full<Bytes>> {
    let dumps: Vec<Value> = admin
        .dump
        .waiting()
        .iter()
        .map(|waiting| json!({ "name": waiting.who, "target_names": waiting.targets }))
        .collect();
    json_reply(&if dumps.is_empty() { json!({}) } else { json!({ "unready_targets_dumps": dumps }) })
}

pub(super) fn reset_counters(admin: &Admin, _: &str) -> Response<Full<Bytes>> {
    admin.context.stats.reset_counters();
    text(StatusCode::OK, "OK\n")
}

pub(super) fn runtime_modify(admin: &Admin, query: &str) -> Response<Full<Bytes>> {
    let changes: Vec<(String, String)> =
        pairs(query).map(|(key, value)| (decoded(key).into_owned(), decoded(value).into_owned())).collect();
    if changes.is_empty() {
        return text(StatusCode::BAD_REQUEST, USAGE);
    }
    match admin.context.runtime.modify(&changes) {
        Ok(()) => text(StatusCode::OK, "OK\n"),
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}
