//! One exchange with the CA: a new key, a CSR, and the certificate for it.

use std::sync::Arc;
use std::time::Duration;

use ferromesh_core::SpiffeId;
use ferromesh_proto::istio::v1::auth::IstioCertificateRequest;
use ferromesh_proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tonic::metadata::MetadataValue;

use super::{Config, IdentityError, Pem, TokenSource};
use crate::grpc::{Channel, LocalExecutor};
use crate::tls::{Certificate, SecretKey, Validation};

/// Longest that an exchange may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer, at most.
const MAX_ANSWER: usize = 1024 * 1024;

/// What the CA gave.
pub(super) struct Fresh {
    pub(super) certificate: Certificate,
    pub(super) roots: Validation,
}

/// What an earlier answer gave.
#[derive(Default)]
pub(super) struct Held {
    /// Authenticates as client certificate where the token does not.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Trusted beside those of the configuration: when the CA changes its root, its own certificate leads to one that came
    /// with an answer, and that a file which was written before cannot know.
    pub(super) roots: Vec<CertificateDer<'static>>,
}

/// Asks for a certificate.
pub(super) async fn fetch(config: &Config, held: &Held) -> Result<Fresh, IdentityError> {
    let connect_error = |reason: String| IdentityError::Connect { address: config.ca_address.clone(), reason };
    tokio::time::timeout(TIMEOUT, exchange(config, held))
        .await
        .unwrap_or_else(|_| Err(connect_error(format!("no answer in {TIMEOUT:?}"))))
}

async fn exchange(config: &Config, held: &Held) -> Result<Fresh, IdentityError> {
    let key = KeyPair::generate().map_err(|error| IdentityError::Request(error.to_string()))?;
    let csr = request(&key, config.id.as_ref())?;
    let mut client = connect(config, held).await?;
    let message = IstioCertificateRequest {
        csr,
        validity_duration: config.lifetime.map_or(0, |lifetime| i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX)),
        metadata: None,
    };
    let mut request = tonic::Request::new(message);
    if let Some(token) = token(&config.token, held.certificate.is_some())? {
        let mut value: MetadataValue<_> = format!("Bearer {}", token.trim())
            .parse()
            .map_err(|_| IdentityError::Request("the token has characters that a header cannot carry".into()))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
    }
    let answer = client
        .create_certificate(request)
        .await
        .map_err(|status| IdentityError::Refused(format!("{} ({:?})", status.message(), status.code())))?;
    read_answer(&answer.into_inner().cert_chain, &key, config.id.as_ref())
}

fn request(key: &KeyPair, id: Option<&SpiffeId>) -> Result<String, IdentityError> {
    let failed = |error: rcgen::Error| IdentityError::Request(error.to_string());
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(id) = id {
        let uri = id.to_string().try_into().map_err(failed)?;
        params.subject_alt_names.push(SanType::URI(uri));
    }
    params.serialize_request(key).and_then(|request| request.pem()).map_err(failed)
}

/// The chain without its last element is ours, the last one is the root (or a bundle of them).
fn read_answer(elements: &[String], key: &KeyPair, expected: Option<&SpiffeId>) -> Result<Fresh, IdentityError> {
    let Some((roots, chain)) = elements.split_last().filter(|(_, chain)| !chain.is_empty()) else {
        return Err(IdentityError::Answer("it needs a leaf and a root".into()));
    };
    let read = |pem: &str, what: &str| {
        ferromesh_core::tls::certs_from_pem(pem.as_bytes(), what)
            .map_err(|error| IdentityError::Answer(error.to_string()))
    };
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    for element in chain {
        certificates.extend(read(element, "certificate chain")?);
    }
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|reason| IdentityError::Request(reason.to_owned()))?;
    let certificate = Certificate::new(certificates, SecretKey::new(key)).map_err(IdentityError::Answer)?;
    check_identity(&certificate, expected)?;
    let roots = Validation::of_roots(read(roots, "roots")?).map_err(IdentityError::Answer)?;
    Ok(Fresh { certificate, roots })
}

/// A certificate for somebody else would make every peer take this workload for that one.
fn check_identity(certificate: &Certificate, expected: Option<&SpiffeId>) -> Result<(), IdentityError> {
    let leaf = certificate.chain().first().ok_or_else(|| IdentityError::Answer("it has no leaf".into()))?;
    let id =
        ferromesh_core::identity::spiffe_id_of_der(leaf).map_err(|error| IdentityError::Answer(error.to_string()))?;
    match expected {
        Some(expected) if *expected != id => {
            Err(IdentityError::Answer(format!("the certificate is for {id}, not for {expected}")))
        }
        _ => Ok(()),
    }
}

/// The bearer token; a file that is gone is no matter where a held certificate authenticates.
fn token(source: &TokenSource, has_certificate: bool) -> Result<Option<String>, IdentityError> {
    match source {
        TokenSource::None => Ok(None),
        TokenSource::Given(token) => Ok(Some(token.to_string())),
        TokenSource::File(path) => match std::fs::read_to_string(path) {
            Ok(token) => Ok(Some(token)),
            Err(_) if has_certificate => Ok(None),
            Err(source) => Err(IdentityError::File { what: "token file", path: path.display().to_string(), source }),
        },
    }
}

async fn connect(config: &Config, held: &Held) -> Result<IstioCertificateServiceClient<Channel>, IdentityError> {
    let failed = |reason: String| IdentityError::Connect { address: config.ca_address.clone(), reason };
    let tls = tls_config(config, held)?;
    let socket = TcpStream::connect(&config.ca_address).await.map_err(|error| failed(error.to_string()))?;
    let name = ServerName::try_from(config.ca_server_name.clone())
        .map_err(|_| failed(format!("{:?} is not a DNS name", config.ca_server_name)))?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
        .connect(name, socket)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let (sender, connection) = hyper::client::conn::http2::handshake(LocalExecutor, TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.to_string()))?;
    tokio::task::spawn_local(async move {
        // The exchange is one call long; how its connection ends is seen there.
        let _ = connection.await;
    });
    let origin = format!("https://{}", config.ca_server_name).parse().map_err(|_| failed("a bad name".into()))?;
    let client = IstioCertificateServiceClient::with_origin(Channel::new(sender), origin);
    Ok(client.max_decoding_message_size(MAX_ANSWER))
}

fn tls_config(config: &Config, held: &Held) -> Result<rustls::ClientConfig, IdentityError> {
    let failed = |reason: String| IdentityError::Connect { address: config.ca_address.clone(), reason };
    let pem = match &config.ca_root {
        Pem::Given(pem) => pem.to_string(),
        Pem::File(path) => std::fs::read_to_string(path).map_err(|source| IdentityError::File {
            what: "CA root",
            path: path.display().to_string(),
            source,
        })?,
    };
    let mut roots = rustls::RootCertStore::empty();
    for root in
        ferromesh_core::tls::certs_from_pem(pem.as_bytes(), "CA root").map_err(|error| failed(error.to_string()))?
    {
        roots.add(root).map_err(|error| failed(error.to_string()))?;
    }
    for root in &held.roots {
        roots.add(root.clone()).map_err(|error| failed(error.to_string()))?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(ferromesh_core::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots);
    let mut tls = match &held.certificate {
        Some(held) => builder
            .with_client_auth_cert(held.chain().to_vec(), held.key().der().clone_key())
            .map_err(|error| failed(error.to_string()))?,
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}
