//! A proxy that is to leave its service: `/healthcheck/fail` and `drain_type`; and which clients a socket on `::` takes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::as_envoy::kinds;
use crate::hosts::{Client, Host};
use crate::peers::{ask, eventually, get};
use crate::proxies::{Setup, endpoints};

const FILTER: &str = "http_filters: [{name: hc, typed_config: {'@type': \
    type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: false, \
    headers: [{name: ':path', string_match: {exact: /hc}}]}}, ";

/// `in` with the default, `kept` with MODIFY_ONLY.
fn bootstrap(host: &Host) -> String {
    let cluster = endpoints(&[(host.address, "")]);
    let text = Setup { cluster: &cluster, manager: "drain_timeout: 0.1s,", ..Setup::default() }.bootstrap();
    let text = text.replace("http_filters: [", FILTER);
    let (head, rest) = text.split_once("  - name: in\n").unwrap();
    let (listener, tail) = rest.split_once("  clusters:\n").unwrap();
    format!("{head}  - name: in\n{listener}  - name: kept\n    drain_type: MODIFY_ONLY\n{listener}  clusters:\n{tail}")
}

/// An answer's status, and whether it says that the connection ends, and that the host fails.
async fn got(client: &mut Client, path: &str) -> (u16, bool, bool) {
    let (status, headers, _) = client.get(path).await.unwrap();
    let closes = headers.get("connection").is_some_and(|value| value == "close");
    (status, closes, headers.contains_key("x-envoy-immediate-health-check-fail"))
}

/// Whether an HTTP/2 connection ends by itself after an answer.
async fn http2(address: SocketAddr) -> tokio::task::JoinHandle<()> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(async move { connection.await.unwrap() });
    let request = http::Request::builder().uri("http://test/").body(Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    tokio::spawn(async move {
        let _sender = sender;
        connection.await.unwrap();
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_health_check_is_told_to_fail_connections_end_with_their_answers_unless_modify_only() {
    for kind in kinds() {
        let host = Host::start("a").await;
        let process = kind.start(&bootstrap(&host)).await;
        let (drained, kept) = (process.listener("in").await, process.listener("kept").await);
        let (mut one, mut other) = (Client::new(drained), Client::new(kept));
        for client in [&mut one, &mut other] {
            assert_eq!(got(client, "/").await, (200, false, false), "{kind:?}");
            assert_eq!(got(client, "/hc").await, (200, false, false), "{kind:?}");
        }
        assert_eq!(get(process.admin, "/healthcheck/fail").await.0, 405, "{kind:?}");
        assert_eq!(ask(process.admin, "POST", "/healthcheck/fail").await, (200, "OK\n".into()), "{kind:?}");
        let ready = || get(process.admin, "/ready");
        eventually("it is not ready", || async { ready().await == (503, "DRAINING\n".into()) }).await;
        for (path, status) in [("/", 200), ("/hc", 503), ("/", 200)] {
            assert_eq!(got(&mut one, path).await, (status, true, true), "{kind:?} {path}");
            assert_eq!(got(&mut other, path).await, (status, false, true), "{kind:?} {path}");
        }
        let ends = http2(drained).await;
        eventually("GOAWAY comes", || async { ends.is_finished() }).await;
        let goes_on = http2(kept).await;
        assert_eq!(ask(process.admin, "POST", "/healthcheck/ok").await.0, 200, "{kind:?}");
        eventually("it is ready", || async { ready().await == (200, "LIVE\n".into()) }).await;
        let mut again = Client::new(drained);
        assert_eq!(got(&mut again, "/").await, (200, false, false), "{kind:?}");
        assert_eq!(got(&mut other, "/hc").await, (200, false, false), "{kind:?}");
        assert!(!goes_on.is_finished(), "{kind:?}");
        goes_on.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_on_the_unspecified_address_of_ipv6_takes_ipv4_only_where_it_is_told() {
    for kind in kinds() {
        let host = Host::start("a").await;
        for (more, takes) in [("", false), (", ipv4_compat: false", false), (", ipv4_compat: true", true)] {
            let cluster = endpoints(&[(host.address, "")]);
            let text = Setup { cluster: &cluster, ..Setup::default() }.bootstrap();
            let (admin, rest) = text.split_once("static_resources:").unwrap();
            let own = format!("address: '::', port_value: 0{more}");
            let here = "address: 127.0.0.1, port_value: 0";
            let text = format!("{}static_resources:{}", admin.replace(here, &own), rest.replacen(here, &own, 1));
            let process = kind.start(&text).await;
            for port in [process.listener("in").await.port(), process.admin.port()] {
                let path = if port == process.admin.port() { "/ready" } else { "/" };
                let by = |ip: std::net::IpAddr| SocketAddr::new(ip, port);
                assert_eq!(get(by(Ipv6Addr::LOCALHOST.into()), path).await.0, 200, "{kind:?} {more}");
                let status = get(by(Ipv4Addr::LOCALHOST.into()), path).await.0;
                assert_eq!(status, if takes { 200 } else { 0 }, "{kind:?} {more} {path}");
            }
        }
    }
}
