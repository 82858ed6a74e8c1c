//! Which images there are and what is in them.

/// Tag of what this source tree builds.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// User and group of daemons that need no other.
const NOBODY: &str = "65532:65532";

/// What every container's environment has: mimalloc gives freed memory back after a tenth of a second instead of a whole one,
/// which costs nothing that can be measured, and a quarter less memory at the peak of a big change.
pub const ENVIRONMENT: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "100");

/// An image of the workspace.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Short name, as on the command line.
    pub short: &'static str,
    /// Name without registry and tag.
    pub repository: &'static str,
    /// The program that it runs.
    pub program: &'static str,
    /// Other programs in it.
    pub beside: &'static [&'static str],
    /// Other names of it: path and target.
    pub links: &'static [(&'static str, &'static str)],
    /// `UID:GID`. 1337 is the user whose traffic a pod's redirection leaves alone.
    pub user: &'static str,
    /// It calls servers outside the mesh, whose certificates public authorities signed.
    pub public_roots: bool,
    /// What it is, for its annotations.
    pub title: &'static str,
}

const DAEMON: Definition = Definition {
    short: "",
    repository: "",
    program: "",
    beside: &[],
    links: &[],
    user: NOBODY,
    public_roots: true,
    title: "",
};

/// All images.
pub const IMAGES: [Definition; 7] = [
    Definition {
        short: "proxy",
        repository: "ferromesh/proxy",
        program: "ferromesh-proxy",
        // What redirects a pod's traffic to the proxy, before it starts.
        beside: &["ferromesh-init"],
        // As injection templates that were written for Istio call it.
        links: &[("usr/local/bin/pilot-agent", "/ferromesh-proxy")],
        user: "1337:1337",
        title: "Ferromesh proxy: sidecar and gateway",
        ..DAEMON
    },
    Definition {
        short: "controller",
        repository: "ferromesh/controller",
        program: "ferromesh-controller",
        title: "Ferromesh controller",
        ..DAEMON
    },
    Definition {
        short: "ca",
        repository: "ferromesh/ca",
        program: "ferromesh-ca",
        title: "Ferromesh certificate authority",
        ..DAEMON
    },
    Definition {
        short: "injector",
        repository: "ferromesh/injector",
        program: "ferromesh-injector",
        title: "Ferromesh sidecar injector",
        ..DAEMON
    },
    Definition {
        short: "cni",
        repository: "ferromesh/cni",
        program: "ferromesh-cni",
        // It writes the node's folders and enters pods' network namespaces.
        user: "0:0",
        public_roots: false,
        title: "Ferromesh node agent and CNI plugin",
        ..DAEMON
    },
    Definition {
        short: "dashboard",
        repository: "ferromesh/dashboard",
        program: "ferromesh-dashboard",
        title: "Ferromesh dashboard",
        ..DAEMON
    },
    Definition {
        short: "demo",
        // The name that the tutorial's manifests have: a stand-in for what is there.
        repository: "rlawnsdud/demo",
        program: "ferromesh-demo-app",
        public_roots: false,
        title: "Ferromesh demo application",
        ..DAEMON
    },
];
