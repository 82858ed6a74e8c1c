//! Tests of how a whole proxy ends, with clients that go on asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Options, Proxy};

fn start() -> Proxy {
    let bootstrap = r#"
node: { id: test, cluster: test }
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
static_resources:
  listeners:
  - name: in
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_string: hello } } }]
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
"#;
    let bootstrap = ferromesh_proto::json::from_yaml(bootstrap).unwrap();
    Proxy::start(bootstrap, Options { drain_time: Duration::from_secs(20), ..Options::default() }).unwrap()
}

async fn serving(proxy: &Proxy) -> SocketAddr {
    proxy.ready().await;
    proxy.listeners.clone().wait_for(|found| !found.is_empty()).await.unwrap();
    proxy.listener_addr("in").unwrap()
}

/// One request; `true` if the connection may be used again.
async fn get(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.ends_with("hello") {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    Ok(!text.contains("connection: close"))
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn no_request_fails_in_a_drain_while_clients_go_on() {
    let proxy = start();
    let address = serving(&proxy).await;
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (stop, told) = (stop.clone(), told.clone());
        clients.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                if !get(&mut stream).await.expect("no request fails") {
                    told.fetch_add(1, Ordering::Relaxed);
                    stream = TcpStream::connect(address).await.expect("it still listens");
                }
            }
        }));
    }
    proxy.drain();
    let ending = tokio::spawn(proxy.shutdown());
    while told.load(Ordering::Relaxed) < 100 {
        assert!(!clients.iter().any(tokio::task::JoinHandle::is_finished), "a client failed");
        tokio::task::yield_now().await;
    }
    assert!(!ending.is_finished(), "there are clients");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(10), ending).await.expect("it ends when idle").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_idle_proxy_does_not_wait_for_the_drain_time() {
    let proxy = start();
    let address = serving(&proxy).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    assert!(get(&mut idle).await.unwrap());
    let began = Instant::now();
    proxy.drain();
    proxy.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn drain_listeners_and_quitquitquit_need_post() {
    let proxy = start();
    let address = serving(&proxy).await;
    let admin = proxy.admin_addr().unwrap();
    for path in ["/drain_listeners", "/quitquitquit"] {
        assert!(ask(admin, "GET", path).await.starts_with("HTTP/1.1 405"), "{path}");
    }
    assert!(get(&mut TcpStream::connect(address).await.unwrap()).await.unwrap(), "nothing has changed");
    assert!(ask(admin, "POST", "/drain_listeners?graceful").await.starts_with("HTTP/1.1 200"));
    while get(&mut TcpStream::connect(address).await.unwrap()).await.unwrap() {}
    assert!(ask(admin, "POST", "/drain_listeners").await.starts_with("HTTP/1.1 200"));
    while TcpStream::connect(address).await.is_ok() {}
    assert!(ask(admin, "POST", "/quitquitquit").await.starts_with("HTTP/1.1 200"));
    tokio::time::timeout(Duration::from_secs(10), proxy.ended()).await.expect("it ends");
}
