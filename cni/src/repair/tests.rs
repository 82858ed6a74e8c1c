use serde_json::json;

use super::*;

/// A pod of ours whose check is in this state, and was in that one.
fn pod(state: Value, last: Value, more: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "a", "annotations": {"sidecar.istio.io/status": "{}"},
            "ownerReferences": [{"controller": true, "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1"}]},
        "spec": {"containers": [], "initContainers": [{"name": "istio-validation", "command": ["/ferromesh-init"]}]},
        "status": {"initContainerStatuses": [
            {"name": "istio-validation", "state": state, "lastState": last, "ready": false, "image": "", "imageID": "", "restartCount": 1}]},
    });
    for (name, value) in more.as_object().unwrap() {
        pod["metadata"][name] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn ended(code: i32) -> Value {
    json!({"terminated": {"exitCode": code}})
}

#[test]
fn only_a_check_that_failed_and_was_not_passed_since_is_repaired() {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    for (state, last, broken) in [
        (ended(1), json!({}), true),
        (waiting.clone(), ended(1), true),
        (json!({"running": {}}), ended(1), true),
        (ended(0), ended(1), false),
        (waiting, json!({}), false),
        (json!({}), json!({}), false),
    ] {
        let found = step(&pod(state.clone(), last.clone(), json!({})), Repair::Delete);
        assert_eq!(found.is_some(), broken, "{state} {last}");
    }
}

#[test]
fn who_comes_back_is_deleted_who_does_not_is_labelled_once() {
    let broken = |more: Value| pod(ended(1), json!({}), more);
    let table = [
        (Repair::None, json!({}), None),
        (Repair::Label, json!({}), Some(Step::Label)),
        (Repair::Delete, json!({}), Some(Step::Delete)),
        (Repair::Delete, json!({"ownerReferences": null}), Some(Step::Label)),
        (Repair::Label, json!({"labels": {LABEL: "true"}}), None),
        (Repair::Delete, json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), None),
        (Repair::Delete, json!({"annotations": {}}), None),
    ];
    for (repair, more, expected) in table {
        assert_eq!(step(&broken(more.clone()), repair), expected, "{repair:?} {more}");
    }
}
