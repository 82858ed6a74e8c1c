use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

fn pod(metadata: Value, spec: Value) -> Pod {
    serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })).unwrap()
}

fn simple() -> Value {
    json!({ "containers": [{ "name": "app", "image": "a", "ports": [{ "name": "http", "containerPort": 80 }] }] })
}

fn annotated(annotations: Value) -> Pod {
    pod(json!({ "name": "p", "annotations": annotations }), simple())
}

fn run(pod: &Pod) -> Pod {
    inject(pod, "shop", &Mesh::default()).unwrap().pod
}

fn proxy(pod: &Pod) -> Container {
    proxy_of(&mut pod.spec.clone().unwrap()).unwrap().clone()
}

fn init_args(pod: &Pod) -> String {
    let init = pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap();
    init.iter().find(|one| one.name == INIT_CONTAINER).unwrap().args.clone().unwrap().join(" ")
}

fn env(pod: &Pod, name: &str) -> Option<String> {
    proxy(pod).env?.into_iter().find(|var| var.name == name)?.value
}

#[test]
fn injecting_again_changes_nothing() {
    let probe = json!({ "httpGet": { "path": "/ok", "port": "http" } });
    let mut spec = simple();
    spec["containers"][0]["readinessProbe"] = probe;
    spec["containers"].as_array_mut().unwrap().push(json!({ "name": "istio-proxy", "image": "auto",
        "resources": { "requests": { "cpu": "7m" } }, "env": [{ "name": "A", "value": "b" }] }));
    let annotations = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "8080" });
    for native in ["true", "false"] {
        let mut annotations = annotations.clone();
        annotations["sidecar.istio.io/nativeSidecar"] = native.into();
        let once = run(&pod(json!({ "name": "p", "annotations": annotations }), spec.clone()));
        let twice = run(&once);
        let patch = patch(&once, &twice).unwrap();
        assert!(patch.0.is_empty(), "{}", serde_json::to_string_pretty(&patch).unwrap());
        assert_eq!(env(&once, "A").as_deref(), Some("b"));
        assert!(env(&once, "ISTIO_KUBE_APP_PROBERS").unwrap().contains("\"port\":80"));
        assert!(env(&once, "ISTIO_PROMETHEUS_ANNOTATIONS").unwrap().contains("8080"));
    }
}

#[test]
fn traffic_annotations_reach_the_init_program() {
    let args = init_args(&run(&annotated(json!({
        "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8, fd00::/8",
        "traffic.sidecar.istio.io/excludeInboundPorts": "9000,15020",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "5432",
        "traffic.sidecar.istio.io/includeOutboundPorts": "80",
        "traffic.sidecar.istio.io/excludeInterfaces": "net1",
        "istio.io/reroute-virtual-interfaces": "tap0",
        "proxy.istio.io/config": "proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}",
    }))));
    for part in [
        "-i 10.0.0.0/8,fd00::/8 ",
        "-d 15090,15021,9000,15020 ",
        "-o 5432 ",
        "-q 80 ",
        "-c net1 ",
        "-k tap0 ",
        "--redirect-dns",
    ] {
        assert!(format!("{args} ").contains(part), "{part} in {args}");
    }
}

#[test]
fn nothing_is_redirected_in_mode_none() {
    let pod = run(&annotated(json!({ "sidecar.istio.io/interceptionMode": "NONE" })));
    let init = pod.spec.as_ref().unwrap().init_containers.clone().unwrap();
    assert_eq!(init.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), [PROXY_CONTAINER]);
    assert_eq!(env(&pod, "ISTIO_META_INTERCEPTION_MODE").as_deref(), Some("NONE"));
}

#[test]
fn the_proxy_starts_before_the_applications_init_containers_only_where_it_can_serve_them() {
    let names = |native: &str| {
        let mut spec = simple();
        spec["initContainers"] = json!([{ "name": "migrate", "image": "m" }]);
        let annotations = json!({ "sidecar.istio.io/nativeSidecar": native });
        let spec = run(&pod(json!({ "name": "p", "annotations": annotations }), spec)).spec.unwrap();
        let of = |list: &[Container]| list.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        (of(&spec.init_containers.unwrap()), of(&spec.containers))
    };
    let (init, containers) = names("true");
    assert_eq!((init.join(" "), containers.join(" ")), ("istio-init istio-proxy migrate".into(), "app".to_owned()));
    let (init, containers) = names("false");
    assert_eq!((init.join(" "), containers.join(" ")), ("migrate istio-init".into(), "app istio-proxy".to_owned()));
}

#[test]
fn the_application_waits_for_a_proxy_that_is_not_native_if_asked() {
    let pod = run(&annotated(json!({
        "sidecar.istio.io/nativeSidecar": "false",
        "proxy.istio.io/config": "holdApplicationUntilProxyStarts: true",
    })));
    assert_eq!(pod.spec.as_ref().unwrap().containers[0].name, PROXY_CONTAINER);
    let command = proxy(&pod).lifecycle.unwrap().post_start.unwrap().exec.unwrap().command.unwrap();
    assert_eq!(command, ["/ferromesh-proxy", "wait"]);
}

#[test]
fn resources_of_the_annotations_replace_those_of_the_mesh_whole() {
    let resources = proxy(&run(&annotated(json!({ "sidecar.istio.io/proxyCPU": "300m" })))).resources.unwrap();
    assert_eq!(resources.requests.unwrap().len(), 1);
    assert_eq!(resources.limits, None);
}

#[test]
fn only_what_must_be_has_a_right() {
    let pod = run(&annotated(json!({})));
    let rights = proxy(&pod).security_context.unwrap();
    assert_eq!((rights.run_as_user, rights.run_as_non_root), (Some(PROXY_UID), Some(true)));
    assert_eq!(rights.capabilities.unwrap().add, None);
    let init = pod.spec.unwrap().init_containers.unwrap().remove(0);
    let rights = init.security_context.unwrap();
    assert_eq!(rights.capabilities.unwrap().add.unwrap(), ["NET_ADMIN"]);
    assert_eq!(rights.read_only_root_filesystem, Some(true));
}

#[test]
fn with_the_node_agent_no_container_has_a_right_at_all() {
    let mut mesh = Mesh::default();
    mesh.settings.redirect_by = crate::settings::RedirectBy::NodeAgent;
    let spec = inject(&annotated(json!({})), "shop", &mesh).unwrap().pod.spec.unwrap();
    let init = spec.init_containers.unwrap();
    assert_eq!(init[0].name, VALIDATION_CONTAINER);
    for container in init {
        let rights = container.security_context.unwrap();
        assert_eq!(rights.run_as_non_root, Some(true), "{}", container.name);
        assert_eq!(rights.capabilities.unwrap().add, None, "{}", container.name);
    }
}

#[test]
fn every_kind_of_probe_goes_to_the_agent_but_exec_and_unknown_ports() {
    let spec = json!({ "containers": [{ "name": "app", "image": "a",
        "ports": [{ "name": "web", "containerPort": 8080 }],
        "readinessProbe": { "httpGet": { "path": "/r", "port": "web", "scheme": "HTTPS" }, "timeoutSeconds": 2 },
        "livenessProbe": { "tcpSocket": { "port": 5432 } },
        "startupProbe": { "grpc": { "port": 9000, "service": "s" } },
        "lifecycle": { "preStop": { "httpGet": { "path": "/bye", "port": 8080 } } } },
      { "name": "b", "image": "b", "readinessProbe": { "exec": { "command": ["true"] } },
        "livenessProbe": { "httpGet": { "path": "/", "port": "nowhere" } } }] });
    let pod = run(&pod(json!({ "name": "p" }), spec));
    let probers: Value = serde_json::from_str(&env(&pod, "ISTIO_KUBE_APP_PROBERS").unwrap()).unwrap();
    assert_eq!(probers["/app-health/app/readyz"]["httpGet"], json!({ "path": "/r", "port": 8080, "scheme": "HTTPS" }));
    assert_eq!(probers["/app-health/app/readyz"]["timeoutSeconds"], 2);
    assert_eq!(probers["/app-health/app/livez"]["tcpSocket"]["port"], 5432);
    assert_eq!(probers["/app-health/app/startupz"]["grpc"], json!({ "port": 9000, "service": "s" }));
    assert_eq!(probers["/app-lifecycle/app/prestopz"]["httpGet"]["path"], "/bye");
    assert_eq!(probers.as_object().unwrap().len(), 4);
    let containers = pod.spec.unwrap().containers;
    let readiness = containers[0].readiness_probe.clone().unwrap().http_get.unwrap();
    assert_eq!(readiness.scheme.as_deref(), Some("HTTP"));
    assert_eq!(readiness.path.as_deref(), Some("/app-health/app/readyz"));
    assert_eq!(containers[0].liveness_probe.as_ref().unwrap().tcp_socket, None);
    assert!(containers[1].readiness_probe.as_ref().unwrap().exec.is_some());
    assert_eq!(containers[1].liveness_probe.as_ref().unwrap().http_get.as_ref().unwrap().path.as_deref(), Some("/"));
}

#[test]
fn metrics_of_the_application_are_told_to_the_agent_and_a_port_of_the_proxy_is_refused() {
    let pod = run(&annotated(json!({ "prometheus.io/port": "8080", "prometheus.io/path": "/m" })));
    let annotations = pod.metadata.annotations.clone().unwrap();
    assert_eq!(annotations["prometheus.io/port"], "15020");
    let told: Value = serde_json::from_str(&env(&pod, "ISTIO_PROMETHEUS_ANNOTATIONS").unwrap()).unwrap();
    assert_eq!(told, json!({ "scrape": "", "path": "/m", "port": "8080" }));
    let off = run(&annotated(json!({ "prometheus.io/scrape": "false" })));
    assert!(!off.metadata.annotations.unwrap().contains_key("prometheus.io/port"));
    for port in ["15090", "0", "http"] {
        let refused = inject(&annotated(json!({ "prometheus.io/port": port })), "shop", &Mesh::default()).unwrap_err();
        assert!(refused.to_string().contains("prometheus.io/port"), "{refused}");
    }
}

#[test]
fn proxy_config_is_laid_over_the_meshs_and_istiods_address_is_read_as_ours() {
    let mesh = Mesh::read("", "defaultConfig: {concurrency: 1, proxyMetadata: {A: mesh}}").unwrap();
    let config = "concurrency: 4\ndiscoveryAddress: istiod.istio-system.svc:15012\nproxyMetadata: {B: pod}";
    let injected = inject(&annotated(json!({ "proxy.istio.io/config": config })), "shop", &mesh).unwrap();
    let told: Value = serde_json::from_str(&env(&injected.pod, "PROXY_CONFIG").unwrap()).unwrap();
    assert_eq!(told["concurrency"], 4);
    assert_eq!(told["discoveryAddress"], "ferromesh-controller.ferromesh-system.svc:15012");
    assert_eq!(env(&injected.pod, "A").as_deref(), Some("mesh"));
    assert_eq!(env(&injected.pod, "B").as_deref(), Some("pod"));
    assert!(injected.warnings[0].contains("discoveryAddress"), "{:?}", injected.warnings);
    let bad = annotated(json!({ "proxy.istio.io/config": "drainDuration: soon" }));
    let text = inject(&bad, "shop", &mesh).unwrap_err().to_string();
    assert!(text.contains("proxy.istio.io/config") && text.contains("soon"), "{text}");
}

#[test]
fn a_container_of_the_proxys_name_is_laid_over_it() {
    let mut spec = simple();
    spec["containers"].as_array_mut().unwrap().push(json!({ "name": "istio-proxy", "image": "auto", "args": ["proxy"],
        "securityContext": { "runAsUser": 2000 }, "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }));
    let pod = run(&pod(json!({ "name": "p" }), spec.clone()));
    let proxy = proxy(&pod);
    assert_eq!(proxy.image.as_deref(), Some("ferromesh/proxy:latest"));
    assert_eq!(proxy.args.unwrap(), ["proxy"]);
    assert!(proxy.volume_mounts.unwrap().len() > 3);
    assert!(init_args(&pod).contains("-u 2000"), "the user that is exempt");
    spec["containers"][1]["command"] = json!(["/bin/sh"]);
    let refused = inject(&super::tests::pod(json!({ "name": "p" }), spec), "shop", &Mesh::default()).unwrap_err();
    assert!(refused.to_string().contains("istio-proxy: command"), "{refused}");
}

#[test]
fn images_by_name_type_and_reference() {
    let image = |annotations: Value| {
        let mesh = Mesh::read("proxyImage: reg.example:5000/mesh/proxy:1.2", "").unwrap();
        proxy(&inject(&annotated(annotations), "shop", &mesh).unwrap().pod).image.unwrap()
    };
    assert_eq!(image(json!({})), "reg.example:5000/mesh/proxy:1.2");
    assert_eq!(image(json!({ "sidecar.istio.io/proxyImage": "other/proxy:2" })), "other/proxy:2");
    assert_eq!(image(json!({ "sidecar.istio.io/proxyImage": "proxy-debug" })), "reg.example:5000/mesh/proxy-debug:1.2");
    assert_eq!(image(json!({ "sidecar.istio.io/proxyImageType": "debug" })), "reg.example:5000/mesh/proxy:1.2-debug");
}

#[test]
fn a_patch_touches_nothing_that_this_version_does_not_know() {
    let mut raw = json!({ "metadata": { "name": "p" }, "spec": simple() });
    raw["spec"]["fieldOfTomorrow"] = json!({ "a": 1 });
    raw["spec"]["containers"][0]["another"] = json!(true);
    let before: Pod = serde_json::from_value(raw.clone()).unwrap();
    let patch = patch(&before, &run(&before)).unwrap();
    json_patch::patch(&mut raw, &patch).unwrap();
    assert_eq!(raw["spec"]["fieldOfTomorrow"], json!({ "a": 1 }));
    assert_eq!(raw["spec"]["containers"][0]["another"], true);
    assert_eq!(raw["spec"]["initContainers"][1]["name"], PROXY_CONTAINER);
}
