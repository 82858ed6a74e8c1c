//! Values of Istio's charts (`values.yaml`, `spec.values` of an IstioOperator) in; the injector's settings and
//! MeshConfig of the same meaning out. Pure.

use serde_json::{Map, Value, json};

use crate::settings::{BadSettings, Mesh};

/// What values say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// The injector's settings that they set.
    pub settings: Map<String, Value>,
    /// MeshConfig that they set.
    pub mesh_config: Map<String, Value>,
    /// Paths that are not honoured here, in their order.
    pub unread: Vec<String>,
}

/// Istio's value and our setting of the same meaning; `proxyInit` and `proxy` hold the charts' resources.
const SETTINGS: [(&str, &str); 26] = [
    ("revision", "revision"),
    ("global.caAddress", "caAddress"),
    ("global.imagePullPolicy", "imagePullPolicy"),
    ("global.imagePullSecrets", "imagePullSecrets"),
    ("global.logAsJson", "logAsJson"),
    ("global.logging.level", "agentLogLevel"),
    ("global.meshID", "meshId"),
    ("global.multiCluster.clusterName", "clusterId"),
    ("global.network", "network"),
    ("global.proxy.clusterDomain", "clusterDomain"),
    ("global.proxy.componentLogLevel", "componentLogLevel"),
    ("global.proxy.excludeIPRanges", "excludeOutboundIpRanges"),
    ("global.proxy.excludeInboundPorts", "excludeInboundPorts"),
    ("global.proxy.excludeOutboundPorts", "excludeOutboundPorts"),
    ("global.proxy.holdApplicationUntilProxyStarts", "holdApplicationUntilProxyStarts"),
    ("global.proxy.includeIPRanges", "includeOutboundIpRanges"),
    ("global.proxy.includeInboundPorts", "includeInboundPorts"),
    ("global.proxy.includeOutboundPorts", "includeOutboundPorts"),
    ("global.proxy.logLevel", "logLevel"),
    ("global.proxy.readinessFailureThreshold", "readinessFailureThreshold"),
    ("global.proxy.readinessInitialDelaySeconds", "readinessInitialDelaySeconds"),
    ("global.proxy.readinessPeriodSeconds", "readinessPeriodSeconds"),
    ("global.proxy.resources", "resources"),
    ("global.proxy.seccompProfile", "seccompProfile"),
    ("global.proxy.startupProbe.failureThreshold", "startupFailureThreshold"),
    ("global.proxy_init.resources", "initResources"),
];

/// The same of the webhook's own values.
const WEBHOOK: [(&str, &str); 5] = [
    ("sidecarInjectorWebhook.alwaysInjectSelector", "alwaysInjectSelector"),
    ("sidecarInjectorWebhook.injectedAnnotations", "injectedAnnotations"),
    ("sidecarInjectorWebhook.injectedLabels", "injectedLabels"),
    ("sidecarInjectorWebhook.neverInjectSelector", "neverInjectSelector"),
    ("sidecarInjectorWebhook.rewriteAppHTTPProbe", "rewriteAppHttpProbe"),
];

/// Reads values. `null` says nothing.
pub fn read(values: &Value) -> Read {
    let mut read = Read::default();
    walk("", values, &mut read);
    read
}

fn walk(path: &str, value: &Value, read: &mut Read) {
    if let Some((_, setting)) = SETTINGS.iter().chain(&WEBHOOK).find(|(istio, _)| *istio == path) {
        let value = without_null(value);
        if !value.is_null() {
            read.settings.insert((*setting).to_owned(), as_text_where_lists_are(setting, value));
        }
        return;
    }
    match (path, value) {
        (_, Value::Null) => {}
        ("meshConfig", Value::Object(_)) => {
            over(&mut read.mesh_config, without_null(value).as_object().unwrap_or(&Map::new()));
        }
        ("global.proxy.statusPort", port) => {
            let config = json!({ "defaultConfig": { "statusPort": port } });
            over(&mut read.mesh_config, config.as_object().unwrap_or(&Map::new()));
        }
        // A whole reference is an image; a name alone is of Istio's registry.
        ("global.proxy.image", Value::String(image)) if image.contains('/') => {
            read.settings.insert("proxyImage".into(), json!(image));
        }
        (_, Value::Object(fields)) => {
            for (name, value) in fields {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(&inner, value, read);
            }
        }
        _ => read.unread.push(path.to_owned()),
    }
}

/// Helm's `--set` makes a number of one port.
fn as_text_where_lists_are(setting: &str, value: Value) -> Value {
    match value {
        Value::Number(number) if setting.ends_with("Ports") => json!(number.to_string()),
        other => other,
    }
}

/// In Helm's values `null` takes a default away, so that nothing is left of it.
fn without_null(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(name, value)| (name.clone(), without_null(value)));
            Value::Object(kept.filter(|(_, value)| !value.is_null()).collect())
        }
        other => other.clone(),
    }
}

/// Lays objects over one another; lists and words are replaced.
fn over(base: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (name, value) in more {
        match (base.get_mut(name), value) {
            (Some(Value::Object(known)), Value::Object(fields)) => over(known, fields),
            _ => {
                base.insert(name.clone(), value.clone());
            }
        }
    }
}

impl Mesh {
    /// Lays what values say over these settings.
    ///
    /// # Errors
    /// If a value is not of its setting's type, or a word is none.
    pub fn with_values(&self, read: &Read) -> Result<Self, BadSettings> {
        let bad = |error: serde_json::Error| BadSettings { file: "values", reason: error.to_string() };
        let mut settings = serde_json::to_value(&self.settings).map_err(bad)?;
        if let Some(fields) = settings.as_object_mut() {
            // These are whole: a part that is not set is not the mesh's.
            fields.extend(read.settings.clone());
        }
        let mut mesh_config = serde_json::to_value(&self.mesh_config).map_err(bad)?;
        if let Some(fields) = mesh_config.as_object_mut() {
            over(fields, &read.mesh_config);
        }
        let mesh = Self {
            settings: serde_json::from_value(settings).map_err(bad)?,
            mesh_config: serde_json::from_value(mesh_config).map_err(bad)?,
        };
        mesh.check()?;
        Ok(mesh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_becomes_a_setting_or_is_named() {
        let values = json!({
            "global": {
                "network": "n1", "hub": "docker.io/istio", "imagePullSecrets": ["s"],
                "proxy": { "includeIPRanges": "10.0.0.0/8", "excludeInboundPorts": 4, "statusPort": 123,
                    "resources": { "limits": { "cpu": null, "memory": "1Gi" } }, "privileged": null },
            },
            "meshConfig": { "defaultConfig": { "concurrency": 2 } },
            "sidecarInjectorWebhook": { "templates": { "own": "spec: {}" }, "rewriteAppHTTPProbe": false },
        });
        let read = read(&values);
        assert_eq!(read.unread, ["global.hub", "sidecarInjectorWebhook.templates.own"]);
        assert_eq!(read.mesh_config["defaultConfig"], json!({ "concurrency": 2, "statusPort": 123 }));
        let mesh = Mesh::default().with_values(&read).unwrap();
        assert_eq!(mesh.settings.network, "n1");
        assert_eq!(mesh.settings.exclude_inbound_ports, "4");
        assert!(!mesh.settings.rewrite_app_http_probe);
        assert_eq!(mesh.settings.resources.requests, None);
        assert_eq!(mesh.settings.resources.limits.unwrap().len(), 1);
        assert_eq!((mesh.mesh_config.default_config.status_port, mesh.settings.image_pull_secrets.len()), (123, 1));
    }

    #[test]
    fn every_setting_that_values_name_is_one() {
        let known = serde_json::to_value(crate::Settings::default()).unwrap();
        for (_, setting) in SETTINGS.iter().chain(&WEBHOOK) {
            assert!(known.get(setting).is_some(), "{setting}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let error = Mesh::default().with_values(&read(&json!({ "global": { "network": ["a"] } }))).unwrap_err();
        assert!(error.to_string().contains("values"), "{error}");
        let ranges = json!({ "global": { "proxy": { "excludeIPRanges": "all" } } });
        assert!(
            Mesh::default().with_values(&read(&ranges)).unwrap_err().to_string().contains("excludeOutboundIpRanges")
        );
    }
}
