//! Fields of a document that its type does not have: the document in, the paths of what was not understood out.

use serde_json::Value;

/// At most this many paths are named for one document.
const MOST: usize = 20;

/// Paths (`spec.rules[0].foo`) that are in `written` and that `understood`, the same object read and written again,
/// has lost. Empty values say nothing and are passed over.
pub fn unknown_fields(written: &Value, understood: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", written, understood, &mut found);
    found
}

fn compare(path: &str, written: &Value, understood: &Value, found: &mut Vec<String>) {
    if found.len() >= MOST {
        return;
    }
    match (written, understood) {
        (Value::Object(left), Value::Object(right)) => {
            for (name, value) in left {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match right.get(name) {
                    Some(other) => compare(&path, value, other, found),
                    None if is_empty(value) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            for (index, (value, other)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}[{index}]"), value, other, found);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_was_lost_is_named_with_its_path() {
        let written = json!({"spec": {"rules": [{"name": "a"}, {"nme": "b", "empty": []}]}, "none": null});
        let understood = json!({"spec": {"rules": [{"name": "a"}, {}]}});
        assert_eq!(unknown_fields(&written, &understood), ["spec.rules[1].nme"]);
    }
}
