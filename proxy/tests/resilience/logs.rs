//! Access logs: a disk that is slow or full costs lines, which are counted, and never a request.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::hosts::{Client, Host};
use crate::peers::{ask, eventually};
use crate::proxies::{Serving, Setup, endpoints};

fn log(path: &Path, format: &str) -> String {
    format!(
        "{{name: file, typed_config: {{'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog,
          path: {}, log_format: {{text_format_source: {{inline_string: \"{format}\\n\"}}}}}}}}",
        path.display()
    )
}

async fn start(host: &Host, logs: &[String]) -> Serving {
    let manager = format!("access_log: [{}],", logs.join(", "));
    Setup { cluster: &endpoints(&[(host.address, "")]), manager: &manager, ..Setup::default() }.start().await
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

const WRITTEN: &str = "access_logs.file_access_log.logs_written";
const DROPPED: &str = "access_logs.file_access_log.logs_dropped";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_blocks_neither_requests_nor_other_logs() {
    const REQUESTS: usize = 500;
    let folder = tempfile::tempdir().unwrap();
    let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut reader = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&pipe).unwrap();
    let host = Host::start("a").await;
    let serving = start(&host, &[log(&pipe, &"x".repeat(16 * 1024)), log(&file, "%RESPONSE_CODE%")]).await;
    assert_eq!(Client::new(serving.address).count(REQUESTS, "/").await["a"], REQUESTS);
    eventually("the other log has every line", || async { lines(&file) == REQUESTS }).await;
    let dropped = serving.stat(DROPPED).await as usize;
    assert!((1..REQUESTS).contains(&dropped), "{dropped} lines were dropped");
    // What was not dropped is there once somebody reads.
    let mut read = Vec::new();
    let mut whole = || {
        let _ = reader.read_to_end(&mut read);
        read.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() == REQUESTS - dropped
            && read.ends_with(b"\n")
    };
    eventually("the kept lines are read", || std::future::ready(whole())).await;
    assert_eq!(serving.stat(WRITTEN).await as usize, 2 * REQUESTS - dropped);
    assert_eq!(serving.stat("filesystem.write_total_buffered").await, 0);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_for_a_full_disk_are_counted_and_no_request_fails() {
    let host = Host::start("a").await;
    let serving = start(&host, &[log(Path::new("/dev/full"), "%RESPONSE_CODE%")]).await;
    assert_eq!(Client::new(serving.address).count(50, "/").await["a"], 50);
    eventually("every line is counted", || async { serving.stat(DROPPED).await == 50 }).await;
    assert!(serving.stat("filesystem.write_failed").await > 0);
    serving.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_opened_anew_when_asked_and_written_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("logs/access"), folder.path().join("logs/access.1"));
    std::fs::create_dir(folder.path().join("logs")).unwrap();
    let host = Host::start("a").await;
    let serving = start(&host, &[log(&path, "%RESPONSE_CODE%")]).await;
    let mut client = Client::new(serving.address);
    client.count(3, "/").await;
    eventually("three lines", || async { lines(&path) == 3 }).await;
    std::fs::rename(&path, &moved).unwrap();
    client.count(2, "/").await;
    eventually("the moved file grows", || async { lines(&moved) == 5 }).await;
    assert_eq!(ask(serving.admin, "GET", "/reopen_logs").await.0, 405);
    assert_eq!(ask(serving.admin, "POST", "/reopen_logs").await.0, 200);
    eventually("there is a new file", || async { path.exists() }).await;
    client.count(4, "/").await;
    eventually("it grows", || async { lines(&path) == 4 }).await;
    // A folder that is gone: what is open serves on.
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(folder.path().join("logs"), &elsewhere).unwrap();
    assert_eq!(ask(serving.admin, "POST", "/reopen_logs").await.0, 200);
    eventually("it failed", || async { serving.stat("filesystem.reopen_failed").await == 1 }).await;
    client.count(2000, "/").await;
    serving.proxy.shutdown().await;
    assert_eq!(lines(&elsewhere.join("access")), 2004, "the end waits for the last lines");
    assert_eq!(lines(&elsewhere.join("access.1")), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_without_a_reader_is_an_error_and_no_wait() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let manager = format!("access_log: [{}],", log(&pipe, "x"));
    let text = Setup { cluster: "", manager: &manager, ..Setup::default() }.bootstrap();
    let bootstrap = ferromesh_proxy::bootstrap::parse(&text).unwrap();
    let error = ferromesh_proxy::app::Proxy::start(bootstrap, Default::default()).err().unwrap().to_string();
    assert!(error.contains("access_log[0].typed_config.path") && error.contains("pipe"), "{error}");
}
