//! Where we differ from Istio, each with its reason. One that is no more fails the test.

/// A difference that is meant.
#[derive(Debug)]
pub struct Difference {
    /// Cases: a name, or `*`; a `*` at either end stands for anything.
    cases: &'static str,
    /// Paths of facts, the same.
    path: &'static str,
    /// Why.
    #[allow(dead_code, reason = "read by people")]
    reason: &'static str,
}

impl Difference {
    /// Whether it is this one.
    pub fn covers(&self, case: &str, path: &str) -> bool {
        fits(self.cases, case) && fits(self.path, path)
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        _ if pattern == "*" => true,
        (Some(end), Some(_)) => text.contains(end.trim_end_matches('*')),
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == pattern,
    }
}

const fn everywhere(path: &'static str, reason: &'static str) -> Difference {
    Difference { cases: "*", path, reason }
}

const fn of(cases: &'static str, path: &'static str, reason: &'static str) -> Difference {
    Difference { cases, path, reason }
}

const GO: &str = "it is a setting of Go's runtime";
const MOUNTS: &str = "what our proxy does not use is not mounted, and what it mounts is read only";
const PROGRAM: &str = "the program is ours, called by its own name";
const NATIVE: &str = "Istio's agent finds out by itself that it is native, ours is told";
const TOLD: &str = "why it failed is seen by kubectl describe";
const INIT: &str = "the init program has small resources of its own (initResources), whatever the proxy has";
const GATEWAY: &str = "a gateway has no more rights than a sidecar";
const KEPT: &str = "the user's container is kept whole, the word auto too";
const PORT: &str = "the agent listens where the mesh's value says, and scrapes and probes go there";
const REFUSED: &str = "a template that is not here is refused by name";
const OPENSHIFT: &str = "OpenShift's ranges of users, in annotations of namespaces, are not read";
const NODE: &str = "the node's agent is told all ports, those of the proxy too";
const JOB: &str = "kube-inject puts them on the CronJob's Job, Istio's webhook on the pod; we on the pod in both";
const AGAIN: &str = "what an earlier injection made is made anew, not kept";

/// All of them.
pub const LIST: &[Difference] = &[
    everywhere("annotations.sidecar.istio.io/status.volumes", MOUNTS),
    everywhere("istio-proxy.volumeMounts[*", MOUNTS),
    everywhere("spec.volumes[*", MOUNTS),
    everywhere("istio-proxy.env.GOMAXPROCS.*", GO),
    everywhere("istio-proxy.env.GOMEMLIMIT.*", GO),
    everywhere("istio-proxy.env.PILOT_CERT_PROVIDER", "there is one CA"),
    everywhere("istio-proxy.env.INSTANCE_IPS.*", "all addresses of the pod are told"),
    everywhere("istio-proxy.env.EXIT_ON_ZERO_ACTIVE_CONNECTIONS", NATIVE),
    everywhere("istio-proxy.env.MINIMUM_DRAIN_DURATION", NATIVE),
    everywhere("istio-proxy.lifecycle.preStop.exec.command", PROGRAM),
    everywhere("istio-proxy.lifecycle.postStart.exec.command", PROGRAM),
    everywhere("istio-init.args.istio-iptables", PROGRAM),
    everywhere("istio-init.command", PROGRAM),
    everywhere("istio-validation.args.istio-iptables", PROGRAM),
    everywhere("istio-validation.command", PROGRAM),
    everywhere("istio-init.terminationMessagePolicy", TOLD),
    everywhere("istio-validation.terminationMessagePolicy", TOLD),
    everywhere("istio-init.securityContext.capabilities.add", "nf_tables over netlink needs no NET_RAW"),
    everywhere("istio-init.securityContext.readOnlyRootFilesystem", "the init program writes nothing"),
    everywhere("annotations.proxy.istio.io/overrides.*", KEPT),
    everywhere("annotations.traffic.sidecar.istio.io/excludeInboundPorts", NODE),
    of("*cncf-networks*", "annotations.k8s.v1.cni.cncf.io/networks", "a CNI that multus calls is not supported"),
    of("hello.yaml.proxyImageName.injected", "istio-proxy.image", "an image's name alone is one of Istio's registry"),
    of("hello.yaml.proxyInitImageName.injected", "istio-init.image", "the init program is in the proxy's image"),
    of("traffic-params.yaml.injected", "annotations.prometheus.io/*", PORT),
    of("status_params.yaml.injected", "annotations.prometheus.io/port", PORT),
    of("kubevirtInterfaces.yaml.injected", "annotations.prometheus.io/port", PORT),
    of("reroute-virtual-interfaces.yaml.injected", "annotations.prometheus.io/port", PORT),
    everywhere("istio-proxy.env.PROXY_CONFIG.statusPort", PORT),
    of("cronjob*", "annotations.*", JOB),
    of("cronjob*", "labels.*", JOB),
    of("proxy-override-runas.yaml.tproxy.injected", "istio-init.args.-u", "a transparent proxy runs as root in both"),
    of("proxy-override-args*", "error", "a command of the user's own would not run our proxy; refused by name"),
    of("merge-probers.yaml.injected", "istio-proxy.*", AGAIN),
    of("hello-openshift*", "istio-proxy.securityContext.runAs*", OPENSHIFT),
    of("hello-openshift*", "istio-validation.*", OPENSHIFT),
    of("proxy-resources-*", "istio-init.resources.*", INIT),
    of("hello-otel-semconv.yaml.injected", "istio-proxy.env.OTEL_RESOURCE_ATTRIBUTES", "the proxy does not trace yet"),
    of(
        "hello-fips-140-3.yaml.injected",
        "istio-proxy.env.*",
        "there is no compliance policy; it is not a value that can be set",
    ),
    of("gateway*", "istio-proxy.securityContext.*", GATEWAY),
    of("custom-template.yaml.injected", "error", REFUSED),
    of("gateway-spire.yaml.injected", "error", REFUSED),
    of("grpc-*", "error", REFUSED),
    of("sidecar-spire.yaml.injected", "error", REFUSED),
    of("hello-multiport-metrics.yaml.injected", "*", "one port of the application is merged; a warning says so"),
];
