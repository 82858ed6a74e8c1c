//! TLS that a peer opens to us: a filter chain's context (Envoy's DownstreamTlsContext).

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::transport_sockets::{raw_buffer::v3::RawBuffer, tls::v3 as tls};
use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::LazyConfigAcceptor;

use super::context::{Built, Common, Material};
use super::error::TlsError;
use super::facts;
use super::material::{Certificate, Validation};
use super::san::dns_matches;
use super::secret::SecretStore;
use super::verify::{ClientVerifier, Rules};
use crate::config::{At, Awaited, ConfigError, required};
use crate::connection::TlsInfo;
use crate::io::Rewind;

/// A listener's TLS context (Envoy's DownstreamTlsContext), decoded; follows its secrets as they rotate.
#[derive(Debug)]
pub struct DownstreamTls {
    common: Common,
    require_client_certificate: bool,
    require_sni: bool,
    built: ArcSwapOption<Built<Server>>,
}

#[derive(Debug)]
struct Server {
    config: Arc<ServerConfig>,
    /// For clients whose ALPN list has nothing in common with ours: they go on without ALPN, as in Envoy.
    without_alpn: Arc<ServerConfig>,
    rules: Option<Arc<Rules>>,
    certificate: Option<Arc<Certificate>>,
}

/// The configuration in a transport socket; `None` for plain text.
pub(super) fn socket_config(socket: Option<&core::TransportSocket>) -> Result<Option<Any>, ConfigError> {
    use core::transport_socket::ConfigType;
    let Some(socket) = socket else { return Ok(None) };
    let ConfigType::TypedConfig(any) = required(socket.config_type.as_ref(), "typed_config")?;
    let any = ferromesh_proto::json::resolve_typed_struct(any)
        .map_err(|error| ConfigError::new("typed_config", error.to_string()))?;
    Ok((!any.is::<RawBuffer>()).then_some(any))
}

impl DownstreamTls {
    /// The TLS of a filter chain's transport socket; `None` is plain text (no socket, or `raw_buffer`).
    ///
    /// # Errors
    /// If the socket is of another kind, or its context is refused.
    pub fn of_socket(
        socket: Option<&core::TransportSocket>,
        secrets: &SecretStore,
    ) -> Result<Option<Arc<Self>>, ConfigError> {
        let Some(any) = socket_config(socket)? else { return Ok(None) };
        let proto: tls::DownstreamTlsContext = any.unpack().map_err(|_| {
            ConfigError::new("typed_config", format!("{:?} is not a DownstreamTlsContext", any.type_url))
        })?;
        Self::decode(&proto, secrets).at("typed_config").map(|context| Some(Arc::new(context)))
    }

    /// Decodes a context.
    ///
    /// # Errors
    /// Names the field that cannot be served.
    pub fn decode(proto: &tls::DownstreamTlsContext, secrets: &SecretStore) -> Result<Self, ConfigError> {
        use tls::downstream_tls_context::OcspStaplePolicy;
        if proto.ocsp_staple_policy() != OcspStaplePolicy::LenientStapling {
            return Err(ConfigError::new("ocsp_staple_policy", "only LENIENT_STAPLING is implemented"));
        }
        let common = proto.common_tls_context.clone().unwrap_or_default();
        if common.tls_certificates.is_empty() && common.tls_certificate_sds_secret_configs.is_empty() {
            return Err(ConfigError::new("common_tls_context.tls_certificates", "a server needs a certificate"));
        }
        Ok(Self {
            common: Common::decode(&common, secrets).at("common_tls_context")?,
            require_client_certificate: proto.require_client_certificate.unwrap_or_default(),
            require_sni: proto.require_sni.unwrap_or_default(),
            built: ArcSwapOption::empty(),
        })
    }

    /// Whether every secret that it names has come ([`SecretStore::changes`] tells when to ask again).
    pub fn is_warm(&self) -> bool {
        self.common.is_warm()
    }

    /// Secrets that it names and that have not come.
    pub fn awaits(&self) -> impl Iterator<Item = Awaited> {
        self.common.awaits()
    }

    /// Does the server's side of a handshake; the caller limits the time.
    ///
    /// # Errors
    /// If secrets are missing, or one of the sides refuses the other.
    pub async fn accept(
        &self,
        io: Rewind,
    ) -> Result<(Box<tokio_rustls::server::TlsStream<Rewind>>, TlsInfo), TlsError> {
        let built = self.common.built(&self.built, |material| self.server(material))?;
        let server = &built.value;
        let start =
            LazyConfigAcceptor::new(Acceptor::default(), io).await.map_err(|error| TlsError::from_io(&error))?;
        let hello = start.client_hello();
        if self.require_sni && hello.server_name().is_none() {
            return Err(TlsError::NoServerName);
        }
        let config = if shares_alpn(&hello, &self.common.alpn) { &server.config } else { &server.without_alpn };
        let stream = start.into_stream(config.clone()).await.map_err(|error| TlsError::from_io(&error))?;
        let verified = server.rules.as_ref().is_some_and(|rules| rules.verifies());
        let info = facts::read(stream.get_ref().1, server.certificate.as_deref(), verified);
        Ok((Box::new(stream), info))
    }

    fn server(&self, material: Material) -> Result<Server, TlsError> {
        let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
        let builder = ServerConfig::builder_with_provider(self.common.provider.clone())
            .with_protocol_versions(&self.common.versions)
            .map_err(unusable)?;
        let builder = match &material.rules {
            Some(rules) => builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(
                rules.clone(),
                self.require_client_certificate,
            ))),
            // Envoy asks for a certificate here too, and takes any.
            None if self.require_client_certificate => {
                let rules = Arc::new(Rules::new(Validation::default(), false).map_err(TlsError::Unusable)?);
                builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(rules, true)))
            }
            None => builder.with_no_client_auth(),
        };
        let certificate = material.certificates.first().cloned();
        let mut config = builder.with_cert_resolver(Arc::new(BySni(material.certificates)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols.clone_from(&self.common.alpn);
        Ok(Server { config: Arc::new(config), without_alpn, rules: material.rules, certificate })
    }
}

fn shares_alpn(hello: &ClientHello<'_>, ours: &[Vec<u8>]) -> bool {
    hello.alpn().is_some_and(|mut theirs| theirs.any(|name| ours.iter().any(|known| known == name)))
}

/// Chooses among several certificates: the first for the name that the client can verify, else the first it can.
#[derive(Debug)]
struct BySni(Vec<Arc<Certificate>>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |certificate: &&Arc<Certificate>| {
            certificate.certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let covers = |certificate: &&Arc<Certificate>| {
            hello.server_name().is_some_and(|name| certificate.facts().dns.iter().any(|shown| dns_matches(shown, name)))
        };
        let usable: Vec<_> = self.0.iter().filter(usable).collect();
        let chosen = usable.iter().copied().find(|certificate| covers(certificate)).or(usable.first().copied());
        chosen.or(self.0.first()).map(|certificate| certificate.certified.clone())
    }
}
