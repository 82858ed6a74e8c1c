//! A root, what it signs, and a client that shows it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferromesh_core::tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub type Root = CertifiedIssuer<'static, KeyPair>;

pub fn root() -> Root {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key of `names` as PEM.
pub fn leaf(root: &Root, names: Vec<SanType>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.signed_by(&key, root).unwrap().pem(), key.serialize_pem())
}

/// Chain, key and roots of a controller, as files.
pub fn server_files(root: &Root, folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let (cert, key) = leaf(root, vec![SanType::DnsName("controller".try_into().unwrap())]);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    (write("cert.pem", &cert), write("key.pem", &key), write("roots.pem", &root.pem()))
}

/// A TLS connection to a controller below `root`, by a client with this certificate.
pub async fn connect(
    tcp: TcpStream,
    root: &Root,
    certificate: Option<(&Root, &str)>,
) -> std::io::Result<TlsStream<TcpStream>> {
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
    connector.connect(ServerName::try_from("controller").unwrap(), tcp).await
}
