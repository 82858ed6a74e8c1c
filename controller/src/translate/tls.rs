//! TLS contexts as Istio makes them: mesh mTLS both ways, gateway TLS downstream.

use std::collections::BTreeSet;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3::{
    ApiConfigSource, ConfigSource, DataSource, GrpcService, TransportSocket, api_config_source::ApiType,
    config_source::ConfigSourceSpecifier, data_source::Specifier, grpc_service, transport_socket,
};
use ferromesh_proto::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, SubjectAltNameMatcher,
    TlsParameters, UpstreamTlsContext, common_tls_context, subject_alt_name_matcher::SanType,
    tls_parameters::TlsProtocol,
};
use prost::{Message, Name};

use super::message::{V3, ads, exact, seconds};

/// The ALPN word of bytes before which the peers tell of themselves.
pub const PEER_EXCHANGE: &str = "istio-peer-exchange";
/// ALPN words that mesh clients use, whatever they carry.
pub const MESH_ALPN: [&str; 5] = ["istio", PEER_EXCHANGE, "istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// ALPN words of mesh clients that carry HTTP.
pub const MESH_HTTP_ALPN: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// ALPN words of mesh clients that carry bytes.
pub const MESH_TCP_ALPN: [&str; 2] = [PEER_EXCHANGE, "istio"];
/// What the HTTP inspector calls plaintext HTTP.
pub const PLAIN_HTTP: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];

/// Owned words.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn socket<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(Any::pack(config))),
    }
}

/// Plain text.
pub fn raw_buffer() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})
}

/// A secret that the workload's own agent (or the proxy itself) serves.
fn workload_secret(name: &str) -> SdsSecretConfig {
    let cluster = grpc_service::EnvoyGrpc { cluster_name: "sds-grpc".to_owned(), ..Default::default() };
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(cluster)),
        ..GrpcService::default()
    };
    let api = ApiConfigSource {
        api_type: ApiType::Grpc as i32,
        transport_api_version: V3,
        grpc_services: vec![service],
        set_node_on_first_message_only: true,
        ..ApiConfigSource::default()
    };
    let source = ConfigSource {
        initial_fetch_timeout: Some(seconds(0)),
        resource_api_version: V3,
        config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(api)),
        ..ConfigSource::default()
    };
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(source) }
}

fn parameters() -> TlsParameters {
    TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
        tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
        ..TlsParameters::default()
    }
}

fn mesh_context(alpn: Vec<String>, identities: &BTreeSet<String>) -> CommonTlsContext {
    let names = identities.iter().map(|identity| SubjectAltNameMatcher {
        san_type: SanType::Uri as i32,
        matcher: Some(exact(identity)),
        ..SubjectAltNameMatcher::default()
    });
    let validation = CertificateValidationContext {
        match_typed_subject_alt_names: names.collect(),
        ..CertificateValidationContext::default()
    };
    CommonTlsContext {
        tls_params: Some(parameters()),
        alpn_protocols: alpn,
        tls_certificate_sds_secret_configs: vec![workload_secret("default")],
        validation_context_type: Some(common_tls_context::ValidationContextType::CombinedValidationContext(
            common_tls_context::CombinedCertificateValidationContext {
                default_validation_context: Some(validation),
                validation_context_sds_secret_config: Some(workload_secret("ROOTCA")),
                ..Default::default()
            },
        )),
        ..CommonTlsContext::default()
    }
}

/// What a mesh client uses towards workloads of these identities.
pub fn upstream(sni: String, http2: bool, identities: &BTreeSet<String>) -> TransportSocket {
    let mut alpn = words(&MESH_TCP_ALPN);
    if http2 {
        alpn.push("h2".to_owned());
    }
    let context = UpstreamTlsContext {
        common_tls_context: Some(mesh_context(alpn, identities)),
        sni,
        ..UpstreamTlsContext::default()
    };
    socket("envoy.transport_sockets.tls", &context)
}

/// What a sidecar uses towards its clients. The trust domain is that of the roots; `ROOTCA` says which.
pub fn downstream(http: bool) -> TransportSocket {
    let alpn = if http { words(&["h2", "http/1.1"]) } else { words(&[PEER_EXCHANGE, "h2", "http/1.1"]) };
    let context = DownstreamTlsContext {
        common_tls_context: Some(mesh_context(alpn, &BTreeSet::new())),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    };
    socket("envoy.transport_sockets.tls", &context)
}

/// What a gateway uses towards its clients, with certificates of these SDS names. Where there are roots, a client must
/// show a certificate that they vouch for.
pub fn gateway(certificates: &[String], roots: Option<Vec<u8>>) -> TransportSocket {
    let require = roots.is_some();
    let validation = roots.map(|pem| CertificateValidationContext {
        trusted_ca: Some(DataSource { specifier: Some(Specifier::InlineBytes(pem.into())), ..DataSource::default() }),
        ..CertificateValidationContext::default()
    });
    let secret = |name: &String| SdsSecretConfig { name: name.clone(), sds_config: Some(ads()) };
    let common = CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
            ..TlsParameters::default()
        }),
        alpn_protocols: words(&["h2", "http/1.1"]),
        tls_certificate_sds_secret_configs: certificates.iter().map(secret).collect(),
        validation_context_type: validation.map(common_tls_context::ValidationContextType::ValidationContext),
        ..CommonTlsContext::default()
    };
    let context = DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: Some(require),
        ..DownstreamTlsContext::default()
    };
    socket("envoy.transport_sockets.tls", &context)
}
