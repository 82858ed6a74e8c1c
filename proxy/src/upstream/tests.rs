use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::{Pools, UpstreamError, Wanted};
use crate::body::{Body, Frame};
use crate::cause::Cause;
use crate::cluster::tests::cluster;
use crate::cluster::{Cluster, LbContext};
use crate::message::RequestHead;

/// A server that says hello; counts its connections and can be told to wait.
struct Server {
    address: SocketAddr,
    connections: Rc<Cell<u32>>,
    gate: Rc<tokio::sync::Semaphore>,
}

impl Server {
    async fn start(http2: bool, open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Rc::new(Cell::new(0));
        let gate = Rc::new(tokio::sync::Semaphore::new(if open { 1000 } else { 0 }));
        let (count, gated) = (connections.clone(), gate.clone());
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.set(count.get() + 1);
                let gate = gated.clone();
                let service = service_fn(move |_request: http::Request<hyper::body::Incoming>| {
                    let gate = gate.clone();
                    async move {
                        gate.acquire().await.unwrap().forget();
                        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"hello"))))
                    }
                });
                tokio::task::spawn_local(async move {
                    let io = TokioIo::new(stream);
                    if http2 {
                        let _ =
                            hyper::server::conn::http2::Builder::new(LocalExecutor).serve_connection(io, service).await;
                    } else {
                        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                    }
                });
            }
        });
        Self { address, connections, gate }
    }

    fn cluster(&self, more: &str) -> Arc<Cluster> {
        cluster(&format!(
            "{{name: c, connect_timeout: 5s, {more} load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: \
             [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}]}}]}}}}",
            self.address.port()
        ))
    }
}

#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

fn head() -> RequestHead {
    RequestHead {
        method: http::Method::GET,
        scheme: "http".into(),
        authority: "web.example".into(),
        path: "/".into(),
        version: http::Version::HTTP_11,
        headers: http::HeaderMap::new(),
        upgrade: None,
        names: None,
    }
}

async fn ask(pools: &Rc<Pools>, cluster: &Arc<Cluster>, http2: bool) -> Result<String, UpstreamError> {
    let host = cluster.pick(&LbContext::default()).expect("a host");
    let wanted = Wanted { http2, ..Wanted::default() };
    let (answer, mut body) = pools.stream(cluster, &host, &wanted).await?.send(&head(), Body::Empty, None).await?;
    assert_eq!(answer.status, 200);
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Frame::Data(data) = frame.expect("a whole body") {
            text.extend_from_slice(&data);
        }
    }
    Ok(String::from_utf8(text).unwrap())
}

async fn until(condition: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it happens");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    LocalSet::new()
        .run_until(async {
            let server = Server::start(false, true).await;
            let (cluster, pools) = (server.cluster(""), Rc::new(Pools::new()));
            for _ in 0..5 {
                assert_eq!(ask(&pools, &cluster, false).await.unwrap(), "hello");
            }
            assert_eq!(server.connections.get(), 1);
            let host = cluster.hosts.load().hosts[0].clone();
            assert_eq!((host.active_requests(), host.stats.rq_total.get(), host.stats.cx_active.get()), (0, 5, 1));
            assert_eq!(cluster.breakers[0].requests.used(), 0);
        })
        .await;
}

#[tokio::test]
async fn a_connection_is_replaced_after_its_last_request() {
    LocalSet::new()
        .run_until(async {
            let server = Server::start(false, true).await;
            let (cluster, pools) = (server.cluster("max_requests_per_connection: 2,"), Rc::new(Pools::new()));
            for _ in 0..4 {
                ask(&pools, &cluster, false).await.unwrap();
            }
            assert_eq!(server.connections.get(), 2);
        })
        .await;
}

#[tokio::test]
async fn http2_requests_share_a_connection() {
    LocalSet::new()
        .run_until(async {
            let server = Server::start(true, false).await;
            let (cluster, pools) = (server.cluster(""), Rc::new(Pools::new()));
            let requests: Vec<_> = (0..10).map(|_| ask(&pools, &cluster, true)).collect();
            let all = futures_util::future::join_all(requests);
            let host = cluster.hosts.load().hosts[0].clone();
            let release = async {
                until(|| host.active_requests() == 10).await;
                server.gate.add_permits(10);
            };
            let (answers, ()) = tokio::join!(all, release);
            assert!(answers.into_iter().all(|answer| answer.unwrap() == "hello"));
            assert_eq!(server.connections.get(), 1);
            until(|| host.active_requests() == 0).await;
        })
        .await;
}

#[tokio::test]
async fn what_waits_beyond_the_breakers_overflows_and_the_rest_is_served_in_order() {
    LocalSet::new()
        .run_until(async {
            let server = Server::start(false, false).await;
            let limits = "circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 1}]},";
            let (cluster, pools) = (server.cluster(limits), Rc::new(Pools::new()));
            let host = cluster.hosts.load().hosts[0].clone();
            let spawn = || {
                let (pools, cluster) = (pools.clone(), cluster.clone());
                tokio::task::spawn_local(async move { ask(&pools, &cluster, false).await })
            };
            let first = spawn();
            until(|| host.active_requests() == 1).await;
            let second = spawn();
            until(|| cluster.breakers[0].pending.used() == 1).await;
            let third = ask(&pools, &cluster, false).await.unwrap_err();
            assert_eq!(third.cause, Cause::MaxPendingRequests);
            server.gate.add_permits(2);
            assert_eq!(first.await.unwrap().unwrap(), "hello");
            assert_eq!(second.await.unwrap().unwrap(), "hello");
            assert_eq!(server.connections.get(), 1, "max_connections holds");
        })
        .await;
}

#[tokio::test]
async fn a_refused_connection_is_a_connection_failure() {
    LocalSet::new()
        .run_until(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let gone = Server { address, connections: Rc::default(), gate: Rc::new(tokio::sync::Semaphore::new(0)) };
            let (cluster, pools) = (gone.cluster(""), Rc::new(Pools::new()));
            let error = ask(&pools, &cluster, false).await.unwrap_err();
            assert_eq!(error.cause, Cause::UpstreamConnectionFailure);
            assert_eq!(error.detail, "delayed connect error: Connection refused");
            assert!(error.before_request);
            assert_eq!(cluster.breakers[0].connections.used(), 0);
        })
        .await;
}

#[tokio::test]
async fn connections_to_a_host_that_has_left_are_closed() {
    LocalSet::new()
        .run_until(async {
            let server = Server::start(false, true).await;
            let (cluster, pools) = (server.cluster(""), Rc::new(Pools::new()));
            ask(&pools, &cluster, false).await.unwrap();
            let host = cluster.hosts.load().hosts[0].clone();
            assert_eq!(host.stats.cx_active.get(), 1);
            cluster.retire();
            until(|| host.stats.cx_active.get() == 0).await;
        })
        .await;
}

#[tokio::test]
async fn a_host_whose_transport_changes_is_reached_by_the_new_one_from_the_next_request_on() {
    let endpoints = |port: u16, kind: &str| {
        format!(
            "{{cluster_name: c, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: \
             127.0.0.1, port_value: {port}}}}}}}, metadata: {{filter_metadata: {{envoy.transport_socket_match: {{kind: \
             {kind}}}}}}}}}]}}]}}"
        )
    };
    let plain = "transport_socket: {name: raw, typed_config: {'@type': \
                 type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}";
    LocalSet::new()
        .run_until(async {
            let server = Server::start(false, true).await;
            let port = server.address.port();
            let cluster = cluster(&format!(
                "{{name: c, transport_socket_matches: [{{name: a, match: {{kind: a}}, {plain}}}, {{name: b, match: {{}}, \
                 {plain}}}], load_assignment: {}}}",
                endpoints(port, "a")
            ));
            let pools = Rc::new(Pools::new());
            for _ in 0..2 {
                ask(&pools, &cluster, false).await.unwrap();
            }
            assert_eq!(server.connections.get(), 1);
            let before = cluster.hosts.load().hosts[0].clone();
            let changed = ferromesh_proto::json::yaml_value(&endpoints(port, "b")).expect("YAML");
            let changed = ferromesh_proto::json::from_json(changed).expect("a ClusterLoadAssignment");
            cluster.update_endpoints(&changed).expect("it is taken");
            let host = cluster.hosts.load().hosts[0].clone();
            assert_eq!((host.id, before.transport != host.transport), (before.id, true));
            // The kept connection is one of the transport of before.
            for _ in 0..2 {
                ask(&pools, &cluster, false).await.unwrap();
            }
            assert_eq!(server.connections.get(), 2);
            assert_eq!(host.stats.cx_active.get(), 1, "the one of before is closed");
        })
        .await;
}
