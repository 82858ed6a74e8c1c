mod managers;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::config::listener::v3 as proto;
use ferromesh_proto::envoy::extensions::filters::listener as filters;
use ferromesh_proto::envoy::extensions::filters::network::{direct_response, echo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::{Listener, Listeners, bind};
use crate::context::{Context, Local};
use crate::tls::test_pki::inline;
use crate::worker::Worker;

fn address(port: u16) -> Option<core::Address> {
    let socket = core::SocketAddress {
        address: "127.0.0.1".into(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

fn filter(config: Any) -> proto::Filter {
    proto::Filter { name: "x".into(), config_type: Some(proto::filter::ConfigType::TypedConfig(config)) }
}

fn listener_filter(config: Any) -> proto::ListenerFilter {
    let config_type = Some(proto::listener_filter::ConfigType::TypedConfig(config));
    proto::ListenerFilter { name: "x".into(), config_type, ..Default::default() }
}

/// A chain that says `text` and closes.
fn says(text: &str, change: impl FnOnce(&mut proto::FilterChainMatch)) -> proto::FilterChain {
    let config = direct_response::v3::Config { response: inline(text) };
    let mut rule = proto::FilterChainMatch::default();
    change(&mut rule);
    proto::FilterChain {
        name: text.into(),
        filter_chain_match: Some(rule),
        filters: vec![filter(Any::pack(&config))],
        ..Default::default()
    }
}

fn echoes() -> proto::FilterChain {
    proto::FilterChain { filters: vec![filter(Any::pack(&echo::v3::Echo {}))], ..Default::default() }
}

fn listener(name: &str, chains: Vec<proto::FilterChain>) -> proto::Listener {
    proto::Listener { name: name.into(), address: address(0), filter_chains: chains, ..Default::default() }
}

struct Rig {
    context: Arc<Context>,
    listeners: Rc<Listeners>,
}

impl Rig {
    fn new() -> Self {
        let context = Arc::new(Context::new(Local::default()));
        let listeners = Listeners::new(Worker::new(0, context.clone()), Duration::from_secs(60));
        Self { context, listeners }
    }

    fn decode(&self, proto: &proto::Listener) -> Arc<Listener> {
        crate::supported::check(&Any::pack(proto)).unwrap();
        Listener::decode(proto, &self.context).unwrap()
    }

    fn apply(&self, proto: &proto::Listener) -> Arc<Listener> {
        let listener = self.decode(proto);
        let sockets = bind(&listener, 1, |_| Vec::new()).unwrap().remove(0);
        self.listeners.apply(listener.clone(), sockets).unwrap();
        listener
    }

    async fn connect(&self, name: &str) -> TcpStream {
        let addresses = self.listeners.addresses();
        let (_, address) = addresses.iter().find(|(found, _)| found.as_str() == name).unwrap();
        TcpStream::connect(address).await.unwrap()
    }

    /// What the listener answers to `bytes`.
    async fn answer(&self, name: &str, bytes: &[u8]) -> String {
        let mut stream = self.connect(name).await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

async fn echoed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok()
}

#[tokio::test]
async fn inspectors_and_the_chain_match_decide_who_answers() {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new();
            let mut proto = listener(
                "in",
                vec![
                    says("http", |rule| {
                        rule.transport_protocol = "raw_buffer".into();
                        rule.application_protocols = vec!["http/1.1".into()];
                    }),
                    says("plain", |rule| rule.transport_protocol = "raw_buffer".into()),
                ],
            );
            proto.listener_filters = vec![
                listener_filter(Any::pack(&filters::tls_inspector::v3::TlsInspector::default())),
                listener_filter(Any::pack(&filters::http_inspector::v3::HttpInspector::default())),
            ];
            let listener = rig.apply(&proto);
            assert_eq!(rig.answer("in", b"GET / HTTP/1.1\r\n\r\n").await, "http");
            assert_eq!(rig.answer("in", b"\x00\x01 something else\n").await, "plain");
            assert_eq!(rig.answer("in", &[22, 3, 1, 0, 0]).await, "plain");
            rig.listeners.idle().await;
            assert_eq!((listener.connections(), listener.stats.downstream_cx_total.get()), (0, 3));
        })
        .await;
}

#[tokio::test]
async fn a_redirected_connection_is_handed_to_the_listener_of_its_destination() {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new();
            let mut outbound = listener("virtualOutbound", vec![says("passthrough", |_| {})]);
            outbound.use_original_dst = Some(true);
            let header = filters::proxy_protocol::v3::ProxyProtocol::default();
            outbound.listener_filters = vec![listener_filter(Any::pack(&header))];
            rig.apply(&outbound);
            for (name, ip) in [("exact", "10.0.0.1"), ("any", "0.0.0.0")] {
                let mut proto = listener(name, vec![says(name, |_| {})]);
                proto.bind_to_port = Some(false);
                let mut socket = core::SocketAddress { address: ip.into(), ..Default::default() };
                socket.port_specifier = Some(core::socket_address::PortSpecifier::PortValue(80));
                let address = core::address::Address::SocketAddress(socket);
                proto.address = Some(core::Address { address: Some(address) });
                rig.apply(&proto);
            }
            for (destination, answer) in
                [("10.0.0.1 9 80", "exact"), ("10.0.0.2 9 80", "any"), ("10.0.0.1 9 81", "passthrough")]
            {
                let header = format!("PROXY TCP4 1.2.3.4 {destination}\r\n");
                assert_eq!(rig.answer("virtualOutbound", header.as_bytes()).await, answer);
            }
            rig.listeners.idle().await;
        })
        .await;
}

#[tokio::test]
async fn a_listener_that_hands_over_asks_the_kernel_where_a_connection_wanted_to_go_without_being_told_so() {
    let rig = Rig::new();
    let mut outbound = listener("virtualOutbound", vec![echoes()]);
    assert_eq!(rig.decode(&outbound).filters.len(), 0);
    outbound.use_original_dst = Some(true);
    assert!(rig.decode(&outbound).filters.iter().all(super::filter::ListenerFilter::is_original_dst));
    assert_eq!(rig.decode(&outbound).filters.len(), 1);
}

#[tokio::test]
async fn an_update_keeps_the_socket_and_the_connections_of_chains_that_stay() {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new();
            let proto = listener("in", vec![echoes()]);
            let first = rig.apply(&proto);
            let mut old = rig.connect("in").await;
            assert!(echoed(&mut old).await);

            let mut more = proto.clone();
            more.filter_chains.push(says("other", |rule| rule.destination_port = Some(1)));
            let second = Listener::decode_after(&more, &rig.context, Some(&first)).unwrap();
            assert!(second.same_sockets(&first) && Arc::ptr_eq(&first.chains[0], &second.chains[0]));
            rig.listeners.apply(second, Vec::new()).unwrap();
            assert!(echoed(&mut old).await);
            assert!(echoed(&mut rig.connect("in").await).await);

            let changed = rig.decode(&listener("in", vec![says("new", |_| {})]));
            rig.listeners.apply(changed, Vec::new()).unwrap();
            assert_eq!(rig.answer("in", b"").await, "new");
            assert!(echoed(&mut old).await, "a drained connection has its time");
            drop(old);
            rig.listeners.idle().await;
        })
        .await;
}

#[tokio::test]
async fn a_drain_refuses_new_connections_and_ends_old_ones_at_the_deadline() {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new();
            rig.apply(&listener("in", vec![echoes()]));
            let (_, address) = rig.listeners.addresses().remove(0);
            let mut old = rig.connect("in").await;
            assert!(echoed(&mut old).await);
            rig.listeners.drain(Duration::from_millis(10), false);
            rig.listeners.stop_accepting(false);
            rig.listeners.idle().await;
            assert!(!echoed(&mut old).await);
            assert!(TcpStream::connect(address).await.is_err());
        })
        .await;
}

#[tokio::test]
async fn sockets_of_several_workers_share_a_port_and_exact_balance_evens_them_out() {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new();
            let other = Listeners::new(Worker::new(1, rig.context.clone()), Duration::from_secs(60));
            let mut proto = listener("in", vec![echoes()]);
            let exact = proto::listener::connection_balance_config::BalanceType::ExactBalance(Default::default());
            proto.connection_balance_config =
                Some(proto::listener::ConnectionBalanceConfig { balance_type: Some(exact) });
            let listener = rig.decode(&proto);
            let mut sockets = bind(&listener, 2, |_| Vec::new()).unwrap();
            assert_eq!(sockets[0][0].local_addr().unwrap(), sockets[1][0].local_addr().unwrap());
            rig.listeners.apply(listener.clone(), sockets.remove(0)).unwrap();
            other.apply(listener, sockets.remove(0)).unwrap();
            let mut streams = Vec::new();
            for _ in 0..10 {
                let mut stream = rig.connect("in").await;
                assert!(echoed(&mut stream).await);
                streams.push(stream);
            }
            assert_eq!((rig.listeners.connections(), other.connections()), (5, 5));
        })
        .await;
}

#[tokio::test]
async fn a_connection_that_no_chain_matches_is_closed_and_counted() {
    LocalSet::new()
        .run_until(async {
            let rig = Rig::new();
            let listener = rig.apply(&listener("in", vec![says("never", |rule| rule.destination_port = Some(1))]));
            assert_eq!(rig.answer("in", b"").await, "");
            rig.listeners.idle().await;
            assert_eq!(listener.stats.no_filter_chain_match.get(), 1);
        })
        .await;
}

#[test]
fn what_cannot_be_served_is_refused_by_path() {
    let rig = Rig::new();
    let mut proto = listener("in", vec![echoes(), echoes()]);
    proto.filter_chains[1].filters.push(filter(Any::pack(&echo::v3::Echo {})));
    let error = Listener::decode(&proto, &rig.context).unwrap_err().to_string();
    assert!(error.contains("filter_chains[1].filters[1]"), "{error}");
    let unknown = Any { type_url: "type.googleapis.com/nobody.knows.v3.This".into(), ..Default::default() };
    let mut proto = listener("in", vec![echoes()]);
    proto.filter_chains[0].filters = vec![filter(unknown)];
    let error = Listener::decode(&proto, &rig.context).unwrap_err().to_string();
    assert!(error.contains("filter_chains[0].filters[0].typed_config") && error.contains("nobody.knows"), "{error}");
}
