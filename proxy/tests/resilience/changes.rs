//! Configuration changes under load: not one request fails, whatever is pushed.

use std::net::SocketAddr;
use std::sync::Arc;

use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::core::v3::TypedExtensionConfig;
use ferromesh_proto::envoy::config::listener::v3::Listener;
use ferromesh_proto::envoy::config::route::v3::RouteConfiguration;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use ferromesh_proto::prost::Name;
use ferromesh_proto::{Any, json};
use rcgen::SanType;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};

use crate::ads::Ads;
use crate::hosts::{Client, Host};
use crate::load::{Load, Target};
use crate::peers::{self, eventually, get};
use crate::pki::{Leaf, Pki};
use crate::plane::{self, at, cluster, endpoints, route_to, under};
use crate::proxies::stat;

fn pack<M: ferromesh_proto::prost::Message + Name + Default>(name: &str, yaml: &str) -> (String, Any) {
    (name.into(), Any::pack::<M>(&json::from_yaml(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"))))
}

/// A listener with an ECDS filter and RDS; `chain` are further fields of its filter chain.
fn listener(name: &str, server: usize, chain: &str) -> (String, Any) {
    let yaml = format!(
        r#"
name: {name}
address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
filter_chains:
- filters:
  - name: http
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: {name}
      server_name: server-{server}
      rds: {{route_config_name: main, config_source: {{ads: {{}}}}}}
      http_filters:
      - name: ext
        config_discovery: {{config_source: {{ads: {{}}}}, type_urls: [type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation]}}
      - {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}
  {chain}
"#
    );
    pack::<Listener>(name, &yaml)
}

fn tls_chain(timeout: usize) -> String {
    format!(
        "transport_socket_connect_timeout: {timeout}s
  transport_socket: {{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext,
    common_tls_context: {{tls_certificate_sds_secret_configs: [{{name: server, sds_config: {{ads: {{}}}}}}]}}}}}}"
    )
}

fn extension(round: usize) -> (String, Any) {
    pack::<TypedExtensionConfig>(
        "ext",
        &format!(
            "{{name: ext, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation,
             mutations: {{response_mutations: [{{append: {{header: {{key: x-ext, value: '{round}'}}}}}}]}}}}}}"
        ),
    )
}

fn routes(cluster: &str, round: usize) -> (String, Any) {
    pack::<RouteConfiguration>(
        "main",
        &format!(
            "{{name: main, virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}],
             response_headers_to_add: [{{header: {{key: x-route, value: '{round}'}}}}]}}]}}"
        ),
    )
}

fn secret(leaf: &Leaf) -> (String, Any) {
    let (chain, key) = leaf;
    pack::<Secret>(
        "server",
        &format!(
            "{{name: server, tls_certificate: {{certificate_chain: {{inline_string: {chain:?}}}, private_key: {{inline_string: {key:?}}}}}}}"
        ),
    )
}

fn server_leaf(pki: &Pki) -> Leaf {
    pki.leaf(vec![SanType::DnsName("server.test".try_into().unwrap())], false)
}

fn trusting(pki: &Pki) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// The certificate that a new connection is shown.
async fn shown(address: SocketAddr, config: &Arc<rustls::ClientConfig>) -> CertificateDer<'static> {
    let socket = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    let stream = connector.connect(ServerName::try_from("server.test").unwrap(), socket).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn certificate(leaf: &Leaf) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(leaf.0.as_bytes()).unwrap()
}

async fn header(address: SocketAddr, name: &str) -> String {
    let got = Client::new(address).get("/").await.unwrap();
    got.1.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

struct World {
    ads: Ads,
    proxy: ferromesh_proxy::app::Proxy,
    plain: SocketAddr,
    tls: SocketAddr,
    pki: Pki,
    server: tokio::task::JoinHandle<()>,
    control: SocketAddr,
    hosts: Vec<Host>,
}

async fn world(delta: bool) -> World {
    let (ads, pki) = (Ads::new(), Pki::new());
    let hosts = vec![Host::start("one").await, Host::start("two").await];
    ads.set([
        cluster("c0", ""),
        endpoints("c0", hosts[0].address),
        listener("in", 0, ""),
        listener("tls", 0, &tls_chain(5)),
        routes("c0", 0),
        extension(0),
        secret(&server_leaf(&pki)),
    ]);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = socket.local_addr().unwrap();
    let proxy = under(&at(control), delta);
    let server = ads.serve_tcp(socket);
    tokio::time::timeout(peers::PATIENCE, proxy.ready()).await.expect("ready in time");
    let (plain, tls) = (proxy.listener_addr("in").unwrap(), proxy.listener_addr("tls").unwrap());
    World { ads, proxy, plain, tls, pki, server, control, hosts }
}

impl World {
    fn load(&self) -> Load {
        let tls = Target { address: self.tls, tls: Some(trusting(&self.pki)) };
        Load::start(&[self.plain.into(), tls], 2)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_everything_changes() {
    for delta in [true, false] {
        let world = world(delta).await;
        let (ads, admin) = (&world.ads, world.proxy.admin_addr().unwrap());
        let load = world.load();
        let client = trusting(&world.pki);
        for round in 1..=8 {
            let (before, now) = (format!("c{}", round - 1), format!("c{round}"));
            // CDS and RDS: a new cluster, and the route to it.
            ads.set([cluster(&now, ""), endpoints(&now, world.hosts[0].address), routes(&now, round)]);
            eventually("the route is new", || async { header(world.plain, "x-route").await == round.to_string() })
                .await;
            ads.remove(&Cluster::type_url(), &before);
            // CDS: the cluster that serves changes.
            ads.set([cluster(&now, ", per_connection_buffer_limit_bytes: 65536")]);
            // EDS: its host moves.
            ads.set([endpoints(&now, world.hosts[1].address)]);
            eventually("the host is new", || async { get(world.plain, "/").await.1 == "two" }).await;
            // ECDS.
            ads.set([extension(round)]);
            eventually("the filter is new", || async { header(world.plain, "x-ext").await == round.to_string() }).await;
            // SDS.
            let leaf = server_leaf(&world.pki);
            ads.set([secret(&leaf)]);
            let wanted = certificate(&leaf);
            eventually("the certificate is new", || async { shown(world.tls, &client).await == wanted }).await;
            // LDS: once only what requests read, once what connections are made of.
            ads.set([listener("in", round, ""), listener("tls", round, &tls_chain(5 + round))]);
            let server = format!("server-{round}");
            eventually("the listener is new", || async { header(world.plain, "server").await == server }).await;
        }
        load.further(200).await;
        let requests = load.finish().await;
        assert!(requests > 200, "{requests}");
        assert_eq!(ads.refusals(), Vec::<String>::new());
        assert_eq!(stat(admin, "listener_manager.lds.update_rejected").await, 0);
        world.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_control_plane_restarts() {
    for delta in [true, false] {
        let mut world = world(delta).await;
        let admin = world.proxy.admin_addr().unwrap();
        let load = world.load();
        for round in 1..=3 {
            world.server.abort();
            let _ = (&mut world.server).await;
            let connected = || async { stat(admin, "control_plane.connected_state").await };
            eventually("it is gone", || async { connected().await == 0 }).await;
            // What changes meanwhile is learnt afterwards.
            world.ads.set([extension(round)]);
            load.further(100).await;
            world.server = world.ads.serve_tcp(TcpListener::bind(world.control).await.unwrap());
            eventually("the change is here", || async { header(world.plain, "x-ext").await == round.to_string() })
                .await;
        }
        load.finish().await;
        world.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_outlives_the_certificate_that_it_was_opened_with() {
    let world = world(true).await;
    let config = trusting(&world.pki);
    let socket = TcpStream::connect(world.tls).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    let stream = connector.connect(ServerName::try_from("server.test").unwrap(), socket).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = http::Request::builder().uri("/").header("host", "test").body(String::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("connection")), (200, None));
        drop(http_body_util::BodyExt::collect(response.into_body()).await.unwrap());
        let leaf = server_leaf(&world.pki);
        world.ads.set([secret(&leaf)]);
        let wanted = certificate(&leaf);
        eventually("new connections see it", || async { shown(world.tls, &config).await == wanted }).await;
    }
    world.proxy.shutdown().await;
}

/// What it is, resources, and what the refusal names.
type BadPush = (&'static str, Vec<(String, Any)>, Vec<String>);

/// Every sort of push that must be refused.
fn bad_pushes() -> Vec<BadPush> {
    let raw = |url: String, value: Vec<u8>| Any { type_url: url, value: value.into() };
    let (_, good) = cluster("c0", "");
    let truncated = good.value[..good.value.len() - 3].to_vec();
    let regex = "(a|b)?".repeat(200_000);
    let cases = format!(
        "{{name: main, virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{safe_regex: {{regex: '{regex}'}}}}, route: {{cluster: c0}}}}]}}]}}"
    );
    let unknown = "{name: x, typed_config: {'@type': type.googleapis.com/xds.core.v3.ContextParams}}";
    let two = "{name: main, virtual_hosts: [{name: a, domains: [x.test]}, {name: b, domains: [x.test]}]}";
    vec![
        ("a truncated message", vec![("c0".into(), raw(Cluster::type_url(), truncated))], vec![Cluster::type_url()]),
        (
            "an unknown extension",
            vec![pack::<Listener>(
                "in",
                &format!(
                    "{{name: in, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: [{{filters: [{unknown}]}}]}}"
                ),
            )],
            vec!["filter_chains[0].filters[0]".into(), "xds.core.v3.ContextParams".into()],
        ),
        (
            "a field that is not there",
            vec![cluster("c0", ", upstream_config: {name: x}")],
            vec!["upstream_config".into()],
        ),
        (
            "hedging",
            vec![pack::<RouteConfiguration>(
                "main",
                "{name: main, virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: c0, hedge_policy: {hedge_on_per_try_timeout: true}}}]}]}",
            )],
            vec!["virtual_hosts[0].routes[0].route.hedge_policy".into()],
        ),
        ("a huge regex", vec![pack::<RouteConfiguration>("main", &cases)], vec!["safe_regex".into()]),
        ("a domain twice", vec![pack::<RouteConfiguration>("main", two)], vec!["domains".into()]),
        (
            "a name that is no address",
            vec![pack::<ferromesh_proto::envoy::config::endpoint::v3::ClusterLoadAssignment>(
                "c0",
                "{cluster_name: c0, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: web.test, port_value: 1}}}}]}]}",
            )],
            vec!["endpoints".into(), "web.test".into()],
        ),
        (
            "a key that does not fit",
            vec![pack::<Secret>(
                "server",
                "{name: server, tls_certificate: {certificate_chain: {inline_string: x}, private_key: {inline_string: y}}}",
            )],
            vec!["tls_certificate".into()],
        ),
        (
            "another type of filter",
            vec![pack::<TypedExtensionConfig>(
                "ext",
                "{name: ext, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}",
            )],
            vec!["type_urls".into(), "cors.v3.Cors".into()],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_pushes_are_refused_by_field_and_the_last_good_ones_serve() {
    for delta in [true, false] {
        let world = world(delta).await;
        let load = world.load();
        let before = [
            cluster("c0", ""),
            endpoints("c0", world.hosts[0].address),
            listener("in", 0, ""),
            routes("c0", 0),
            extension(0),
            secret(&server_leaf(&world.pki)),
        ];
        for (what, push, parts) in bad_pushes() {
            let said = world.ads.refusals().len();
            world.ads.set(push);
            eventually(&format!("{what} is refused"), || async { world.ads.refusals().len() > said }).await;
            let refusal = world.ads.refusals().split_off(said).join("\n");
            for part in &parts {
                assert!(refusal.contains(part), "{what}: {part} in {:.500}", refusal);
            }
            // The good ones again, so that state-of-the-world answers are good as a whole.
            world.ads.set(before.clone());
        }
        let name = "x".repeat(10 * 1024 * 1024);
        let big = format!(", metadata: {{filter_metadata: {{a: {{b: {name}}}}}}}");
        world.ads.set([cluster("big", &big), endpoints("big", world.hosts[1].address)]);
        world.ads.set([route_to("big")]);
        eventually("a large cluster serves", || async { get(world.plain, "/").await.1 == "two" }).await;
        load.further(100).await;
        load.finish().await;
        world.proxy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_comes_twice_in_one_response_is_refused() {
    let world = world(false).await;
    // Under another key the plane sends the same name once more.
    let (_, same) = cluster("c0", ", per_connection_buffer_limit_bytes: 1");
    world.ads.set([("z".into(), same)]);
    eventually("it is refused", || async { world.ads.refusals().iter().any(|why| why.contains("2 resources")) }).await;
    assert_eq!(get(world.plain, "/").await.0, 200);
    world.ads.remove(&Cluster::type_url(), "z");
    world.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_resources_is_accepted_by_its_version() {
    let world = world(false).await;
    world.ads.remove(&Cluster::type_url(), "c0");
    eventually("no cluster", || async { get(world.plain, "/").await.0 == 503 }).await;
    let acknowledged = || async {
        let said = world.ads.said();
        let last = said.iter().rev().find(|said| said.type_url == Cluster::type_url()).unwrap();
        last.error.is_none() && last.held.values().all(String::is_empty)
    };
    eventually("the empty version is acknowledged", acknowledged).await;
    world.proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_comes_over_mutual_tls_only() {
    let (ads, pki, foreign) = (Ads::new(), Pki::new(), Pki::new());
    let host = Host::start("one").await;
    ads.set([cluster("one", ""), endpoints("one", host.address), plane::listener("in", ""), route_to("one")]);
    let leaf = server_leaf(&pki);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate(&leaf)], PrivateKeyDer::from_pem_slice(leaf.1.as_bytes()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = socket.local_addr().unwrap();
    ads.serve_tls(socket, Arc::new(config));
    for (own, is_served) in [(&pki, true), (&foreign, false)] {
        let (chain, key) = own.workload("proxy", false);
        let tls = format!(
            ", transport_socket: {{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, \
             sni: server.test, common_tls_context: {{tls_certificates: [{{certificate_chain: {{inline_string: {chain:?}}}, private_key: {{inline_string: {key:?}}}}}], \
             validation_context: {{trusted_ca: {{inline_string: {:?}}}, match_typed_subject_alt_names: [{{san_type: DNS, matcher: {{exact: server.test}}}}]}}}}}}}}",
            pki.root
        );
        let proxy = plane::under_with(&at(control), true, &tls);
        if is_served {
            tokio::time::timeout(peers::PATIENCE, proxy.ready()).await.expect("ready in time");
            assert_eq!(get(proxy.listener_addr("in").unwrap(), "/").await, (200, "one".into()));
        } else {
            let admin = proxy.admin_addr().unwrap();
            let tried = "cluster.xds-grpc.upstream_cx_total";
            eventually("it has tried again", || async { stat(admin, tried).await > 2 }).await;
            assert!(!proxy.is_ready());
        }
        proxy.shutdown().await;
    }
}
