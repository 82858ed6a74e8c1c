//! The running CA over real TLS and gRPC: who gets which certificate, and what a peer says to it.

#[path = "../../../core/tests/support/collector.rs"]
mod collector;
#[path = "../../../core/tests/support/daemon.rs"]
mod daemon;
mod process;
mod support;
mod telemetry;

use std::time::Duration;

use ferromesh_ca::issuer::{Material, pem_of, verify_client_chain};
use ferromesh_ca::{AuthoritySource, Ca, CaError, Config, Phase, RateLimit};
use ferromesh_core::identity::{TrustDomain, spiffe_id_of_der};
use rcgen::KeyPair;
use time::OffsetDateTime;
use tonic::Code;
use x509_parser::prelude::{FromDer, X509Certificate};

use support::{Identity, Mesh, csr, id};

#[tokio::test]
async fn a_token_gets_a_leaf_for_its_identity_with_chain_and_root_last() {
    let mesh = Mesh::start(|_| ()).await;
    let key = KeyPair::generate().unwrap();
    let chain = mesh.request(Some("token-web"), None, &csr(&key, &[]), 0).await.unwrap();
    assert_eq!(chain.len(), 3, "leaf, intermediate, root");
    assert_eq!(chain[2], mesh.ca.root_pem());
    let certs = support::certs(&chain[..2]);
    assert_eq!(spiffe_id_of_der(&certs[0]).unwrap(), id("web"));
    let now = OffsetDateTime::now_utc();
    let roots = support::certs(&chain[2..]);
    verify_client_chain(&certs, &roots, now).unwrap();
    verify_client_chain(&certs, &roots, now + Duration::from_secs(23 * 3600)).unwrap();
    assert!(verify_client_chain(&certs, &roots, now + Duration::from_secs(25 * 3600)).is_err());

    let (_, leaf) = X509Certificate::from_der(&certs[0]).unwrap();
    let (begin, end) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    assert_eq!(end - begin, 24 * 3600 + 120);
    assert!(!leaf.is_ca() && leaf.basic_constraints().unwrap().unwrap().critical);
    assert!(leaf.subject_alternative_name().unwrap().unwrap().critical, "the subject is empty");
    assert_eq!(leaf.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
    assert!(mesh.metrics.encode().unwrap().contains("citadel_server_success_cert_issuance_count 1"));
    mesh.ca.shutdown().await;
}

#[tokio::test]
async fn a_token_gets_its_own_identity_and_no_other() {
    let mesh = Mesh::start(|_| ()).await;
    let key = KeyPair::generate().unwrap();
    let admin = csr(&key, &["spiffe://cluster.local/ns/default/sa/admin"]);
    let refused = |status: tonic::Status, code| {
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().len() > 20, "{status}");
    };
    refused(mesh.request(Some("token-web"), None, &admin, 0).await.unwrap_err(), Code::PermissionDenied);
    refused(mesh.request(Some("stolen"), None, &csr(&key, &[]), 0).await.unwrap_err(), Code::Unauthenticated);
    refused(mesh.request(None, None, &csr(&key, &[]), 0).await.unwrap_err(), Code::Unauthenticated);
    refused(mesh.request(Some("token-foreign"), None, &csr(&key, &[]), 0).await.unwrap_err(), Code::PermissionDenied);
    refused(mesh.request(Some("token-web"), None, "garbage", 0).await.unwrap_err(), Code::InvalidArgument);
    refused(mesh.request(Some("token-web"), None, &csr(&key, &[]), -1).await.unwrap_err(), Code::InvalidArgument);
    let text = mesh.metrics.encode().unwrap();
    assert!(text.contains("citadel_server_authentication_failure_count 3"), "{text}");
    assert!(text.contains("citadel_server_csr_sign_err_count{error=\"identity\"} 1"), "{text}");
}

#[tokio::test]
async fn extensions_of_a_request_are_never_copied() {
    let mesh = Mesh::start(|_| ()).await;
    let key = KeyPair::generate().unwrap();
    let chain = mesh.request(Some("token-web"), None, &support::greedy_csr(&key), 0).await.unwrap();
    let leaf = &support::certs(&chain)[0];
    assert_eq!(spiffe_id_of_der(leaf).unwrap(), id("web"));
    let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    assert_eq!(leaf.subject().iter().count(), 0);
}

#[tokio::test]
async fn a_client_certificate_renews_itself_and_cannot_become_another() {
    let mesh = Mesh::start(|_| ()).await;
    let old = mesh.identity("token-web").await;
    let key = KeyPair::generate().unwrap();
    let chain = mesh.request(None, Some(&old), &csr(&key, &[]), 0).await.unwrap();
    assert_eq!(spiffe_id_of_der(&support::certs(&chain)[0]).unwrap(), id("web"));
    let admin = csr(&key, &["spiffe://cluster.local/ns/default/sa/admin"]);
    assert_eq!(mesh.request(None, Some(&old), &admin, 0).await.unwrap_err().code(), Code::PermissionDenied);
    // A token that is shown and not known is not made good by a certificate.
    let status = mesh.request(Some("stolen"), Some(&old), &csr(&key, &[]), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_expired_or_foreign_client_certificate_opens_nothing() {
    let mesh = Mesh::start(|_| ()).await;
    let key = KeyPair::generate().unwrap();
    let foreign = Mesh::start(|_| ()).await.identity("token-web").await;
    assert!(mesh.request(None, Some(&foreign), &csr(&key, &[]), 0).await.is_err());

    let folder = tempfile::tempdir().unwrap();
    let long_ago = OffsetDateTime::now_utc() - Duration::from_secs(48 * 3600);
    let material = Material::self_made(&TrustDomain::default(), long_ago).unwrap();
    support::write_cacerts(folder.path(), &material);
    let given = AuthoritySource::Files(folder.path().into());
    let mesh = Mesh::start(|config| config.authority = given).await;
    let expired = Identity::made_at(&material, &id("web"), long_ago);
    assert!(mesh.request(None, Some(&expired), &csr(&key, &[]), 0).await.is_err());
    let valid = Identity::made_at(&material, &id("web"), OffsetDateTime::now_utc());
    assert!(mesh.request(None, Some(&valid), &csr(&key, &[]), 0).await.is_ok());
    assert!(matches!(mesh.ca.rotate_step(), Err(CaError::GivenFiles)));
}

#[tokio::test]
async fn an_identity_that_asks_too_often_is_told_so_and_others_are_not() {
    let limit = RateLimit { burst: 2, refill: Duration::from_secs(3600) };
    let mesh = Mesh::start(|config| config.rate_limit = limit).await;
    let request = csr(&KeyPair::generate().unwrap(), &[]);
    for _ in 0..2 {
        mesh.request(Some("token-web"), None, &request, 0).await.unwrap();
    }
    let status = mesh.request(Some("token-web"), None, &request, 0).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    mesh.request(Some("token-admin"), None, &request, 0).await.unwrap();
}

#[tokio::test]
async fn a_rotation_never_leaves_two_neighbours_that_do_not_trust_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = AuthoritySource::Store(folder.path().into());
    let mut mesh = Mesh::start(|config| config.authority = store.clone()).await;
    let first_root = mesh.ca.root_pem();
    // Between two steps every workload renews; a neighbour may be one step behind.
    let mut behind = mesh.renewed(None).await;
    for phase in [Phase::Announced, Phase::Switched, Phase::Stable] {
        assert_eq!(mesh.ca.rotate_step().unwrap(), phase);
        let ahead = mesh.renewed(Some(&behind)).await;
        for (who, by) in [(&ahead, &behind), (&behind, &ahead), (&ahead, &ahead)] {
            verify_client_chain(&who.chain, &by.trust, OffsetDateTime::now_utc()).unwrap();
        }
        assert_eq!(ahead.trust.len(), if phase == Phase::Stable { 1 } else { 2 });
        behind = ahead;
        // A restart in the middle goes on where it was.
        mesh.ca.shutdown().await;
        mesh = Mesh::start(|config| config.authority = store.clone()).await;
        assert_eq!(mesh.ca.phase(), phase);
    }
    assert_ne!(mesh.ca.root_pem(), first_root);
    assert_eq!(mesh.ca.trust_bundle_pem(), mesh.ca.root_pem());
}

#[tokio::test]
async fn given_files_that_do_not_fit_are_refused_with_the_reason() {
    let now = OffsetDateTime::now_utc();
    let (one, two) = (
        Material::self_made(&TrustDomain::default(), now).unwrap(),
        Material::self_made(&TrustDomain::default(), now).unwrap(),
    );
    let table = [
        (Material { key_pem: two.key_pem.clone(), ..one.clone() }, "does not belong"),
        (Material { root_pem: two.root_pem.clone(), ..one.clone() }, "do not lead to the root"),
        (Material { key_pem: "x".into(), ..one.clone() }, "ca-key.pem"),
    ];
    for (material, expected) in table {
        let folder = tempfile::tempdir().unwrap();
        support::write_cacerts(folder.path(), &material);
        let mut config = Config::new(([127, 0, 0, 1], 0).into(), TrustDomain::default());
        config.authority = AuthoritySource::Files(folder.path().into());
        let error = Ca::start(config).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn the_ca_stops_listening_when_shut_down() {
    let mesh = Mesh::start(|_| ()).await;
    let addr = mesh.ca.addr();
    mesh.ca.shutdown().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[test]
fn pem_that_is_written_reads_back() {
    let material = Material::self_made(&TrustDomain::default(), OffsetDateTime::now_utc()).unwrap();
    let certs = support::certs(std::slice::from_ref(&material.root_pem));
    assert_eq!(support::certs(&[pem_of(&certs)]), certs);
}
