//! ProxyConfig of one pod: the mesh's defaults, with the pod's annotation laid over them.

use std::collections::BTreeMap;

use ferromesh_api::istio::mesh_config::ProxyConfig as Fields;
use serde_json::{Map, Value};

use super::Refused;
use crate::annotations::InterceptionMode;
use crate::settings::Mesh;

/// Where Istio's proxies find their control plane if nobody says so; read as ours.
const ISTIOD: &str = "istiod.istio-system.svc:15012";

/// What is used here, and all of it as the proxy is told.
pub(super) struct ProxyConfig {
    /// JSON for the variable PROXY_CONFIG: the fields that differ from Istio's defaults, and the address.
    pub(super) json: String,
    pub(super) interception_mode: InterceptionMode,
    pub(super) status_port: u16,
    pub(super) hold_application: bool,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) image_type: String,
}

/// Lays `annotation` over the mesh's defaults.
pub(super) fn merged(
    mesh: &Mesh,
    annotation: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<ProxyConfig, Refused> {
    let refused = |error: serde_json::Error| Refused::ProxyConfig(error.to_string());
    let mut value = serde_json::to_value(&mesh.mesh_config.default_config).map_err(refused)?;
    if let Some(annotation) = annotation {
        lay_over(&mut value, annotation);
    }
    let mut fields: Fields = serde_json::from_value(value).map_err(refused)?;
    if fields.discovery_address == ISTIOD {
        if annotation.and_then(|annotation| annotation.get("discoveryAddress")).is_some() {
            let ours = &mesh.settings.discovery_address;
            warnings.push(format!("annotation proxy.istio.io/config: discoveryAddress is read as {ours}"));
        }
        fields.discovery_address.clone_from(&mesh.settings.discovery_address);
    }
    let word = |name: &str| fields.other.get(name).and_then(Value::as_str).map(str::to_owned);
    let interception_mode = match word("interceptionMode").as_deref() {
        None | Some("REDIRECT") => InterceptionMode::Redirect,
        Some("TPROXY") => InterceptionMode::Tproxy,
        Some("NONE") => InterceptionMode::None,
        Some(other) => {
            return Err(Refused::ProxyConfig(format!("interceptionMode: {other:?}; write REDIRECT, TPROXY or NONE")));
        }
    };
    let image_type = fields.other.get("image").and_then(|image| image.get("imageType")).and_then(Value::as_str);
    Ok(ProxyConfig {
        json: json(&fields).map_err(refused)?,
        interception_mode,
        status_port: fields.status_port,
        hold_application: fields.hold_application_until_proxy_starts.unwrap_or(false),
        metadata: fields.proxy_metadata.clone(),
        image_type: image_type.unwrap_or_default().to_owned(),
    })
}

/// Objects are merged, everything else is replaced; `null` takes away.
fn lay_over(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(key);
                } else {
                    lay_over(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => base.clone_from(over),
    }
}

fn json(fields: &Fields) -> Result<String, serde_json::Error> {
    let defaults = serde_json::to_value(Fields::default())?;
    let Value::Object(all) = serde_json::to_value(fields)? else { return Ok("{}".into()) };
    let differs: Map<String, Value> = all.into_iter().filter(|(key, value)| defaults.get(key) != Some(value)).collect();
    serde_json::to_string(&differs)
}
