//! The xDS port with mTLS: who a client may claim to be.

#[path = "support/client.rs"]
mod client;

use std::path::Path;
use std::sync::Arc;

use client::{Fixture, NODE, Stream, World};
use ferromesh_controller::serve::{Kind, ServerConfig, ServerTls};
use ferromesh_core::{TrustDomain, tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::ServerName;
use tonic::Code;

type Root = CertifiedIssuer<'static, KeyPair>;

fn root() -> Root {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key of `names` as PEM.
fn leaf(root: &Root, names: Vec<SanType>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.signed_by(&key, root).unwrap().pem(), key.serialize_pem())
}

async fn server(root: &Root, folder: &Path) -> Fixture {
    let (cert, key) = leaf(root, vec![SanType::DnsName("controller".try_into().unwrap())]);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let files = (write("cert.pem", &cert), write("key.pem", &key), write("roots.pem", &root.pem()));
    let domain = TrustDomain::new("cluster.local").unwrap();
    let tls = ServerTls::from_files(&files.0, &files.1, &files.2, domain).unwrap();
    let world = World::default().with(Kind::Listener, "l", 1);
    Fixture::with(Some(world), Some(tls), ServerConfig::default()).await
}

/// The first answer that a client with this certificate gets.
async fn ask(server: &Fixture, root: &Root, certificate: Option<(&Root, &str)>) -> Result<String, Option<Code>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some((issuer, id)) => {
            let (cert, key) = leaf(issuer, vec![SanType::URI(id.try_into().unwrap())]);
            let chain = tls::certs_from_pem(cert.as_bytes(), "test").unwrap();
            config.with_client_auth_cert(chain, tls::key_from_pem(key.as_bytes(), "test").unwrap()).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("controller").unwrap();
    let io = connector.connect(name, server.tcp().await).await.map_err(|_| None)?;
    let mut stream = Stream::delta(io, NODE).await.map_err(|_| None)?;
    stream.subscribe(Kind::Listener, &["*"]).await;
    match stream.next().await {
        Ok(response) => Ok(client::text(&response.unwrap())),
        Err(status) => Err(Some(status.code())),
    }
}

#[tokio::test]
async fn a_proxy_is_served_as_what_its_certificate_says_and_as_nothing_else() {
    let (root, folder) = (root(), tempfile::tempdir().unwrap());
    let server = server(&root, folder.path()).await;
    let own = "spiffe://cluster.local/ns/default/sa/web";
    assert_eq!(ask(&server, &root, Some((&root, own))).await, Ok("lds +l".to_owned()));
    let other_namespace = "spiffe://cluster.local/ns/other/sa/web";
    assert_eq!(ask(&server, &root, Some((&root, other_namespace))).await, Err(Some(Code::PermissionDenied)));
}

#[tokio::test]
async fn who_has_no_certificate_of_this_mesh_gets_no_stream() {
    let (root, stranger, folder) = (root(), root(), tempfile::tempdir().unwrap());
    let server = server(&root, folder.path()).await;
    let own = "spiffe://cluster.local/ns/default/sa/web";
    assert!(ask(&server, &root, None).await.is_err());
    assert!(ask(&server, &root, Some((&stranger, own))).await.is_err());
    let other_domain = "spiffe://elsewhere/ns/default/sa/web";
    assert!(ask(&server, &root, Some((&root, other_domain))).await.is_err());
    assert!(server.hub.is_empty());
}
