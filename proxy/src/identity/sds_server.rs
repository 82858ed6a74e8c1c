//! The workload's secrets for a real Envoy: SDS on a Unix socket that only its owner may open.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use ferromesh_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use ferromesh_proto::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

use super::{ROOT_SECRET as ROOTS, WORKLOAD_SECRET as CERTIFICATE};
use crate::tls::{Secret, SecretState, SecretStore};

const SECRET_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Envoy opens a connection or two; more is a mistake.
const MAX_CONNECTIONS: usize = 64;
/// Responses that wait for a slow reader.
const QUEUE: usize = 4;

/// Serves the secrets `default` and `ROOTCA` on a Unix socket (mode 0600) for ever.
///
/// # Errors
/// If the socket cannot be made, or accepting fails.
pub async fn serve_sds(socket_path: &Path, secrets: Arc<SecretStore>) -> io::Result<()> {
    let listener = listen(socket_path)?;
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let service = SecretDiscoveryServiceServer::new(Sds { secrets });
    loop {
        let (stream, _) = listener.accept().await?;
        let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = connection(stream, service).await {
                tracing::debug!(%error, "SDS connection");
            }
        });
    }
}

/// The socket gets its name only once it has its mode, so that nobody else can open it in between.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = Path::new(&unfinished);
    match std::fs::remove_file(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(unfinished)?;
    std::fs::set_permissions(unfinished, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(unfinished, path)?;
    Ok(listener)
}

async fn connection(stream: UnixStream, service: SecretDiscoveryServiceServer<Sds>) -> Result<(), hyper::Error> {
    let call = hyper::service::service_fn(move |request| service.clone().call(request));
    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), call).await
}

struct Sds {
    secrets: Arc<SecretStore>,
}

type Responses<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Sds {
    type DeltaSecretsStream = Responses<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Responses<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(delta(self.secrets.clone(), request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(state_of_the_world(self.secrets.clone(), request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let names: BTreeSet<String> = request.into_inner().resource_names.into_iter().collect();
        Ok(Response::new(whole(&present(&self.secrets, &names), 1)))
    }
}

/// Secrets that are asked for and there, with their versions.
fn present(secrets: &SecretStore, names: &BTreeSet<String>) -> BTreeMap<String, (String, Any)> {
    let wanted = [CERTIFICATE, ROOTS].into_iter().filter(|name| names.contains(*name));
    let encode = |name: &str| {
        let (version, state) = secrets.versioned(name);
        let SecretState::Present(secret) = state else { return None };
        Some((name.to_owned(), (version.to_string(), Any::pack(&to_proto(name, &secret)))))
    };
    wanted.filter_map(encode).collect()
}

fn whole(found: &BTreeMap<String, (String, Any)>, nonce: u64) -> DiscoveryResponse {
    let versions: Vec<&str> = found.values().map(|(version, _)| version.as_str()).collect();
    DiscoveryResponse {
        version_info: versions.join("."),
        resources: found.values().map(|(_, any)| any.clone()).collect(),
        type_url: SECRET_URL.into(),
        nonce: nonce.to_string(),
        ..Default::default()
    }
}

fn note_refusal(detail: Option<&ferromesh_proto::google::rpc::Status>) {
    if let Some(detail) = detail {
        tracing::warn!(reason = detail.message, "Envoy refused a secret");
    }
}

async fn state_of_the_world(
    secrets: Arc<SecretStore>,
    mut requests: Streaming<DiscoveryRequest>,
    responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let mut changes = secrets.changes();
    let mut names = BTreeSet::new();
    let mut sent: Option<String> = None;
    let mut nonce = 0;
    loop {
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                note_refusal(request.error_detail.as_ref());
                let asked: BTreeSet<String> = request.resource_names.into_iter().collect();
                if asked != names {
                    names = asked;
                    sent = None;
                }
            }
            _ = changes.changed() => {}
        }
        let found = present(&secrets, &names);
        nonce += 1;
        let response = whole(&found, nonce);
        if found.is_empty() || sent.as_ref() == Some(&response.version_info) {
            continue;
        }
        sent = Some(response.version_info.clone());
        if responses.send(Ok(response)).await.is_err() {
            return;
        }
    }
}

async fn delta(
    secrets: Arc<SecretStore>,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut changes = secrets.changes();
    let mut names = BTreeSet::new();
    let mut sent: BTreeMap<String, String> = BTreeMap::new();
    let mut nonce = 0u64;
    loop {
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                note_refusal(request.error_detail.as_ref());
                for name in request.resource_names_unsubscribe {
                    names.remove(&name);
                    sent.remove(&name);
                }
                for name in request.resource_names_subscribe {
                    // Asked again means: send it again.
                    sent.remove(&name);
                    if [CERTIFICATE, ROOTS].contains(&name.as_str()) {
                        names.insert(name);
                    }
                }
            }
            _ = changes.changed() => {}
        }
        let mut resources = Vec::new();
        for (name, (version, any)) in present(&secrets, &names) {
            if sent.get(&name) != Some(&version) {
                sent.insert(name.clone(), version.clone());
                resources.push(Resource { name, version, resource: Some(any), ..Default::default() });
            }
        }
        if resources.is_empty() {
            continue;
        }
        nonce += 1;
        let response = DeltaDiscoveryResponse {
            resources,
            type_url: SECRET_URL.into(),
            nonce: nonce.to_string(),
            ..Default::default()
        };
        if responses.send(Ok(response)).await.is_err() {
            return;
        }
    }
}

fn to_proto(name: &str, secret: &Secret) -> tls::Secret {
    let value = match secret {
        Secret::Certificate(certificate) => tls::secret::Type::TlsCertificate(tls::TlsCertificate {
            certificate_chain: inline(certs_pem(certificate.chain())),
            private_key: inline(key_pem(certificate.key().der())),
            ..Default::default()
        }),
        Secret::Validation(validation) => tls::secret::Type::ValidationContext(tls::CertificateValidationContext {
            trusted_ca: inline(certs_pem(validation.roots())),
            ..Default::default()
        }),
    };
    tls::Secret { name: name.to_owned(), r#type: Some(value) }
}

fn inline(pem: String) -> Option<core::DataSource> {
    let specifier = Some(core::data_source::Specifier::InlineBytes(pem.into()));
    Some(core::DataSource { specifier, ..Default::default() })
}

fn certs_pem(certs: &[CertificateDer<'static>]) -> String {
    certs.iter().map(|der| pem("CERTIFICATE", der)).collect()
}

fn key_pem(key: &PrivateKeyDer<'static>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    pem(label, key.secret_der())
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64::engine::general_purpose::STANDARD.encode(der).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests;
