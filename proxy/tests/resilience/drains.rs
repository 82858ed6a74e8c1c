//! Drains and ends: listeners asked by the admin address, and the real binary by its signals.

use std::sync::atomic::Ordering;

use rustix::process::Signal;

use crate::hosts::{Client, Host};
use crate::load::Load;
use crate::peers::{ask, eventually, get};
use crate::process::Process;
use crate::proxies::{Setup, endpoints};

async fn running(host: &Host, manager: &str) -> Process {
    let cluster = endpoints(&[(host.address, "")]);
    Process::start(&Setup { cluster: &cluster, manager, ..Setup::default() }.bootstrap(), &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_ends_by_signal_or_by_the_admin_page_without_a_failed_request() {
    let host = Host::start("a").await;
    for by_signal in [true, false] {
        let mut process = running(&host, "").await;
        let load = Load::start(&[process.listener("in").await.into()], 4);
        load.further(200).await;
        if by_signal {
            process.signal(Signal::TERM);
        } else {
            assert_eq!(ask(process.admin, "POST", "/quitquitquit").await.0, 200);
        }
        eventually("clients are told to close", || async { load.told_to_close() > 20 }).await;
        assert!(process.is_running(), "there are clients");
        assert_eq!(get(process.admin, "/ready").await, (503, "DRAINING\n".into()));
        load.finish().await;
        assert_eq!(process.ended().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_is_waited_for_unless_a_second_signal_comes() {
    let host = Host::start("a").await;
    for patient in [true, false] {
        host.state.holds.store(true, Ordering::SeqCst);
        let mut process = running(&host, "").await;
        let address = process.listener("in").await;
        let held = tokio::spawn(async move { get(address, "/").await });
        eventually("the request is on its way", || async { host.state.waiting() == 1 }).await;
        process.signal(Signal::TERM);
        let draining = || async { get(process.admin, "/ready").await.1 == "DRAINING\n" };
        eventually("it drains", draining).await;
        if patient {
            assert!(process.is_running());
            host.state.release();
            assert_eq!(held.await.unwrap(), (200, "a".into()));
        } else {
            process.signal(Signal::TERM);
            assert_ne!(held.await.unwrap().0, 200, "it was cut");
        }
        assert_eq!(process.ended().await, Some(0));
        host.state.release();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigusr1_opens_the_logs_anew_and_sighup_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let host = Host::start("a").await;
    let manager = format!(
        "access_log: [{{name: file, typed_config: {{'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {}}}}}],",
        path.display()
    );
    let mut process = running(&host, &manager).await;
    let address = process.listener("in").await;
    std::fs::rename(&path, &moved).unwrap();
    process.signal(Signal::USR1);
    eventually("there is a new file", || async { path.exists() }).await;
    process.signal(Signal::HUP);
    assert_eq!(get(address, "/").await.0, 200);
    eventually("it grows", || async { std::fs::read_to_string(&path).unwrap().lines().count() == 1 }).await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_drain_by_direction_and_close_when_asked() {
    let host = Host::start("a").await;
    let cluster = endpoints(&[(host.address, "")]);
    let text = Setup { cluster: &cluster, ..Setup::default() }.bootstrap();
    // A second listener like the first; one inbound, one outbound.
    let (head, rest) = text.split_once("  - name: in\n").unwrap();
    let (listener, tail) = rest.split_once("  clusters:\n").unwrap();
    let text = format!(
        "{head}  - name: in\n    traffic_direction: INBOUND\n{listener}  - name: out\n    traffic_direction: OUTBOUND\n{listener}  clusters:\n{tail}"
    );
    for query in ["inboundonly", "inboundonly&graceful"] {
        let serving = crate::proxies::Serving::new(crate::peers::proxy(&text)).await;
        let (inbound, outbound) = (serving.address, serving.proxy.listener_addr("out").unwrap());
        assert_eq!(ask(serving.admin, "POST", "/drain_listeners?skip_exit").await.0, 400);
        assert_eq!(ask(serving.admin, "POST", &format!("/drain_listeners?{query}")).await.0, 200);
        let closes = |address| async move {
            match Client::new(address).get("/").await {
                Ok((_, headers, _)) => headers.contains_key("connection"),
                Err(_) => true,
            }
        };
        eventually("inbound connections end", || closes(inbound)).await;
        assert!(!closes(outbound).await, "{query}");
        if query == "inboundonly" {
            eventually("nobody listens", || async { get(inbound, "/").await.0 == 0 }).await;
        } else {
            assert_eq!(get(inbound, "/").await.0, 200);
        }
        assert_eq!(get(outbound, "/").await.0, 200);
        serving.proxy.shutdown().await;
    }
}
