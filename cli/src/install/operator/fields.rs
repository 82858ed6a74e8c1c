//! A tree of fields from which what is understood is taken: what is left has no effect here.

use serde_json::{Map, Value};

/// The tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Value);

impl Fields {
    pub(super) fn new(value: Value) -> Self {
        Self(value)
    }

    /// Takes what stands at a path (names, between dots); `null` is nothing.
    pub(super) fn take(&mut self, path: &str) -> Option<Value> {
        let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
        let mut place = &mut self.0;
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            place = place.get_mut(parent)?;
        }
        place.as_object_mut()?.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a value that says nothing because it is what is done anyway.
    pub(super) fn take_if(&mut self, path: &str, value: &Value) {
        if let Some(found) = self.take(path)
            && found != *value
        {
            self.put(path, found);
        }
    }

    /// Puts something at a path, over what is there.
    pub(super) fn put(&mut self, path: &str, value: Value) {
        let mut inner = value;
        for name in path.rsplit('.') {
            inner = Value::Object(Map::from_iter([(name.to_owned(), inner)]));
        }
        over(&mut self.0, inner);
    }

    /// The paths of all that is left.
    pub(super) fn left(&self) -> Vec<String> {
        let mut paths = Vec::new();
        leaves(&self.0, String::new(), &mut paths);
        paths
    }

    pub(super) fn into_value(self) -> Value {
        self.0
    }
}

/// Lays objects over one another; lists and words are replaced.
pub(super) fn over(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (name, value) in more {
                over(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

fn leaves(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, inner, paths);
            }
        }
        Value::Null => {}
        _ => paths.push(path),
    }
}
