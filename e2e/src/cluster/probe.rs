//! One question to the API server, without a client library: the first process of a cluster asks it while everything comes up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::layout::Layout;

/// Asks as the administrator.
pub struct Probe {
    config: Arc<ClientConfig>,
    address: SocketAddr,
}

impl Probe {
    /// For the API server at that address.
    ///
    /// # Errors
    /// If the cluster's certificates are not there.
    pub fn new(layout: &Layout, address: SocketAddr) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(layout.pki("ca.crt"))?)?;
        let certificate = CertificateDer::from_pem_file(layout.pki("admin.crt"))?;
        let key = PrivateKeyDer::from_pem_file(layout.pki("admin.key"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        Ok(Self { config: Arc::new(config), address })
    }

    /// The body of a path.
    ///
    /// # Errors
    /// If there is no answer, or one that is not 200.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        let socket = TcpStream::connect_timeout(&self.address, Duration::from_secs(2))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let name = ServerName::IpAddress(IpAddr::from(self.address.ip()));
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(&self.config), name)?, socket);
        // HTTP/1.0: the answer ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: kubernetes\r\nAccept: application/json\r\n\r\n")?;
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{path}: no answer ({end:?})"))?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200"), "{path}: {status}");
        Ok(body.to_owned())
    }

    /// Whether a node says that it is ready.
    pub fn node_ready(&self, name: &str) -> bool {
        let ready = || -> Option<bool> {
            let node: serde_json::Value =
                serde_json::from_str(&self.get(&format!("/api/v1/nodes/{name}")).ok()?).ok()?;
            let conditions = node.pointer("/status/conditions")?.as_array()?;
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
            Some(ready["status"] == "True")
        };
        ready().unwrap_or(false)
    }
}
