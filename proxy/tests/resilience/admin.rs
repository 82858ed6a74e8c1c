//! Admin pages that change numbers and values, or show what the process is.

use serde_json::Value;

use crate::as_envoy::{Kind, kinds};
use crate::hosts::Host;
use crate::peers::{ask, eventually, get};
use crate::proxies::{Setup, endpoints, stat};
use crate::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_count_from_zero_again_and_gauges_stay() {
    for kind in kinds() {
        let host = Host::start("a").await;
        let cluster = endpoints(&[(host.address, "")]);
        let process = kind.start(&Setup { cluster: &cluster, ..Setup::default() }.bootstrap()).await;
        let address = process.listener("in").await;
        for _ in 0..3 {
            assert_eq!(get(address, "/").await.0, 200);
        }
        let names = ["cluster.c.upstream_rq_total", "http.in.downstream_rq_total"];
        for name in names {
            assert_eq!(stat(process.admin, name).await, 3, "{kind:?}");
        }
        assert_eq!(get(process.admin, "/reset_counters").await.0, 405, "{kind:?}");
        assert_eq!(ask(process.admin, "POST", "/reset_counters").await, (200, "OK\n".into()), "{kind:?}");
        for name in names {
            assert_eq!(stat(process.admin, name).await, 0, "{kind:?}");
        }
        assert_eq!(stat(process.admin, "cluster.c.membership_total").await, 1, "{kind:?}");
        assert_eq!(get(address, "/").await.0, 200);
        assert_eq!(stat(process.admin, names[0]).await, 1, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_is_shown_as_envoy_shows_it() {
    for kind in kinds() {
        let process = kind.start(&Setup { cluster: "type: STATIC", ..Setup::default() }.bootstrap()).await;
        let page = |path: &'static str| async { get(process.admin, path).await };
        let memory: Value = serde_json::from_str(&page("/memory").await.1).unwrap();
        for field in ["heap_size", "total_physical_bytes"] {
            let bytes: u64 = memory[field].as_str().unwrap().parse().unwrap();
            assert!((1 << 20..1 << 34).contains(&bytes), "{kind:?} {field}: {bytes}");
        }
        assert_eq!(page("/hot_restart_version").await.1.trim(), "disabled", "{kind:?}");
        let dump: Value = serde_json::from_str(&page("/init_dump").await.1).unwrap();
        assert_eq!(dump, serde_json::json!({}), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_says_so_and_why() {
    let process =
        crate::process::Process::start(&Setup { cluster: "type: STATIC", ..Setup::default() }.bootstrap(), &[]).await;
    for path in ["/heapprofiler", "/cpuprofiler", "/contention", "/tap"] {
        let (status, text) = get(process.admin, path).await;
        assert_eq!(status, 501, "{path}");
        assert!(text.starts_with(&format!("{path} is not implemented: ")), "{text}");
    }
    for kind in kinds().into_iter().filter(|kind| *kind != Kind::Ours) {
        let envoy = kind.start(&Setup { cluster: "type: STATIC", ..Setup::default() }.bootstrap()).await;
        let help = get(envoy.admin, "/help").await.1;
        let paths: Vec<&str> =
            help.lines().filter_map(|line| line.strip_prefix("  /")?.split([':', ' ']).next()).collect();
        assert!(paths.len() > 30, "{help}");
        for path in paths {
            assert_ne!(get(process.admin, &format!("/{path}")).await.0, 404, "/{path} of Envoy is not known");
        }
    }
    assert_eq!(get(process.admin, "/nothing").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_the_admin_layer_serve_from_the_next_request_on() {
    for kind in kinds() {
        let host = Host::start("a").await;
        let cluster = endpoints(&[(host.address, "")]);
        let text = Setup { cluster: &cluster, ..Setup::default() }.bootstrap();
        let route = "{match: {prefix: /on, runtime_fraction: {default_value: {numerator: 0}, runtime_key: test.on}}, \
                     direct_response: {status: 202}}, {match: {prefix: /}, route";
        let text = text.replace("{match: {prefix: /}, route", route);
        let layers =
            "layered_runtime: {layers: [{name: base, static_layer: {other: 1}}, {name: admin, admin_layer: {}}]}\n";
        let process = kind.start(&format!("{layers}{text}")).await;
        let address = process.listener("in").await;
        let status = || async { get(address, "/on").await.0 };
        assert_eq!(status().await, 200, "{kind:?}");
        let modify = |query: &'static str| async { ask(process.admin, "POST", query).await };
        assert_eq!(get(process.admin, "/runtime_modify?test.on=100").await.0, 405, "{kind:?}");
        assert_eq!(modify("/runtime_modify?test.on=100&mine=a%20b").await, (200, "OK\n".into()), "{kind:?}");
        eventually("the value serves", || async { status().await == 202 }).await;
        let shown: Value = serde_json::from_str(&get(process.admin, "/runtime").await.1).unwrap();
        assert_eq!(shown["entries"]["test.on"]["final_value"], "100", "{kind:?}");
        assert_eq!(shown["entries"]["mine"]["layer_values"], serde_json::json!(["", "a b"]), "{kind:?}");
        assert_eq!(modify("/runtime_modify?test.on=").await.0, 200, "{kind:?}");
        eventually("the default serves again", || async { status().await == 200 }).await;
        let mut form = Wire::connect(process.admin).await;
        form.send(
            "POST /runtime_modify HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: 11\r\n\r\ntest.on=100",
        )
        .await;
        assert!(form.head().await.starts_with("HTTP/1.1 200"), "{kind:?}");
        eventually("the form's value serves", || async { status().await == 202 }).await;
        let (status, usage) = modify("/runtime_modify").await;
        assert_eq!(status, 400, "{kind:?}");
        assert!(usage.starts_with("usage: /runtime_modify?key1=value1&key2=value2"), "{kind:?}: {usage}");
        drop(process);
        let process = kind.start(&Setup { cluster: &cluster, ..Setup::default() }.bootstrap()).await;
        assert_eq!(ask(process.admin, "POST", "/runtime_modify?a=1").await.0, 503, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_heed_what_their_query_asks_for() {
    for kind in kinds() {
        let host = Host::start("a").await;
        let cluster = endpoints(&[(host.address, "")]);
        let process = kind.start(&Setup { cluster: &cluster, ..Setup::default() }.bootstrap()).await;
        let page = |path: &'static str| async { get(process.admin, path).await };
        assert!(
            page("/clusters?filter=^c$").await.1.contains("c::default_priority::max_connections::1024"),
            "{kind:?}"
        );
        assert_eq!(page("/clusters?filter=^d").await, (200, String::new()), "{kind:?}");
        let gauges = page("/stats?type=Gauges&filter=^cluster.c.membership_(total|change)").await;
        assert_eq!(gauges, (200, "cluster.c.membership_total: 1\n".into()), "{kind:?}");
        for path in ["/stats?format=xx", "/stats?histogram_buckets=nope", "/stats?type=nope", "/clusters?filter=["] {
            let (status, text) = page(path).await;
            // Envoy shows clusters whatever the filter is.
            assert!(
                status == 400 || matches!(kind, Kind::Envoy(_)) && path.starts_with("/clusters"),
                "{kind:?} {path} {text}"
            );
        }
        let clusters: Value = serde_json::from_str(&page("/clusters?format=json").await.1).unwrap();
        let cluster = &clusters["cluster_statuses"][0];
        for priority in 0..2 {
            let limits = &cluster["circuit_breakers"]["thresholds"][priority];
            assert_eq!([&limits["max_connections"], &limits["max_retries"]], [1024, 3], "{kind:?}");
        }
        let stats = cluster["host_statuses"][0]["stats"].as_array().unwrap();
        let names: Vec<&str> = stats.iter().filter_map(|stat| stat["name"].as_str()).collect();
        for name in ["cx_connect_fail", "cx_total", "rq_error", "rq_success", "rq_timeout", "rq_total", "rq_active"] {
            assert!(names.contains(&name), "{kind:?} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_logger_changes_without_the_others() {
    for kind in kinds() {
        let process = kind.start(&Setup { cluster: "type: STATIC", ..Setup::default() }.bootstrap()).await;
        let log = |query: &'static str| async move { ask(process.admin, "POST", query).await };
        assert_eq!(log("/logging?level=warning").await.0, 200, "{kind:?}");
        for (query, logger) in
            [("/logging?paths=http:debug,rbac:info", "http"), ("/logging?upstream=debug", "upstream")]
        {
            let (status, text) = log(query).await;
            assert_eq!(status, 200, "{kind:?} {query}");
            let shown = if matches!(kind, Kind::Ours) && logger == "upstream" { "cluster" } else { logger };
            assert!(
                text.starts_with("active loggers:\n") && text.contains(&format!("{shown}: debug\n")),
                "{kind:?} {text}"
            );
        }
        let (status, text) = log("/logging").await;
        assert!(status == 200 && text.contains("http: debug\n") && text.contains(": warning\n"), "{kind:?} {text}");
        for query in
            ["/logging?level=nope", "/logging?nobody=debug", "/logging?http=nope", "/logging?paths=nobody:debug"]
        {
            assert_eq!(log(query).await.0, 400, "{kind:?} {query}");
        }
    }
}
