//! What the process says about itself: log lines for people and for machines, traces to a collector.

use crate::collector::{Collector, Span};
use crate::daemon::{Daemon, address};
use crate::support::Caller;

fn start(folder: &std::path::Path, more: &[&str]) -> Daemon {
    let (store, tokens) = (folder.join("store"), folder.join("tokens"));
    std::fs::create_dir_all(&tokens).unwrap();
    std::fs::write(tokens.join("default.web"), "token-web").unwrap();
    let (store, tokens) = (store.to_str().unwrap(), tokens.to_str().unwrap());
    let fixed = ["--listen", "127.0.0.1:0", "--admin-address", "127.0.0.1:0", "--store", store, "--tokens", tokens];
    Daemon::start(env!("CARGO_BIN_EXE_ferromesh-ca"), &[&fixed, more].concat())
}

/// Signs one certificate, and ends in order.
async fn lives(daemon: &mut Daemon) {
    let started = daemon.tells("started").await;
    let (_, roots) = crate::daemon::http(address(&started, "admin"), "GET", "/roots").await.unwrap();
    let roots: serde_json::Value = serde_json::from_str(&roots).unwrap();
    let caller = Caller { addr: address(&started, "addr"), bundle: roots["bundle"].as_str().unwrap().to_owned() };
    caller.certified(Some("token-web"), None).await;
    daemon.terminate();
    assert!(daemon.ended().await.success(), "{}", daemon.log());
}

#[tokio::test]
async fn each_json_line_is_an_object_with_time_level_and_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = start(folder.path(), &["--log-format", "json"]);
    lives(&mut daemon).await;
    daemon.tells("ended").await;
    for line in daemon.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
    }
    let issued = daemon.tells("certificate issued").await;
    assert_eq!(issued["id"], "spiffe://cluster.local/ns/default/sa/web");
}

#[tokio::test]
async fn plain_lines_hold_no_colour_codes_in_a_file_and_obey_the_level() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = start(folder.path(), &["--log-format", "plain"]);
    let line = daemon.says(&["INFO", "started", "admin=127.0.0.1:"]).await;
    assert!(!line.contains('\u{1b}'), "{line:?}");
    daemon.terminate();
    assert!(daemon.ended().await.success());

    let mut quiet = start(folder.path(), &["--log-level", "warn"]);
    quiet.terminate_when_it_handles_signals().await;
    assert!(quiet.ended().await.success());
    assert_eq!(quiet.log(), "");
    let mut wrong = start(folder.path(), &["--log-level", "ferromesh=loud"]);
    assert_eq!(wrong.ended().await.code(), Some(1));
    wrong.says(&["log level", "ferromesh=loud"]).await;
}

#[tokio::test]
async fn traces_reach_the_collector_before_the_process_ends() {
    let (folder, (collector, addr)) = (tempfile::tempdir().unwrap(), Collector::start().await);
    let endpoint = format!("http://{addr}");
    lives(&mut start(folder.path(), &["--log-format", "json", "--otlp-endpoint", &endpoint])).await;
    let spans = collector.spans();
    let span = |wanted: &&Span| wanted.name == "CreateCertificate" && wanted.service == "ferromesh-ca";
    let span = spans.iter().find(span).unwrap_or_else(|| panic!("{spans:?}"));
    let has = |key: &str, value: &str| span.attributes.contains(&(key.to_owned(), value.to_owned()));
    assert!(has("id", "spiffe://cluster.local/ns/default/sa/web") && has("code", "0"), "{span:?}");
}

#[tokio::test]
async fn a_share_of_none_is_none_and_a_collector_that_is_away_holds_nothing_up() {
    let (folder, (collector, addr)) = (tempfile::tempdir().unwrap(), Collector::start().await);
    let endpoint = format!("http://{addr}");
    let none = ["--log-format", "json", "--otlp-endpoint", &endpoint, "--otlp-sample-ratio", "0"];
    lives(&mut start(folder.path(), &none)).await;
    assert_eq!(collector.spans(), []);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{nobody}");
    lives(&mut start(folder.path(), &["--log-format", "json", "--otlp-endpoint", &endpoint])).await;
    let mut wrong = start(folder.path(), &["--otlp-endpoint", "no address"]);
    assert_eq!(wrong.ended().await.code(), Some(1));
    wrong.says(&["OTLP endpoint", "no address"]).await;
}
