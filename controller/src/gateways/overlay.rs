//! Kubernetes' strategic merge, as far as the kinds that are made for a Gateway need it: objects field by field, lists
//! of named things by their key, other lists as a whole, `null` deletes.

use serde_json::{Map, Value};

/// The key by which a list's elements are told apart.
fn key_of(field: &str) -> Option<&'static str> {
    Some(match field {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" | "sysctls" => "name",
        "volumeMounts" => "mountPath",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        _ => return None,
    })
}

/// The key of `ports`: a Service's are told apart by `port`, a container's by `containerPort`.
fn key_of_ports(elements: &[Value]) -> &'static str {
    if elements.iter().any(|port| port.get("containerPort").is_some()) { "containerPort" } else { "port" }
}

/// Merges a patch into an object.
pub(super) fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        if !patch.is_null() {
            *object = patch.clone();
        }
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(target) = object.as_object_mut() else { return };
    for (field, value) in fields {
        match value {
            Value::Null => {
                target.remove(field);
            }
            Value::Array(elements) => {
                let key = if field == "ports" { Some(key_of_ports(elements)) } else { key_of(field) };
                match (key, target.get_mut(field).and_then(Value::as_array_mut)) {
                    (Some(key), Some(list)) => merge_list(list, elements, key),
                    _ => {
                        target.insert(field.clone(), value.clone());
                    }
                }
            }
            _ => merge(target.entry(field).or_insert(Value::Null), value),
        }
    }
}

fn merge_list(list: &mut Vec<Value>, patch: &[Value], key: &str) {
    for element in patch {
        let same = element.get(key).and_then(|name| list.iter().position(|old| old.get(key) == Some(name)));
        let deletes = element.get("$patch").and_then(Value::as_str) == Some("delete");
        match same {
            Some(index) if deletes => {
                list.remove(index);
            }
            Some(index) => {
                if let Some(old) = list.get_mut(index) {
                    merge(old, element);
                }
            }
            None if deletes => {}
            None => list.push(element.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn named_things_are_merged_by_name_and_other_lists_replaced() {
        let mut object =
            json!({"spec": {"replicas": 1, "containers": [{"name": "a", "image": "x", "args": ["1", "2"]}]}});
        merge(
            &mut object,
            &json!({"spec": {"replicas": null, "containers": [{"name": "a", "args": ["3"]}, {"name": "b"}]}}),
        );
        let expected = json!({"spec": {"containers": [{"name": "a", "image": "x", "args": ["3"]}, {"name": "b"}]}});
        assert_eq!(object, expected);
        merge(&mut object, &json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}]}}));
        assert_eq!(object["spec"]["containers"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn ports_are_told_apart_by_what_they_are_of() {
        let mut service = json!({"ports": [{"name": "http", "port": 80}]});
        merge(&mut service, &json!({"ports": [{"port": 80, "nodePort": 30080}]}));
        assert_eq!(service, json!({"ports": [{"name": "http", "port": 80, "nodePort": 30080}]}));
    }
}
