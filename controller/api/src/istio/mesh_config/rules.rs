//! What MeshConfig may say: words that are known, names that can be, formats that a proxy can read. What is wrong must
//! not act as if it were not there: `REGISTRY_ONLYY` would let everything out.

use super::{AccessLogEncoding, InboundMode, MeshConfig, NormalizationType, OutboundMode};
use crate::gateway_api::rules::text::is_label;
use ferromesh_core::TrustDomain;
use serde_json::Value;
use std::collections::BTreeMap;

/// Something that MeshConfig cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The word that is wrong, as it is written.
    pub word: String,
    /// What is wrong, with the field's name.
    pub what: String,
}

/// What `gatewayTopology.forwardClientCertDetails` may be.
pub const FORWARD_DETAILS: [&str; 6] =
    ["UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"];

/// Everything that is wrong.
pub fn wrong(mesh: &MeshConfig) -> Vec<Wrong> {
    let mut found = Vec::new();
    words(mesh, &mut found);
    for (field, domain) in std::iter::once(("trustDomain", &mesh.trust_domain))
        .chain(mesh.trust_domain_aliases.iter().map(|alias| ("trustDomainAliases", alias)))
    {
        if let Err(error) = TrustDomain::new(domain) {
            found.push(Wrong { word: domain.clone(), what: format!("{field} {domain:?}: {error}") });
        }
    }
    if !is_label(&mesh.root_namespace) {
        let what = format!("rootNamespace {:?} is not a name of a namespace", mesh.root_namespace);
        found.push(Wrong { word: mesh.root_namespace.clone(), what });
    }
    if mesh.connect_timeout.0.is_zero() {
        found.push(Wrong { word: "connectTimeout".to_owned(), what: "connectTimeout must not be 0".to_owned() });
    }
    found.extend(format(mesh));
    found
}

/// Words of enumerations.
fn words(mesh: &MeshConfig, found: &mut Vec<Wrong>) {
    let mut not_known = |field: &str, word: &str, known: &[&str]| {
        let what = format!("{field} {word:?} is not known; {} are", known.join(", "));
        found.push(Wrong { word: word.to_owned(), what });
    };
    if let AccessLogEncoding::Unknown(word) = &mesh.access_log_encoding {
        not_known("accessLogEncoding", word, AccessLogEncoding::KNOWN);
    }
    if let OutboundMode::Unknown(word) = &mesh.outbound_traffic_policy.mode {
        not_known("outboundTrafficPolicy.mode", word, OutboundMode::KNOWN);
    }
    if let InboundMode::Unknown(word) = &mesh.inbound_traffic_policy.mode {
        not_known("inboundTrafficPolicy.mode", word, InboundMode::KNOWN);
    }
    if let NormalizationType::Unknown(word) = &mesh.path_normalization.normalization {
        not_known("pathNormalization.normalization", word, NormalizationType::KNOWN);
    }
    let topology = mesh.default_config.gateway_topology.as_ref();
    let forward = topology.and_then(|topology| topology.forward_client_cert_details.as_ref());
    if let Some(word) = forward.filter(|word| !FORWARD_DETAILS.contains(&word.as_str())) {
        not_known("defaultConfig.gatewayTopology.forwardClientCertDetails", word, &FORWARD_DETAILS);
    }
}

/// The access log's format: operators that Envoy has, written as it reads them.
fn format(mesh: &MeshConfig) -> Option<Wrong> {
    let format = mesh.access_log_format.as_str();
    if format.is_empty() {
        return None;
    }
    if mesh.access_log_encoding != AccessLogEncoding::Json {
        return operators("accessLogFormat", format);
    }
    match serde_json::from_str::<BTreeMap<String, Value>>(format) {
        Ok(keys) => keys.iter().find_map(|(key, value)| in_json(&format!("accessLogFormat.{key}"), value)),
        Err(error) => {
            let what = format!("accessLogFormat is not a JSON object, as accessLogEncoding JSON asks: {error}");
            Some(Wrong { word: "accessLogFormat".to_owned(), what })
        }
    }
}

fn in_json(field: &str, value: &Value) -> Option<Wrong> {
    match value {
        Value::String(text) => operators(field, text),
        Value::Object(fields) => fields.values().find_map(|value| in_json(field, value)),
        Value::Array(items) => items.iter().find_map(|value| in_json(field, value)),
        _ => None,
    }
}

fn operators(field: &str, format: &str) -> Option<Wrong> {
    let mut rest = format;
    while let Some((_, after)) = rest.split_once('%') {
        if let Some(literal) = after.strip_prefix('%') {
            rest = literal;
            continue;
        }
        let end =
            after.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).unwrap_or(after.len());
        let (name, tail) = after.split_at(end);
        let wrong = |what: String| Some(Wrong { word: format!("%{name}"), what: format!("{field}: {what}") });
        let Some(tail) = arguments(tail) else {
            return wrong(format!("%{name} is not ended; want %NAME%, %NAME(arguments)% or %NAME(arguments):length%"));
        };
        if !OPERATORS.contains(&name) {
            return wrong(format!("%{name}% is not an operator of access logs"));
        }
        rest = tail;
    }
    None
}

/// What is left after `(arguments):length%`.
fn arguments(mut tail: &str) -> Option<&str> {
    if let Some(inner) = tail.strip_prefix('(') {
        (_, tail) = inner.split_once(')')?;
    }
    if let Some(number) = tail.strip_prefix(':') {
        let end = number.find('%')?;
        number.get(..end)?.parse::<usize>().ok()?;
        tail = number.get(end..)?;
    }
    tail.strip_prefix('%')
}

/// Envoy's operators ("Access Logging: Command Operators"); not those that an extension adds.
#[rustfmt::skip]
const OPERATORS: &[&str] = &[
    "ACCESS_LOG_TYPE", "BYTES_RECEIVED", "BYTES_RETRANSMITTED", "BYTES_SENT", "CLUSTER_METADATA", "COMMON_DURATION",
    "CONNECTION_ID", "CONNECTION_TERMINATION_DETAILS", "DOWNSTREAM_CX_RTT",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_PORT", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_PORT", "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED", "DOWNSTREAM_HEADER_BYTES_SENT", "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_DNS_SAN", "DOWNSTREAM_LOCAL_EMAIL_SAN", "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN", "DOWNSTREAM_LOCAL_PORT", "DOWNSTREAM_LOCAL_SUBJECT", "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT", "DOWNSTREAM_PEER_CERT_V_END", "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_DNS_SAN", "DOWNSTREAM_PEER_EMAIL_SAN", "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256", "DOWNSTREAM_PEER_IP_SAN", "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", "DOWNSTREAM_PEER_ISSUER_SERIAL", "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_SERIAL", "DOWNSTREAM_PEER_SUBJECT", "DOWNSTREAM_PEER_URI_SAN", "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_REMOTE_PORT", "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_GROUP", "DOWNSTREAM_TLS_SESSION_ID", "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON", "DOWNSTREAM_WIRE_BYTES_RECEIVED", "DOWNSTREAM_WIRE_BYTES_SENT", "DURATION",
    "DYNAMIC_METADATA", "EMIT_TIME", "EMIT_TIME_LOCAL", "ENVIRONMENT", "FILTER_CHAIN_NAME", "FILTER_STATE",
    "GRPC_STATUS", "GRPC_STATUS_NUMBER", "HOSTNAME", "LOCAL_REPLY_BODY", "METADATA", "PACKETS_RETRANSMITTED", "PATH",
    "PROTOCOL", "QUERY_PARAM", "QUERY_PARAMS", "REQ", "REQUESTED_SERVER_NAME", "REQUEST_DURATION",
    "REQUEST_HEADERS_BYTES", "REQUEST_TX_DURATION", "RESP", "RESPONSE_CODE", "RESPONSE_CODE_DETAILS",
    "RESPONSE_DURATION", "RESPONSE_FLAGS", "RESPONSE_FLAGS_LONG", "RESPONSE_HEADERS_BYTES", "RESPONSE_TRAILERS_BYTES",
    "RESPONSE_TX_DURATION", "ROUNDTRIP_DURATION", "ROUTE_NAME", "START_TIME", "START_TIME_LOCAL", "STREAM_ID",
    "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT", "TRACE_ID", "TRAILER", "UNIQUE_ID", "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW", "UPSTREAM_CONNECTION_ID", "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION", "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", "UPSTREAM_DETECTED_CLOSE_TYPE", "UPSTREAM_FILTER_STATE",
    "UPSTREAM_HEADER_BYTES_RECEIVED", "UPSTREAM_HEADER_BYTES_SENT", "UPSTREAM_HOST", "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT", "UPSTREAM_HOST_NAME", "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", "UPSTREAM_HOST_NAME_WITHOUT_PORT", "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "UPSTREAM_LOCAL_CLOSE_REASON", "UPSTREAM_LOCAL_DNS_SAN",
    "UPSTREAM_LOCAL_IP_SAN", "UPSTREAM_LOCAL_PORT", "UPSTREAM_LOCAL_URI_SAN", "UPSTREAM_METADATA",
    "UPSTREAM_PEER_CERT", "UPSTREAM_PEER_CERT_V_END", "UPSTREAM_PEER_CERT_V_START", "UPSTREAM_PEER_DNS_SAN",
    "UPSTREAM_PEER_IP_SAN", "UPSTREAM_PEER_ISSUER", "UPSTREAM_PEER_SUBJECT", "UPSTREAM_PEER_URI_SAN",
    "UPSTREAM_PROTOCOL", "UPSTREAM_REMOTE_ADDRESS", "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "UPSTREAM_REMOTE_PORT", "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_SERVER_NAME", "UPSTREAM_TLS_CIPHER", "UPSTREAM_TLS_GROUP", "UPSTREAM_TLS_SESSION_ID",
    "UPSTREAM_TLS_VERSION", "UPSTREAM_TRANSPORT_FAILURE_REASON", "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT", "VIRTUAL_CLUSTER_NAME", "VIRTUAL_HOST_NAME",
];

#[cfg(test)]
mod tests;
