//! `CreateCertificate`: who asks, may it, with which key; every refusal is a gRPC code with a sentence.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ferromesh_core::SpiffeId;
use ferromesh_proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use ferromesh_proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use rcgen::SanType;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::authority::Authority;
use super::{ClientCert, Peer};
use crate::authn::{self, AuthnError};
use crate::csr::{self, CsrError};
use crate::issuer::{pem_of, random_serial};
use crate::limit::Limiter;
use crate::metrics::CaMetrics;
use crate::{Config, issue};

/// Identities whose rate is remembered at one time.
const MAX_IDENTITIES: usize = 100_000;

/// The service; clones share everything.
#[derive(Clone)]
pub(super) struct CertificateService(Arc<Inner>);

struct Inner {
    config: Config,
    authority: Arc<Authority>,
    metrics: CaMetrics,
    limiter: Mutex<Limiter>,
}

impl CertificateService {
    pub(super) fn new(config: Config, authority: Arc<Authority>, metrics: CaMetrics) -> Self {
        let limiter = Mutex::new(Limiter::new(config.rate_limit, MAX_IDENTITIES));
        Self(Arc::new(Inner { config, authority, metrics, limiter }))
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let span = tracing::info_span!("CreateCertificate", id = tracing::field::Empty, code = tracing::field::Empty);
        let answer = self.0.answer(&request).instrument(span.clone()).await;
        span.record("code", answer.as_ref().err().map_or(tonic::Code::Ok, Status::code) as i32);
        answer.map(Response::new)
    }
}

impl Inner {
    async fn answer(&self, request: &Request<IstioCertificateRequest>) -> Result<IstioCertificateResponse, Status> {
        self.metrics.csr.inc();
        let client = request.extensions().get::<ClientCert>().and_then(|cert| cert.0.clone());
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        let Config { authenticators, trust_domain, .. } = &self.config;
        let caller = authn::caller(request.metadata(), client.as_ref(), peer, authenticators, trust_domain).await;
        let id = caller.map_err(|error| self.not_authenticated(&error))?;
        tracing::Span::current().record("id", id.as_str());
        self.sign(&id, request.get_ref())
    }

    fn not_authenticated(&self, error: &AuthnError) -> Status {
        self.metrics.authentication_failure.inc();
        tracing::info!(%error, "caller not authenticated");
        match error {
            AuthnError::Unavailable { .. } => Status::unavailable(error.to_string()),
            AuthnError::TrustDomain { .. } => Status::permission_denied(error.to_string()),
            _ => Status::unauthenticated(error.to_string()),
        }
    }

    /// The DNS names that an identity of the control plane serves under.
    fn serving_names(&self, id: &SpiffeId) -> Vec<SanType> {
        let mine = self.config.serving_names.iter().filter(|(of, _)| of == id).flat_map(|(_, names)| names);
        mine.filter_map(|name| name.as_str().try_into().ok().map(SanType::DnsName)).collect()
    }

    fn sign(&self, id: &SpiffeId, request: &IstioCertificateRequest) -> Result<IstioCertificateResponse, Status> {
        let refused = |cause: &'static str, status: Status| {
            self.metrics.not_signed(cause);
            tracing::info!(%id, cause, reason = status.message(), "certificate refused");
            status
        };
        if !self.limiter.lock().unwrap_or_else(PoisonError::into_inner).allow(id, Instant::now()) {
            let text = format!("{id} asks for certificates too often; back off and try again");
            return Err(refused("rate_limit", Status::resource_exhausted(text)));
        }
        if request.metadata.as_ref().is_some_and(|metadata| metadata.fields.contains_key("ImpersonatedIdentity")) {
            let text = "ImpersonatedIdentity is not supported: a caller gets a certificate for itself only";
            return Err(refused("identity", Status::permission_denied(text)));
        }
        let ttl = issue::lifetime(request.validity_duration, self.config.default_ttl, self.config.max_ttl)
            .map_err(|text| refused("ttl", Status::invalid_argument(text)))?;
        let key = csr::check(&request.csr, id).map_err(|error| match &error {
            CsrError::Identity { .. } => {
                self.metrics.id_extraction_error.inc();
                refused("identity", Status::permission_denied(error.to_string()))
            }
            _ => {
                self.metrics.csr_parsing_error.inc();
                refused("csr", Status::invalid_argument(error.to_string()))
            }
        })?;
        let active = self.authority.active();
        let names = self.serving_names(id);
        let leaf = random_serial()
            .and_then(|serial| issue::issue(&key, id, &names, active.issuer(), OffsetDateTime::now_utc(), ttl, serial))
            .map_err(|error| {
                tracing::error!(%id, %error, "signing failed");
                refused("sign", Status::internal("the CA could not sign; its log says why"))
            })?;
        self.metrics.issued.inc();
        tracing::info!(%id, ?ttl, "certificate issued");
        // Leaf, intermediates, and last what is trusted: two roots in one element while a rotation is under way.
        let chain = std::iter::once(&leaf).chain(active.issuer().chain());
        let mut cert_chain: Vec<String> = chain.map(|cert| pem_of(std::slice::from_ref(cert))).collect();
        cert_chain.push(active.bundle_pem().to_owned());
        Ok(IstioCertificateResponse { cert_chain })
    }
}
