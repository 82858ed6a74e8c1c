//! What is served where the first MeshConfig that is read is wrong: there is no good one that could go on, and to act as if
//! nothing were written would let out what was to be kept in. A wrong field costs only itself; one that decides about
//! safety has its strictest value; and where it cannot be told which namespace's policies are for the whole mesh, nothing
//! is published at all.

use ferromesh_api::istio::MeshConfig;
use ferromesh_api::istio::mesh_config::rules;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Fields whose default is laxer than something that can be written, and the strictest that can be.
const STRICTEST: &[(&str, &str)] = &[
    ("defaultConfig.gatewayTopology.forwardClientCertDetails", "SANITIZE"),
    ("outboundTrafficPolicy.mode", "REGISTRY_ONLY"),
    ("pathNormalization.normalization", "DECODE_AND_MERGE_SLASHES"),
];

/// Fields that name who is seen by whom: nobody from outside of the own namespace.
const VISIBILITY: [&str; 3] =
    ["defaultDestinationRuleExportTo", "defaultServiceExportTo", "defaultVirtualServiceExportTo"];

/// Without it nothing can be said about policies.
const HELD: &str = "rootNamespace";

/// What is served in place of a MeshConfig that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Instead {
    /// The MeshConfig.
    pub mesh: Arc<MeshConfig>,
    /// Fields that have not the value that is written, and what they have in place of it.
    pub replaced: Vec<String>,
}

/// What is served in place of `text`; none if nothing may be.
pub fn of(text: &str, trust_domain: &str) -> Option<Instead> {
    let Ok(Value::Object(written)) = serde_saphyr::from_str(text) else { return None };
    let mut kept = Kept { good: Value::Object(Map::new()), replaced: Vec::new(), trust_domain };
    for (name, value) in &written {
        kept.keep(name, value);
    }
    if kept.replaced.iter().any(|replaced| replaced.starts_with(HELD)) {
        return None;
    }
    let Kept { good, replaced, .. } = kept;
    let mut mesh: MeshConfig = serde_json::from_value(good).ok()?;
    trust_domain.clone_into(&mut mesh.trust_domain);
    Some(Instead { mesh: Arc::new(mesh), replaced })
}

struct Kept<'a> {
    good: Value,
    replaced: Vec<String>,
    trust_domain: &'a str,
}

impl Kept<'_> {
    /// Keeps a field if what is kept is right with it; of a field that is not, what is right inside of it.
    fn keep(&mut self, path: &str, value: &Value) {
        let mut tried = self.good.clone();
        set(&mut tried, path, value.clone());
        if self.is_right(&tried) {
            self.good = tried;
            return;
        }
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    self.keep(&format!("{path}.{name}"), value);
                }
            }
            _ => self.replace(path),
        }
    }

    fn replace(&mut self, path: &str) {
        let is_inside =
            |field: &str| field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let strictest = STRICTEST.iter().map(|(field, word)| (*field, json!(word)));
        let strictest = strictest.chain(VISIBILITY.map(|field| (field, json!(["."]))));
        let mut said = Vec::new();
        for (field, value) in strictest.filter(|(field, _)| is_inside(field)) {
            said.push(format!("{field} is {value}"));
            set(&mut self.good, field, value);
        }
        if said.is_empty() {
            said.push(format!("{path} is as if it were not written"));
        }
        self.replaced.append(&mut said);
    }

    fn is_right(&self, json: &Value) -> bool {
        let Ok(mesh) = serde_json::from_value::<MeshConfig>(json.clone()) else { return false };
        let is_own = json.get("trustDomain").is_none() || mesh.trust_domain == self.trust_domain;
        is_own && rules::wrong(&mesh).is_empty()
    }
}

/// Sets a field by its path; objects on the way are made.
fn set(json: &mut Value, path: &str, value: Value) {
    let mut place = json;
    for name in path.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(fields) = place else { return };
        place = fields.entry(name).or_insert(Value::Null);
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferromesh_api::istio::mesh_config::{NormalizationType, OutboundMode};

    #[test]
    fn a_wrong_field_costs_only_itself() {
        let text = "accessLogFile: /dev/stdout\naccessLogFormat: '%NOPE%'\nconnectTimeout: soon\n\
                    outboundTrafficPolicy: {mode: REGISTRY_ONLY}\nunknown: 1\n\
                    defaultConfig: {concurrency: many, drainDuration: 7s}\n";
        let Instead { mesh, replaced } = of(text, "a.b").expect("it can be told what is meant");
        assert_eq!(
            replaced,
            [
                "accessLogFormat is as if it were not written",
                "connectTimeout is as if it were not written",
                "defaultConfig.concurrency is as if it were not written"
            ]
        );
        assert_eq!((mesh.access_log_file.as_str(), mesh.access_log_format.as_str()), ("/dev/stdout", ""));
        assert_eq!(mesh.outbound_traffic_policy.mode, OutboundMode::RegistryOnly);
        assert_eq!(mesh.default_config.drain_duration.0.as_secs(), 7);
        assert!(mesh.other.contains_key("unknown") && mesh.trust_domain == "a.b");
    }

    #[test]
    fn what_decides_about_safety_has_its_strictest_value_where_it_is_wrong() {
        for (text, replaced) in [
            ("outboundTrafficPolicy: {mode: REGISTRY_ONLYY}", "outboundTrafficPolicy.mode is \"REGISTRY_ONLY\""),
            ("outboundTrafficPolicy: REGISTRY_ONLY", "outboundTrafficPolicy.mode is \"REGISTRY_ONLY\""),
            ("outboundTrafficPolicy: {mode: [a]}", "outboundTrafficPolicy.mode is \"REGISTRY_ONLY\""),
            (
                "pathNormalization: {normalization: MERGE}",
                "pathNormalization.normalization is \"DECODE_AND_MERGE_SLASHES\"",
            ),
            (
                "defaultConfig: {gatewayTopology: {forwardClientCertDetails: NO, numTrustedProxies: 1}}",
                "defaultConfig.gatewayTopology.forwardClientCertDetails is \"SANITIZE\"",
            ),
            ("defaultConfig: all", "defaultConfig.gatewayTopology.forwardClientCertDetails is \"SANITIZE\""),
            ("defaultServiceExportTo: 5", "defaultServiceExportTo is [\".\"]"),
            ("trustDomain: other.example", "trustDomain is as if it were not written"),
        ] {
            let instead = of(text, "cluster.local").unwrap_or_else(|| panic!("{text}"));
            assert_eq!(instead.replaced, [replaced], "{text}");
            assert_eq!(instead.mesh.trust_domain, "cluster.local", "{text}");
        }
        let mesh = of("pathNormalization: x\noutboundTrafficPolicy: 1", "a").expect("both are known").mesh;
        assert_eq!(mesh.outbound_traffic_policy.mode, OutboundMode::RegistryOnly);
        assert_eq!(mesh.path_normalization.normalization, NormalizationType::DecodeAndMergeSlashes);
    }

    #[test]
    fn nothing_is_served_where_nothing_can_be_read_or_policies_might_be_missed() {
        for text in ["a: [", "- a", "word", "rootNamespace: Istio", "rootNamespace: [a]", "a: 1\na: 2"] {
            assert_eq!(of(text, "cluster.local"), None, "{text}");
        }
    }
}
