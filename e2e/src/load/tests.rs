//! The load counts what it should: a load that cannot see a failure would prove nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::{Aim, Load, Outcome, Protocol};

/// Serves each connection by `serve(number)`: bytes to send for each request, then whether to close.
fn server(serve: impl Fn(usize) -> Option<&'static [u8]> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for (number, socket) in listener.incoming().enumerate() {
            let mut socket = socket.expect("a connection");
            let mut bytes = [0; 4096];
            while socket.read(&mut bytes).is_ok_and(|read| read > 0) {
                let Some(answer) = serve(number) else { break };
                if socket.write_all(answer).is_err() || answer.windows(5).any(|word| word == b"close") {
                    break;
                }
            }
        }
    });
    address
}

fn outcome(address: SocketAddr, protocol: Protocol, requests: u64) -> Outcome {
    let process = std::process::id().try_into().expect("a number");
    let aim = Aim {
        name: "test",
        process,
        address,
        host: "host".into(),
        path: "/".into(),
        protocol,
        connections: 1,
        pause: Duration::ZERO,
    };
    let load = Load::start(vec![aim]).expect("started");
    while load.requests() < requests {
        std::thread::yield_now();
    }
    load.end().remove(0)
}

/// Entering a namespace, even one's own, is root's.
fn may_enter() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "only root may enter a network namespace");
        eprintln!("skipped: only root may enter a network namespace");
    }
    may
}

#[test]
fn answers_of_200_are_no_failures_and_a_connection_that_is_closed_as_announced_is_none() {
    if !may_enter() {
        return;
    }
    let address = server(|number| {
        Some(if number % 2 == 0 {
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        })
    });
    let seen = outcome(address, Protocol::Http1, 50);
    assert_eq!((seen.failed, seen.causes.as_slice()), (0, [].as_slice()));
    assert!(seen.requests >= 50);
}

#[test]
fn other_statuses_and_connections_that_end_without_an_answer_are_failures_with_their_cause() {
    if !may_enter() {
        return;
    }
    let address = server(|number| {
        (number % 2 == 0).then_some(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\nconnection: close\r\n\r\nno server".as_slice(),
        )
    });
    let seen = outcome(address, Protocol::Http1, 6);
    assert_eq!(seen.failed, seen.requests);
    let causes: Vec<&str> = seen.causes.iter().map(|cause| cause.what.as_str()).collect();
    assert_eq!(causes.len(), 2, "{causes:?}");
    assert!(causes.contains(&"503 Service Unavailable: no server"), "{causes:?}");
}

#[test]
fn a_server_that_is_not_there_is_a_failure() {
    if !may_enter() {
        return;
    }
    let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("an address");
    let seen = outcome(address, Protocol::Http1Anew, 2);
    assert_eq!(seen.failed, seen.requests);
    assert!(seen.causes[0].what.starts_with("connecting: "), "{:?}", seen.causes);
}
