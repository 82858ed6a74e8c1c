//! Ports of Services whose protocol cannot be told, and those where that hurts.

use super::{Finding, PORT_NAME, SERVER_FIRST};
use crate::index::{Kind, ObjectRef, Severity, View};
use crate::translate::protocol::Protocol;
use k8s_openapi::api::core::v1::ServicePort;

/// The protocols that the first part of a port's name can say (Istio's protocol selection).
const KNOWN: [&str; 11] =
    ["tcp", "udp", "http", "http2", "https", "tls", "grpc", "grpc-web", "mongo", "redis", "mysql"];

/// Ports of protocols in which the server speaks first, and which protocol detection therefore cannot tell.
const SERVER_FIRST_PORTS: [(i32, &str); 8] = [
    (21, "FTP"),
    (22, "SSH"),
    (110, "POP3"),
    (119, "NNTP"),
    (143, "IMAP"),
    (587, "SMTP"),
    (2525, "SMTP"),
    (33060, "MySQL"),
];

pub(super) fn analyze(view: &View, findings: &mut Vec<Finding>) {
    for (key, service) in view.services.iter() {
        let object = ObjectRef { kind: Kind::Service, key: key.clone() };
        let spec = service.spec.as_ref();
        if spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName")) {
            continue;
        }
        for port in spec.into_iter().flat_map(|spec| spec.ports.iter().flatten()) {
            // What a well-known number says is not detected either (3306: MySQL).
            if tells(port) || Protocol::of(port) != Protocol::Auto {
                continue;
            }
            let name = port.name.as_deref().unwrap_or_default();
            if let Some((_, protocol)) = SERVER_FIRST_PORTS.iter().find(|(number, _)| *number == port.port) {
                findings.push(Finding {
                    severity: Severity::Warning,
                    code: SERVER_FIRST,
                    object: object.clone(),
                    message: format!(
                        "port {} looks like {protocol}, where the server speaks first; its protocol is not said, and waiting to detect it would hang",
                        port.port
                    ),
                    remedy: format!("Write appProtocol: tcp, or name the port tcp-{}", protocol.to_ascii_lowercase()),
                });
            } else if !name.is_empty() {
                findings.push(Finding {
                    severity: Severity::Info,
                    code: PORT_NAME,
                    object: object.clone(),
                    message: format!(
                        "the name {name:?} of port {} does not tell its protocol, which is detected",
                        port.port
                    ),
                    remedy: format!("Write appProtocol, or a name such as http-{name} or tcp-{name}"),
                });
            }
        }
    }
}

/// True if the protocol is said: by `appProtocol`, by the port's name, or by not being TCP.
fn tells(port: &ServicePort) -> bool {
    let name = port.name.as_deref().unwrap_or_default().to_ascii_lowercase();
    let said =
        KNOWN.iter().any(|known| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')));
    said || port.app_protocol.as_deref().is_some_and(|word| !word.is_empty())
        || port.protocol.as_deref().is_some_and(|word| word != "TCP")
}
