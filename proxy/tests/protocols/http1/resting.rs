//! Connections that rest in the pool: what becomes of a request that meets their end.

use serde_json::json;

use super::{GET, MOMENT, OK, none};
use crate::config::{Hop, SHAPES, route};
use crate::wire::{Server, Wire};

/// One exchange, so that a connection rests in the pool.
async fn warm(client: &mut Wire, server: &Server) -> Wire {
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    client.message().await;
    upstream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_meets_a_resting_connection_as_it_closes_is_sent_again_only_where_that_is_safe() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        // The upstream reads the request and closes without a byte of an answer, as if it had closed just before.
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            let mut upstream = warm(&mut client, &server).await;
            client.send(format!("{method} /again HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            upstream.head().await;
            drop(upstream);
            let mut upstream = server.accept().await;
            assert!(upstream.head().await.starts_with(&format!("{method} /again ")));
            upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            assert!(client.head().await.starts_with("HTTP/1.1 200"), "{method}");
        }
        // What may have had an effect is not repeated.
        let mut upstream = warm(&mut client, &server).await;
        client.send("POST /once HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
        upstream.message().await;
        drop(upstream);
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 503") && body.contains("connection termination"), "{head}{body}");
        // A first connection that closes is not a race.
        client.send(GET).await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        drop(upstream);
        let (head, _) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert!(server.nobody_within(MOMENT).await, "nothing was sent again");
        way.last().logged(&["503 flags=UC", "upstream_reset_before_response_started"]).await;
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_its_server_closed_at_rest_is_not_used() {
    let server = Server::new().await;
    for shape in SHAPES {
        let way = shape.start(&Hop::http(), server.address, &none()).await;
        let mut client = Wire::connect(way.address()).await;
        for _ in 0..20 {
            drop(warm(&mut client, &server).await);
        }
        assert_eq!(way.last().stat("cluster.next.upstream_rq_total").await, 20);
        way.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_go_where_the_policy_says_and_no_further() {
    let server = Server::new().await;
    let policy = json!({"retry_policy": {"retry_on": "reset,5xx", "num_retries": 2, "retry_back_off": {"base_interval": "0.001s"}}});
    let node = Hop::http().routes(json!([route("next", policy)])).to(server.address).start().await;
    let mut client = Wire::connect(node.address()).await;
    client.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody").await;
    for status in
        ["", "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood"]
    {
        let mut upstream = server.accept().await;
        assert_eq!(upstream.message().await.1, "body", "each try has the whole body");
        upstream.send(status.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
    }
    assert_eq!(client.message().await.1, "good");
    node.logged(&["200 flags=- ", "tries=3"]).await;
    // A body that is too large to be kept is sent once.
    client.send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n").await;
    let mut upstream = server.accept().await;
    client.send(vec![b'x'; 300_000]).await;
    upstream.head().await;
    upstream.exact(300_000).await;
    drop(upstream);
    assert!(client.message().await.0.starts_with("HTTP/1.1 503"));
    assert!(server.nobody_within(MOMENT).await);
    node.stop().await;
}
