//! Configurations that cannot be served, or seem so: what this proxy says of each, and what the real Envoy says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "refusals/heads.rs"]
mod heads;
#[path = "refusals/whole.rs"]
mod whole;

/// A bootstrap, and what is said of it.
pub struct Case {
    name: &'static str,
    text: String,
    /// Parts of our error; none if it is accepted.
    ours: &'static [&'static str],
    /// Whether Envoy refuses it too.
    envoy: bool,
}

/// One listener whose routes lead to one cluster `echo`; each field a piece of YAML in flow style, with its comma.
pub struct Parts {
    /// The route's action.
    pub route: &'static str,
    /// Fields of the route's match.
    pub matching: &'static str,
    /// The virtual host's `domains`.
    pub domains: &'static str,
    /// Fields of the virtual host.
    pub host: &'static str,
    /// Fields of the connection manager.
    pub manager: &'static str,
    /// Where the routes come from, in place of the ones here.
    pub routes: Option<&'static str>,
    /// Fields of the cluster.
    pub cluster: &'static str,
    /// Fields of its endpoint.
    pub endpoint: &'static str,
    /// Further clusters.
    pub clusters: &'static str,
    /// Fields of the bootstrap, in block style.
    pub bootstrap: &'static str,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            route: "route: {cluster: echo}",
            matching: "",
            domains: "'*'",
            host: "",
            manager: "",
            routes: None,
            cluster: "",
            endpoint: "",
            clusters: "",
            bootstrap: "",
        }
    }
}

impl Parts {
    fn text(&self) -> String {
        const ADDRESS: &str = "address: {socket_address: {address: 127.0.0.1, port_value: 0}}";
        const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";
        let Self { route, matching, domains, host, manager, routes, cluster, endpoint, clusters, bootstrap } = self;
        let inline = format!(
            "route_config: {{virtual_hosts: [{{name: all, domains: [{domains}], {host} \
             routes: [{{match: {{prefix: /, {matching}}}, {route}}}]}}]}}"
        );
        let routes = routes.unwrap_or(&inline);
        format!(
            r#"
node: {{id: test, cluster: test}}
admin: {{{ADDRESS}}}
{bootstrap}
static_resources:
  clusters:
  - {{name: echo, type: STATIC, {cluster} load_assignment: {{cluster_name: echo, endpoints: [{{lb_endpoints: [
      {{endpoint: {{{endpoint} address: {{socket_address: {{address: 127.0.0.1, port_value: 9}}}}}}}}]}}]}}}}
  {clusters}
  listeners:
  - name: in
    {ADDRESS}
    filter_chains:
    - filters:
      - name: http
        typed_config: {{"@type": {FILTERS}.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: in,
          {manager} {routes},
          http_filters: [{{name: router, typed_config: {{"@type": {FILTERS}.http.router.v3.Router}}}}]}}
"#
        )
    }

    /// Both refuse it; this proxy with `ours` in its words.
    pub fn refused(&self, name: &'static str, ours: &'static [&'static str]) -> Case {
        Case { name, text: self.text(), ours, envoy: true }
    }

    /// This proxy refuses it; Envoy does not.
    pub fn refused_here(&self, name: &'static str, ours: &'static [&'static str]) -> Case {
        Case { name, text: self.text(), ours, envoy: false }
    }

    /// Both accept it.
    pub fn accepted(&self, name: &'static str) -> Case {
        Case { name, text: self.text(), ours: &[], envoy: false }
    }
}

/// What is wrong with the bootstrap; empty if nothing is.
fn ours(text: &str) -> String {
    match ferromesh_proxy::bootstrap::parse(text) {
        Err(error) => error.to_string(),
        Ok(bootstrap) => {
            ferromesh_proxy::app::validate(&bootstrap).err().map(|error| error.to_string()).unwrap_or_default()
        }
    }
}

/// The binary that FERROMESH_ENVOY names. Without it Envoy's part is skipped aloud, and fails where CI=true.
fn envoy() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FERROMESH_ENVOY") {
        return Some(path.into());
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs FERROMESH_ENVOY, the path of Envoy 1.40");
    eprintln!("SKIPPED: set FERROMESH_ENVOY to the binary of Envoy 1.40 to compare with it");
    None
}

/// What Envoy says against the bootstrap; empty if it accepts it.
fn theirs(envoy: &Path, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(envoy);
    let output = command.args(["--mode", "validate", "--log-level", "error", "-c"]).arg(&file).output().unwrap();
    if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stderr).into_owned() }
}

fn check(cases: &[Case]) {
    let envoy = envoy();
    let mut wrong = String::new();
    for case in cases {
        let said = ours(&case.text);
        let right =
            if case.ours.is_empty() { said.is_empty() } else { case.ours.iter().all(|part| said.contains(part)) };
        if !right {
            writeln!(wrong, "{}: wanted {:?}, this proxy says {said:?}", case.name, case.ours).unwrap();
        }
        if let Some(envoy) = &envoy {
            let said = theirs(envoy, &case.text);
            if said.is_empty() == case.envoy {
                writeln!(wrong, "{}: Envoy says {said:?}", case.name).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn texts_that_would_break_a_messages_head_are_refused_as_by_envoy() {
    check(&heads::cases());
}

#[test]
fn parts_of_a_bootstrap_that_do_not_fit_together_are_refused() {
    check(&whole::cases());
}

#[test]
fn what_a_default_istio_sets_in_the_bootstrap_of_a_sidecar_is_taken() {
    let text = include_str!("refusals/sidecar.yaml").to_owned();
    check(&[Case { name: "a sidecar's bootstrap", text, ours: &[], envoy: false }]);
}
