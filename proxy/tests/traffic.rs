//! Proxies with real peers: mTLS pairs, and the workload's identity from the mesh's own CA.

#[path = "support/peers.rs"]
mod peers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ferromesh_ca::{Ca, RunningCa, StaticTokens};
use ferromesh_core::{SpiffeId, TrustDomain};
use ferromesh_proxy::identity::{self, Pem, TokenSource};
use ferromesh_proxy::tls::{Secret, SecretState, SecretStore};
use peers::{ask, eventually, get, proxy, upstream};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Pki {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// Chain and key of a workload, as PEM.
    fn workload(&self, account: &str, expired: bool) -> (String, String) {
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://cluster.local/ns/test/sa/{account}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - 2 * DAY).into();
        params.not_after = if expired { (SystemTime::now() - DAY).into() } else { (SystemTime::now() + DAY).into() };
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A TLS context of `kind`: shows `own`, trusts this root, expects `peer`.
    fn context(&self, kind: &str, own: &(String, String), peer: &str, more: &str) -> String {
        format!(
            r#"{{"name": "tls", "typed_config": {{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}",
            "common_tls_context": {{
              "tls_certificates": [{{"certificate_chain": {{"inline_string": {:?}}}, "private_key": {{"inline_string": {:?}}}}}],
              "validation_context": {{"trusted_ca": {{"inline_string": {:?}}},
                "match_typed_subject_alt_names": [{{"san_type": "URI", "matcher": {{"exact": "spiffe://cluster.local/ns/test/sa/{peer}"}}}}]}}
            }}{more}}}}}"#,
            own.0, own.1, self.root
        )
    }
}

/// One proxy: a listener `in` with a connection manager, to a cluster at `next`.
fn hop(next: SocketAddr, downstream_tls: &str, upstream_tls: &str) -> ferromesh_proxy::app::Proxy {
    let socket = |tls: &str| if tls.is_empty() { String::new() } else { format!(r#", "transport_socket": {tls}"#) };
    proxy(&format!(
        r#"{{"node": {{"id": "a", "cluster": "a"}},
        "admin": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": 0}}}}}},
        "static_resources": {{
          "listeners": [{{"name": "in", "address": {{"socket_address": {{"address": "127.0.0.1", "port_value": 0}}}},
            "filter_chains": [{{"filters": [{{"name": "http", "typed_config": {{
              "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
              "stat_prefix": "in",
              "route_config": {{"name": "local", "virtual_hosts": [{{"name": "all", "domains": ["*"],
                "routes": [{{"match": {{"prefix": "/"}}, "route": {{"cluster": "next"}}}}]}}]}},
              "http_filters": [{{"name": "router", "typed_config": {{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}}]
            }}}}]{}}}]}}],
          "clusters": [{{"name": "next", "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {{"cluster_name": "next", "endpoints": [{{"lb_endpoints": [{{"endpoint": {{"address":
              {{"socket_address": {{"address": "127.0.0.1", "port_value": {}}}}}}}}}]}}]}}{}}}]
        }}}}"#,
        socket(downstream_tls),
        next.port(),
        socket(upstream_tls)
    ))
}

/// What a request through a pair gets, and both proxies' admin pages `/stats?usedonly` and `/config_dump`.
async fn through_a_pair(
    server: &Pki,
    client: &Pki,
    client_leaf: &(String, String),
    expected_server: &str,
) -> ((u16, String), String, String) {
    let backend = upstream("backend").await;
    let server_leaf = server.workload("server", false);
    let require = r#", "require_client_certificate": true"#;
    let inner = hop(backend, &server.context("DownstreamTlsContext", &server_leaf, "client", require), "");
    inner.ready().await;
    let inner_address = inner.listener_addr("in").unwrap();
    let outer =
        hop(inner_address, "", &client.context("UpstreamTlsContext", client_leaf, expected_server, r#", "sni": "x""#));
    outer.ready().await;
    let answer = get(outer.listener_addr("in").unwrap(), "/").await;
    let mut stats = String::new();
    let mut dumps = String::new();
    for proxy in [&inner, &outer] {
        stats += &get(proxy.admin_addr().unwrap(), "/stats?usedonly").await.1;
        dumps += &get(proxy.admin_addr().unwrap(), "/config_dump").await.1;
    }
    assert_eq!(ask(outer.admin_addr().unwrap(), "GET", "/certs").await.0, 200);
    inner.shutdown().await;
    outer.shutdown().await;
    (answer, stats, dumps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_with_mtls_serves_and_its_dump_has_no_key() {
    let pki = Pki::new();
    let (answer, _, dumps) = through_a_pair(&pki, &pki, &pki.workload("client", false), "server").await;
    assert_eq!(answer, (200, "backend".into()));
    assert!(dumps.contains("BEGIN CERTIFICATE"), "the dump shows what was configured");
    assert!(!dumps.contains("PRIVATE KEY"), "{dumps}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_names_expired_and_foreign_certificates_are_refused_and_counted() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let good = pki.workload("client", false);
    let (answer, _, _) = through_a_pair(&pki, &pki, &good, "somebody").await;
    assert_eq!(answer.0, 503, "{answer:?}");
    assert!(answer.1.contains("TLS_error") && answer.1.contains("sa/somebody"), "{answer:?}");
    for leaf in [pki.workload("stranger", false), pki.workload("client", true), foreign.workload("client", false)] {
        let (answer, stats, _) = through_a_pair(&pki, &pki, &leaf, "server").await;
        assert_eq!(answer.0, 503, "{answer:?}");
        assert!(stats.contains("ssl.fail_verify_error: 1"), "{stats}");
    }
}

const TOKEN: &str = "a token of a test";

fn id() -> SpiffeId {
    SpiffeId::parse("spiffe://cluster.local/ns/test/sa/web").unwrap()
}

async fn ca() -> RunningCa {
    let tokens = Arc::new(StaticTokens::default());
    tokens.add(TOKEN, id());
    let mut config = ferromesh_ca::Config::new(([127, 0, 0, 1], 0).into(), TrustDomain::default());
    config.authenticators.push(tokens);
    Ca::start(config).await.unwrap()
}

/// Rises with each certificate; 0 if there is none.
fn version(secrets: &SecretStore) -> u64 {
    match secrets.versioned(identity::WORKLOAD_SECRET) {
        (version, SecretState::Present(Secret::Certificate(_))) => version,
        _ => 0,
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_without_its_token_and_withdrawn_when_it_ends() {
    let ca = ca().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let mut config = identity::Config::new(ca.addr(), ca.root_pem(), "", id());
    config.token = TokenSource::File(token.clone());
    config.ca_root = Pem::Given(ca.root_pem().into());
    config.lifetime = Some(Duration::from_secs(6));
    let secrets = Arc::<SecretStore>::default();
    let test = async {
        let renewal = identity::start(config, secrets.clone());
        eventually("a first certificate", || async { version(&secrets) == 1 }).await;
        std::fs::remove_file(&token).unwrap();
        eventually("one by client certificate", || async { version(&secrets) == 2 }).await;
        ca.shutdown().await;
        assert_eq!(version(&secrets), 2, "it serves without the CA");
        eventually("the end", || async { version(&secrets) == 0 }).await;
        let SecretState::Withdrawn(reason) = secrets.get(identity::WORKLOAD_SECRET) else {
            panic!("the secret is withdrawn");
        };
        assert!(reason.contains("has ended") && reason.contains("the CA at"), "{reason}");
        renewal.abort();
    };
    tokio::task::LocalSet::new().run_until(test).await;
}
