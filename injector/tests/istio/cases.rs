//! Which input gives which result under which settings: what Istio's own test sets beside the files (its
//! `inject_test.go`), in our words. Every other input is taken as it is.

use std::collections::BTreeSet;
use std::path::Path;

use ferromesh_injector::{Mesh, values};
use serde_json::Value;

/// What must come out.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// The pods of this file.
    File(String),
    /// An error with this word in it.
    Error(&'static str),
}

/// One input.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its file.
    pub input: String,
    /// What must come out.
    pub wanted: Wanted,
    /// Istio's values that are set, as YAML.
    values: String,
    /// MeshConfig.
    mesh: &'static str,
    /// Our settings where Istio has flags of its daemon.
    settings: &'static str,
}

impl Case {
    /// The result's name tells cases apart.
    pub fn name(&self) -> String {
        match &self.wanted {
            Wanted::File(name) => name.clone(),
            Wanted::Error(_) => self.input.clone(),
        }
    }

    /// Settings and MeshConfig.
    pub fn mesh(&self) -> Mesh {
        let base = Mesh::read(&format!("{ISTIO}{}", self.settings), self.mesh).unwrap();
        let values: Value = serde_saphyr::from_str(&self.values).unwrap_or_default();
        base.with_values(&values::read(&values)).unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }
}

/// What Istio's charts set where ours set something else, so that only meaning is compared.
const ISTIO: &str = "proxyImage: registry.istio.io/testing/proxyv2:latest
discoveryAddress: istiod.istio-system.svc:15012
caAddress: istiod.istio-system.svc:15012
componentLogLevel: misc:error
seccompProfile: null
resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: '2', memory: 1Gi}}
initResources: {requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: '2', memory: 1Gi}}
";
const NOT_NATIVE: &str = "nativeSidecars: false";
const NODE_AGENT: &str = "redirectBy: nodeAgent";
const TPROXY: &str = "defaultConfig: {interceptionMode: TPROXY}";

/// Input, result, values, MeshConfig, settings.
const SET: [(&str, &str, &str, &str, &str); 42] = [
    ("hello", "hello.yaml.cni", "global: {network: network1}", "", NODE_AGENT),
    ("hello", "hello.yaml.proxyImageName", "global: {proxy: {image: proxyTest}}", "", ""),
    ("hello", "hello.yaml.proxyInitImageName", "global: {proxy_init: {image: proxyInitTest}}", "", ""),
    ("hello", "hello-tproxy.yaml", "", TPROXY, ""),
    ("hello", "hello-always.yaml", "global: {imagePullPolicy: Always}", "", ""),
    ("hello", "hello-never.yaml", "global: {imagePullPolicy: Never}", "", ""),
    ("hello", "hello-old-version.yaml", "", "", NOT_NATIVE),
    ("format-duration", "format-duration.yaml", "", "defaultConfig: {drainDuration: 23s}", ""),
    (
        "traffic-params",
        "traffic-params.yaml",
        "global: {proxy: {includeIPRanges: '127.0.0.1/24,10.96.0.1/24', excludeIPRanges: '10.96.0.2/24,10.96.0.3/24', excludeInboundPorts: '4,5,6', statusPort: 0}}",
        "",
        "",
    ),
    ("status_params", "status_params.yaml", STATUS, "", ""),
    ("kubevirtInterfaces", "kubevirtInterfaces.yaml", STATUS, "", ""),
    ("reroute-virtual-interfaces", "reroute-virtual-interfaces.yaml", STATUS, "", ""),
    ("hello", "hello-image-secrets-in-values.yaml", "@hello-image-secrets-in-values", "", ""),
    ("hello-image-pull-secret", "hello-multiple-image-secrets.yaml", "@hello-image-secrets-in-values", "", ""),
    ("hello", "hello-template-in-values.yaml", "@hello-template-in-values", "", ""),
    ("hello", "hello-mount-mtls-certs.yaml", "global: {mountMtlsCerts: true}", "", ""),
    ("hello", "hello-cncf-networks.yaml", "", "", NODE_AGENT),
    ("hello-existing-cncf-networks", "hello-existing-cncf-networks.yaml", "", "", NODE_AGENT),
    ("hello-existing-cncf-networks-json", "hello-existing-cncf-networks-json.yaml", "", "", NODE_AGENT),
    ("hello", "hello.proxyHoldsApplication.yaml", HOLD, "", ""),
    ("hello-probes", "hello-probes.proxyHoldsApplication.yaml", HOLD, "", ""),
    (
        "hello-probes-noProxyHoldApplication-ProxyConfig",
        "hello-probes-noProxyHoldApplication-ProxyConfig.yaml",
        HOLD,
        "",
        "",
    ),
    ("cronjob", "cronjob-old-version.yaml", "", "", NOT_NATIVE),
    ("daemonset", "daemonset-old-version.yaml", "", "", NOT_NATIVE),
    ("job", "job-old-version.yaml", "", "", NOT_NATIVE),
    ("pod", "pod-old-version.yaml", "", "", NOT_NATIVE),
    ("replicaset", "replicaset-old-version.yaml", "", "", NOT_NATIVE),
    ("statefulset", "statefulset-old-version.yaml", "", "", NOT_NATIVE),
    ("native-sidecar", "native-sidecar-old-version.yaml", "", "", NOT_NATIVE),
    (
        "traffic-annotations",
        "traffic-annotations.yaml",
        "",
        "defaultConfig: {proxyMetadata: {ISTIO_META_TLS_CLIENT_KEY: /etc/identity/client/keys/client-key.pem}}",
        "",
    ),
    ("proxy-override-runas", "proxy-override-runas.yaml.cni", "", "", NODE_AGENT),
    ("proxy-override-runas", "proxy-override-runas.yaml.tproxy", "", TPROXY, ""),
    ("proxy-override-args", "proxy-override-args-native.yaml", "", "", ""),
    ("merge-probers", "merge-probers.yaml", HOLD, "", ""),
    ("hello-tracing-disabled", "hello-tracing-disabled.yaml", "", "defaultConfig: {tracing: {}}", ""),
    ("hello-openshift", "hello-openshift.yaml", "", "", NODE_AGENT),
    ("hello-openshift-custom-injection", "hello-openshift-custom-injection.yaml", "", "", NODE_AGENT),
    ("hello-openshift-tproxy", "hello-openshift-tproxy.yaml", "", "", NODE_AGENT),
    ("hello-probes-localhost", "hello-probes-localhost.yaml", "", "inboundTrafficPolicy: {mode: LOCALHOST}", ""),
    ("proxy-resources-null-no-init", "proxy-resources-null-no-init.yaml", "@proxy-resources-null", "", ""),
    (
        "hello-otel-semconv",
        "hello-otel-semconv.yaml",
        "",
        "extensionProviders: [{name: otel, opentelemetry: {service: otel-collector.observability.svc.cluster.local, port: 4317, serviceAttributeEnrichment: OTEL_SEMANTIC_CONVENTIONS}}]",
        "",
    ),
    ("hello", "hello-fips-140-3.yaml", "", "", ""),
];

const STATUS: &str = "global: {proxy: {statusPort: 123, readinessInitialDelaySeconds: 100, readinessPeriodSeconds: 200, readinessFailureThreshold: 300}}";
const HOLD: &str = "global: {proxy: {holdApplicationUntilProxyStarts: true}}";

/// Inputs that are refused, and the word that says why.
const ERRORS: [(&str, &str); 5] = [
    ("traffic-annotations-bad-includeipranges", "includeoutboundipranges"),
    ("traffic-annotations-bad-excludeipranges", "excludeoutboundipranges"),
    ("traffic-annotations-bad-includeinboundports", "includeinboundports"),
    ("traffic-annotations-bad-excludeinboundports", "excludeinboundports"),
    ("traffic-annotations-bad-excludeoutboundports", "excludeoutboundports"),
];

/// Every input of the folder; each result file is somebody's.
pub fn all(folder: &Path) -> Vec<Case> {
    let names: BTreeSet<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut cases: Vec<Case> = SET
        .iter()
        .map(|&(input, wanted, values, mesh, settings)| Case {
            input: format!("{input}.yaml"),
            wanted: Wanted::File(format!("{wanted}.injected")),
            values: values.strip_prefix('@').map_or_else(|| values.to_owned(), |name| operator(folder, name)),
            mesh,
            settings,
        })
        .collect();
    for (input, word) in ERRORS {
        let (input, wanted) = (format!("{input}.yaml"), Wanted::Error(word));
        cases.push(Case { input, wanted, values: String::new(), mesh: "", settings: "" });
    }
    let taken: BTreeSet<String> = cases.iter().map(Case::name).collect();
    for input in names.iter().filter(|name| name.ends_with(".yaml") && !name.ends_with(".iop.yaml")) {
        let wanted = format!("{input}.injected");
        if !taken.contains(&wanted) && !taken.contains(input) {
            assert!(names.contains(&wanted), "{input} has no result");
            let values = input.strip_suffix(".yaml").filter(|name| names.contains(&format!("{name}.iop.yaml")));
            let values = values.map(|name| operator(folder, name)).unwrap_or_default();
            let (input, wanted) = (input.clone(), Wanted::File(wanted));
            cases.push(Case { input, wanted, values, mesh: "", settings: "" });
        }
    }
    let mine: BTreeSet<String> = cases.iter().map(Case::name).collect();
    let nobodys: Vec<&String> = names.iter().filter(|n| n.ends_with(".injected") && !mine.contains(*n)).collect();
    assert!(nobodys.is_empty(), "results that no case has: {nobodys:?}");
    cases
}

/// `spec.values` of an IstioOperator.
fn operator(folder: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(folder.join(format!("{name}.iop.yaml"))).unwrap();
    let object: Value = serde_saphyr::from_str(&text).unwrap();
    object["spec"]["values"].to_string()
}
