//! The dashboard over real connections, before a stand-in for a proxy's admin server.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use ferromesh_dashboard::{Config, Dashboard, DashboardError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn fake_proxy() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = Router::new().route("/stats/prometheus", get(|| async { include_str!("stats.prom") }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

async fn request(addr: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let text = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn edges_of_all_proxies_are_served_and_a_silent_proxy_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = Config { listen: ([127, 0, 0, 1], 0).into(), proxies: vec![fake_proxy().await, closed] };
    let dashboard = Dashboard::start(config).await.unwrap();
    let addr = dashboard.addr();
    let host = format!("host: {addr}\r\n");

    let answer = request(addr, "/api/edges", &host).await;
    let json: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(json["edges"][0]["source"], "gateway-istio");
    assert_eq!(json["edges"][0]["requests"], 100);
    assert!(json["missing"][0].as_str().unwrap().contains(&closed.to_string()), "{json}");
    assert!(request(addr, "/", &host).await.contains("<title>Ferromesh"));

    dashboard.set_proxies(vec![]);
    assert!(request(addr, "/api/edges", &host).await.contains("\"edges\":[]"));
    dashboard.shutdown().await;
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn other_sites_and_other_machines_get_nothing() {
    let config = Config { listen: ([127, 0, 0, 1], 0).into(), proxies: vec![] };
    let dashboard = Dashboard::start(config).await.unwrap();
    let addr = dashboard.addr();
    let port = addr.port();
    for headers in [
        "host: evil.example\r\n".to_owned(),
        format!("host: evil.example:{port}\r\n"),
        format!("host: 127.0.0.1:{port}\r\norigin: http://evil.example\r\n"),
        format!("host: 127.0.0.1:{port}\r\norigin: null\r\n"),
    ] {
        assert!(request(addr, "/api/edges", &headers).await.starts_with("HTTP/1.1 403"), "{headers}");
    }
    let own = format!("host: localhost:{port}\r\norigin: http://localhost:{port}\r\n");
    assert!(request(addr, "/api/edges", &own).await.starts_with("HTTP/1.1 200"));

    let open = Config { listen: ([0, 0, 0, 0], 0).into(), proxies: vec![] };
    assert!(matches!(Dashboard::start(open).await, Err(DashboardError::NotLoopback(_))));
}
