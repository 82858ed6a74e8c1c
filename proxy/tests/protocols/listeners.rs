//! What a listener learns before it chooses a filter chain: TLS and HTTP by inspection, the PROXY protocol; and what it
//! tells the next hop of the client's certificate.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::config::{Hop, typed};
use crate::pki::Pki;
use crate::wire::{Server, Wire, header};

/// A chain that says its name.
fn chain(name: &str, matching: Value, socket: Option<&Value>) -> Value {
    let says = json!({"name": "says", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
        "response": {"inline_string": name}}});
    let mut chain = json!({"name": name, "filter_chain_match": matching, "filters": [says]});
    if let Some(socket) = socket {
        chain["transport_socket"] = socket.clone();
    }
    chain
}

fn inspectors() -> Value {
    json!([
        typed("listener.tls_inspector.v3.TlsInspector", json!({})),
        typed("listener.http_inspector.v3.HttpInspector", json!({})),
    ])
}

/// What a TLS client is told that asks for a name and protocols.
async fn by_tls(node: &crate::config::Node, root: &str, name: &'static str, alpn: &[&str]) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let socket = TcpStream::connect(node.address()).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from(name).unwrap(), socket).await.unwrap();
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said).await;
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_are_chosen_by_name_protocol_and_transport() {
    let pki = Pki::new();
    let names = ["a.test", "x.wild.test", "other.test"].map(|name| rcgen::SanType::DnsName(name.try_into().unwrap()));
    let leaf = pki.leaf(names.to_vec(), false);
    let socket = json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"alpn_protocols": ["h2", "istio", "http/1.1"], "tls_certificates":
            [{"certificate_chain": {"inline_string": leaf.0}, "private_key": {"inline_string": leaf.1}}]}}});
    let socket = Some(&socket);
    let chains = json!([
        chain("exact", json!({"server_names": ["a.test"]}), socket),
        chain("wild", json!({"server_names": ["*.wild.test"]}), socket),
        chain("istio", json!({"transport_protocol": "tls", "application_protocols": ["istio"]}), socket),
        chain("tls", json!({"transport_protocol": "tls"}), socket),
        chain(
            "h1",
            json!({"transport_protocol": "raw_buffer", "application_protocols": ["http/1.0", "http/1.1"]}),
            None
        ),
        chain("h2c", json!({"transport_protocol": "raw_buffer", "application_protocols": ["h2c"]}), None),
        chain("raw", json!({"transport_protocol": "raw_buffer"}), None),
    ]);
    let node = Hop::tcp().listener(json!({"listener_filters": inspectors(), "filter_chains": chains})).start().await;
    for (name, alpn, wanted) in [
        ("a.test", &[][..], "exact"),
        ("x.wild.test", &["h2"], "wild"),
        ("other.test", &["istio", "h2"], "istio"),
        ("other.test", &["h2"], "tls"),
        ("other.test", &[], "tls"),
    ] {
        assert_eq!(by_tls(&node, &pki.root, name, alpn).await, wanted, "{name} {alpn:?}");
    }
    for (bytes, wanted) in [
        (&b"GET / HTTP/1.1\r\n"[..], "h1"),
        (b"GET / HTTP/1.0\r\n", "h1"),
        (crate::frames::PREFACE, "h2c"),
        (b"\x00\x01\x02\x03", "raw"),
        (b"SSH-2.0-x\r\n", "raw"),
    ] {
        let mut client = Wire::connect(node.address()).await;
        // In two pieces, so that it is waited for what comes.
        client.send(&bytes[..2]).await;
        tokio::task::yield_now().await;
        client.send(&bytes[2..]).await;
        assert_eq!(client.rest().await, wanted, "{bytes:?}");
    }
    node.stop().await;
}

/// As Envoy does for whatever its listener filters have not told: so a server that speaks first is reached through a
/// listener that takes TLS and plain text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_said_enough_when_the_time_of_the_filters_is_over_is_plain_text() {
    let chains = json!([
        chain("tls", json!({"transport_protocol": "tls"}), None),
        chain("raw", json!({"transport_protocol": "raw_buffer"}), None)
    ]);
    let listener = json!({"listener_filters": inspectors(), "filter_chains": chains,
        "listener_filters_timeout": "0.05s", "continue_on_listener_filters_timeout": true});
    let node = Hop::tcp().listener(listener).start().await;
    for bytes in [&b""[..], b"\x16\x03\x01", b"GET"] {
        let mut client = Wire::connect(node.address()).await;
        client.send(bytes).await;
        assert_eq!(client.rest().await, "raw", "{bytes:?}");
    }
    node.stop().await;
    let chains = json!([chain("raw", json!({"transport_protocol": "raw_buffer"}), None)]);
    let node = Hop::tcp().listener(json!({"filter_chains": chains})).start().await;
    assert_eq!(Wire::connect(node.address()).await.rest().await, "raw", "without any listener filter");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_fits_no_chain_is_closed_and_logged() {
    let server = Server::new().await;
    let node = Hop::tcp()
        .listener(json!({"listener_filters": inspectors()}))
        .chain(json!({"filter_chain_match": {"transport_protocol": "tls"}}))
        .to(server.address)
        .start()
        .await;
    let mut client = Wire::connect(node.address()).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
    node.logged(&["flags=NR", "filter_chain_not_found"]).await;
    node.stop().await;
}

/// Version 2 of the PROXY protocol for TCP over IPv4.
fn version_2(source: [u8; 4], port: u16) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(source);
    header.extend([10, 0, 0, 9]);
    header.extend(port.to_be_bytes());
    header.extend(443u16.to_be_bytes());
    header
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_tells_who_the_client_is() {
    let server = Server::new().await;
    let required = json!([typed("listener.proxy_protocol.v3.ProxyProtocol", json!({}))]);
    let optional = json!([typed(
        "listener.proxy_protocol.v3.ProxyProtocol",
        json!({"allow_requests_without_proxy_protocol": true})
    )]);
    let node = Hop::http()
        .listener(json!({"listener_filters": required}))
        .terminal(json!({"use_remote_address": true}))
        .to(server.address)
        .start()
        .await;
    let request = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    for (header_bytes, client) in [
        (b"PROXY TCP4 10.1.2.3 10.0.0.9 4711 443\r\n".to_vec(), "10.1.2.3:4711"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::9 4711 443\r\n".to_vec(), "[2001:db8::7]:4711"),
        (version_2([10, 9, 8, 7], 815), "10.9.8.7:815"),
    ] {
        let mut wire = Wire::connect(node.address()).await;
        wire.send(&header_bytes[..10]).await;
        wire.send([&header_bytes[10..], request].concat()).await;
        let mut upstream = server.accept().await;
        let head = upstream.head().await;
        let ip = client.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
        assert_eq!(header(&head, "x-forwarded-for"), Some(ip), "{head}");
        upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(wire.message().await.1, "ok");
        node.logged(&[&format!("remote={client} ")]).await;
    }
    for bad in [&request[..], b"PROXY TCP4 10.1.2.3\r\n", b"PROXY TCP4 a b c d\r\n"] {
        let mut wire = Wire::connect(node.address()).await;
        wire.send(bad).await;
        assert_eq!(wire.rest().await, "", "{bad:?}");
    }
    node.stop().await;
    let node = Hop::http().listener(json!({"listener_filters": optional})).to(server.address).start().await;
    let mut wire = Wire::connect(node.address()).await;
    wire.send(request).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(wire.message().await.1, "ok");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_hop_is_told_of_the_clients_certificate_as_each_mode_says() {
    let server = Server::new().await;
    let pki = Pki::new();
    let spoofed = "By=spiffe://evil;URI=spiffe://cluster.local/ns/test/sa/admin";
    let own = "By=spiffe://cluster.local/ns/test/sa/server;Hash=";
    let uri = "URI=spiffe://cluster.local/ns/test/sa/client";
    for mode in ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"] {
        let hop = Hop::http().terminal(json!({"forward_client_cert_details": mode,
            "set_current_client_cert_details": {"uri": true, "subject": true}}));
        let require = json!({"require_client_certificate": true});
        let accepting = pki.context("DownstreamTlsContext", &pki.workload("server", false), "client", &require);
        let inner = hop.clone().chain(json!({"transport_socket": accepting})).to(server.address).start().await;
        let opening = pki.context("UpstreamTlsContext", &pki.workload("client", false), "server", &json!({"sni": "x"}));
        let pass_on = Hop::http().terminal(json!({"forward_client_cert_details": "ALWAYS_FORWARD_ONLY"}));
        let outer = pass_on.cluster("next", &[inner.address()], json!({"transport_socket": opening})).start().await;
        let plain = hop.to(server.address).start().await;
        let mut seen = Vec::new();
        for address in [outer.address(), plain.address()] {
            let mut client = Wire::connect(address).await;
            client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: {spoofed}\r\n\r\n")).await;
            let mut upstream = server.accept().await;
            seen.push(header(&upstream.head().await, "x-forwarded-client-cert").map(str::to_owned));
            upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
            client.message().await;
        }
        let mutual = seen[0].clone().unwrap_or_default();
        match mode {
            "SANITIZE" => assert_eq!(seen, [None, None]),
            "FORWARD_ONLY" => assert_eq!(seen, [Some(spoofed.to_owned()), None]),
            "ALWAYS_FORWARD_ONLY" => assert_eq!(seen, [Some(spoofed.to_owned()), Some(spoofed.to_owned())]),
            "APPEND_FORWARD" => {
                assert!(mutual.starts_with(&format!("{spoofed},{own}")) && mutual.contains(uri), "{mutual}");
                assert_eq!(seen[1], None, "nothing is believed that came in plain text");
            }
            _ => {
                assert!(mutual.starts_with(own) && mutual.contains(uri), "{mutual}");
                assert!(!mutual.contains("evil") && mutual.contains("Subject=\""), "{mutual}");
                assert_eq!(seen[1], None);
            }
        }
        for node in [outer, inner, plain] {
            node.stop().await;
        }
    }
}
