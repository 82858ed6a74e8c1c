//! What files come to.

use serde_json::{Value, json};

use super::{Read, read};

fn of(spec: &str) -> Read {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    read(&[&format!("apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n{indented}")]).unwrap()
}

fn ignored(read: &Read) -> Vec<&str> {
    read.ignored.iter().map(|(path, _)| path.as_str()).collect()
}

/// What the chart's own test values say for the tutorial.
#[test]
fn the_tutorials_file_comes_to_the_charts_values_for_it() {
    let read = of("profile: default\n\
        meshConfig: {enableTracing: false, accessLogFile: /dev/stdout}\n\
        values:\n  gateways:\n    istio-ingressgateway: {type: NodePort, enabled: true}\n  \
        pilot: {env: {PILOT_ENABLE_GATEWAY_API: \"true\"}}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/ferromesh/ci/tutorial-values.yaml");
    let wanted: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(Value::Object(read.values.clone()), wanted);
    assert_eq!(ignored(&read), Vec::<&str>::new());
}

#[test]
fn profiles_have_their_gateways() {
    let gateways = |profile: &str| -> Vec<String> {
        let read = of(&format!("profile: {profile}"));
        read.values.get("gateways").and_then(Value::as_object).into_iter().flat_map(|all| all.keys().cloned()).collect()
    };
    assert_eq!(gateways("default"), ["istio-ingressgateway"]);
    assert_eq!(gateways("demo"), ["istio-egressgateway", "istio-ingressgateway"]);
    assert!(gateways("minimal").is_empty());
    let bad = read(&["apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: ambient}\n"]);
    assert!(bad.unwrap_err().to_string().contains("no profile \"ambient\" here; there are: default, demo"));
}

#[test]
fn components_and_values_become_gateways() {
    let read = of("components:\n  ingressGateways:\n  - name: istio-ingressgateway\n    enabled: false\n  \
        - name: private\n    namespace: edge\n    enabled: true\n    label: {istio: private}\n    k8s:\n      \
        replicaCount: 3\n      hpaSpec: {maxReplicas: 4}\n      service:\n        type: ClusterIP\n        \
        ports: [{name: http2, port: 80, targetPort: 8080, protocol: TCP}, {name: dns, port: 53, protocol: UDP}]");
    let gateways = read.values["gateways"].as_object().unwrap();
    assert_eq!(gateways.keys().collect::<Vec<_>>(), ["private"]);
    let private = &gateways["private"];
    assert_eq!(private["labels"], json!({"app": "private", "istio": "private"}));
    assert_eq!((&private["namespace"], &private["replicas"]), (&json!("edge"), &json!(3)));
    let ports = json!([{"name": "http2", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53}]);
    assert_eq!(private["service"], json!({"type": "ClusterIP", "ports": ports}));
    let list = "spec.components.ingressGateways[1]";
    assert_eq!(
        ignored(&read),
        [format!("{list}.k8s.hpaSpec.maxReplicas"), format!("{list}.k8s.service.ports[1].protocol")]
    );
}

#[test]
fn what_has_a_counterpart_is_set_and_all_else_is_named() {
    let read = of("hub: docker.io/istio\nrevision: canary\nnamespace: mesh\ncompatibilityVersion: \"1.20\"\n\
        components:\n  cni: {enabled: true, namespace: kube-system}\n  pilot:\n    k8s:\n      replicaCount: 3\n      \
        env: [{name: PILOT_TRACE_SAMPLING, value: \"1\"}, {name: PILOT_ENABLE_GATEWAY_API, value: \"true\"}]\n\
        meshConfig:\n  trustDomain: td\n  enableTracing: true\n  discoverySelectors: [{matchLabels: {a: b}}]\n  \
        defaultConfig: {discoveryAddress: \"istiod:15012\", concurrency: 2}\n\
        values:\n  cni: {cniBinDir: /opt/cni/bin2}\n  pilot: {env: {PILOT_FILTER_X: \"1\"}, autoscaleEnabled: false}\n  \
        global: {hub: h, imagePullSecrets: [s], proxy: {logLevel: debug, privileged: true}}\n\
        unvalidatedValues: {global: {multiCluster: {clusterName: west}}}");
    let values = Value::Object(read.values.clone());
    for (path, wanted) in [
        ("/revision", json!("canary")),
        ("/istioNamespace", json!("mesh")),
        ("/cni", json!({"enabled": true, "namespace": "kube-system", "binDir": "/opt/cni/bin2"})),
        ("/controller/replicas", json!(3)),
        ("/trustDomain", json!("td")),
        ("/meshConfig/defaultConfig", json!({"concurrency": 2})),
        ("/clusterName", json!("west")),
        ("/image/pullSecrets", json!(["s"])),
        ("/injector/settings", json!({"logLevel": "debug"})),
    ] {
        assert_eq!(values.pointer(path), Some(&wanted), "{path}: {values}");
    }
    assert_eq!(
        ignored(&read),
        [
            "spec.compatibilityVersion",
            "spec.components.pilot.k8s.env[PILOT_TRACE_SAMPLING]",
            "spec.hub",
            "spec.meshConfig.defaultConfig.discoveryAddress",
            "spec.meshConfig.discoverySelectors",
            "spec.meshConfig.enableTracing",
            "spec.values.global.hub",
            "spec.values.global.proxy.privileged",
            "spec.values.pilot.env.PILOT_FILTER_X",
        ]
    );
}

#[test]
fn files_that_cannot_be_used_say_why() {
    let head = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n";
    for (text, needle) in [
        ("kind: [".to_owned(), "line 1"),
        ("apiVersion: v1\nkind: Service\n".to_owned(), "not v1 Service"),
        (format!("{head}spec: [1]\n"), "spec: an object is wanted"),
        (format!("{head}spec: {{components: {{ingressGateways: {{}}}}}}\n"), "spec.components.ingressGateways: a list"),
        (format!("{head}spec: {{components: {{egressGateways: [{{enabled: true}}]}}}}\n"), "egressGateways[0].name"),
        (format!("{head}spec: {{meshConfig: {{enableAutoMtls: [1]}}}}\n"), "spec.meshConfig: "),
        (format!("{head}spec: {{values: {{global: {{network: [a]}}}}}}\n"), "spec.values: "),
    ] {
        let error = read(&[&text]).unwrap_err().to_string();
        assert!(error.contains(needle), "{needle}: {error}");
    }
}

#[test]
fn a_later_file_wins() {
    let one = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: minimal, revision: one}\n";
    let read = read(&[one, &one.replace("one", "two")]).unwrap();
    assert_eq!(Value::Object(read.values), json!({"revision": "two"}));
}
