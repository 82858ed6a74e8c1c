//! One call of the CA, as a pod's proxy makes it, with a token of one's choice. Written by hand, so that nothing of the proxy's own
//! client can hide what the CA does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use ferromesh_proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use ferromesh_proto::prost::Message;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::Pod;
use crate::cluster::network::Namespace;

/// The proxy's user, whose traffic is not redirected.
const PROXY: u32 = 1337;
const PATIENCE: Duration = Duration::from_secs(15);
const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// Where the CA is, and whom its certificate must lead to.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    pub(super) address: SocketAddr,
    pub(super) name: String,
    pub(super) roots: String,
}

/// Asks from the network of a pod; the identity in the certificate, or the CA's refusal.
pub(super) fn ask(
    authority: &Authority,
    from: &Pod,
    token: Option<&str>,
    wish: Option<&str>,
) -> anyhow::Result<Result<String, String>> {
    let namespace = Namespace::of(from.process)?;
    let run = || -> anyhow::Result<Result<String, String>> {
        namespace.enter()?;
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(PROXY)).context("becoming the proxy's user")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, call(authority, token, wish)).await.context("the CA does not answer")?
        })
    };
    // The thread's user and network are changed for good: it ends here.
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn call(
    authority: &Authority,
    token: Option<&str>,
    wish: Option<&str>,
) -> anyhow::Result<Result<String, String>> {
    let socket = TcpStream::connect(authority.address).await.context("connecting to the CA")?;
    let name = ServerName::try_from(authority.name.clone()).context("the CA's name")?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls(&authority.roots)?)).connect(name, socket).await?;
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(driver.await) });
    let message = IstioCertificateRequest { csr: csr(wish)?, validity_duration: 3600, metadata: None };
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len())?);
    message.encode(&mut framed)?;
    let mut request = http::Request::post(format!("https://{}{METHOD}", authority.name))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = sender.send_request(request.body(Full::new(framed.freeze()))?).await?;
    let head = answer.headers().clone();
    let body = Limited::new(answer.into_body(), 1 << 20).collect().await.map_err(|error| anyhow::anyhow!(error))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let of = |name: &str| trailers.get(name).or_else(|| head.get(name)).and_then(|value| value.to_str().ok());
    let status = of("grpc-status").context("no grpc-status")?;
    if status != "0" {
        return Ok(Err(format!("{status}: {}", said(of("grpc-message").unwrap_or_default()))));
    }
    identity(body.to_bytes()).map(Ok)
}

/// gRPC's percent-encoding of messages, as far as it is read by people.
fn said(message: &str) -> String {
    message.replace("%20", " ").replace("%22", "\"").replace("%2C", ",")
}

fn identity(mut framed: Bytes) -> anyhow::Result<String> {
    ensure!(framed.len() > 5 && framed[0] == 0, "an answer of {} bytes", framed.len());
    let answer = IstioCertificateResponse::decode(framed.split_off(5))?;
    let leaf = answer.cert_chain.first().context("an empty chain")?;
    let der = ferromesh_core::tls::certs_from_pem(leaf.as_bytes(), "the certificate")?;
    Ok(ferromesh_core::identity::spiffe_id_of_der(der.first().context("an empty certificate")?)?.to_string())
}

fn csr(wish: Option<&str>) -> anyhow::Result<String> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(wish) = wish {
        params.subject_alt_names.push(SanType::URI(wish.try_into()?));
    }
    Ok(params.serialize_request(&KeyPair::generate()?)?.pem()?)
}

fn tls(roots: &str) -> anyhow::Result<rustls::ClientConfig> {
    let mut store = rustls::RootCertStore::empty();
    for root in ferromesh_core::tls::certs_from_pem(roots.as_bytes(), "the mesh's roots")? {
        store.add(root)?;
    }
    let mut tls = rustls::ClientConfig::builder_with_provider(ferromesh_core::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(store)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}
