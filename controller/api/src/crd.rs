//! CustomResourceDefinitions of the Istio kinds that are read, made of the types: what the API server lets in is what
//! the parsers know.
//!
//! Source: Kubernetes' "structural schemas"; names, versions and columns as in Istio's own CRDs.

use k8s_openapi::Resource;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::istio::envoy_filter::{EnvoyFilter, EnvoyFilterSpec};
use crate::istio::peer_authentication::{PeerAuthentication, PeerAuthenticationSpec};

/// What a definition says beside its schema.
struct Names {
    singular: &'static str,
    list: &'static str,
    short: &'static [&'static str],
    /// Served versions; the one of the type is stored.
    versions: &'static [&'static str],
    /// Extra columns of `kubectl get`: name, description, path.
    columns: &'static [(&'static str, &'static str, &'static str)],
}

/// All of them, in the order of their names.
pub fn definitions() -> Vec<Value> {
    let filter =
        Names { singular: "envoyfilter", list: "EnvoyFilterList", short: &[], versions: &["v1alpha3"], columns: &[] };
    let peer = Names {
        singular: "peerauthentication",
        list: "PeerAuthenticationList",
        short: &["pa"],
        versions: &["v1", "v1beta1"],
        columns: &[("Mode", "mTLS mode of the workloads", ".spec.mtls.mode")],
    };
    vec![
        definition::<EnvoyFilter, EnvoyFilterSpec>(&filter),
        definition::<PeerAuthentication, PeerAuthenticationSpec>(&peer),
    ]
}

fn definition<K: Resource, S: JsonSchema>(names: &Names) -> Value {
    let schema = json!({
        "type": "object",
        "properties": { "spec": spec_schema::<S>(), "status": status_schema() },
    });
    let mut columns: Vec<Value> = names
        .columns
        .iter()
        .map(|(name, description, path)| json!({ "name": name, "type": "string", "description": description, "jsonPath": path }))
        .collect();
    columns.push(json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" }));
    let version = |name: &&str| {
        json!({
            "name": name, "served": true, "storage": *name == K::VERSION, "schema": { "openAPIV3Schema": schema },
            "subresources": { "status": {} }, "additionalPrinterColumns": columns,
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", K::URL_PATH_SEGMENT, K::GROUP),
            // Deleting a definition deletes every object of the kind.
            "annotations": { "helm.sh/resource-policy": "keep" },
        },
        "spec": {
            "group": K::GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": K::KIND, "plural": K::URL_PATH_SEGMENT, "singular": names.singular, "listKind": names.list,
                "shortNames": names.short, "categories": ["istio-io", "ferromesh"],
            },
            "versions": names.versions.iter().map(version).collect::<Vec<_>>(),
        },
    })
}

fn spec_schema<S: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<S>();
    let mut value = schema.to_value();
    structural(&mut value);
    value
}

/// Conditions as everywhere in Kubernetes; fields that Istio adds stay.
fn status_schema() -> Value {
    json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Makes a schema structural: no words that Kubernetes does not know, and every free value marked as such.
fn structural(schema: &mut Value) {
    if schema == &json!(true) || schema.as_object().is_some_and(is_free) {
        *schema = json!({ "x-kubernetes-preserve-unknown-fields": true });
        return;
    }
    let Some(fields) = schema.as_object_mut() else { return };
    for word in ["$schema", "title", "default", "components"] {
        fields.remove(word);
    }
    // Formats of Rust's numbers are not OpenAPI's.
    if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        fields.remove("format");
    }
    for part in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = fields.get_mut(part) {
            properties.values_mut().for_each(structural);
        }
    }
    for part in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(part) {
            structural(inner);
        }
    }
}

fn is_free(fields: &Map<String, Value>) -> bool {
    fields.keys().all(|key| ["description", "default", "nullable"].contains(&key.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chart's file; `UPDATE_GOLDEN=1` writes it.
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/ferromesh/files/crds.yaml");

    #[test]
    fn the_charts_definitions_are_those_of_the_types() {
        let documents: Vec<String> =
            definitions().iter().map(|one| serde_saphyr::to_string(one).expect("a definition is YAML")).collect();
        let text = documents.join("---\n");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(FILE, &text).unwrap();
        }
        let file = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(file == text, "charts/ferromesh/files/crds.yaml is not of this version; run this with UPDATE_GOLDEN=1");
    }

    #[test]
    fn words_are_listed_and_free_values_marked() {
        let filter = definitions().remove(0);
        let spec = filter.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
        let patch = &spec["configPatches"]["items"]["properties"]["patch"]["properties"];
        assert!(patch["operation"]["enum"].as_array().unwrap().contains(&json!("INSERT_BEFORE")), "{patch}");
        assert_eq!(patch["value"]["x-kubernetes-preserve-unknown-fields"], true);
    }
}
