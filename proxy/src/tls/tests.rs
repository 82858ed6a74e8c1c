use bytes::Bytes;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use ferromesh_proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::test_pki::{Leaf, Pki, inline, mesh_context, svid_params, uri_matcher};
use super::{DownstreamTls, Origin, Secret, SecretStore, TlsError, TransportSocketOptions, UpstreamTls};
use crate::connection::TlsInfo;
use crate::io::{Rewind, Socket};

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";
const API: &str = "spiffe://cluster.local/ns/default/sa/api";

fn store(leaf: &Leaf, pki: &Pki) -> SecretStore {
    let store = SecretStore::default();
    store.set("default", leaf.secret(), Origin::Workload, "1");
    store.set("ROOTCA", pki.trust(), Origin::Workload, "1");
    store
}

fn server(sans: Vec<tls::SubjectAltNameMatcher>, store: &SecretStore) -> DownstreamTls {
    let proto = tls::DownstreamTlsContext {
        common_tls_context: Some(mesh_context(sans)),
        require_client_certificate: Some(true),
        ..Default::default()
    };
    DownstreamTls::decode(&proto, store).unwrap()
}

fn client(sans: Vec<tls::SubjectAltNameMatcher>, store: &SecretStore) -> UpstreamTls {
    let proto = tls::UpstreamTlsContext {
        common_tls_context: Some(mesh_context(sans)),
        sni: "outbound_.80_._.web.default.svc.cluster.local".into(),
        ..Default::default()
    };
    UpstreamTls::decode(&proto, store).unwrap()
}

type Outcome = (Result<TlsInfo, TlsError>, Result<TlsInfo, TlsError>);

/// A handshake over a pipe and one byte each way: (server's view, client's view).
async fn handshake(server: &DownstreamTls, client: &UpstreamTls, options: TransportSocketOptions<'_>) -> Outcome {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let rewind = |pipe| Rewind::new(Bytes::new(), Socket::Duplex(pipe));
    let accept = async {
        let (mut stream, info) = server.accept(rewind(ours)).await?;
        let _ = stream.write_all(b"x").await;
        let _ = stream.flush().await;
        Ok(info)
    };
    let connect = async {
        let (mut stream, info) = client.connect(rewind(theirs), options).await?;
        // In TLS 1.3 the client learns of the server's refusal only with the first read.
        stream.read_u8().await.map_err(|error| TlsError::from_io(&error))?;
        Ok(info)
    };
    tokio::join!(accept, connect)
}

#[tokio::test]
async fn two_workloads_prove_their_identities_to_each_other() {
    let pki = Pki::new("mesh");
    let server =
        server(vec![uri_matcher(MatchPattern::Prefix("spiffe://cluster.local/".into()))], &store(&pki.svid(WEB), &pki));
    let client = client(vec![uri_matcher(MatchPattern::Exact(WEB.into()))], &store(&pki.svid(API), &pki));
    let alpn = [b"http/1.1".to_vec()];
    let options = TransportSocketOptions { application_protocols: Some(&alpn), ..TransportSocketOptions::default() };
    let (seen_by_server, seen_by_client) = handshake(&server, &client, options).await;
    let (seen_by_server, seen_by_client) = (seen_by_server.unwrap(), seen_by_client.unwrap());
    assert_eq!(seen_by_server.peer_uri_sans, [API.into()]);
    assert_eq!(seen_by_server.local_uri_sans, [WEB.into()]);
    assert_eq!(seen_by_client.peer_uri_sans, [WEB.into()]);
    assert_eq!(seen_by_server.alpn.as_deref(), Some("http/1.1"));
    assert!(seen_by_server.mtls && seen_by_client.mtls);
    assert_eq!(seen_by_server.version, "TLSv1.3");
    assert_eq!(seen_by_server.peer_sha256.len(), 64);
    assert!(seen_by_server.peer_pem().starts_with("-----BEGIN%20CERTIFICATE-----%0A"));
    assert_eq!(&*seen_by_server.peer_subject, "O=test");
}

#[tokio::test]
async fn a_peer_with_another_identity_is_refused_with_both_names_in_the_error() {
    let pki = Pki::new("mesh");
    let server = server(vec![], &store(&pki.svid(API), &pki));
    let client = client(vec![uri_matcher(MatchPattern::Exact(WEB.into()))], &store(&pki.svid(WEB), &pki));
    let (_, error) = handshake(&server, &client, TransportSocketOptions::default()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains(API) && error.contains(WEB) && error.contains("we refused"), "{error}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let pki = Pki::new("mesh");
    let server = server(vec![], &store(&pki.svid(WEB), &pki));
    let client = UpstreamTls::decode(&tls::UpstreamTlsContext::default(), &SecretStore::default()).unwrap();
    let (refused, _) = handshake(&server, &client, TransportSocketOptions::default()).await;
    assert!(matches!(refused, Err(TlsError::Handshake { side: super::Side::Ours, .. })), "{refused:?}");
}

/// Each certificate breaks one rule of the X509-SVID specification.
#[tokio::test]
async fn certificates_that_are_no_x509_svid_are_refused() {
    let pki = Pki::new("mesh");
    let with = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = svid_params(&[API]);
        change(&mut params);
        params
    };
    let cases = [
        ("two URIs", svid_params(&[API, WEB])),
        ("no URI", svid_params(&[])),
        ("another scheme", svid_params(&["https://cluster.local/ns/default/sa/api"])),
        ("no path", svid_params(&["spiffe://cluster.local"])),
        ("trailing slash", svid_params(&["spiffe://cluster.local/ns/default/"])),
        ("port", svid_params(&["spiffe://cluster.local:80/ns/default/sa/api"])),
        ("user info", svid_params(&["spiffe://me@cluster.local/ns/default/sa/api"])),
        ("capitals in the trust domain", svid_params(&["spiffe://Cluster.local/ns/default/sa/api"])),
        ("dots", svid_params(&["spiffe://cluster.local/ns/../sa/api"])),
        ("percent", svid_params(&["spiffe://cluster.local/ns/%64efault/sa/api"])),
        ("query", svid_params(&["spiffe://cluster.local/ns/default/sa/api?x"])),
        ("another trust domain", svid_params(&["spiffe://other.local/ns/default/sa/api"])),
        ("a CA", with(&|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained))),
        ("no key usage", with(&|params| params.key_usages.clear())),
        ("keyCertSign", with(&|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign))),
        ("cRLSign", with(&|params| params.key_usages.push(KeyUsagePurpose::CrlSign))),
        ("no digitalSignature", with(&|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement])),
        ("serverAuth only", with(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
        ("clientAuth only", with(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])),
        ("expired", with(&|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))),
        ("not yet valid", with(&|params| params.not_before = rcgen::date_time_ymd(2090, 1, 1))),
    ];
    let prefix = || vec![uri_matcher(MatchPattern::Prefix("spiffe://cluster.local/".into()))];
    let server = server(prefix(), &store(&pki.svid(WEB), &pki));
    for (case, params) in cases {
        let leaf = pki.issue(&params);
        let client = client(vec![], &store(&leaf, &pki));
        let (refused, _) = handshake(&server, &client, TransportSocketOptions::default()).await;
        assert!(matches!(refused, Err(TlsError::Rejected(_))), "{case}: {refused:?}");
    }
    let stranger = Pki::new("mesh").svid(API);
    let (refused, _) =
        handshake(&server, &client(vec![], &store(&stranger, &pki)), TransportSocketOptions::default()).await;
    assert!(matches!(refused, Err(TlsError::Rejected(_))), "another root: {refused:?}");
}

#[tokio::test]
async fn a_context_is_cold_until_its_secrets_come_and_follows_them_afterwards() {
    let (old, new) = (Pki::new("old"), Pki::new("new"));
    let secrets = SecretStore::default();
    let mut changes = secrets.changes();
    let server = server(vec![], &secrets);
    changes.changed().await.unwrap();
    assert_eq!(secrets.wishes().iter().map(|wish| wish.name.as_str()).collect::<Vec<_>>(), ["ROOTCA", "default"]);
    assert!(!server.is_warm());
    let client_secrets = store(&old.svid(API), &old);
    let client = client(vec![], &client_secrets);
    let (cold, _) = handshake(&server, &client, TransportSocketOptions::default()).await;
    assert!(matches!(cold, Err(TlsError::NotWarm { .. })), "{cold:?}");

    secrets.set("default", old.svid(WEB).secret(), Origin::Workload, "1");
    secrets.set("ROOTCA", old.trust(), Origin::Workload, "1");
    assert!(server.is_warm());
    let (first, _) = handshake(&server, &client, TransportSocketOptions::default()).await;
    first.unwrap();

    secrets.set("ROOTCA", new.trust(), Origin::Workload, "2");
    let (distrusted, _) = handshake(&server, &client, TransportSocketOptions::default()).await;
    assert!(matches!(distrusted, Err(TlsError::Rejected(_))), "{distrusted:?}");
    secrets.withdraw("default", "the certificate has expired");
    let (withdrawn, _) = handshake(&server, &client, TransportSocketOptions::default()).await;
    assert!(withdrawn.unwrap_err().to_string().contains("has expired"));
    drop(server);
    assert!(secrets.wishes().is_empty());
}

#[tokio::test]
async fn a_plain_server_certificate_is_checked_against_its_root_and_its_name() {
    let pki = Pki::new("web");
    let leaf = pki.web(&["*.example.com"]);
    let proto = tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext { tls_certificates: vec![leaf.proto()], ..Default::default() }),
        ..Default::default()
    };
    let server = DownstreamTls::decode(&proto, &SecretStore::default()).unwrap();
    let context = |name: &str| {
        let validation =
            tls::CertificateValidationContext { trusted_ca: inline(&pki.root_pem()), ..Default::default() };
        let proto = tls::UpstreamTlsContext {
            common_tls_context: Some(tls::CommonTlsContext {
                validation_context_type: Some(tls::common_tls_context::ValidationContextType::ValidationContext(
                    validation,
                )),
                ..Default::default()
            }),
            sni: name.into(),
            auto_sni_san_validation: true,
            ..Default::default()
        };
        UpstreamTls::decode(&proto, &SecretStore::default()).unwrap()
    };
    let (seen, good) = handshake(&server, &context("a.example.com"), TransportSocketOptions::default()).await;
    assert!(!seen.unwrap().mtls);
    assert_eq!(&*good.unwrap().peer_subject, "O=Acme\\, Inc,CN=web");
    let (_, bad) = handshake(&server, &context("a.b.example.com"), TransportSocketOptions::default()).await;
    assert!(matches!(bad, Err(TlsError::Rejected(_))), "{bad:?}");
}

#[test]
fn settings_that_cannot_be_served_are_refused_by_path() {
    let store = SecretStore::default();
    let pki = Pki::new("x");
    let params = |change: &dyn Fn(&mut tls::TlsParameters)| {
        let mut params = tls::TlsParameters::default();
        change(&mut params);
        let common = tls::CommonTlsContext {
            tls_params: Some(params),
            tls_certificates: vec![pki.web(&["a"]).proto()],
            ..Default::default()
        };
        DownstreamTls::decode(
            &tls::DownstreamTlsContext { common_tls_context: Some(common), ..Default::default() },
            &store,
        )
        .map_err(|error| error.to_string())
        .map(drop)
    };
    assert!(params(&|_| {}).is_ok());
    let istio = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "AES256-GCM-SHA384"];
    assert!(params(&|params| params.cipher_suites = istio.map(str::to_owned).to_vec()).is_ok());
    let error = params(&|params| params.cipher_suites = vec!["RC4-SHA".into()]).unwrap_err();
    assert!(error.contains("common_tls_context.tls_params.cipher_suites") && error.contains("RC4-SHA"), "{error}");
    let error = params(&|params| params.tls_minimum_protocol_version = 1).unwrap_err();
    assert!(error.contains("tls_minimum_protocol_version"), "{error}");
    let renegotiation = tls::UpstreamTlsContext { allow_renegotiation: true, ..Default::default() };
    assert!(UpstreamTls::decode(&renegotiation, &store).unwrap_err().to_string().contains("allow_renegotiation"));
}

#[test]
fn a_secret_never_shows_its_key() {
    let leaf = Pki::new("x").svid(WEB);
    let Secret::Certificate(certificate) = leaf.secret() else { panic!("a certificate") };
    let shown = format!("{certificate:?}");
    assert!(shown.contains("SecretKey(..)") && !shown.contains("PRIVATE"));
    let der = rustls_pki_types::PrivateKeyDer::from_pem_slice(leaf.key.serialize_pem().as_bytes()).unwrap();
    assert!(!shown.contains(&format!("{:?}", &der.secret_der()[40..60]).replace(['[', ']'], "")));
}
