//! How many streams a connection may have, either way.

use serde_json::json;

use super::{MAX_CONCURRENT_STREAMS, MOMENT, before, client, get, spawn, status};
use crate::config::{Hop, route};
use crate::frames::{Frames, GOAWAY, HEADERS, REFUSED_STREAM, RST_STREAM, SETTINGS, frame};
use crate::peers::PATIENCE;
use crate::wire::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_have_so_many_streams_as_it_was_told() {
    let server = Server::new().await;
    let few = json!({"http2_protocol_options": {"max_concurrent_streams": 2}});
    let node = before(&server, Hop::http().terminal(few), json!({})).await;
    let mut client = Frames::client(node.address()).await;
    let settings = client.until(SETTINGS).await;
    let limit = settings.payload.chunks(6).find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
    assert_eq!(limit.unwrap()[2..], 2u32.to_be_bytes());
    client.send(SETTINGS, 1, 0, b"").await;
    for stream in [1, 3, 5] {
        client.get(stream, "/").await;
    }
    let refused = client.until(RST_STREAM).await;
    assert_eq!((refused.stream, refused.code()), (5, REFUSED_STREAM));
    let mut upstream = Frames::server(&server, &[]).await;
    for _ in 0..2 {
        let stream = upstream.until(HEADERS).await.stream;
        upstream.answer(stream, "200", b"").await;
        client.until(HEADERS).await;
    }
    client.get(7, "/").await;
    let stream = upstream.until(HEADERS).await.stream;
    upstream.answer(stream, "200", b"").await;
    assert_eq!(client.until(HEADERS).await.stream, 7, "there is room again");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_gets_no_more_streams_on_a_connection_than_it_allows() {
    let mut server = Server::new().await;
    for (own, theirs) in [(json!({}), 2), (json!({"max_concurrent_streams": 2}), 100)] {
        let node = before(&server, Hop::http(), own).await;
        let (send, _connection) = client(node.address()).await;
        let warm = spawn(&send, get("/"), b"");
        let mut first = Frames::server(&server, &[(MAX_CONCURRENT_STREAMS, theirs)]).await;
        let stream = first.until(HEADERS).await.stream;
        first.answer(stream, "200", b"").await;
        assert_eq!(status(warm).await, 200);
        let calls: Vec<_> = (0..6).map(|_| spawn(&send, get("/"), b"")).collect();
        let second = Frames::server(&server, &[(MAX_CONCURRENT_STREAMS, theirs)]).await;
        let serving = [first, second].map(|connection| tokio::spawn(two_at_a_time(connection)));
        let third = tokio::spawn(async move {
            two_at_a_time(Frames::server(&server, &[(MAX_CONCURRENT_STREAMS, theirs)]).await).await;
            server
        });
        for call in calls {
            assert_eq!(status(call).await, 200);
        }
        node.stop().await;
        for serving in serving {
            serving.await.unwrap();
        }
        third.abort();
        server = Server::new().await;
    }
}

/// Answers streams once two are open, or no further comes for a while; asserts that there are never more.
async fn two_at_a_time(mut connection: Frames) {
    let mut open = Vec::new();
    loop {
        match tokio::time::timeout(MOMENT, connection.find(HEADERS)).await {
            Ok(Some(head)) => open.push(head.stream),
            Ok(None) => return,
            Err(_) => {
                assert!(open.len() <= 2, "{open:?}");
                for stream in open.drain(..) {
                    connection.answer(stream, "200", b"").await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_allows_no_stream_is_waited_for_within_the_timeout_and_not_dialled_again_and_again() {
    let server = Server::new().await;
    let hop = Hop::http().routes(json!([route("next", json!({"timeout": "0.5s"}))]));
    let node = before(&server, hop, json!({})).await;
    let (send, _connection) = client(node.address()).await;
    let calls: Vec<_> = (0..5).map(|_| spawn(&send, get("/"), b"")).collect();
    let mut first = Frames::server(&server, &[(MAX_CONCURRENT_STREAMS, 0)]).await;
    // The proxy may have left by then.
    first.try_send(&frame(GOAWAY, 0, 0, &[0; 8])).await;
    let accepting = tokio::spawn(async move {
        let mut held = vec![first];
        while let Ok(more) =
            tokio::time::timeout(PATIENCE, Frames::server(&server, &[(MAX_CONCURRENT_STREAMS, 0)])).await
        {
            held.push(more);
        }
    });
    for call in calls {
        let status = status(call).await;
        assert!([503, 504].contains(&status), "{status}");
    }
    let dialled = node.stat("cluster.next.upstream_cx_total").await;
    assert!(dialled <= 15, "{dialled} connections for 5 requests");
    accepting.abort();
    node.stop().await;
}
