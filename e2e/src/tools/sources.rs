//! What is built: modules, packages, versions and linker settings.

/// Version of Kubernetes; its modules in `e2e/go/node/go.mod` are of the same release.
pub const KUBERNETES_VERSION: &str = "1.35.4";

/// A program, or several in one binary, that is built from Go modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tool {
    /// kube-apiserver, etcd, controller manager, scheduler, kubelet, kube-proxy, kubeadm and kubectl in one binary.
    Node,
    /// The process that holds a pod's namespaces open.
    Pause,
    /// The cluster's DNS server.
    Coredns,
    /// Helm, the package manager.
    Helm,
}

/// A Go module: the files that are written out to build it.
pub(super) struct Module {
    pub files: &'static [(&'static str, &'static str)],
}

macro_rules! file {
    ($folder:literal, $name:literal) => {
        ($name, include_str!(concat!("../../go/", $folder, "/", $name)))
    };
}

const NODE: Module = Module { files: &[file!("node", "main.go"), file!("node", "go.mod"), file!("node", "go.sum")] };
const PAUSE: Module = Module { files: &[file!("pause", "main.go"), file!("pause", "go.mod")] };
const TOOLS: Module = Module { files: &[file!("tools", "go.mod"), file!("tools", "go.sum")] };

impl Tool {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Node, Self::Pause, Self::Coredns, Self::Helm];

    /// Name of the binary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pause => "pause",
            Self::Coredns => "coredns",
            Self::Helm => "helm",
        }
    }

    /// Version of what is in it.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Node => KUBERNETES_VERSION,
            Self::Pause => "1",
            Self::Coredns => "1.14.3",
            Self::Helm => "3.21.4",
        }
    }

    /// The names it is called by.
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Node => &[
                "etcd",
                "kube-apiserver",
                "kube-controller-manager",
                "kube-proxy",
                "kube-scheduler",
                "kubeadm",
                "kubectl",
                "kubelet",
            ],
            Self::Pause => &["pause"],
            Self::Coredns => &["coredns"],
            Self::Helm => &["helm"],
        }
    }

    /// How long a build takes, for who waits.
    pub(super) const fn build_time(self) -> &'static str {
        match self {
            Self::Node => "about 5 minutes on two idle cores, the first time",
            Self::Pause => "seconds",
            Self::Coredns => "about 2 minutes, the first time",
            Self::Helm => "about a minute, the first time",
        }
    }

    pub(super) const fn package(self) -> &'static str {
        match self {
            Self::Node | Self::Pause => ".",
            Self::Coredns => "github.com/coredns/coredns",
            Self::Helm => "helm.sh/helm/v3/cmd/helm",
        }
    }

    pub(super) const fn module(self) -> &'static Module {
        match self {
            Self::Node => &NODE,
            Self::Pause => &PAUSE,
            Self::Coredns | Self::Helm => &TOOLS,
        }
    }

    /// Arguments of `go build`: without paths of this machine, so that the same sources give the same bytes.
    pub(super) fn arguments(self) -> Vec<String> {
        let mut flags = "-s -w".to_owned();
        let mut set = |variable: &str, value: &str| {
            flags.push_str(&format!(" -X {variable}={value}"));
        };
        match self {
            Self::Node => {
                // Without these the API server says v0.0.0, and everything that depends on a version goes wrong.
                set("k8s.io/component-base/version.gitVersion", &format!("v{KUBERNETES_VERSION}"));
                set("k8s.io/component-base/version.gitMajor", "1");
                set("k8s.io/component-base/version.gitMinor", "35");
            }
            Self::Helm => {
                set("helm.sh/helm/v3/internal/version.version", &format!("v{}", self.version()));
                // What `helm template` and `helm lint` take for the cluster's version when they ask none.
                for package in ["pkg/chartutil", "pkg/lint/rules"] {
                    set(&format!("helm.sh/helm/v3/{package}.k8sVersionMajor"), "1");
                    set(&format!("helm.sh/helm/v3/{package}.k8sVersionMinor"), "35");
                }
            }
            Self::Pause | Self::Coredns => {}
        }
        vec!["-buildvcs=false".into(), "-trimpath".into(), format!("-ldflags={flags}")]
    }
}
