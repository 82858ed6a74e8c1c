//! `ferromesh-ca` as a process: what is on disk and on the wire is all that is known of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ferromesh_ca::issuer::{Material, verify_client_chain};
use ferromesh_core::identity::{TrustDomain, spiffe_id_of_der};
use ferromesh_proto::istio::v1::auth::IstioCertificateRequest;
use ferromesh_proto::prost::Message;
use http_body_util::BodyExt;
use rcgen::KeyPair;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::daemon::{Daemon, address, http};
use crate::support::{self, Caller, csr, id};

/// A running CA whose tokens stand in `<folder>/tokens`.
struct Process {
    daemon: Daemon,
    addr: SocketAddr,
    admin: SocketAddr,
}

fn arguments(folder: &Path, keys: [&str; 2]) -> Vec<String> {
    let tokens = folder.join("tokens");
    std::fs::create_dir_all(&tokens).unwrap();
    std::fs::write(tokens.join("default.web"), "token-web\n").unwrap();
    let fixed = ["--listen", "127.0.0.1:0", "--admin-address", "127.0.0.1:0", "--log-format", "json", "--tokens"];
    let fixed = fixed.into_iter().map(str::to_owned).chain([tokens.display().to_string()]);
    fixed.chain(keys.map(str::to_owned)).collect()
}

fn start(folder: &Path, keys: [&str; 2]) -> Daemon {
    Daemon::start(env!("CARGO_BIN_EXE_ferromesh-ca"), &arguments(folder, keys))
}

impl Process {
    async fn start(folder: &Path, keys: [&str; 2]) -> Self {
        let mut daemon = start(folder, keys);
        let line = daemon.tells("started").await;
        Self { addr: address(&line, "addr"), admin: address(&line, "admin"), daemon }
    }

    async fn with_store(folder: &Path) -> Self {
        Self::start(folder, ["--store", folder.join("store").to_str().unwrap()]).await
    }

    /// Phase and trust bundle, as the operator's page tells them.
    async fn roots(&self) -> (String, String) {
        let (status, body) = http(self.admin, "GET", "/roots").await.unwrap();
        assert_eq!(status, 200, "{body}");
        phase_and_bundle(&body)
    }

    async fn rotate(&self) -> (String, String) {
        let (status, body) = http(self.admin, "POST", "/roots/rotate").await.unwrap();
        assert_eq!(status, 200, "{body}");
        phase_and_bundle(&body)
    }

    async fn caller(&self) -> Caller {
        Caller { addr: self.addr, bundle: self.roots().await.1 }
    }

    async fn stop(mut self) {
        self.daemon.terminate();
        assert!(self.daemon.ended().await.success(), "{}", self.daemon.log());
    }
}

fn phase_and_bundle(json: &str) -> (String, String) {
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    (json["phase"].as_str().unwrap().to_owned(), json["bundle"].as_str().unwrap().to_owned())
}

/// The certificates of a bundle, each by itself.
fn each(bundle: &str) -> BTreeSet<Vec<u8>> {
    support::certs(&[bundle.to_owned()]).iter().map(|cert| cert.to_vec()).collect()
}

#[tokio::test]
async fn the_process_signs_and_keeps_its_root_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Process::with_store(folder.path()).await;
    assert_eq!(http(ca.admin, "GET", "/healthz/ready").await.unwrap().0, 200);
    let (phase, bundle) = ca.roots().await;
    assert_eq!((phase.as_str(), each(&bundle).len()), ("Stable", 1));
    let first = ca.caller().await.renewed(None).await;
    assert_eq!(spiffe_id_of_der(&first.chain[0]).unwrap(), id("web"));
    let refused = ca.caller().await.request(Some("stolen"), None, &csr(&KeyPair::generate().unwrap(), &[]), 0).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unauthenticated);
    ca.stop().await;

    let ca = Process::with_store(folder.path()).await;
    assert_eq!(ca.roots().await.1, bundle);
    // What was signed before renews itself now.
    let second = ca.caller().await.renewed(Some(&first)).await;
    verify_client_chain(&second.chain, &first.trust, OffsetDateTime::now_utc()).unwrap();
    assert!(!ca.daemon.log().contains("token-web"), "{}", ca.daemon.log());
    ca.stop().await;
}

#[tokio::test]
async fn two_processes_never_share_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Process::with_store(folder.path()).await;
    let store = folder.path().join("store");
    let mut second = start(folder.path(), ["--store", store.to_str().unwrap()]);
    assert_eq!(second.ended().await.code(), Some(1));
    second.says(&["in use by another CA"]).await;
    ca.stop().await;
}

#[tokio::test]
async fn given_files_sign_below_their_root_and_unusable_ones_end_the_start_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let given = folder.path().join("cacerts");
    std::fs::create_dir(&given).unwrap();
    let now = OffsetDateTime::now_utc();
    let material = Material::self_made(&TrustDomain::default(), now).unwrap();
    support::write_cacerts(&given, &material);
    let keys = ["--cacerts", given.to_str().unwrap()];
    let ca = Process::start(folder.path(), keys).await;
    let leaf = ca.caller().await.renewed(None).await;
    verify_client_chain(&leaf.chain, &support::certs(std::slice::from_ref(&material.root_pem)), now).unwrap();
    let (status, why) = http(ca.admin, "POST", "/roots/rotate").await.unwrap();
    assert_eq!(status, 409);
    assert!(why.contains("files that were given"), "{why}");
    ca.stop().await;

    std::fs::remove_file(given.join("ca-key.pem")).unwrap();
    let mut ca = start(folder.path(), keys);
    assert_eq!(ca.ended().await.code(), Some(1));
    ca.says(&["ca-key.pem"]).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_writes_leaves_a_store_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    // Every root that any life of the CA has announced or could have stored.
    let mut known: BTreeSet<Vec<u8>> = BTreeSet::new();
    for life in 0..12 {
        let mut ca = Process::with_store(folder.path()).await;
        let (phase, bundle) = ca.roots().await;
        assert!(["Stable", "Announced", "Switched"].contains(&phase.as_str()), "{phase}");
        let fresh = each(&bundle).difference(&known).count();
        // At most the one that the step in progress made while it was killed.
        assert!(known.is_empty() || fresh <= 1, "life {life}: {fresh} roots from nowhere");
        known.extend(each(&bundle));
        ca.caller().await.renewed(None).await;
        let admin = ca.admin;
        let (done, mut steps) = mpsc::channel(64);
        let writer = tokio::spawn(async move {
            while let Some((_, body)) = http(admin, "POST", "/roots/rotate").await {
                if done.send(body).await.is_err() {
                    break;
                }
            }
        });
        // Writes follow each other without a pause, so whenever the kill comes it is in or beside one.
        for _ in 0..=life % 4 {
            known.extend(each(&phase_and_bundle(&steps.recv().await.unwrap()).1));
        }
        tokio::time::sleep(Duration::from_micros(700 * life)).await;
        ca.daemon.kill().await;
        writer.await.unwrap();
        while let Some(body) = steps.recv().await {
            known.extend(each(&phase_and_bundle(&body).1));
        }
    }
    let ca = Process::with_store(folder.path()).await;
    ca.caller().await.renewed(None).await;
    let names = std::fs::read_dir(folder.path().join("store")).unwrap();
    let names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() <= 4 && !names.iter().any(|name| name.ends_with(".tmp")), "leftovers: {names:?}");
    ca.stop().await;
}

#[tokio::test]
async fn roots_overlap_while_the_process_rotates_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut ca = Process::with_store(folder.path()).await;
    let first = ca.roots().await.1;
    let mut behind = ca.caller().await.renewed(None).await;
    for expected in ["Announced", "Switched", "Stable"] {
        let (phase, bundle) = ca.rotate().await;
        assert_eq!(phase, expected);
        assert_eq!(each(&bundle).len(), if expected == "Stable" { 1 } else { 2 });
        let ahead = ca.caller().await.renewed(Some(&behind)).await;
        for (who, by) in [(&ahead, &behind), (&behind, &ahead)] {
            verify_client_chain(&who.chain, &by.trust, OffsetDateTime::now_utc()).unwrap();
        }
        behind = ahead;
        ca.stop().await;
        ca = Process::with_store(folder.path()).await;
        assert_eq!(ca.roots().await, (phase, bundle));
    }
    assert!(each(&ca.roots().await.1).is_disjoint(&each(&first)));
    ca.stop().await;
}

#[tokio::test]
async fn a_request_in_progress_is_answered_after_sigterm_and_nothing_new_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut ca = Process::with_store(folder.path()).await;
    let mut channel = ca.caller().await.connect(None).await.unwrap();
    let request = csr(&KeyPair::generate().unwrap(), &[]);
    let message = IstioCertificateRequest { csr: request, validity_duration: 0, metadata: None }.encode_to_vec();
    let (mut frame, length) = (vec![0], u32::try_from(message.len()).unwrap());
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    let (sender, receiver) = mpsc::channel::<Result<http_body::Frame<bytes::Bytes>, tonic::Status>>(2);
    let body = http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let call = ::http::Request::post("https://localhost/istio.v1.auth.IstioCertificateService/CreateCertificate")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", "Bearer token-web")
        .body(tonic::body::Body::new(body))
        .unwrap();
    let send = |bytes: &[u8]| Ok(http_body::Frame::data(bytes::Bytes::copy_from_slice(bytes)));
    let answer = tokio::spawn(channel.0.send_request(call));
    sender.send(send(&frame[..9])).await.unwrap();
    // A second call on the same connection shows that the first one has been read.
    let probe = ::http::Request::get("https://localhost/").body(tonic::body::Body::empty()).unwrap();
    channel.0.send_request(probe).await.unwrap();

    ca.daemon.terminate();
    ca.daemon.tells("draining").await;
    loop {
        // The listening socket closes a moment after the line.
        if tokio::net::TcpStream::connect(ca.addr).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let (status, why) = http(ca.admin, "GET", "/healthz/ready").await.unwrap();
    assert_eq!((status, why.as_str()), (503, "ca: shutting down\n"));
    sender.send(send(&frame[9..])).await.unwrap();
    drop(sender);
    let answer = answer.await.unwrap().unwrap().into_body().collect().await.unwrap();
    let status = answer.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    assert_eq!(status.unwrap(), "0");
    assert!(answer.to_bytes().len() > 500, "a chain of certificates");
    assert!(ca.daemon.ended().await.success());
}
