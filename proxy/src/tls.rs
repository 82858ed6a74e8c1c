//! TLS: contexts of listeners and clusters, and the secrets they use.
//!
//! ```text
//! UpstreamTlsContext, DownstreamTlsContext --decode--> UpstreamTls, DownstreamTls --connect, accept--> stream + TlsInfo
//!                                      secrets (SDS, identity, static) --SecretStore--^
//! ```
//!
//! A context reads its secrets anew when one has changed, so rotation touches no connection that is open.
//! Sessions are never resumed: a resumed session would skip the check of the peer against the rules of now.

use crate::config::supported::Table;

mod context;
mod downstream;
mod error;
mod facts;
mod material;
mod san;
mod secret;
mod shared;
#[cfg(test)]
pub(crate) mod test_pki;
#[cfg(test)]
mod tests;
mod upstream;
mod verify;

pub use downstream::DownstreamTls;
pub use error::{Side, TlsError};
pub(crate) use material::read as data_source;
pub use material::{Certificate, CertificateFacts, SecretKey, Validation};
pub use secret::{Origin, SdsSource, Secret, SecretInfo, SecretState, SecretStore, Wish};
pub use upstream::{TransportSocketOptions, UpstreamTls, transport_socket};

/// Fields of this room's messages that are implemented.
pub const SUPPORTED: Table = &[
    (
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context sni auto_host_sni auto_sni_san_validation max_session_keys enforce_rsa_key_usage",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context require_client_certificate require_sni disable_stateless_session_resumption \
         disable_stateful_session_resumption ocsp_staple_policy",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
        "tls_params tls_certificates tls_certificate_sds_secret_configs validation_context \
         validation_context_sds_secret_config combined_validation_context alpn_protocols",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
        "default_validation_context validation_context_sds_secret_config",
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
        "tls_minimum_protocol_version tls_maximum_protocol_version cipher_suites ecdh_curves",
    ),
    ("envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "certificate_chain private_key"),
    ("envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig", "*"),
    ("envoy.extensions.transport_sockets.tls.v3.Secret", "name tls_certificate validation_context"),
    ("envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher", "san_type matcher"),
    (
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
        "trusted_ca system_root_certs verify_certificate_spki verify_certificate_hash match_typed_subject_alt_names \
         match_subject_alt_names trust_chain_verification max_verify_depth suppress_client_ca_list",
    ),
    ("envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.SystemRootCerts", "*"),
    ("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", "*"),
];
