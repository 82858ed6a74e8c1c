//! A server's certificate whose keyUsage does not let its key sign a handshake is refused, as by Envoy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, RsaKeySize, SanType};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::as_envoy::kinds;
use crate::peers::get;
use crate::proxies::{Setup, endpoints};

type Leaf = (CertificateDer<'static>, PrivateKeyDer<'static>, String, String);

fn leaf(is_rsa: bool, usages: &[KeyUsagePurpose]) -> Leaf {
    let key = match is_rsa {
        true => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        false => KeyPair::generate().unwrap(),
    };
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName("peer.test".try_into().unwrap())];
    params.key_usages = usages.to_vec();
    params.not_before = (SystemTime::now() - Duration::from_secs(86_400)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(86_400)).into();
    let certificate = params.self_signed(&key).unwrap();
    let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (certificate.der().clone(), private, certificate.pem(), key.serialize_pem())
}

/// A peer's certificate, and the version of TLS.
#[derive(Debug, Clone, Copy)]
struct Scene {
    is_rsa: bool,
    usages: &'static [KeyUsagePurpose],
    /// Whether a handshake may be signed.
    signs: bool,
    version: &'static rustls::SupportedProtocolVersion,
}

fn scenes() -> Vec<Scene> {
    const USAGES: [(&[KeyUsagePurpose], bool); 3] = [
        (&[], true),
        (&[KeyUsagePurpose::DigitalSignature], true),
        (&[KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyAgreement], false),
    ];
    let mut scenes = Vec::new();
    for is_rsa in [true, false] {
        for (usages, signs) in USAGES {
            let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
            scenes.extend(versions.map(|version| Scene { is_rsa, usages, signs, version }));
        }
    }
    scenes
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A server that answers one request on each connection.
async fn server((certificate, key, ..): &Leaf, version: &'static rustls::SupportedProtocolVersion) -> SocketAddr {
    let config = rustls::ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.clone()], key.clone_key()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_must_be_allowed_to_sign_by_its_certificate() {
    const UPSTREAM: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    for kind in kinds() {
        for scene in scenes() {
            let leaf = leaf(scene.is_rsa, scene.usages);
            let address = server(&leaf, scene.version).await;
            for validation in
                [String::new(), format!(", validation_context: {{trusted_ca: {{inline_string: {:?}}}}}", leaf.2)]
            {
                let cluster = format!(
                    "transport_socket: {{name: tls, typed_config: {{'@type': {UPSTREAM}, sni: peer.test, \
                     common_tls_context: {{tls_params: {{tls_maximum_protocol_version: TLSv1_3}}{validation}}}}}}}, {}",
                    endpoints(&[(address, "")])
                );
                let process = kind.start(&Setup { cluster: &cluster, ..Setup::default() }.bootstrap()).await;
                let (status, body) = get(process.listener("in").await, "/").await;
                let wanted = if scene.signs { 200 } else { 503 };
                assert_eq!(status, wanted, "{kind:?} {scene:?} {validation}: {body}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_need_not_be_allowed_to_sign_by_its_certificate() {
    let own = leaf(false, &[KeyUsagePurpose::DigitalSignature]);
    for kind in kinds() {
        let text = Setup { cluster: "type: STATIC", ..Setup::default() }.bootstrap();
        let text = text.replace(
            "    filter_chains:\n    - filters:",
            &format!(
                "    filter_chains:\n    - transport_socket: {{name: tls, typed_config: {{'@type': \
                 type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
                 require_client_certificate: true, common_tls_context: {{tls_params: {{tls_maximum_protocol_version: TLSv1_3}}, \
                 tls_certificates: [{{certificate_chain: {{inline_string: {:?}}}, private_key: {{inline_string: {:?}}}}}]}}}}}}\n      filters:",
                own.2, own.3
            ),
        );
        let text = text.replace("route: {cluster: c}", "direct_response: {status: 202}");
        let process = kind.start(&text).await;
        let address = process.listener("in").await;
        for scene in scenes() {
            let (certificate, key, ..) = leaf(scene.is_rsa, scene.usages);
            let mut roots = rustls::RootCertStore::empty();
            roots.add(own.0.clone()).unwrap();
            let config = rustls::ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[scene.version])
                .unwrap();
            let config = config.with_root_certificates(roots).with_client_auth_cert(vec![certificate], key).unwrap();
            let answer = async {
                let socket = TcpStream::connect(address).await?;
                let name = ServerName::try_from("peer.test").unwrap();
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                let mut stream = connector.connect(name, socket).await?;
                stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
                let mut text = String::new();
                stream.read_to_string(&mut text).await?;
                std::io::Result::Ok(text.starts_with("HTTP/1.1 202"))
            };
            let served = answer.await.unwrap_or(false);
            assert!(served, "{kind:?} {scene:?}");
        }
    }
}
