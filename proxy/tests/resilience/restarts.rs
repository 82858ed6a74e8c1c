//! Hot restart: one process after the other on the same sockets, under load.

use rustix::process::Signal;

use crate::hosts::Host;
use crate::load::Load;
use crate::peers::get;
use crate::process::Process;
use crate::proxies::{Setup, endpoints};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_processes_take_over_from_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("restart").display().to_string();
    let host = Host::start("a").await;
    let cluster = endpoints(&[(host.address, "")]);
    let bootstrap = Setup { cluster: &cluster, ..Setup::default() }.bootstrap();
    let arguments = ["--hot-restart-path", &path, "--drain-time-s", "20"];
    let mut process = Process::start(&bootstrap, &arguments).await;
    let (address, admin) = (process.listener("in").await, process.admin);
    let load = Load::start(&[address.into()], 4);
    for _ in 0..4 {
        load.further(300).await;
        let next = Process::start(&bootstrap, &arguments).await;
        assert_eq!((next.admin, next.listener("in").await), (admin, address), "the same sockets");
        let mut old = std::mem::replace(&mut process, next);
        assert_eq!(old.ended().await, Some(0));
        assert_eq!(get(admin, "/ready").await, (200, "LIVE\n".into()));
    }
    load.further(300).await;
    let requests = load.finish().await;
    assert!(requests >= 1500, "{requests}");
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await, Some(0));
    assert_eq!(get(address, "/").await.0, 0, "nobody holds the socket any more");
}
