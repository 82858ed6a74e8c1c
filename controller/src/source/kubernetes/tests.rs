//! What is kept of an object, and what becomes of one that cannot be read.

use super::read::object;
use super::{SecretScope, resources};
use crate::index::{Kind, Object};
use serde_json::json;

#[test]
fn a_pod_keeps_what_the_mesh_needs_and_nothing_else() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "namespace": "demo", "resourceVersion": "7", "labels": {"app": "a"},
            "managedFields": [{"manager": "x"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "b": "c"},
        },
        "spec": {
            "serviceAccountName": "sa",
            "containers": [{"name": "c", "image": "i", "env": [{"name": "K", "value": "s3cret"}], "ports": [{"containerPort": 80}]}],
        },
        "status": {"podIP": "10.0.0.1", "phase": "Running", "containerStatuses": [],
            "conditions": [{"type": "Ready", "status": "True", "message": "m"}, {"type": "PodScheduled", "status": "True"}]},
    });
    let read = object(Kind::Pod, &pod.to_string()).unwrap();
    let kept = read.object.to_json().unwrap();
    assert_eq!(
        kept,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "demo", "labels": {"app": "a"}, "annotations": {"b": "c"}},
            "spec": {"serviceAccountName": "sa", "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
            "status": {"podIP": "10.0.0.1", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        })
    );
}

#[test]
fn a_status_that_we_write_is_not_part_of_the_object() {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "demo", "resourceVersion": "9", "generation": 3},
        "spec": {"rules": [], "later": 1}, "status": {"parents": [{"controllerName": "other"}]},
    });
    let read = object(Kind::HttpRoute, &route.to_string()).unwrap();
    let Object::HttpRoute(typed) = &read.object else { panic!("not a route") };
    assert!(typed.status.is_none());
    let seen = read.seen.unwrap();
    assert_eq!((seen.version.as_str(), seen.generation), ("9", 3));
    assert_eq!(seen.status["parents"][0]["controllerName"], "other");
    assert_eq!(read.unknown, ["spec.later"]);
}

#[test]
fn an_object_that_cannot_be_read_is_an_error_and_no_panic() {
    let deep = format!("{{\"metadata\":{{\"name\":\"d\"}},\"spec\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(object(Kind::EnvoyFilter, &deep).is_err());
    assert!(object(Kind::Service, "{\"spec\":{\"ports\":[{\"port\":\"eighty\"}]}}").is_err());
}

#[test]
fn of_a_secret_only_what_tls_can_use_is_kept() {
    let secret = json!({"metadata": {"name": "s"}, "data": {"tls.crt": "YQ==", "password": "YQ=="}});
    let read = object(Kind::Secret, &secret.to_string()).unwrap();
    let Object::Secret(secret) = &read.object else { panic!("not a secret") };
    assert_eq!(secret.data.as_ref().unwrap().keys().collect::<Vec<_>>(), ["tls.crt"]);
}

#[test]
fn the_scope_of_secrets_is_written_as_in_the_chart() {
    assert_eq!(SecretScope::parse(""), SecretScope::None);
    assert_eq!(SecretScope::parse("*"), SecretScope::All);
    let some = SecretScope::parse("a, b");
    assert!(some.covers("a") && some.covers("b") && !some.covers("c"));
}

#[test]
fn every_kind_has_a_path() {
    for kind in Kind::ALL {
        let path = resources(*kind)[0].all(None).path();
        assert!(path.ends_with(kind.plural()) && !kind.plural().is_empty(), "{path}");
    }
    assert_eq!(resources(Kind::GrpcRoute)[0].all(None).path(), "/apis/gateway.networking.k8s.io/v1/grpcroutes");
}
