//! MeshConfig goes in; access logs in Istio's formats come out (istio.io: "Envoy Access Logs").

use ferromesh_api::istio::MeshConfig;
use ferromesh_api::istio::mesh_config::AccessLogEncoding;
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::accesslog::v3::{AccessLog, access_log};
use ferromesh_proto::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format,
};
use ferromesh_proto::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use ferromesh_proto::json::json_to_struct;
use serde_json::{Map, Value};

/// Istio's default line.
pub const TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);

/// Istio's default JSON keys.
pub const JSON: [(&str, &str); 22] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
];

/// Two keys more, so that the array above stays one line for each of the request's own.
const JSON_TLS: [(&str, &str); 2] = [
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];

/// The access logs of every proxy: none if MeshConfig names no file.
pub fn access_logs(mesh: &MeshConfig) -> Vec<AccessLog> {
    if mesh.access_log_file.is_empty() {
        return Vec::new();
    }
    let format = if mesh.access_log_encoding == AccessLogEncoding::Json { json(mesh) } else { text(mesh) };
    let config = FileAccessLog {
        path: mesh.access_log_file.clone(),
        access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(SubstitutionFormatString {
            format: Some(format),
            ..SubstitutionFormatString::default()
        })),
    };
    vec![AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(Any::pack(&config))),
        ..AccessLog::default()
    }]
}

fn text(mesh: &MeshConfig) -> Format {
    let mut line = if mesh.access_log_format.is_empty() { TEXT.to_owned() } else { mesh.access_log_format.clone() };
    if !line.ends_with('\n') {
        line.push('\n');
    }
    let source = DataSource { specifier: Some(Specifier::InlineString(line)), ..DataSource::default() };
    Format::TextFormatSource(source)
}

/// A custom format that is not a JSON object does not get here from a ConfigMap.
fn json(mesh: &MeshConfig) -> Format {
    let custom =
        serde_json::from_str::<Map<String, Value>>(&mesh.access_log_format).ok().filter(|keys| !keys.is_empty());
    let keys = custom.unwrap_or_else(|| {
        let all = JSON.iter().chain(&JSON_TLS);
        all.map(|(key, operator)| ((*key).to_owned(), Value::String((*operator).to_owned()))).collect()
    });
    Format::JsonFormat(json_to_struct(&Value::Object(keys)))
}
