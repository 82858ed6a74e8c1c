//! What a request costs, counted: allocations do not depend on the machine or on what else it does.

#[path = "support/config.rs"]
mod config;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/pki.rs"]
mod pki;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use config::{Hop, Shape, route, typed};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of both proxies of a mTLS pair for one GET of 1 KiB over HTTP/1.1 with keep-alive: access log, metrics,
/// request ids, retries, ten rules and outlier detection on. When a change makes it cheaper, lower the bound with it.
const ALLOCATIONS: f64 = 58.0;
/// The same, bytes.
const BYTES: f64 = 37_500.0;

const WARM_UP: usize = 100;
const COUNTED: usize = 400;
/// Timers, metrics and the log's writer allocate now and then; they are not the request's.
const BETWEEN: f64 = 0.5;

/// Answers every request that comes whole in one piece, without an allocation.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\ncontent-type: text/plain\r\n\r\n".to_vec();
        answer.extend([b'x'; 1024]);
        let mut request = [0; 8192];
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            while socket.read(&mut request).is_ok_and(|read| read > 0) {
                socket.write_all(&answer).unwrap();
            }
        }
    });
    address
}

/// Sends requests one after the other, without an allocation.
fn requests(socket: &mut TcpStream, count: usize) {
    let mut answer = [0; 8192];
    for _ in 0..count {
        socket.write_all(b"GET /hello HTTP/1.1\r\nhost: web\r\nuser-agent: test\r\naccept: */*\r\n\r\n").unwrap();
        let mut read = 0;
        let is_whole = |answer: &[u8]| {
            let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
            head.is_some_and(|head| answer.len() == head + 4 + 1024)
        };
        while !is_whole(&answer[..read]) {
            let more = socket.read(&mut answer[read..]).unwrap();
            assert!(more > 0, "the connection closed");
            read += more;
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
}

fn sidecar() -> Hop {
    let policies: serde_json::Map<String, Value> = (0..10)
        .map(|i| {
            let prefix = if i == 9 { "/".to_owned() } else { format!("/never/{i}") };
            let rule =
                json!({"permissions": [{"url_path": {"path": {"prefix": prefix}}}], "principals": [{"any": true}]});
            (format!("rule-{i}"), rule)
        })
        .collect();
    let rbac = typed("http.rbac.v3.RBAC", json!({"rules": {"action": "ALLOW", "policies": policies}}));
    let retries = json!({"retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2}});
    Hop::http()
        .routes(json!([route("next", retries)]))
        .terminal(json!({"http_filters": [rbac, typed("http.router.v3.Router", json!({}))]}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_allocates_no_more_than_is_written_here() {
    let way = Shape::Pair.start(&sidecar(), backend(), &json!({"outlier_detection": {"consecutive_5xx": 5}})).await;
    let mut client = TcpStream::connect(way.address()).unwrap();
    let counted = tokio::task::spawn_blocking(move || {
        requests(&mut client, WARM_UP);
        let region = Region::new(ALLOCATOR);
        requests(&mut client, COUNTED);
        region.change()
    });
    let change = counted.await.unwrap();
    let each = |n: usize| n as f64 / COUNTED as f64;
    let (allocations, bytes) = (each(change.allocations + change.reallocations), each(change.bytes_allocated));
    eprintln!("{allocations:.1} allocations, {bytes:.0} bytes for a request through both proxies");
    assert!(allocations <= ALLOCATIONS + BETWEEN, "{allocations:.2} allocations a request; the bound is {ALLOCATIONS}");
    assert!(bytes <= BYTES, "{bytes:.0} bytes a request; the bound is {BYTES}");
    way.stop().await;
}
