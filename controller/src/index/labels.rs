//! Label selectors of Kubernetes, and the labels of an object.

use ferromesh_api::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;

static NONE: BTreeMap<String, String> = BTreeMap::new();

/// The labels of an object, which may be none.
pub fn of(meta: &ObjectMeta) -> &BTreeMap<String, String> {
    meta.labels.as_ref().unwrap_or(&NONE)
}

/// One annotation of an object.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// True if a LabelSelector selects these labels. An operator that is not known selects nothing.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten().all(|wanted| {
        let value = labels.get(&wanted.key);
        let listed = |value: &String| wanted.values.as_ref().is_some_and(|values| values.contains(value));
        match wanted.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal && expressions
}
