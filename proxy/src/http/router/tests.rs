//! The router behind the HTTP/1 server, against small servers.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ferromesh_proto::json;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::cluster::tests::cluster;
use crate::connection::{Connection, TlsInfo};
use crate::context::{Context, Local};
use crate::http::HttpConnectionManager;
use crate::http::serve::{DrainSignal, ManagerHandle, serve};
use crate::io::{Io, Socket};
use crate::worker::Worker;

/// What a server saw: method, path, host, a few headers and the body.
type Seen = Rc<RefCell<Vec<String>>>;

/// A server that answers with these statuses, one after the other, then 200; status 0 never answers.
async fn server(statuses: &[u16]) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let (statuses, noted) = (statuses.to_vec(), seen.clone());
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (statuses, seen) = (statuses.clone(), noted.clone());
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (statuses, seen) = (statuses.clone(), seen.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let header =
                        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
                    let line = format!(
                        "{} {} host={} attempt={} original={} body={}",
                        head.method,
                        head.uri,
                        header("host"),
                        header("x-envoy-attempt-count"),
                        header("x-envoy-original-path"),
                        String::from_utf8_lossy(&body)
                    );
                    let place = seen.borrow().len();
                    seen.borrow_mut().push(line);
                    let status = statuses.get(place).copied().unwrap_or(200);
                    if status == 0 {
                        std::future::pending::<()>().await;
                    }
                    let mut response = http::Response::new(Full::new(Bytes::from(format!("answer {place}"))));
                    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::task::spawn_local(async move {
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let _ = connection.await;
            });
        }
    });
    (address, seen)
}

fn of(name: &str, address: SocketAddr) -> Arc<crate::cluster::Cluster> {
    cluster(&format!(
        "{{name: {name}, load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [{{endpoint: {{address: \
         {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}]}}]}}}}",
        address.port()
    ))
}

/// Sends one raw request through a manager with this route; what comes back.
async fn ask(route: &str, clusters: &[(&str, SocketAddr)], request: &str) -> String {
    let made: Vec<_> = clusters.iter().map(|(name, address)| (*name, of(name, *address))).collect();
    ask_over(route, made, request, None).await
}

/// The same; with `inbound` over mTLS, in front of an application.
async fn ask_over(
    route: &str,
    clusters: Vec<(&str, Arc<crate::cluster::Cluster>)>,
    request: &str,
    inbound: Option<Rc<TlsInfo>>,
) -> String {
    let context = Arc::new(Context::new(Local::default()));
    context.clusters.publish(clusters.into_iter().map(|(name, made)| (name.into(), made)).collect());
    let manager = json::from_yaml(&format!(
        "{{stat_prefix: t, route_config: {{virtual_hosts: [{{name: v, domains: ['*'], \
         include_request_attempt_count: true, routes: [{{match: {{prefix: /}}, route: {route}}}]}}]}}, http_filters: \
         [{{name: envoy.filters.http.router, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}"
    ))
    .expect("valid yaml");
    let manager = HttpConnectionManager::decode(manager, &context).expect("a valid manager");
    let worker = Worker::new(0, context);
    let local: SocketAddr = ([127, 0, 0, 1], 1).into();
    let connection = Connection {
        id: 1,
        remote: local,
        direct_remote: local,
        direct_local: local,
        local,
        original_dst: None,
        server_name: None,
        direction: inbound.is_some().into(),
        tls: inbound,
        peer: None,
        listener: "l".into(),
        filter_chain: "f".into(),
        start: Instant::now(),
    };
    let (mut client, io) = tokio::io::duplex(1 << 16);
    let io = Io::plain(Socket::Duplex(io));
    tokio::task::spawn_local(serve(worker, ManagerHandle::new(manager), io, Rc::new(connection), DrainSignal::never()));
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

const GET: &str = "GET /a/b?c=d HTTP/1.1\r\nhost: web.example\r\nconnection: close\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: web.example\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";

fn in_local<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

#[test]
fn a_failed_try_is_repeated_with_its_body_until_one_is_good() {
    in_local(async {
        let (address, seen) = server(&[503, 503]).await;
        let route =
            "{cluster: c, retry_policy: {retry_on: 5xx, num_retries: 3, retry_back_off: {base_interval: 0.001s}}}";
        let answer = ask(route, &[("c", address)], POST).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("answer 2"), "{answer}");
        assert!(answer.contains("x-envoy-upstream-service-time: "), "{answer}");
        let seen = seen.borrow();
        let tries: Vec<&str> =
            seen.iter().filter_map(|line| line.split_once("attempt=")).map(|(_, rest)| &rest[..1]).collect();
        assert_eq!(tries, ["1", "2", "3"]);
        assert!(seen.iter().all(|line| line.ends_with("body=hello")), "{seen:?}");
    });
}

#[test]
fn when_retries_are_used_up_the_last_answer_is_given() {
    in_local(async {
        let (address, seen) = server(&[503, 502, 500]).await;
        let route =
            "{cluster: c, retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: {base_interval: 0.001s}}}";
        let answer = ask(route, &[("c", address)], GET).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        assert_eq!(seen.borrow().len(), 2);
    });
}

#[test]
fn a_slow_try_is_given_up_and_repeated_within_the_routes_timeout() {
    in_local(async {
        let (address, seen) = server(&[0]).await;
        let route = "{cluster: c, timeout: 10s, retry_policy: {retry_on: reset, per_try_timeout: 0.05s, retry_back_off: \
                     {base_interval: 0.001s}}}";
        let answer = ask(route, &[("c", address)], GET).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(seen.borrow().len(), 2);
    });
}

#[test]
fn no_answer_in_time_is_504() {
    in_local(async {
        let (address, _) = server(&[0]).await;
        let answer = ask("{cluster: c, timeout: 0.05s}", &[("c", address)], GET).await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
        assert!(answer.ends_with("upstream request timeout"), "{answer}");
    });
}

#[test]
fn a_cluster_that_is_not_there_and_one_that_refuses_are_503() {
    in_local(async {
        let answer = ask("{cluster: c}", &[], GET).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let answer = ask("{cluster: c}", &[("c", address)], GET).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let text = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
        assert!(answer.ends_with(text), "{answer}");
    });
}

/// The answer of a pod's proxy whose application is gone already.
async fn leaver() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 1024];
            let _ = stream.read(&mut bytes).await;
            let head =
                "HTTP/1.1 503 x\r\nx-ferromesh-unprocessed: true\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    address
}

fn of_both(first: SocketAddr, second: SocketAddr) -> Arc<crate::cluster::Cluster> {
    let endpoint = |address: SocketAddr| {
        format!("{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}", address.port())
    };
    cluster(&format!(
        "{{name: c, load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [{}, {}]}}]}}}}",
        endpoint(first),
        endpoint(second)
    ))
}

#[test]
fn a_request_that_a_pod_has_not_processed_goes_to_another_whatever_its_method() {
    in_local(async {
        let (leaver, (address, seen)) = (leaver().await, server(&[]).await);
        // The policy is what keeps the body, not what asks for the second try.
        let route = "{cluster: c, retry_policy: {retry_on: refused-stream, num_retries: 1}}";
        for count in 1..=6 {
            let clusters = vec![("c", of_both(leaver, address))];
            let answer = ask_over(route, clusters, POST, None).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert_eq!(seen.borrow().len(), count);
        }
    });
}

#[test]
fn the_word_of_a_pods_proxy_goes_no_further_and_that_of_an_application_is_not_taken_for_it() {
    in_local(async {
        let leaver = leaver().await;
        for inbound in [None, Some(Rc::default())] {
            let answer = ask_over("{cluster: c}", vec![("c", of("c", leaver))], GET, inbound).await;
            assert!(answer.starts_with("HTTP/1.1 503") && !answer.contains("unprocessed"), "{answer}");
        }
    });
}

#[test]
fn a_pods_proxy_tells_its_callers_proxy_that_the_application_was_not_reached() {
    in_local(async {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let told = ask_over("{cluster: c}", vec![("c", of("c", gone))], POST, Some(Rc::default())).await;
        assert!(told.starts_with("HTTP/1.1 503") && told.contains("x-ferromesh-unprocessed: true"), "{told}");
        let others = ask_over("{cluster: c}", vec![("c", of("c", gone))], POST, None).await;
        assert!(others.starts_with("HTTP/1.1 503") && !others.contains("unprocessed"), "{others}");
    });
}

#[test]
fn path_and_host_are_rewritten_and_the_old_path_is_kept_in_a_header() {
    in_local(async {
        let (address, seen) = server(&[]).await;
        let route = "{cluster: c, prefix_rewrite: /new/, host_rewrite_literal: other.example}";
        ask(route, &[("c", address)], GET).await;
        let line = seen.borrow()[0].clone();
        assert!(line.starts_with("GET /new/a/b?c=d host=other.example"), "{line}");
        assert!(line.contains("original=/a/b?c=d"), "{line}");
    });
}

#[test]
fn a_mirror_gets_a_copy_of_the_request_under_a_shadow_host() {
    in_local(async {
        let (address, _) = server(&[]).await;
        let (shadow, seen) = server(&[500]).await;
        let route = "{cluster: c, request_mirror_policies: [{cluster: m}]}";
        let answer = ask(route, &[("c", address), ("m", shadow)], POST).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        while seen.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        let line = seen.borrow()[0].clone();
        assert!(line.contains("host=web.example-shadow") && line.ends_with("body=hello"), "{line}");
    });
}
