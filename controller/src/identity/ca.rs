//! One exchange with the CA: a fresh key and a token go in, a chain and the mesh's roots come out.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use ferromesh_core::tls;
use ferromesh_proto::istio::v1::auth::IstioCertificateRequest;
use ferromesh_proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::metadata::MetadataValue;

use super::{Config, Held, IdentityError};

/// Longest that an exchange may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer, at most.
const MAX_ANSWER: usize = 1 << 20;

/// Asks for a certificate.
pub(super) async fn fetch(config: &Config) -> Result<Held, IdentityError> {
    let late =
        || IdentityError::Connect { address: config.ca_address.clone(), reason: format!("no answer in {TIMEOUT:?}") };
    tokio::time::timeout(TIMEOUT, exchange(config)).await.unwrap_or_else(|_| Err(late()))
}

async fn exchange(config: &Config) -> Result<Held, IdentityError> {
    let unusable = |error: rcgen::Error| IdentityError::Unusable(error.to_string());
    let key = KeyPair::generate().map_err(unusable)?;
    // The CA knows who asks by the token; names in the request would only be checked against it.
    let mut params = CertificateParams::new(Vec::new()).map_err(unusable)?;
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key).and_then(|request| request.pem()).map_err(unusable)?;
    let token = read(&config.token_file)?;
    let mut value: MetadataValue<_> = format!("Bearer {}", token.trim())
        .parse()
        .map_err(|_| IdentityError::Unusable("the token has characters that a header cannot carry".into()))?;
    value.set_sensitive(true);
    let mut request = tonic::Request::new(IstioCertificateRequest { csr, validity_duration: 0, metadata: None });
    request.metadata_mut().insert("authorization", value);
    let answer = connect(config).await?.create_certificate(request).await;
    let answer =
        answer.map_err(|status| IdentityError::Refused(format!("{} ({:?})", status.message(), status.code())))?;
    held(&answer.into_inner().cert_chain, &key)
}

fn read(path: &Path) -> Result<String, IdentityError> {
    std::fs::read_to_string(path).map_err(|source| IdentityError::File { path: path.into(), source })
}

/// The last element of the answer is the roots, those before are ours.
fn held(elements: &[String], key: &KeyPair) -> Result<Held, IdentityError> {
    let unusable = |reason: String| IdentityError::Unusable(reason);
    let (roots_pem, chain) =
        elements.split_last().filter(|(_, chain)| !chain.is_empty()).ok_or_else(|| unusable("no leaf".into()))?;
    let certificates =
        |pem: &str, what: &str| tls::certs_from_pem(pem.as_bytes(), what).map_err(|error| unusable(error.to_string()));
    let mut certs: Vec<CertificateDer<'static>> = Vec::new();
    for element in chain {
        certs.extend(certificates(element, "certificate chain")?);
    }
    let leaf = certs.first().ok_or_else(|| unusable("no leaf".into()))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|error| unusable(error.to_string()))?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let mut roots = RootCertStore::empty();
    for root in certificates(roots_pem, "roots")? {
        roots.add(root).map_err(|error| unusable(error.to_string()))?;
    }
    let provider = tls::provider();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| unusable(error.to_owned()))?;
    let key = CertifiedKey::from_der(certs, key, &provider).map_err(|error| unusable(error.to_string()))?;
    Ok(Held { key: Arc::new(key), clients, roots_pem: roots_pem.as_str().into(), expires })
}

async fn connect(config: &Config) -> Result<IstioCertificateServiceClient<Channel>, IdentityError> {
    let failed = |reason: String| IdentityError::Connect { address: config.ca_address.clone(), reason };
    let mut roots = RootCertStore::empty();
    let pem = read(&config.ca_root)?;
    for root in tls::certs_from_pem(pem.as_bytes(), "CA root").map_err(|error| failed(error.to_string()))? {
        roots.add(root).map_err(|error| failed(error.to_string()))?;
    }
    let mut client = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let (host, _) = config.ca_address.rsplit_once(':').ok_or_else(|| failed("it is not <name>:<port>".into()))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| failed(format!("{host:?} is not a DNS name")))?;
    let socket = TcpStream::connect(&config.ca_address).await.map_err(|error| failed(error.to_string()))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = connector.connect(name, socket).await.map_err(|error| failed(error.to_string()))?;
    let handshake = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| failed(error.to_string()))?;
    tokio::spawn(async move {
        // One call long; how it ends is seen there.
        let _ = connection.await;
    });
    let origin = format!("https://{host}").parse().map_err(|_| failed("a bad name".into()))?;
    let client = IstioCertificateServiceClient::with_origin(Channel(sender), origin);
    Ok(client.max_decoding_message_size(MAX_ANSWER))
}

/// One HTTP/2 connection as tonic's transport.
struct Channel(SendRequest<Body>);

impl tonic::codegen::Service<http::Request<Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
