//! TLS that we open: a cluster's context (Envoy's UpstreamTlsContext).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use ferromesh_proto::prost::Message;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::{DnsName, ServerName};

use super::context::{Built, Common, Material, is_self_contained};
use super::error::TlsError;
use super::facts;
use super::material::{Certificate, Validation};
use super::secret::SecretStore;
use super::verify::{Rules, ServerVerifier};
use crate::config::{At, Awaited, ConfigError};
use crate::connection::TlsInfo;
use crate::io::Rewind;
use crate::text::Text;

/// A cluster's TLS context (Envoy's UpstreamTlsContext), decoded; follows its secrets as they rotate.
#[derive(Debug)]
pub struct UpstreamTls {
    sni: Option<Text>,
    context: Arc<Context>,
}

/// All of it but the SNI: the same for thousands of clusters of a mesh, which share it and what is built of it.
#[derive(Debug)]
pub(super) struct Context {
    common: Common,
    auto_host_sni: bool,
    check_sni_san: bool,
    built: ArcSwapOption<Built<Client>>,
}

/// What one connection asks of the transport, over its context (Envoy's TransportSocketOptions).
#[derive(Debug, Clone, Copy, Default)]
pub struct TransportSocketOptions<'a> {
    /// ALPN list in place of the context's.
    pub application_protocols: Option<&'a [Vec<u8>]>,
    /// SNI in place of the context's (auto SNI).
    pub server_name: Option<&'a str>,
    /// The host's name, for `auto_host_sni`; empty if it has none.
    pub host_name: &'a str,
}

#[derive(Debug)]
struct Client {
    config: Arc<ClientConfig>,
    rules: Option<Arc<Rules>>,
    certificate: Option<Arc<Certificate>>,
}

/// The TLS of a cluster's transport socket; `None` is plain text (no socket, or `raw_buffer`).
///
/// # Errors
/// If the socket is of another kind, or its context is refused.
pub fn transport_socket(
    socket: Option<&core::TransportSocket>,
    secrets: &SecretStore,
) -> Result<Option<Arc<UpstreamTls>>, ConfigError> {
    let Some(any) = super::downstream::socket_config(socket)? else { return Ok(None) };
    let proto: tls::UpstreamTlsContext = any
        .unpack()
        .map_err(|_| ConfigError::new("typed_config", format!("{:?} is not an UpstreamTlsContext", any.type_url)))?;
    UpstreamTls::decode(&proto, secrets).at("typed_config").map(|context| Some(Arc::new(context)))
}

impl UpstreamTls {
    /// Decodes a context.
    ///
    /// # Errors
    /// Names the field that cannot be served.
    pub fn decode(proto: &tls::UpstreamTlsContext, secrets: &SecretStore) -> Result<Self, ConfigError> {
        if proto.allow_renegotiation {
            return Err(ConfigError::new("allow_renegotiation", "is not implemented"));
        }
        if !proto.sni.is_empty() {
            DnsName::try_from(proto.sni.as_str())
                .map_err(|_| ConfigError::new("sni", format!("{:?} is not a host name", proto.sni)))?;
        }
        let decode = || Context::decode(proto, secrets);
        let context = match is_self_contained(proto.common_tls_context.as_ref()) {
            true => {
                let rest = tls::UpstreamTlsContext { sni: String::new(), ..proto.clone() };
                secrets.upstream_contexts.share(&rest.encode_to_vec(), decode)?
            }
            false => Arc::new(decode()?),
        };
        Ok(Self { sni: (!proto.sni.is_empty()).then(|| Text::from(proto.sni.as_str())), context })
    }

    /// Whether every secret that it names has come ([`SecretStore::changes`] tells when to ask again).
    pub fn is_warm(&self) -> bool {
        self.context.common.is_warm()
    }

    /// Secrets that it names and that have not come.
    pub fn awaits(&self) -> impl Iterator<Item = Awaited> {
        self.context.common.awaits()
    }

    /// The ALPN list of the context.
    pub fn alpn(&self) -> &[Vec<u8>] {
        &self.context.common.alpn
    }

    /// Opens TLS on a connected socket; the caller limits the time.
    ///
    /// # Errors
    /// If secrets are missing, or one of the sides refuses the other.
    pub async fn connect(
        &self,
        io: Rewind,
        options: TransportSocketOptions<'_>,
    ) -> Result<(Box<tokio_rustls::client::TlsStream<Rewind>>, TlsInfo), TlsError> {
        let context = &*self.context;
        let built = context.common.built(&context.built, |material| context.client(material))?;
        let mut config = built.value.config.clone();
        if let Some(protocols) = options.application_protocols {
            let mut changed = config.as_ref().clone();
            changed.alpn_protocols = protocols.to_vec();
            config = Arc::new(changed);
        }
        let name = self.server_name(options)?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = connector.connect(name, io).await.map_err(|error| TlsError::from_io(&error))?;
        let verified = built.value.rules.as_ref().is_some_and(|rules| rules.verifies());
        let info = facts::read(stream.get_ref().1, built.value.certificate.as_deref(), verified);
        Ok((Box::new(stream), info))
    }

    /// The name to send; an address stands for "none", which TLS does not send.
    fn server_name(&self, options: TransportSocketOptions<'_>) -> Result<ServerName<'static>, TlsError> {
        let from_host = || self.context.auto_host_sni.then_some(options.host_name).filter(|name| !name.is_empty());
        match options.server_name.or_else(from_host).or(self.sni.as_deref()) {
            None => Ok(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())),
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| TlsError::Unusable(format!("{name:?} is not a host name that can be sent as SNI"))),
        }
    }
}

impl Context {
    fn decode(proto: &tls::UpstreamTlsContext, secrets: &SecretStore) -> Result<Self, ConfigError> {
        let common = proto.common_tls_context.clone().unwrap_or_default();
        Ok(Self {
            common: Common::decode(&common, secrets).at("common_tls_context")?,
            auto_host_sni: proto.auto_host_sni,
            check_sni_san: proto.auto_sni_san_validation,
            built: ArcSwapOption::empty(),
        })
    }

    fn client(&self, material: Material) -> Result<Client, TlsError> {
        let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
        // Without a validation context nothing is checked, as in Envoy; a name check alone cannot stand without roots.
        let rules = match &material.rules {
            Some(rules) => rules.clone(),
            None if self.check_sni_san => {
                return Err(TlsError::Unusable("auto_sni_san_validation needs a trusted_ca".into()));
            }
            None => Arc::new(Rules::new(Validation::default(), false).map_err(TlsError::Unusable)?),
        };
        let verifier = ServerVerifier { rules, check_name: self.check_sni_san };
        let builder = ClientConfig::builder_with_provider(self.common.provider.clone())
            .with_protocol_versions(&self.common.versions)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let certificate = material.certificates.first().cloned();
        let mut config = match &certificate {
            Some(certificate) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                certificate.certified.clone(),
            ))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.common.alpn);
        config.resumption = Resumption::disabled();
        Ok(Client { config: Arc::new(config), rules: material.rules, certificate })
    }
}
