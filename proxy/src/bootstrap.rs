//! The bootstrap file: YAML, JSON or binary of `envoy.config.bootstrap.v3.Bootstrap`, checked field by field.

use std::path::Path;

use ferromesh_proto::envoy::config::bootstrap::v3::Bootstrap;
use ferromesh_proto::envoy::config::cluster::v3::Cluster;
use ferromesh_proto::envoy::config::core::v3::{ApiConfigSource, ConfigSource, api_config_source, grpc_service};
use ferromesh_proto::prost::Message;
use ferromesh_proto::{Any, json};

use crate::config::{At, ConfigError, FetchLimit, from_ads};
use crate::{stats, supported};

mod consistency;

/// Why a bootstrap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file cannot be read.
    #[error("cannot read bootstrap {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The text is not a bootstrap.
    #[error("bootstrap {path}: {source}")]
    Parse {
        /// The file.
        path: String,
        /// The field and what is wrong.
        source: json::JsonError,
    },
    /// The binary form does not decode.
    #[error("bootstrap {path}: {source}")]
    Decode {
        /// The file.
        path: String,
        /// What the decoder says.
        source: ferromesh_proto::prost::DecodeError,
    },
    /// A field is not implemented or has a wrong value.
    #[error("bootstrap: {0}")]
    Config(#[from] ConfigError),
}

/// Reads a bootstrap file; `.pb` is binary, everything else YAML (of which JSON is a part).
///
/// # Errors
/// If it cannot be read or parsed, or sets a field that is not implemented.
pub fn load(path: &Path) -> Result<Bootstrap, BootstrapError> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| BootstrapError::Read { path: shown.clone(), source })?;
    if path.extension().is_some_and(|extension| extension == "pb") {
        let bootstrap =
            Bootstrap::decode(bytes.as_slice()).map_err(|source| BootstrapError::Decode { path: shown, source })?;
        check(&bootstrap)?;
        return Ok(bootstrap);
    }
    parse(&String::from_utf8_lossy(&bytes)).map_err(|error| match error {
        BootstrapError::Parse { source, .. } => BootstrapError::Parse { path: shown, source },
        other => other,
    })
}

/// Reads a bootstrap from YAML or JSON text.
///
/// # Errors
/// If it does not parse, or sets a field that is not implemented.
pub fn parse(text: &str) -> Result<Bootstrap, BootstrapError> {
    let bootstrap = json::from_yaml(text).map_err(|source| BootstrapError::Parse { path: "(text)".into(), source })?;
    check(&bootstrap)?;
    Ok(bootstrap)
}

fn check(bootstrap: &Bootstrap) -> Result<(), ConfigError> {
    supported::check(&Any::pack(bootstrap))?;
    stats(bootstrap)?;
    consistency::check(bootstrap)
}

/// How the control plane is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ads {
    /// Name of the static cluster.
    pub cluster: String,
    /// Delta, or state of the world.
    pub delta: bool,
    /// The `:authority` of the calls, if one is set.
    pub authority: Option<String>,
    /// Metadata sent with the stream.
    pub metadata: Vec<(String, String)>,
    /// Whether listeners come by it, and how long the proxy waits for the first before it is ready.
    pub lds: Option<FetchLimit>,
    /// The same of clusters.
    pub cds: Option<FetchLimit>,
}

/// The ADS connection that the bootstrap asks for, if any.
///
/// # Errors
/// If LDS or CDS is asked for by other means than ADS, or the ADS source is not one Envoy gRPC service.
pub fn ads(bootstrap: &Bootstrap) -> Result<Option<Ads>, ConfigError> {
    let Some(dynamic) = &bootstrap.dynamic_resources else { return Ok(None) };
    let lds = by_ads(dynamic.lds_config.as_ref()).map_err(|error| error.at("dynamic_resources.lds_config"))?;
    let cds = by_ads(dynamic.cds_config.as_ref()).map_err(|error| error.at("dynamic_resources.cds_config"))?;
    let Some(source) = &dynamic.ads_config else {
        return if lds.is_some() || cds.is_some() {
            Err(ConfigError::new("dynamic_resources.ads_config", "must be set, since lds_config or cds_config use ADS"))
        } else {
            Ok(None)
        };
    };
    ads_source(source, lds, cds).map(Some).map_err(|error| error.at("dynamic_resources.ads_config"))
}

fn by_ads(source: Option<&ConfigSource>) -> Result<Option<FetchLimit>, ConfigError> {
    source.map(|source| from_ads(Some(source))).transpose()
}

fn ads_source(source: &ApiConfigSource, lds: Option<FetchLimit>, cds: Option<FetchLimit>) -> Result<Ads, ConfigError> {
    let delta = match source.api_type() {
        api_config_source::ApiType::Grpc => false,
        api_config_source::ApiType::DeltaGrpc => true,
        other => return Err(ConfigError::new("api_type", format!("{} is not implemented", other.as_str_name()))),
    };
    let [service] = source.grpc_services.as_slice() else {
        return Err(ConfigError::new("grpc_services", "needs exactly one service"));
    };
    let Some(grpc_service::TargetSpecifier::EnvoyGrpc(target)) = &service.target_specifier else {
        return Err(ConfigError::new("grpc_services[0]", "needs envoy_grpc"));
    };
    let metadata = service.initial_metadata.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    Ok(Ads {
        cluster: target.cluster_name.clone(),
        delta,
        authority: (!target.authority.is_empty()).then(|| target.authority.clone()),
        metadata,
        lds,
        cds,
    })
}

/// The metrics that the bootstrap asks for.
///
/// # Errors
/// Names the field of `stats_config` that cannot be used.
pub fn stats(bootstrap: &Bootstrap) -> Result<stats::Store, ConfigError> {
    stats::Settings::decode(bootstrap.stats_config.as_ref()).at("stats_config").map(stats::Store::new)
}

/// Names of the static clusters.
pub fn static_cluster_names(clusters: &[Cluster]) -> impl Iterator<Item = &str> {
    clusters.iter().map(|cluster| cluster.name.as_str())
}
