//! A port of a Service goes in; what it speaks comes out (Istio: "Protocol Selection").

use k8s_openapi::api::core::v1::ServicePort;

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, gRPC among it.
    Http2,
    /// Bytes; TLS, databases and all that the server begins.
    Tcp,
    /// Found out from the first bytes.
    Auto,
    /// Not proxied.
    Udp,
}

/// Ports whose servers speak first: looking at the client's first bytes would wait for ever.
const SERVER_FIRST: [i32; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// Of a Service's port: `appProtocol` before the name before well-known numbers.
    pub fn of(port: &ServicePort) -> Self {
        if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            return Self::Udp;
        }
        let by_app = port.app_protocol.as_deref().and_then(Self::app_protocol);
        let by_name = || port.name.as_deref().and_then(|name| Self::word(name.split('-').next().unwrap_or_default()));
        // grpc-web has a hyphen of its own, and is HTTP/1.1 or HTTP/2 as the client likes.
        let web = || {
            let name = port.name.as_deref()?.to_ascii_lowercase();
            (name == "grpc-web" || name.starts_with("grpc-web-")).then_some(Self::Http)
        };
        by_app.or_else(web).or_else(by_name).unwrap_or(if SERVER_FIRST.contains(&port.port) {
            Self::Tcp
        } else {
            Self::Auto
        })
    }

    fn app_protocol(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "kubernetes.io/h2c" => Some(Self::Http2),
            "kubernetes.io/ws" => Some(Self::Http),
            "kubernetes.io/wss" => Some(Self::Tcp),
            "grpc-web" => Some(Self::Http),
            other => Self::word(other),
        }
    }

    fn word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "http" => Some(Self::Http),
            "http2" | "grpc" => Some(Self::Http2),
            "tcp" | "https" | "tls" | "mongo" | "redis" | "mysql" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            _ => None,
        }
    }

    /// Whether it is HTTP without looking.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2)
    }

    /// Whether it may be HTTP.
    pub fn may_be_http(self) -> bool {
        self.is_http() || self == Self::Auto
    }
}
