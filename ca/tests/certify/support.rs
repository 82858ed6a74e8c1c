//! A CA with known tokens, and a gRPC client for it over hyper and rustls.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ferromesh_ca::issuer::{Issuer, Material, random_serial};
use ferromesh_ca::{Ca, Config, RunningCa, StaticTokens, issue};
use ferromesh_core::telemetry::Metrics;
use ferromesh_core::{SpiffeId, TrustDomain, tls};
use ferromesh_proto::istio::v1::auth::IstioCertificateRequest;
use ferromesh_proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Request, Status};

pub fn id(account: &str) -> SpiffeId {
    SpiffeId::workload(&TrustDomain::default(), "default", account).unwrap()
}

pub fn csr(key: &KeyPair, uris: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// A request that asks to be a CA, with a name and further alternative names.
pub fn greedy_csr(key: &KeyPair) -> String {
    let mut params = CertificateParams::new(vec!["admin.example.com".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.serialize_request(key).unwrap().pem().unwrap()
}

pub fn certs(pems: &[String]) -> Vec<CertificateDer<'static>> {
    pems.iter().flat_map(|pem| tls::certs_from_pem(pem.as_bytes(), "test").unwrap()).collect()
}

pub fn write_cacerts(folder: &Path, material: &Material) {
    std::fs::write(folder.join("root-cert.pem"), &material.root_pem).unwrap();
    std::fs::write(folder.join("ca-cert.pem"), &material.chain_pem).unwrap();
    std::fs::write(folder.join("cert-chain.pem"), format!("{}{}", material.chain_pem, material.root_pem)).unwrap();
    std::fs::write(folder.join("ca-key.pem"), &material.key_pem).unwrap();
}

/// What a workload holds after it got its certificate.
pub struct Identity {
    key: KeyPair,
    pub chain: Vec<CertificateDer<'static>>,
    pub trust: Vec<CertificateDer<'static>>,
}

impl Identity {
    pub fn made_at(material: &Material, id: &SpiffeId, now: OffsetDateTime) -> Self {
        let issuer = Issuer::new(material).unwrap();
        let key = KeyPair::generate().unwrap();
        let serial = random_serial().unwrap();
        let leaf = issue::issue(&key, id, &[], &issuer, now, issue::DEFAULT_TTL, serial).unwrap();
        let chain = std::iter::once(leaf).chain(issuer.chain().iter().cloned()).collect();
        Self { key, chain, trust: issuer.roots().to_vec() }
    }
}

pub struct Mesh {
    pub ca: RunningCa,
    pub metrics: Metrics,
}

impl Mesh {
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(([127, 0, 0, 1], 0).into(), TrustDomain::default());
        let tokens = StaticTokens::default();
        tokens.add("token-web", id("web"));
        tokens.add("token-admin", id("admin"));
        tokens.add("token-foreign", SpiffeId::parse("spiffe://other.mesh/ns/default/sa/web").unwrap());
        config.authenticators.push(Arc::new(tokens));
        change(&mut config);
        let metrics = config.metrics.clone();
        Self { ca: Ca::start(config).await.unwrap(), metrics }
    }

    pub fn caller(&self) -> Caller {
        Caller { addr: self.ca.addr(), bundle: self.ca.trust_bundle_pem() }
    }

    pub async fn request(
        &self,
        token: Option<&str>,
        client: Option<&Identity>,
        csr: &str,
        seconds: i64,
    ) -> Result<Vec<String>, Status> {
        self.caller().request(token, client, csr, seconds).await
    }

    pub async fn identity(&self, token: &str) -> Identity {
        self.caller().certified(Some(token), None).await
    }

    pub async fn renewed(&self, old: Option<&Identity>) -> Identity {
        self.caller().renewed(old).await
    }
}

/// A workload that knows where the CA is and what it trusts.
pub struct Caller {
    pub addr: SocketAddr,
    pub bundle: String,
}

impl Caller {
    /// One call of `CreateCertificate`; TLS trusts the CA's bundle, as a workload does.
    pub async fn request(
        &self,
        token: Option<&str>,
        client: Option<&Identity>,
        csr: &str,
        seconds: i64,
    ) -> Result<Vec<String>, Status> {
        let channel = self.connect(client).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut grpc = IstioCertificateServiceClient::with_origin(channel, "https://localhost".parse().unwrap());
        let message = IstioCertificateRequest { csr: csr.to_owned(), validity_duration: seconds, metadata: None };
        let mut request = Request::new(message);
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        Ok(grpc.create_certificate(request).await?.into_inner().cert_chain)
    }

    /// As a workload does: the first time by token, later by the certificate it has.
    pub async fn renewed(&self, old: Option<&Identity>) -> Identity {
        self.certified(old.is_none().then_some("token-web"), old).await
    }

    pub async fn certified(&self, token: Option<&str>, old: Option<&Identity>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let pems = self.request(token, old, &csr(&key, &[]), 0).await.unwrap();
        let (trust, chain) = pems.split_last().unwrap();
        Identity { key, chain: certs(chain), trust: certs(std::slice::from_ref(trust)) }
    }

    pub async fn connect(
        &self,
        client: Option<&Identity>,
    ) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
        let mut roots = rustls::RootCertStore::empty();
        for root in certs(std::slice::from_ref(&self.bundle)) {
            roots.add(root)?;
        }
        let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match client {
            Some(Identity { key, chain, .. }) => {
                builder.with_client_auth_cert(chain.clone(), PrivateKeyDer::try_from(key.serialize_der())?)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = tokio::net::TcpStream::connect(self.addr).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("localhost".try_into()?, stream).await?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Channel(sender))
    }
}

/// One HTTP/2 connection as a tonic transport.
pub struct Channel(pub SendRequest<Body>);

impl Service<http::Request<Body>> for Channel {
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
