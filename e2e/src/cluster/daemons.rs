//! What runs in a cluster and with which settings. Pure: command lines and files as text.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::layout::{
    API_PORT, DNS_SERVICE, HUB, Layout, POD_NETWORK, REGISTRY_PORT, SERVICE_NETWORK, Spec, node_address, pod_subnet,
};
use super::supervisor::Daemon;

/// Domain of the cluster's DNS names.
const DOMAIN: &str = "cluster.local";

fn arguments(lines: &str) -> Vec<String> {
    lines.split_whitespace().map(str::to_owned).collect()
}

/// The key-value store of the API server; what is on disk need not survive this machine.
pub fn etcd(layout: &Layout, spec: &Spec) -> anyhow::Result<Daemon> {
    let data = layout.etcd_data();
    let flags = format!(
        "--data-dir={} --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379
         --listen-peer-urls=http://127.0.0.1:2380 --unsafe-no-fsync --log-level=warn",
        data.display()
    );
    Ok(Daemon::new("etcd", &spec.program("etcd")?, arguments(&flags)))
}

/// The API server. Webhooks and aggregated APIs are called at their endpoints, since the hub has no kube-proxy.
pub fn api_server(layout: &Layout, spec: &Spec) -> anyhow::Result<Daemon> {
    let pki = layout.pki("");
    let pki = pki.display();
    let flags = format!(
        "--etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --secure-port={API_PORT} --advertise-address={HUB}
         --tls-cert-file={pki}/apiserver.crt --tls-private-key-file={pki}/apiserver.key --client-ca-file={pki}/ca.crt
         --kubelet-certificate-authority={pki}/ca.crt
         --kubelet-client-certificate={pki}/apiserver-kubelet-client.crt --kubelet-client-key={pki}/apiserver-kubelet-client.key
         --kubelet-preferred-address-types=InternalIP
         --service-account-issuer=https://kubernetes.default.svc.{DOMAIN}
         --service-account-key-file={pki}/sa.pub --service-account-signing-key-file={pki}/sa.key
         --service-cluster-ip-range={SERVICE_NETWORK} --allow-privileged
         --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --enable-aggregator-routing
         --requestheader-client-ca-file={pki}/front-proxy-ca.crt --requestheader-allowed-names=front-proxy-client
         --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group
         --requestheader-username-headers=X-Remote-User
         --proxy-client-cert-file={pki}/front-proxy-client.crt --proxy-client-key-file={pki}/front-proxy-client.key"
    );
    Ok(Daemon::new("kube-apiserver", &spec.program("kube-apiserver")?, arguments(&flags)))
}

/// The controllers: service accounts, Deployments, EndpointSlices, garbage collection and the rest.
///
/// It is elected, alone as it is, so that it ends when the API server is away: one that goes on would take all nodes for dead the
/// moment the API server is back, since none could tell that it lives.
pub fn controller_manager(layout: &Layout, spec: &Spec) -> anyhow::Result<Daemon> {
    let pki = layout.pki("");
    let pki = pki.display();
    let flags = format!(
        "--kubeconfig={pki}/kube-controller-manager.kubeconfig
         --authentication-kubeconfig={pki}/kube-controller-manager.kubeconfig
         --authorization-kubeconfig={pki}/kube-controller-manager.kubeconfig
         --service-account-private-key-file={pki}/sa.key --root-ca-file={pki}/ca.crt
         --cluster-signing-cert-file={pki}/ca.crt --cluster-signing-key-file={pki}/ca.key
         --use-service-account-credentials --leader-elect=true --bind-address=127.0.0.1
         --service-cluster-ip-range={SERVICE_NETWORK}"
    );
    Ok(Daemon::new("kube-controller-manager", &spec.program("kube-controller-manager")?, arguments(&flags)))
}

/// The scheduler.
pub fn scheduler(layout: &Layout, spec: &Spec) -> anyhow::Result<Daemon> {
    let config = layout.pki("kube-scheduler.kubeconfig");
    let config = config.display();
    let flags = format!(
        "--kubeconfig={config} --authentication-kubeconfig={config} --authorization-kubeconfig={config}
         --leader-elect=false --bind-address=127.0.0.1"
    );
    Ok(Daemon::new("kube-scheduler", &spec.program("kube-scheduler")?, arguments(&flags)))
}

/// What stands between the cluster's network and the host, and in for a cloud: the API relay and LoadBalancer addresses.
pub fn agent(layout: &Layout, program: &Path) -> Daemon {
    let flags = format!("cluster agent --state {}", layout.root().display());
    Daemon { takes_listener: true, ..Daemon::new("agent", program, arguments(&flags)) }
}

/// The cluster's DNS server, beside the API server.
pub fn coredns(layout: &Layout, spec: &Spec) -> anyhow::Result<Daemon> {
    let flags = format!("-conf {}", layout.root().join("Corefile").display());
    Ok(Daemon::new("coredns", &spec.program("coredns")?, arguments(&flags)))
}

/// CoreDNS's settings. Names outside the cluster do not exist: no packet leaves.
pub fn corefile(layout: &Layout) -> String {
    let kubeconfig = layout.pki("coredns.kubeconfig");
    format!(
        ".:53 {{
    bind {HUB}
    errors
    health {HUB}:8081
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {}
        pods insecure
        ttl 5
    }}
}}
",
        kubeconfig.display()
    )
}

/// A whole node: wired to the hub anew, then an own first process in own namespaces.
pub fn node(layout: &Layout, program: &Path, number: u8, name: &str) -> Daemon {
    let script = format!(
        "ip netns del {name} 2>/dev/null || true
ip link del v-{name} 2>/dev/null || true
ip netns add {name}
ip link add v-{name} type veth peer name eth0 netns {name}
ip link set v-{name} master nodes up
exec nsenter --net=/run/netns/{name} \
  unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private \
  {} cluster init --state {} --node {number}",
        program.display(),
        layout.root().display(),
    );
    // Its first process dies with `unshare`, which does not pass on a TERM: a stop is a power failure.
    Daemon { stop: Signal::KILL, ..Daemon::new(name, Path::new("/bin/sh"), vec!["-ec".into(), script]) }
}

/// Folders of a node in its own view of the file system.
pub mod node_paths {
    /// containerd's socket.
    pub const CONTAINERD: &str = "/run/containerd/containerd.sock";
    /// containerd's settings.
    pub const CONTAINERD_CONFIG: &str = "/run/node/containerd.toml";
    /// kubelet's settings.
    pub const KUBELET_CONFIG: &str = "/run/node/kubelet.yaml";
    /// Settings of the pods' network.
    pub const CNI: &str = "/run/node/cni";
    /// The node's own folder of plugins: links to the machine's, and what is added in the node.
    pub const CNI_PLUGINS: &str = "/run/node/cni-plugins";
    /// Where pods find their resolver.
    pub const RESOLV_CONF: &str = "/run/node/resolv.conf";
}

/// The container runtime.
pub fn containerd(program: &Path) -> Daemon {
    Daemon::new("containerd", program, vec!["--config".into(), node_paths::CONTAINERD_CONFIG.into()])
}

/// containerd's settings. Without `restrict_oom_score_adj`, runc cannot start a pod where the score may not be lowered.
pub fn containerd_config(snapshotter: &str) -> String {
    let (plugins, node_paths) = (node_paths::CNI_PLUGINS, (node_paths::CONTAINERD, node_paths::CNI));
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE_IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{}"
    conf_dir = "{}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{REGISTRIES}"
"#,
        node_paths.0, plugins, node_paths.1,
    )
}

/// For every registry that an image's name may say: the cluster's own is asked, and no other.
pub fn registry_config() -> (PathBuf, String) {
    let host = format!("http://{HUB}:{REGISTRY_PORT}");
    let text = format!("server = \"{host}\"\n[host.\"{host}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    (Path::new(REGISTRIES).join("_default/hosts.toml"), text)
}

/// Where containerd looks for the settings of registries.
const REGISTRIES: &str = "/run/node/registries";

/// Name of the image that holds pods' namespaces.
pub const PAUSE_IMAGE: &str = "ferromesh.local/pause:1";

/// The pods' network: a link of its own for each pod and a route to it, as kind does it. A bridge would need `br_netfilter`,
/// or answers between two pods of a node would pass the Service's address translation by.
pub fn cni_config(number: u8) -> String {
    let config = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-ipam",
                    "ranges": [[{"subnet": pod_subnet(number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    config.to_string()
}

/// The kubelet.
pub fn kubelet(layout: &Layout, spec: &Spec, number: u8, name: &str) -> anyhow::Result<Daemon> {
    let flags = format!(
        "--config={} --kubeconfig={} --hostname-override={name} --node-ip={} --root-dir=/var/lib/kubelet",
        node_paths::KUBELET_CONFIG,
        layout.pki(&format!("{name}.kubeconfig")).display(),
        node_address(number),
    );
    Ok(Daemon::new("kubelet", &spec.program("kubelet")?, arguments(&flags)))
}

/// kubelet's settings: works with cgroup v1 and v2, takes nothing from the machine for granted, evicts nobody.
pub fn kubelet_config(layout: &Layout, name: &str, cgroup: &str) -> String {
    let pki = |file: &str| layout.pki(file).display().to_string();
    let config = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki(&format!("{name}-serving.crt")),
        "tlsPrivateKeyFile": pki(&format!("{name}-serving.key")),
        "containerRuntimeEndpoint": format!("unix://{}", node_paths::CONTAINERD),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": DOMAIN,
        "resolvConf": node_paths::RESOLV_CONF,
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        "maxPods": 250,
        "serializeImagePulls": false,
        "protectKernelDefaults": true,
    });
    config.to_string()
}

/// kube-proxy.
pub fn kube_proxy(layout: &Layout, spec: &Spec, number: u8, name: &str) -> anyhow::Result<Daemon> {
    let flags = format!(
        "--kubeconfig={} --hostname-override={name} --proxy-mode=nftables
         --cluster-cidr={POD_NETWORK} --nodeport-addresses={}/32
         --conntrack-max-per-core=0 --conntrack-tcp-be-liberal --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0",
        layout.pki("kube-proxy.kubeconfig").display(),
        node_address(number),
    );
    Ok(Daemon::new("kube-proxy", &spec.program("kube-proxy")?, arguments(&flags)))
}

/// Objects that every cluster with nodes has: its DNS Service, and what the helpers may read.
pub fn bootstrap_objects() -> String {
    let dns_ports = |key: &str| {
        serde_json::json!([
            {"name": "dns", "protocol": "UDP", "port": 53, key: 53},
            {"name": "dns-tcp", "protocol": "TCP", "port": 53, key: 53},
        ])
    };
    let slice_ports = serde_json::json!([
        {"name": "dns", "protocol": "UDP", "port": 53},
        {"name": "dns-tcp", "protocol": "TCP", "port": 53},
    ]);
    let role = |name: &str, rules: serde_json::Value| {
        let user = format!("ferromesh-e2e:{name}");
        [
            serde_json::json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": user}, "rules": rules,
            }),
            serde_json::json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": user},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            }),
        ]
    };
    let read = serde_json::json!(["get", "list", "watch"]);
    let mut items = vec![
        serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"clusterIP": DNS_SERVICE, "ports": dns_ports("targetPort")},
        }),
        serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-hub", "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [HUB], "conditions": {"ready": true}}],
            "ports": slice_ports,
        }),
    ];
    items.extend(role(
        "coredns",
        serde_json::json!([
            {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces", "nodes"], "verbs": read},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        ]),
    ));
    items.extend(role(
        "agent",
        serde_json::json!([
            {"apiGroups": [""], "resources": ["services", "nodes", "pods"], "verbs": read},
            {"apiGroups": [""], "resources": ["nodes", "nodes/status", "pods/status"], "verbs": ["create", "patch", "update"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "patch", "update"]},
            {"apiGroups": [""], "resources": ["services/status"], "verbs": ["get", "patch", "update"]},
        ]),
    ));
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// Where Debian and others put the plugins of the pods' network.
pub fn cni_plugins() -> Option<PathBuf> {
    let folders = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
    folders.into_iter().map(PathBuf::from).find(|folder| folder.join("ptp").is_file())
}
