//! An IstioOperator file (`install.istio.io/v1alpha1`) in; values of our chart out, and everything that it says and that
//! has no effect here. Pure.

use ferromesh_api::istio::MeshConfig;
use ferromesh_controller::analyze::mesh::not_honoured;
use serde_json::{Map, Value, json};

mod fields;
mod gateways;

use fields::{Fields, over};

/// What a file comes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// Values of the chart.
    pub values: Map<String, Value>,
    /// Fields without effect, from `spec.` on, each with a reason or an empty one.
    pub ignored: Vec<(String, &'static str)>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadOperator {
    /// Not YAML.
    #[error("{0}")]
    Yaml(String),
    /// Another kind of object.
    #[error("an IstioOperator object is wanted (apiVersion: install.istio.io/v1alpha1), not {0}")]
    Kind(String),
    /// Installed otherwise, this would be another mesh than the file asks for.
    #[error("spec.profile: there is no profile {0:?} here; there are: {known}", known = PROFILES.map(|(name, _)| name).join(", "))]
    Profile(String),
    /// A field of another type.
    #[error("{path}: {wanted} is wanted")]
    Type {
        /// The field.
        path: String,
        /// Of which type it must be.
        wanted: &'static str,
    },
    /// MeshConfig, or a value of the injector's.
    #[error("{path}: {reason}")]
    Value {
        /// Where.
        path: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Istio's profiles that have a counterpart here, with their gateways. The control plane is in each of them.
const PROFILES: [(&str, &[&str]); 5] = [
    ("default", &["istio-ingressgateway"]),
    ("demo", &["istio-ingressgateway", "istio-egressgateway"]),
    ("empty", &[]),
    ("minimal", &[]),
    ("preview", &["istio-ingressgateway"]),
];

/// Fields that are what is done here anyway, if they have this value.
const ANYWAY: [(&str, bool); 9] = [
    ("components.base.enabled", true),
    ("components.pilot.enabled", true),
    ("components.cni.enabled", false),
    ("components.ztunnel.enabled", false),
    ("components.istiodRemote.enabled", false),
    ("values.istio_cni.enabled", false),
    ("values.pilot.autoscaleEnabled", false),
    ("values.pilot.cni.enabled", false),
    ("values.gateways.istio-egressgateway.enabled", false),
];

/// Istio's field, and the value of our chart of the same meaning; the later one wins.
const SAME: [(&str, &str); 15] = [
    ("components.base.enabled", "crds.install"),
    ("values.istio_cni.enabled", "cni.enabled"),
    ("values.pilot.cni.enabled", "cni.enabled"),
    ("components.cni.enabled", "cni.enabled"),
    ("components.cni.namespace", "cni.namespace"),
    ("values.cni.cniBinDir", "cni.binDir"),
    ("values.cni.cniConfDir", "cni.confDir"),
    ("values.cni.cniConfFileName", "cni.confFile"),
    ("values.pilot.replicaCount", "controller.replicas"),
    ("components.pilot.k8s.replicaCount", "controller.replicas"),
    ("values.pilot.resources", "controller.resources"),
    ("components.pilot.k8s.resources", "controller.resources"),
    ("values.global.istioNamespace", "istioNamespace"),
    ("namespace", "istioNamespace"),
    ("revision", "revision"),
];

/// A setting of the injector that the chart sets from a value of its own.
const FROM_VALUES: [(&str, &str); 5] = [
    ("revision", "revision"),
    ("clusterDomain", "clusterDomain"),
    ("clusterId", "clusterName"),
    ("imagePullPolicy", "image.pullPolicy"),
    ("imagePullSecrets", "image.pullSecrets"),
];

/// Why a field has no effect, where more can be said; by the beginning of its path.
const REASONS: [(&str, &str); 10] = [
    ("spec.hub", "it is Istio's images; ours are image.registry and image.tag of the chart"),
    ("spec.tag", "it is Istio's images; ours are image.registry and image.tag of the chart"),
    ("spec.values.global.hub", "it is Istio's images; ours are image.registry and image.tag of the chart"),
    ("spec.values.global.tag", "it is Istio's images; ours are image.registry and image.tag of the chart"),
    ("spec.values.global.caAddress", "the mesh's own CA is used"),
    ("spec.meshConfig.defaultConfig.discoveryAddress", "the mesh's own controller is used"),
    ("spec.meshConfig.enableTracing", "there is no tracing"),
    ("spec.components.pilot.enabled", "the control plane is always installed"),
    ("spec.components.ztunnel", "there is no ambient mode"),
    ("spec.values.pilot.env", "it is a setting of istiod"),
];

/// Fields without effect.
#[derive(Debug, Default)]
struct Ignored(Vec<String>);

impl Ignored {
    /// All that is left under a path.
    fn all(&mut self, path: &str, left: &Fields) {
        self.0.extend(left.left().into_iter().map(|name| format!("spec.{path}.{name}")));
    }
}

/// Reads files; what a later one says wins, as in istioctl.
///
/// # Errors
/// If one cannot be used.
pub fn read(texts: &[&str]) -> Result<Read, BadOperator> {
    let mut spec = json!({});
    for text in texts {
        over(&mut spec, spec_of(text)?);
    }
    values(Fields::new(spec))
}

fn spec_of(text: &str) -> Result<Value, BadOperator> {
    let mut object: Value = serde_saphyr::from_str(text).map_err(|error| BadOperator::Yaml(error.to_string()))?;
    let field = |name: &str| object[name].as_str().unwrap_or("nothing").to_owned();
    let (version, kind) = (field("apiVersion"), field("kind"));
    if kind != "IstioOperator" || !version.starts_with("install.istio.io/") {
        return Err(BadOperator::Kind(format!("{version} {kind}")));
    }
    match object["spec"].take() {
        Value::Null => Ok(json!({})),
        spec @ Value::Object(_) => Ok(spec),
        _ => Err(BadOperator::Type { path: "spec".into(), wanted: "an object" }),
    }
}

fn values(mut spec: Fields) -> Result<Read, BadOperator> {
    let mut ignored = Ignored::default();
    let mut values = Fields::new(json!({}));
    if let Some(more) = spec.take("unvalidatedValues") {
        spec.put("values", more);
    }
    let profile = match spec.take("profile") {
        None => "default".to_owned(),
        Some(Value::String(name)) => name,
        Some(_) => return Err(BadOperator::Type { path: "spec.profile".into(), wanted: "a name" }),
    };
    let known = PROFILES.iter().find(|(name, _)| *name == profile);
    let (_, in_profile) = known.ok_or(BadOperator::Profile(profile))?;
    for (path, value) in ANYWAY {
        spec.take_if(path, &Value::from(value));
    }
    for (theirs, ours) in SAME {
        if let Some(value) = spec.take(theirs) {
            values.put(ours, value);
        }
    }
    environment(&mut spec, &mut ignored);
    let gateways = gateways::take(&mut spec, in_profile, &mut ignored)?;
    if !gateways.is_empty() {
        values.put("gateways", Value::Object(gateways));
    }
    mesh_config(&mut spec, &mut values, &mut ignored)?;
    injection(&mut spec, &mut values, &mut ignored)?;
    ignored.0.extend(spec.left().into_iter().map(|path| format!("spec.{path}")));
    ignored.0.sort();
    let reason =
        |path: &str| REASONS.iter().find(|(begin, _)| path.starts_with(begin)).map_or("", |(_, reason)| reason);
    let ignored = ignored
        .0
        .into_iter()
        .map(|path| {
            let reason = reason(&path);
            (path, reason)
        })
        .collect();
    Ok(Read { values: values.into_value().as_object().cloned().unwrap_or_default(), ignored })
}

/// Variables of istiod: those that switch on what is always on here say nothing.
fn environment(spec: &mut Fields, ignored: &mut Ignored) {
    const ON: [&str; 3] = [
        "PILOT_ENABLE_GATEWAY_API",
        "PILOT_ENABLE_GATEWAY_API_STATUS",
        "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER",
    ];
    let is_on = |value: &Value| *value == "true" || *value == true;
    for name in ON {
        for value in [json!("true"), json!(true)] {
            spec.take_if(&format!("values.pilot.env.{name}"), &value);
        }
    }
    let Some(Value::Array(list)) = spec.take("components.pilot.k8s.env") else { return };
    for one in list {
        let name = one["name"].as_str().unwrap_or_default();
        if !ON.contains(&name) || !is_on(&one["value"]) {
            ignored.0.push(format!("spec.components.pilot.k8s.env[{name}]"));
        }
    }
}

fn mesh_config(spec: &mut Fields, values: &mut Fields, ignored: &mut Ignored) -> Result<(), BadOperator> {
    let mut config = spec.take("values.meshConfig").unwrap_or_else(|| json!({}));
    over(&mut config, spec.take("meshConfig").unwrap_or_else(|| json!({})));
    let mut config = Fields::new(config);
    if let Some(domain) = config.take("trustDomain") {
        values.put("trustDomain", domain);
    }
    if config.take("defaultConfig.discoveryAddress").is_some() {
        ignored.0.push("spec.meshConfig.defaultConfig.discoveryAddress".into());
    }
    let config = config.into_value();
    let parsed: MeshConfig = serde_json::from_value(config.clone())
        .map_err(|error| BadOperator::Value { path: "spec.meshConfig", reason: error.to_string() })?;
    ignored.0.extend(not_honoured(&parsed).into_iter().map(|name| format!("spec.meshConfig.{name}")));
    if config["enableTracing"] == true {
        ignored.0.push("spec.meshConfig.enableTracing".into());
    }
    if config.as_object().is_some_and(|fields| !fields.is_empty()) {
        values.put("meshConfig", config);
    }
    Ok(())
}

/// Values of the sidecars, as `ferromesh inject --valuesFile` reads them.
fn injection(spec: &mut Fields, values: &mut Fields, ignored: &mut Ignored) -> Result<(), BadOperator> {
    let Some(theirs) = spec.take("values") else { return Ok(()) };
    let mut read = ferromesh_injector::values::read(&theirs);
    if read.settings.remove("caAddress").is_some() {
        ignored.0.push("spec.values.global.caAddress".into());
    }
    ferromesh_injector::Mesh::default()
        .with_values(&read)
        .map_err(|error| BadOperator::Value { path: "spec.values", reason: error.to_string() })?;
    ignored.0.extend(read.unread.iter().map(|path| format!("spec.values.{path}")));
    for (name, value) in read.settings {
        match FROM_VALUES.iter().find(|(setting, _)| *setting == name) {
            // What the file says itself wins over its values.
            Some((_, ours)) => {
                if values.take(ours).map(|known| values.put(ours, known)).is_none() {
                    values.put(ours, value);
                }
            }
            None => values.put(&format!("injector.settings.{name}"), value),
        }
    }
    if !read.mesh_config.is_empty() {
        let mut config = Value::Object(read.mesh_config);
        over(&mut config, values.take("meshConfig").unwrap_or_else(|| json!({})));
        values.put("meshConfig", config);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
