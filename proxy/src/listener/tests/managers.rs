//! Tests of updates that change a chain's HTTP connection manager under its connections.

use std::cell::Cell;
use std::rc::Rc;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::listener::v3 as proto;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use ferromesh_proto::envoy::extensions::filters::network::rbac::v3::Rbac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::{Listener, Rig, filter, listener};

/// A filter that lets so many requests pass.
fn limit(tokens: u32) -> String {
    format!(
        r#"
- name: limit
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: limit
    token_bucket: {{ max_tokens: {tokens}, tokens_per_fill: 1, fill_interval: 3600s }}
    filter_enabled: {{ default_value: {{ numerator: 100 }} }}
    filter_enforced: {{ default_value: {{ numerator: 100 }} }}"#
    )
}

/// A chain whose connection manager answers `text`.
fn answers(text: &str, filters: &str, more: &str) -> proto::FilterChain {
    let yaml = format!(
        r#"
stat_prefix: test
route_config:
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes: [{{ match: {{ prefix: / }}, direct_response: {{ status: 200, body: {{ inline_string: "{text}" }} }} }}]
http_filters: {filters}
- name: envoy.filters.http.router
  typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
{more}
"#
    );
    let manager: hcm::HttpConnectionManager = ferromesh_proto::json::from_yaml(&yaml).unwrap();
    proto::FilterChain { name: "http".into(), filters: vec![filter(Any::pack(&manager))], ..Default::default() }
}

impl Rig {
    fn update(&self, before: &Listener, chain: proto::FilterChain) -> std::sync::Arc<Listener> {
        let next = Listener::decode_after(&listener("in", vec![chain]), &self.context, Some(before)).unwrap();
        self.listeners.apply(next.clone(), Vec::new()).unwrap();
        next
    }
}

/// Status and body of the next answer on a connection; `None` if it ended before.
async fn get(stream: &mut TcpStream) -> Option<(u16, String)> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.ok()?;
    answer(stream).await
}

async fn answer(stream: &mut TcpStream) -> Option<(u16, String)> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if body.len() == length.parse::<usize>().unwrap() {
            return Some((head[9..12].parse().unwrap(), body.to_owned()));
        }
    }
}

#[tokio::test]
async fn the_next_request_of_a_kept_connection_meets_a_filter_that_an_update_adds() {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new();
            let first = rig.apply(&listener("in", vec![answers("one", "", "")]));
            let mut old = rig.connect("in").await;
            assert_eq!(get(&mut old).await, Some((200, "one".into())));
            let second = rig.update(&first, answers("two", &limit(1), ""));
            assert_eq!(get(&mut old).await, Some((200, "two".into())));
            assert_eq!(get(&mut old).await.map(|answer| answer.0), Some(429));
            let mut new = rig.connect("in").await;
            assert_eq!(get(&mut new).await.map(|answer| answer.0), Some(429), "new and old share the bucket");

            // An unrelated change keeps the bucket, a changed bucket is a new one, and no filter is no limit.
            let third = rig.update(&second, answers("three", &limit(1), "via: here"));
            assert_eq!(get(&mut old).await.map(|answer| answer.0), Some(429));
            let fourth = rig.update(&third, answers("four", &limit(2), ""));
            assert_eq!(get(&mut old).await, Some((200, "four".into())));
            rig.update(&fourth, answers("five", "", ""));
            assert_eq!(get(&mut new).await, Some((200, "five".into())));
        })
        .await;
}

#[tokio::test]
async fn no_request_fails_over_fifty_updates_of_the_manager() {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new();
            let mut current = rig.apply(&listener("in", vec![answers("0", "", "")]));
            let stop = Rc::new(Cell::new(false));
            let mut clients = Vec::new();
            for _ in 0..8 {
                let (mut stream, stop) = (rig.connect("in").await, stop.clone());
                clients.push(tokio::task::spawn_local(async move {
                    let (mut count, mut last) = (0, 0);
                    while !stop.get() {
                        let (status, body) = get(&mut stream).await.expect("the connection stays");
                        let version: u32 = body.parse().unwrap();
                        assert!(status == 200 && version >= last, "{status}, {version} after {last}");
                        (count, last) = (count + 1, version);
                    }
                    (count, last)
                }));
            }
            let mut probe = rig.connect("in").await;
            for version in 1..=50 {
                current = rig.update(&current, answers(&version.to_string(), &limit(1_000_000 + version % 2), ""));
                assert_eq!(get(&mut probe).await, Some((200, version.to_string())));
            }
            stop.set(true);
            for client in clients {
                assert!(client.await.unwrap().0 > 0);
            }
        })
        .await;
}

#[tokio::test]
async fn a_changed_frame_drains_connections_and_ends_those_at_rest() {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new();
            let first = rig.apply(&listener("in", vec![answers("one", "", "")]));
            let (mut rest, mut busy) = (rig.connect("in").await, rig.connect("in").await);
            assert_eq!(get(&mut rest).await, Some((200, "one".into())));
            busy.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            let http2 = TcpStream::connect(rig.listeners.addresses()[0].1).await.unwrap();
            let (send, mut connection) = h2::client::handshake(http2).await.unwrap();
            let mut ready = send.ready();
            let mut send = tokio::select! {
                ready = &mut ready => ready.unwrap(),
                _ = &mut connection => unreachable!("it lives"),
            };
            let h2 = tokio::task::spawn_local(connection);
            let request = http::Request::get("http://a/").body(()).unwrap();
            assert_eq!(send.send_request(request, true).unwrap().0.await.unwrap().status(), 200);

            let mut stricter = answers("two", "", "");
            stricter.filters.insert(0, filter(Any::pack(&Rbac { stat_prefix: "rbac".into(), ..Default::default() })));
            rig.update(&first, stricter);
            assert_eq!(rest.read(&mut [0; 1]).await.unwrap(), 0, "closed, and nothing was asked");
            h2.await.unwrap().expect("GOAWAY without an error");
            busy.write_all(b"host: a\r\n\r\n").await.unwrap();
            assert_eq!(answer(&mut busy).await, Some((200, "one".into())));
            assert_eq!(busy.read(&mut [0; 1]).await.unwrap(), 0, "connection: close");
            rig.listeners.idle().await;
        })
        .await;
}

#[tokio::test]
async fn changed_http2_settings_change_the_frame_and_other_settings_do_not() {
    let rig = Rig::new();
    let frame = |more: &str| rig.decode(&listener("in", vec![answers("one", "", more)])).chains[0].frame;
    let plain = frame("");
    assert_eq!(plain, frame("common_http_protocol_options: { idle_timeout: 1s }"));
    assert_ne!(plain, frame("codec_type: HTTP1"));
    assert_ne!(plain, frame("http2_protocol_options: { max_concurrent_streams: 7 }"));
}
