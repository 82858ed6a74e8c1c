//! Proxies with real peers: mTLS pairs, and the workload's identity from the mesh's own CA.

#[path = "support/config.rs"]
mod config;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/pki.rs"]
mod pki;

use std::sync::Arc;
use std::time::Duration;

use config::{Hop, Node};
use ferromesh_ca::{Ca, RunningCa, StaticTokens};
use ferromesh_core::{SpiffeId, TrustDomain};
use ferromesh_proxy::identity::{self, Pem, TokenSource};
use ferromesh_proxy::tls::{Secret, SecretState, SecretStore};
use peers::{ask, eventually, get, upstream};
use pki::Pki;
use serde_json::json;

/// What a request through a pair gets, and both proxies' admin pages `/stats?usedonly` and `/config_dump`.
async fn through_a_pair(
    server: &Pki,
    client: &Pki,
    client_leaf: &(String, String),
    expected_server: &str,
) -> ((u16, String), String, String) {
    let server_leaf = server.workload("server", false);
    let require = json!({"require_client_certificate": true});
    let accepting = server.context("DownstreamTlsContext", &server_leaf, "client", &require);
    let inner = Hop::http().chain(json!({"transport_socket": accepting})).to(upstream("backend").await).start().await;
    let opening = client.context("UpstreamTlsContext", client_leaf, expected_server, &json!({"sni": "x"}));
    let towards = json!({"transport_socket": opening});
    let outer = Hop::http().cluster("next", &[inner.address()], towards).start().await;
    let answer = get(outer.address(), "/").await;
    let mut stats = String::new();
    let mut dumps = String::new();
    for Node { proxy, .. } in [&inner, &outer] {
        stats += &get(proxy.admin_addr().unwrap(), "/stats?usedonly").await.1;
        dumps += &get(proxy.admin_addr().unwrap(), "/config_dump").await.1;
    }
    assert_eq!(ask(outer.proxy.admin_addr().unwrap(), "GET", "/certs").await.0, 200);
    inner.stop().await;
    outer.stop().await;
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
    let (answer, stats, _) = through_a_pair(&pki, &pki, &good, "somebody").await;
    assert_eq!(answer.0, 503, "{answer:?}");
    // Only the log tells why: what a caller reads does not name identities. That the pair works otherwise is seen above.
    assert!(!answer.1.contains("sa/somebody"), "{answer:?}");
    assert!(stats.contains("cluster.next.upstream_cx_connect_fail: "), "{stats}");
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
