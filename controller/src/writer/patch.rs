//! What to write, pure: the status that is wanted and the one that is there in, a patch out, or nothing. A condition
//! that does not change keeps the time that the API server has for it, so that a new replica changes no times.

use serde_json::{Map, Value, json};

use crate::index::Kind;
use crate::source::kubernetes::Seen;

/// How a status is written.
#[derive(Debug, PartialEq)]
pub(super) enum Patch {
    /// Server-side apply of these fields.
    Apply(Value),
    /// A merge into the version that was seen: the list of parents is one field, which controllers share.
    Merge(Value),
}

/// The patch that makes the status what is wanted; `controllers` are those that we speak for.
pub(super) fn patch(kind: Kind, wanted: &Value, seen: &Seen, controllers: &[&str]) -> Option<Patch> {
    match kind {
        Kind::HttpRoute | Kind::GrpcRoute => route(wanted, &seen.status, controllers).map(Patch::Merge),
        _ => apply(wanted, &seen.status).map(Patch::Apply),
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Parents of other controllers stay, ours are replaced.
fn route(wanted: &Value, there: &Value, controllers: &[&str]) -> Option<Value> {
    let ours = |parent: &&Value| {
        let controller = parent["controllerName"].as_str().unwrap_or_default();
        controllers.contains(&controller)
    };
    let before: Vec<&Value> = list(there, "parents").iter().filter(ours).collect();
    let after: Vec<Value> = list(wanted, "parents")
        .iter()
        .map(|parent| {
            let same = |old: &&&Value| {
                old["parentRef"] == parent["parentRef"] && old["controllerName"] == parent["controllerName"]
            };
            with_times(parent, before.iter().find(same).copied().unwrap_or(&Value::Null))
        })
        .collect();
    if before.len() == after.len() && before.iter().all(|old| after.contains(old)) {
        return None;
    }
    let others = list(there, "parents").iter().filter(|parent| !ours(parent)).cloned();
    Some(json!({"parents": others.chain(after).collect::<Vec<_>>()}))
}

/// The whole status, if a field that we own differs.
fn apply(wanted: &Value, there: &Value) -> Option<Value> {
    let mut wanted = with_times(wanted, there);
    if let Some(listeners) = wanted.get_mut("listeners").and_then(Value::as_array_mut) {
        for listener in listeners {
            let old = list(there, "listeners").iter().find(|old| old["name"] == listener["name"]);
            *listener = with_times(listener, old.unwrap_or(&Value::Null));
        }
    }
    let differs = wanted.as_object().is_some_and(|fields| differs(fields, there));
    differs.then_some(wanted)
}

fn differs(wanted: &Map<String, Value>, there: &Value) -> bool {
    wanted.iter().any(|(field, value)| match field.as_str() {
        // Others may have conditions there, too.
        "conditions" => !list(&json!({"conditions": value}), "conditions")
            .iter()
            .all(|condition| list(there, "conditions").contains(condition)),
        "listeners" => {
            let (new, old) = (value.as_array().map(Vec::as_slice).unwrap_or_default(), list(there, "listeners"));
            new.len() != old.len() || !new.iter().all(|listener| old.contains(listener))
        }
        _ => match there.get(field) {
            Some(old) => old != value,
            None => !value.is_null() && *value != json!([]),
        },
    })
}

/// The value with the times that its conditions have in `there`, where they say the same.
fn with_times(value: &Value, there: &Value) -> Value {
    let mut value = value.clone();
    for condition in value.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let old = list(there, "conditions")
            .iter()
            .find(|old| old["type"] == condition["type"] && old["status"] == condition["status"]);
        if let Some(time) = old.map(|old| old["lastTransitionTime"].clone()).filter(Value::is_string) {
            condition["lastTransitionTime"] = time;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferromesh_api::conditions::{FERROMESH_CONTROLLER, ISTIO_CONTROLLER};

    fn patch(kind: Kind, wanted: &Value, seen: &Seen) -> Option<Patch> {
        super::patch(kind, wanted, seen, &[ISTIO_CONTROLLER, FERROMESH_CONTROLLER])
    }

    fn condition(type_: &str, status: &str, time: &str) -> Value {
        json!({"type": type_, "status": status, "reason": "R", "message": "", "observedGeneration": 1, "lastTransitionTime": time})
    }

    fn seen(status: Value) -> Seen {
        Seen { version: "1".into(), generation: 1, status }
    }

    fn parent(controller: &str, status: &str, time: &str) -> Value {
        json!({"parentRef": {"name": "g"}, "controllerName": controller, "conditions": [condition("Accepted", status, time)]})
    }

    #[test]
    fn a_status_that_says_the_same_is_not_written_whatever_its_times() {
        let there = json!({"conditions": [condition("Accepted", "True", "old"), condition("Theirs", "True", "x")], "addresses": []});
        let wanted = json!({"conditions": [condition("Accepted", "True", "new")], "addresses": []});
        assert_eq!(patch(Kind::Gateway, &wanted, &seen(there.clone())), None);
        let wanted = json!({"conditions": [condition("Accepted", "False", "new")], "addresses": []});
        assert_eq!(patch(Kind::Gateway, &wanted, &seen(there)), Some(Patch::Apply(wanted)));
    }

    #[test]
    fn a_listener_that_is_gone_is_written() {
        let listener = |name: &str| json!({"name": name, "conditions": [condition("Accepted", "True", "t")]});
        let there = json!({"listeners": [listener("a"), listener("b")]});
        assert_eq!(
            patch(Kind::Gateway, &json!({"listeners": [listener("b"), listener("a")]}), &seen(there.clone())),
            None
        );
        assert!(patch(Kind::Gateway, &json!({"listeners": [listener("a")]}), &seen(there)).is_some());
    }

    #[test]
    fn of_a_route_the_parents_of_others_stay() {
        let there =
            json!({"parents": [parent("example.com/other", "True", "x"), parent(ISTIO_CONTROLLER, "True", "old")]});
        let same = json!({"parents": [parent(ISTIO_CONTROLLER, "True", "new")]});
        assert_eq!(patch(Kind::HttpRoute, &same, &seen(there.clone())), None);
        let other = json!({"parents": [parent(ISTIO_CONTROLLER, "False", "new")]});
        let expected =
            json!({"parents": [parent("example.com/other", "True", "x"), parent(ISTIO_CONTROLLER, "False", "new")]});
        assert_eq!(patch(Kind::HttpRoute, &other, &seen(there.clone())), Some(Patch::Merge(expected)));
        let none = json!({"parents": [parent("example.com/other", "True", "x")]});
        assert_eq!(patch(Kind::HttpRoute, &json!({"parents": []}), &seen(there)), Some(Patch::Merge(none)));
        assert_eq!(patch(Kind::HttpRoute, &json!({"parents": []}), &seen(Value::Null)), None);
    }

    #[test]
    fn what_a_real_istio_says_of_a_route_stays_where_its_class_is_left_to_it() {
        let there =
            json!({"parents": [parent(ISTIO_CONTROLLER, "True", "x"), parent(FERROMESH_CONTROLLER, "True", "y")]});
        let wanted = json!({"parents": [parent(FERROMESH_CONTROLLER, "False", "new")]});
        let expected =
            json!({"parents": [parent(ISTIO_CONTROLLER, "True", "x"), parent(FERROMESH_CONTROLLER, "False", "new")]});
        let found = super::patch(Kind::HttpRoute, &wanted, &seen(there), &[FERROMESH_CONTROLLER]);
        assert_eq!(found, Some(Patch::Merge(expected)));
    }
}
