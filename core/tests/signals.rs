//! Signals in a process of their own: they reach every test of a process.

use std::process::Command;
use std::time::Duration;

use ferromesh_core::runtime::drain;
use ferromesh_core::runtime::signals::{End, Signals};

fn send(signal: &str) {
    let status = Command::new("kill").args([signal, &std::process::id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_forces_the_end() {
    let mut signals = Signals::listen().unwrap();
    let (drain, watch) = drain::channel();
    send("-TERM");
    assert_eq!(signals.drain_on_first(&drain, Duration::from_secs(60)).await, End::Clean);

    let (drain, stuck) = drain::channel();
    let _work = stuck.guard();
    send("-INT");
    let second = async {
        stuck.signaled().await;
        send("-TERM");
    };
    let (end, ()) = tokio::join!(signals.drain_on_first(&drain, Duration::from_secs(60)), second);
    assert_eq!(end, End::Forced);
    assert!(watch.is_draining());
}
