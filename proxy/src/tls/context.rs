//! What upstream and downstream contexts have in common (Envoy's CommonTlsContext).

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use smallvec::SmallVec;

use super::error::TlsError;
use super::material::{Certificate, Validation};
use super::secret::{NamedSecret, Secret, SecretState, SecretStore, Slot};
use super::verify::Rules;
use crate::config::{At, Awaited, ConfigError};

/// The name under which the mesh's own roots are published: what they sign must be an X509-SVID.
const MESH_ROOTS: &str = "ROOTCA";

#[derive(Debug, Clone)]
enum Source<T> {
    Fixed(Arc<T>),
    Named(NamedSecret),
}

/// A decoded common context.
#[derive(Debug)]
pub(super) struct Common {
    certificates: Vec<Source<Certificate>>,
    /// The part that is in the context itself.
    default_validation: Option<Arc<Validation>>,
    /// The part that comes by SDS.
    named_validation: Option<NamedSecret>,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
}

/// What a context's secrets are now.
pub(super) struct Material {
    pub(super) certificates: Vec<Arc<Certificate>>,
    /// `None` if the context has no validation context: peers are not checked.
    pub(super) rules: Option<Arc<Rules>>,
}

impl Common {
    pub(super) fn decode(proto: &tls::CommonTlsContext, secrets: &SecretStore) -> Result<Self, ConfigError> {
        let mut certificates = Vec::new();
        for (index, certificate) in proto.tls_certificates.iter().enumerate() {
            let certificate = Certificate::decode(certificate).at(format!("tls_certificates[{index}]"))?;
            certificates.push(Source::Fixed(Arc::new(certificate)));
        }
        for (index, config) in proto.tls_certificate_sds_secret_configs.iter().enumerate() {
            let slot = secrets.wish(config).at(format!("tls_certificate_sds_secret_configs[{index}]"))?;
            certificates.push(Source::Named(slot));
        }
        let (default_validation, named_validation) = decode_validation(proto, secrets)?;
        let params = proto.tls_params.clone().unwrap_or_default();
        let common = Self {
            certificates,
            default_validation,
            named_validation,
            alpn: proto.alpn_protocols.iter().map(|name| name.clone().into_bytes()).collect(),
            provider: provider(&params).at("tls_params")?,
            versions: versions(&params).at("tls_params")?,
        };
        if common.named_validation.is_none()
            && let Some(validation) = &common.default_validation
        {
            Rules::new(validation.as_ref().clone(), false)
                .map_err(|reason| ConfigError::new("validation_context", reason))?;
        }
        Ok(common)
    }

    fn slots(&self) -> impl Iterator<Item = &NamedSecret> {
        let certificates = self.certificates.iter().filter_map(|source| match source {
            Source::Named(slot) => Some(slot),
            Source::Fixed(_) => None,
        });
        certificates.chain(self.named_validation.as_ref())
    }

    /// Secrets that are named and have not come.
    pub(super) fn awaits(&self) -> impl Iterator<Item = Awaited> {
        let missing = self.slots().filter(|slot| matches!(slot.load().state, SecretState::Missing));
        missing.map(|slot| Awaited { what: "secret", name: slot.name.as_str().into(), limit: slot.limit })
    }

    /// Whether every secret that is named has come.
    pub(super) fn is_warm(&self) -> bool {
        self.awaits().next().is_none()
    }

    fn serials(&self) -> SmallVec<[u64; 3]> {
        self.slots().map(|slot| slot.serial()).collect()
    }

    fn material(&self) -> Result<Material, TlsError> {
        let missing: Vec<String> = self
            .slots()
            .filter(|slot| matches!(slot.load().state, SecretState::Missing))
            .map(|slot| slot.name.clone())
            .collect();
        if !missing.is_empty() {
            return Err(TlsError::NotWarm { names: missing });
        }
        let mut certificates = Vec::new();
        for source in &self.certificates {
            certificates.push(match source {
                Source::Fixed(certificate) => certificate.clone(),
                Source::Named(slot) => certificate_of(slot)?,
            });
        }
        Ok(Material { certificates, rules: self.rules()? })
    }

    fn rules(&self) -> Result<Option<Arc<Rules>>, TlsError> {
        let named = self.named_validation.as_ref().map(|slot| validation_of(slot)).transpose()?;
        let effective = match (&self.default_validation, named) {
            (Some(default), Some(named)) => default.merge(&named),
            (None, Some(named)) => named.as_ref().clone(),
            (Some(default), None) => default.as_ref().clone(),
            (None, None) => return Ok(None),
        };
        if effective.is_empty() {
            return Ok(None);
        }
        let mesh = self.named_validation.as_ref().is_some_and(|slot| slot.name == MESH_ROOTS);
        Rules::new(effective, mesh).map(|rules| Some(Arc::new(rules))).map_err(TlsError::Unusable)
    }

    /// The TLS library's configuration, made anew by `build` if a secret has changed since it was made.
    pub(super) fn built<T>(
        &self,
        cache: &ArcSwapOption<Built<T>>,
        build: impl FnOnce(Material) -> Result<T, TlsError>,
    ) -> Result<Arc<Built<T>>, TlsError> {
        // Serials are read before the values: a change in between makes the next handshake look again.
        let serials = self.serials();
        if let Some(built) = cache.load_full().filter(|built| built.serials == serials) {
            return Ok(built);
        }
        let built = Arc::new(Built { value: build(self.material()?)?, serials });
        cache.store(Some(built.clone()));
        Ok(built)
    }
}

/// Something made of a context's secrets.
#[derive(Debug)]
pub(super) struct Built<T> {
    pub(super) value: T,
    serials: SmallVec<[u64; 3]>,
}

fn certificate_of(slot: &Slot) -> Result<Arc<Certificate>, TlsError> {
    match &slot.load().state {
        SecretState::Present(Secret::Certificate(certificate)) => Ok(certificate.clone()),
        other => Err(not_usable(slot, other, "a certificate")),
    }
}

fn validation_of(slot: &Slot) -> Result<Arc<Validation>, TlsError> {
    match &slot.load().state {
        SecretState::Present(Secret::Validation(validation)) => Ok(validation.clone()),
        other => Err(not_usable(slot, other, "a validation context")),
    }
}

fn not_usable(slot: &Slot, state: &SecretState, wanted: &str) -> TlsError {
    match state {
        SecretState::Missing => TlsError::NotWarm { names: vec![slot.name.clone()] },
        SecretState::Withdrawn(reason) => TlsError::Withdrawn { name: slot.name.clone(), reason: reason.to_string() },
        SecretState::Present(_) => TlsError::Unusable(format!("secret {:?} is not {wanted}", slot.name)),
    }
}

/// Whether equal messages mean equal contexts: nothing is read from elsewhere (files, variables, the system's roots)
/// when they are decoded, and there is no key in them.
pub(super) fn is_self_contained(proto: Option<&tls::CommonTlsContext>) -> bool {
    use ferromesh_proto::envoy::config::core::v3::data_source::Specifier;
    use tls::common_tls_context::ValidationContextType;
    let Some(proto) = proto else { return true };
    let validation = match &proto.validation_context_type {
        None | Some(ValidationContextType::ValidationContextSdsSecretConfig(_)) => None,
        Some(ValidationContextType::ValidationContext(context)) => Some(context),
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined.default_validation_context.as_ref()
        }
        Some(_) => return false,
    };
    let is_inline = |validation: &tls::CertificateValidationContext| {
        let source = validation.trusted_ca.as_ref().and_then(|source| source.specifier.as_ref());
        let inline = matches!(source, None | Some(Specifier::InlineBytes(_) | Specifier::InlineString(_)));
        inline && validation.system_root_certs.is_none()
    };
    proto.tls_certificates.is_empty() && validation.is_none_or(is_inline)
}

type Validations = (Option<Arc<Validation>>, Option<NamedSecret>);

fn decode_validation(proto: &tls::CommonTlsContext, secrets: &SecretStore) -> Result<Validations, ConfigError> {
    use tls::common_tls_context::ValidationContextType;
    match &proto.validation_context_type {
        None => Ok((None, None)),
        Some(ValidationContextType::ValidationContext(context)) => {
            let validation = Validation::decode(context).at("validation_context")?;
            Ok((Some(Arc::new(validation)), None))
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => {
            Ok((None, Some(secrets.wish(config).at("validation_context_sds_secret_config")?)))
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let default = combined.default_validation_context.clone().unwrap_or_default();
            let default =
                Validation::decode(&default).at("default_validation_context").at("combined_validation_context")?;
            let config = crate::config::required(
                combined.validation_context_sds_secret_config.as_ref(),
                "combined_validation_context.validation_context_sds_secret_config",
            )?;
            let slot =
                secrets.wish(config).at("validation_context_sds_secret_config").at("combined_validation_context")?;
            Ok((Some(Arc::new(default)), Some(slot)))
        }
        Some(_) => Err(ConfigError::new("validation_context_type", "certificate providers are not implemented")),
    }
}

fn versions(params: &tls::TlsParameters) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    use tls::tls_parameters::TlsProtocol;
    let rank = |version: TlsProtocol, auto: u8, field: &str| match version {
        TlsProtocol::TlsAuto => Ok(auto),
        TlsProtocol::TlSv12 => Ok(2),
        TlsProtocol::TlSv13 => Ok(3),
        old => Err(ConfigError::new(field, format!("{} is not implemented; TLSv1_2 is the oldest", old.as_str_name()))),
    };
    let least = rank(params.tls_minimum_protocol_version(), 2, "tls_minimum_protocol_version")?;
    let most = rank(params.tls_maximum_protocol_version(), 3, "tls_maximum_protocol_version")?;
    let all = [(2, &rustls::version::TLS12), (3, &rustls::version::TLS13)];
    let chosen: Vec<_> =
        all.into_iter().filter(|(rank, _)| (least..=most).contains(rank)).map(|(_, version)| version).collect();
    if chosen.is_empty() {
        return Err(ConfigError::new("tls_minimum_protocol_version", "is above tls_maximum_protocol_version"));
    }
    Ok(chosen)
}

/// Suites without forward secrecy, which Istio lists by default. They are left out where others remain: the proxy
/// then offers less than allowed, never more.
const WITHOUT_FORWARD_SECRECY: [&str; 4] = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA"];

fn provider(params: &tls::TlsParameters) -> Result<Arc<CryptoProvider>, ConfigError> {
    use rustls::crypto::aws_lc_rs::cipher_suite as suite;
    if params.cipher_suites.is_empty() && params.ecdh_curves.is_empty() {
        return Ok(ferromesh_core::tls::provider());
    }
    let mut provider = ferromesh_core::tls::provider().as_ref().clone();
    if !params.cipher_suites.is_empty() {
        // The list governs TLS 1.2; the suites of TLS 1.3 are not configurable in Envoy either.
        let mut chosen: Vec<_> =
            provider.cipher_suites.iter().copied().filter(|suite| suite.tls13().is_some()).collect();
        let before = chosen.len();
        let names = params.cipher_suites.iter().flat_map(|names| names.split(['[', ']', '|', ':']));
        for name in names.map(str::trim).filter(|name| !name.is_empty()) {
            chosen.push(match name {
                "ECDHE-ECDSA-AES128-GCM-SHA256" => suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                "ECDHE-RSA-AES128-GCM-SHA256" => suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                "ECDHE-ECDSA-AES256-GCM-SHA384" => suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                "ECDHE-RSA-AES256-GCM-SHA384" => suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                "ECDHE-ECDSA-CHACHA20-POLY1305" => suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                "ECDHE-RSA-CHACHA20-POLY1305" => suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                weak if WITHOUT_FORWARD_SECRECY.contains(&weak) => continue,
                other => {
                    return Err(ConfigError::new("cipher_suites", format!("{other:?} is not implemented")));
                }
            });
        }
        if chosen.len() == before {
            return Err(ConfigError::new(
                "cipher_suites",
                "none of the named suites is implemented (no forward secrecy)",
            ));
        }
        provider.cipher_suites = chosen;
    }
    if !params.ecdh_curves.is_empty() {
        provider.kx_groups = params.ecdh_curves.iter().map(|name| curve(name)).collect::<Result<_, _>>()?;
    }
    Ok(Arc::new(provider))
}

fn curve(name: &str) -> Result<&'static dyn SupportedKxGroup, ConfigError> {
    use rustls::crypto::aws_lc_rs::kx_group;
    Ok(match name {
        "X25519" => kx_group::X25519,
        "P-256" => kx_group::SECP256R1,
        "P-384" => kx_group::SECP384R1,
        "X25519MLKEM768" => kx_group::X25519MLKEM768,
        other => return Err(ConfigError::new("ecdh_curves", format!("{other:?} is not implemented"))),
    })
}
