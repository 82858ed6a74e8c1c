//! Counters and expiry times, under the names that Istio's CA has for them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use time::OffsetDateTime;

/// Why a certificate was not signed; the set is fixed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SignError {
    /// `rate_limit`, `ttl`, `csr`, `identity` or `sign`.
    pub error: &'static str,
}

/// The CA's metrics.
///
/// All are gauges, because counters would get `_total` behind their names, which Istio's have not.
#[derive(Debug, Clone, Default)]
pub struct CaMetrics {
    /// Requests.
    pub csr: Gauge,
    /// Callers that could not be authenticated.
    pub authentication_failure: Gauge,
    /// Requests that could not be read.
    pub csr_parsing_error: Gauge,
    /// Requests that asked for another identity.
    pub id_extraction_error: Gauge,
    /// Requests that were not signed, by cause.
    pub sign_error: Family<SignError, Gauge>,
    /// Certificates issued.
    pub issued: Gauge,
    /// When the signing root ends, in seconds since 1970.
    pub root_expiry: Gauge,
    /// When the signing certificate ends, in seconds since 1970.
    pub chain_expiry: Gauge,
}

impl CaMetrics {
    /// Registers new metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let all = Self::default();
        let gauges = [
            ("csr_count", "Certificate signing requests received.", &all.csr),
            ("authentication_failure_count", "Callers not authenticated.", &all.authentication_failure),
            ("csr_parsing_err_count", "Requests that could not be read.", &all.csr_parsing_error),
            ("id_extraction_err_count", "Requests for another identity.", &all.id_extraction_error),
            ("success_cert_issuance_count", "Certificates issued.", &all.issued),
            ("root_cert_expiry_timestamp", "End of the signing root, Unix time.", &all.root_expiry),
            ("cert_chain_expiry_timestamp", "End of the signing certificate, Unix time.", &all.chain_expiry),
        ];
        for (name, help, gauge) in gauges {
            registry.register(format!("citadel_server_{name}"), help, gauge.clone());
        }
        registry.register("citadel_server_csr_sign_err_count", "Requests not signed.", all.sign_error.clone());
        all
    }

    /// Tells the ends of the root and of the signing certificate.
    pub fn set_expiry(&self, root: OffsetDateTime, chain: OffsetDateTime) {
        self.root_expiry.set(root.unix_timestamp());
        self.chain_expiry.set(chain.unix_timestamp());
    }

    /// Counts a request that was not signed.
    pub fn not_signed(&self, error: &'static str) {
        self.sign_error.get_or_create(&SignError { error }).inc();
    }
}
