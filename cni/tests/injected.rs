//! What the injector makes of a pod, and what the node's agent makes of that: the same as the pod's own init container would.

use clap::Parser;
use ferromesh_cni::decide::{Decision, decide};
use ferromesh_injector::inject::inject;
use ferromesh_injector::settings::RedirectBy;
use ferromesh_injector::{Mesh, Settings};
use ferromesh_redirect::args::Args;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

fn mesh(redirect_by: RedirectBy) -> Mesh {
    let settings =
        Settings { redirect_by, exclude_outbound_ip_ranges: "169.254.169.254/32".into(), ..Settings::default() };
    Mesh { settings, ..Mesh::default() }
}

fn pod(annotations: &Value) -> Pod {
    let pod = json!({
        "metadata": {"name": "a", "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "i"}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn injected(annotations: &Value, by: RedirectBy) -> Pod {
    inject(&pod(annotations), "shop", &mesh(by)).unwrap().pod
}

/// What `istio-init` would do in that pod.
fn by_its_own(annotations: &Value) -> ferromesh_redirect::Plan {
    let pod = injected(annotations, RedirectBy::InitContainer);
    let init = pod.spec.unwrap().init_containers.unwrap().into_iter().find(|one| one.name == "istio-init").unwrap();
    Args::try_parse_from(std::iter::once("ferromesh-init".to_owned()).chain(init.args.unwrap())).unwrap().plan()
}

fn annotations() -> impl Strategy<Value = Value> {
    let ports = || prop_oneof![Just(String::new()), Just("80,8443".into()), Just("9000".into())];
    let all_or = |some: &'static str| prop::sample::select(vec!["*", some]);
    let ranges = prop::sample::select(vec!["", "10.0.0.0/8", "10.1.0.0/16,fd00::/8"]);
    let mode = prop::sample::select(vec!["REDIRECT", "TPROXY"]);
    let config = prop::sample::select(vec!["{}", r#"{"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}"#]);
    let parts = (all_or("10.2.0.0/16"), ranges, all_or("80,81"), ports(), ports(), ports(), mode, config);
    parts.prop_map(|(include, exclude, inbound, no_inbound, outbound, no_outbound, mode, config)| {
        json!({
            "traffic.sidecar.istio.io/includeOutboundIPRanges": include,
            "traffic.sidecar.istio.io/excludeOutboundIPRanges": exclude,
            "traffic.sidecar.istio.io/includeInboundPorts": inbound,
            "traffic.sidecar.istio.io/excludeInboundPorts": no_inbound,
            "traffic.sidecar.istio.io/includeOutboundPorts": outbound,
            "traffic.sidecar.istio.io/excludeOutboundPorts": no_outbound,
            "traffic.sidecar.istio.io/excludeInterfaces": "net1",
            "sidecar.istio.io/interceptionMode": mode,
            "proxy.istio.io/config": config,
        })
    })
}

proptest! {
    #[test]
    fn the_node_redirects_as_the_init_container_would(annotations in annotations()) {
        let found = decide(&injected(&annotations, RedirectBy::NodeAgent)).unwrap();
        prop_assert_eq!(found, Decision::Redirect(Box::new(by_its_own(&annotations))));
    }
}

fn left(pod: &Pod) -> &'static str {
    match decide(pod).unwrap() {
        Decision::Leave(reason) => reason,
        Decision::Redirect(plan) => panic!("{plan:?}"),
    }
}

#[test]
fn pods_that_are_not_ours_are_left_alone_and_the_reason_is_said() {
    assert_eq!(left(&pod(&json!({}))), "no sidecar was injected");
    assert!(left(&injected(&json!({}), RedirectBy::InitContainer)).contains("its own init container"));
    let no_capture = json!({"sidecar.istio.io/interceptionMode": "NONE"});
    assert!(left(&injected(&no_capture, RedirectBy::NodeAgent)).contains("or nothing does"));
    let gateway = json!({"inject.istio.io/templates": "gateway"});
    assert!(left(&injected(&gateway, RedirectBy::NodeAgent)).contains("or nothing does"));
    let mut theirs = injected(&json!({}), RedirectBy::NodeAgent);
    for container in theirs.spec.as_mut().unwrap().init_containers.as_mut().unwrap() {
        container.command = None;
        container.args = container.args.take().map(|args| [vec!["istio-iptables".to_owned()], args].concat());
    }
    assert!(left(&theirs).contains("another mesh"));
}

#[test]
fn words_that_cannot_be_understood_are_named() {
    let mut pod = injected(&json!({}), RedirectBy::NodeAgent);
    for container in pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap() {
        container.args = container.args.take().map(|args| [args, vec!["-q".into(), "http".into()]].concat());
    }
    let error = decide(&pod).unwrap_err().to_string();
    assert!(error.contains("istio-validation") && error.contains("http"), "{error}");
}
