//! Circuit breakers: what overflows is answered at once, says so, and leaves nothing behind.

use std::sync::atomic::Ordering;

use crate::hosts::{Client, Host};
use crate::peers::{eventually, get};
use crate::proxies::{Setup, endpoints};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_overflows_a_breaker_is_answered_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    for (thresholds, fit, open, counter) in [
        ("max_requests: 2", 2, "rq_open", "upstream_rq_pending_overflow"),
        ("max_connections: 1, max_pending_requests: 1", 2, "cx_open", "upstream_rq_pending_overflow"),
    ] {
        let host = Host::start("a").await;
        host.state.holds.store(true, Ordering::SeqCst);
        let log = folder.path().join(format!("{open}.log"));
        let manager = format!(
            "access_log: [{{name: file, typed_config: {{'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, \
             path: {}, log_format: {{text_format_source: {{inline_string: \"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\\n\"}}}}}}}}],",
            log.display()
        );
        let cluster = format!(
            "circuit_breakers: {{thresholds: [{{{thresholds}, track_remaining: true}}]}}, {}",
            endpoints(&[(host.address, "")])
        );
        let serving = Setup { cluster: &cluster, manager: &manager, ..Setup::default() }.start().await;
        let gauge = format!("cluster.c.circuit_breakers.default.{open}");
        assert_eq!(serving.stat(&gauge).await, 0);
        let address = serving.address;
        let used = || async {
            serving.stat("cluster.c.upstream_rq_active").await
                + serving.stat("cluster.c.upstream_rq_pending_active").await
        };
        let mut held = Vec::new();
        for count in 1..=fit {
            // One after the other: while the first connection is being made, its request counts as pending, too.
            held.push(tokio::spawn(async move { get(address, "/").await }));
            let arrived = || async { used().await == count && host.state.waiting() as u64 >= 1 };
            eventually("a request that fits is on its way", arrived).await;
        }
        assert_eq!(serving.stat(&gauge).await, 1, "{gauge}");
        let (status, headers, body) = Client::new(serving.address).get("/").await.unwrap();
        assert_eq!(status, 503);
        assert!(body.contains("overflow"), "{body}");
        assert_eq!(headers["x-envoy-overloaded"], "true");
        assert_eq!(serving.stat(&format!("cluster.c.{counter}")).await, 1, "{counter}");
        let line = || async { std::fs::read_to_string(&log).unwrap_or_default() };
        eventually("the log has its line", || async { line().await.ends_with('\n') }).await;
        assert!(
            line().await.starts_with("503 UO upstream_reset_before_response_started{overflow}"),
            "{}",
            line().await
        );
        host.state.release();
        for held in held {
            assert_eq!(held.await.unwrap().0, 200);
        }
        // A connection that rests still counts as one.
        let left = u64::from(open == "cx_open");
        eventually("nothing is in use", || async { serving.stat(&gauge).await == left && used().await == 0 }).await;
        assert_eq!(get(serving.address, "/").await.0, 200);
        serving.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_priority_has_its_own_breakers_and_retries_have_theirs() {
    let host = Host::start("a").await;
    let cluster = format!(
        "circuit_breakers: {{thresholds: [{{max_retries: 0}}, {{priority: HIGH, max_retries: 5, max_requests: 7}}]}}, {}",
        endpoints(&[(host.address, "")])
    );
    host.says(503);
    let retry = ", retry_policy: {retry_on: 5xx, num_retries: 2, retry_back_off: {base_interval: 0.001s}}";
    for (priority, asked, overflow) in [("DEFAULT", 1, 1), ("HIGH", 3, 0)] {
        let route = format!("{retry}, priority: {priority}");
        let serving = Setup { cluster: &cluster, route: &route, ..Setup::default() }.start().await;
        let before = host.state.requests.load(Ordering::SeqCst);
        assert_eq!(get(serving.address, "/").await.0, 503);
        assert_eq!(host.state.requests.load(Ordering::SeqCst) - before, asked, "{priority}");
        assert_eq!(serving.stat("cluster.c.upstream_rq_retry_overflow").await, overflow, "{priority}");
        assert!(serving.clusters().await.contains("c::high_priority::max_requests::7"));
        serving.proxy.shutdown().await;
    }
}
