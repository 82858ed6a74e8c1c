//! Application probes that the injector pointed at the status port: the kubelet's question goes on to the application,
//! from an address that redirection leaves alone, so that it works whatever mTLS asks for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::grpc_health;

/// Redirects that are followed, as kubelet does.
const REDIRECTS: usize = 10;
/// Bytes of an answer that are read; the kubelet is shown the status only.
const BODY: usize = 1 << 20;

/// What each path stands for (`/app-health/<container>/<livez|readyz|startupz>`): Kubernetes' own probe, with numbers
/// for ports.
pub type Probers = BTreeMap<String, Prober>;

/// One probe.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Prober {
    /// By HTTP.
    pub http_get: Option<HttpGet>,
    /// By connecting.
    pub tcp_socket: Option<TcpSocketProbe>,
    /// By gRPC's health service.
    pub grpc: Option<GrpcProbe>,
    /// Longest time, in seconds; absent is 1.
    pub timeout_seconds: Option<u64>,
}

/// A probe by HTTP.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpGet {
    /// Path and query.
    pub path: String,
    /// Port.
    pub port: u16,
    /// `HTTP` or `HTTPS` (whose certificate is not checked, as the kubelet does not).
    pub scheme: String,
    /// Headers.
    pub http_headers: Vec<Header>,
}

/// A header.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A probe by connecting.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TcpSocketProbe {
    /// Port.
    pub port: u16,
}

/// A probe by gRPC.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GrpcProbe {
    /// Port.
    pub port: u16,
    /// Service; empty is the server itself.
    pub service: Option<String>,
}

impl Prober {
    /// Asks the application at `ip`; the status is what the kubelet gets, with a sentence.
    pub async fn ask(&self, ip: IpAddr, from_kubelet: &HeaderMap) -> (StatusCode, String) {
        let timeout = Duration::from_secs(self.timeout_seconds.unwrap_or(1).max(1));
        match tokio::time::timeout(timeout, self.answer(ip, from_kubelet)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => (StatusCode::INTERNAL_SERVER_ERROR, reason),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the application did not answer in {timeout:?}")),
        }
    }

    async fn answer(&self, ip: IpAddr, from_kubelet: &HeaderMap) -> Result<(StatusCode, String), String> {
        if let Some(probe) = &self.http_get {
            return probe.get(ip, from_kubelet).await;
        }
        if let Some(probe) = &self.tcp_socket {
            connect(SocketAddr::new(ip, probe.port)).await?;
            return Ok((StatusCode::OK, "connected".into()));
        }
        if let Some(probe) = &self.grpc {
            let stream = connect(SocketAddr::new(ip, probe.port)).await?;
            return grpc_health::check(stream, probe.service.as_deref().unwrap_or_default()).await;
        }
        Err("the probe is neither httpGet, nor tcpSocket, nor grpc".into())
    }
}

impl HttpGet {
    async fn get(&self, ip: IpAddr, from_kubelet: &HeaderMap) -> Result<(StatusCode, String), String> {
        let mut path = if self.path.starts_with('/') { self.path.clone() } else { format!("/{}", self.path) };
        for _ in 0..=REDIRECTS {
            let stream = connect(SocketAddr::new(ip, self.port)).await?;
            let request = self.request(&path, ip, from_kubelet)?;
            let own_host = request.headers().get(HOST).cloned();
            let (status, location) = if self.scheme.eq_ignore_ascii_case("https") {
                send(unchecked_tls(stream, ip).await?, request).await?
            } else {
                send(stream, request).await?
            };
            match location.filter(|_| status.is_redirection()).and_then(|to| same_host(&to, ip, own_host.as_ref())) {
                Some(next) => path = next,
                None => return Ok((status, format!("the application answered {status}"))),
            }
        }
        Err(format!("more than {REDIRECTS} redirects"))
    }

    /// The kubelet's request with the probe's own headers, which win.
    fn request(&self, path: &str, ip: IpAddr, from_kubelet: &HeaderMap) -> Result<Request<Empty<Bytes>>, String> {
        let uri: Uri = path.parse().map_err(|error| format!("path {path:?}: {error}"))?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        *headers = from_kubelet.clone();
        for hop in [CONNECTION, TRANSFER_ENCODING, UPGRADE, HOST] {
            headers.remove(hop);
        }
        let host = SocketAddr::new(ip, self.port).to_string();
        headers.insert(HOST, HeaderValue::from_str(&host).map_err(|error| error.to_string())?);
        for Header { name, value } in &self.http_headers {
            let wrong = |reason: String| format!("header {name:?}: {reason}");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(error.to_string()))?;
            let value = HeaderValue::from_str(value).map_err(|error| wrong(error.to_string()))?;
            headers.insert(name, value);
        }
        Ok(request)
    }
}

/// Where a redirect leads, if to the same host; the kubelet takes one to another host for success, as it is.
fn same_host(location: &Uri, ip: IpAddr, own: Option<&HeaderValue>) -> Option<String> {
    let path = location.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Some(host) = location.host() else { return Some(path) };
    let own = own.and_then(|own| own.to_str().ok()).map(|own| own.rsplit_once(':').map_or(own, |(host, _)| host));
    (Some(host) == own || host == ip.to_string()).then_some(path)
}

async fn send<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Option<Uri>), String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::task::spawn_local(async move {
        // How the connection ends is seen by the request.
        let _ = connection.await;
    });
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let location = response.headers().get(LOCATION).and_then(|to| Uri::try_from(to.as_bytes()).ok());
        // Read, so that the application's write does not fail.
        let _ = Limited::new(response.into_body(), BODY).collect().await;
        Ok((status, location))
    };
    let answer = answer.await;
    driver.abort();
    answer
}

/// Connects from the address that redirection leaves alone: 127.0.0.6 or ::6, which only the proxy uses.
pub(super) async fn connect(to: SocketAddr) -> Result<TcpStream, String> {
    let (socket, from) = match to {
        SocketAddr::V4(_) => (TcpSocket::new_v4(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6))),
        SocketAddr::V6(_) => (TcpSocket::new_v6(), IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))),
    };
    let socket = socket.map_err(|error| error.to_string())?;
    // Where it cannot be had (no redirection there either), the system chooses.
    let _ = socket.bind(SocketAddr::new(from, 0));
    socket.connect(to).await.map_err(|error| format!("{to}: {error}"))
}

async fn unchecked_tls(stream: TcpStream, ip: IpAddr) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let config = rustls::ClientConfig::builder_with_provider(ferromesh_core::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AsKubelet))
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector
        .connect(rustls_pki_types::ServerName::IpAddress(ip.into()), stream)
        .await
        .map_err(|error| error.to_string())
}

/// The kubelet does not check certificates of probes, and nothing of the answer but its status is used.
#[derive(Debug)]
struct AsKubelet;

impl rustls::client::danger::ServerCertVerifier for AsKubelet {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        ferromesh_core::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
