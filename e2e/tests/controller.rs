//! The controller against a real API server: it follows what is applied, writes statuses, gives Gateways what they run on, and hands over
//! when it dies. The control plane alone is enough: no pod runs.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferromesh_e2e::cluster::{Cluster, Options, prerequisites};
use ferromesh_e2e::mesh::{Mesh, chart};
use ferromesh_e2e::progress::Progress;
use ferromesh_e2e::tools::{self, Tool};

const SYSTEM: &str = "ferromesh-system";
const IMAGE: &str = "registry.example/proxy:test";

/// The controller that this workspace's tests are run with; it is built beside this test.
fn controller() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    test.ancestors().nth(2).expect("its target folder").join("ferromesh-controller")
}

/// Says why the test cannot run here; in CI it must.
fn can_run() -> bool {
    let built = tools::folder_of(Tool::Node).expect("a cache").is_dir();
    let why = match prerequisites::check(false) {
        Err(why) => why.to_string(),
        Ok(()) if !built => "Kubernetes is not built; run: ferromesh-e2e tools build".to_owned(),
        Ok(()) if !controller().is_file() => "run: cargo build -p ferromesh-controller".to_owned(),
        Ok(()) if Command::new("go").arg("version").output().is_err() => {
            "Go is missing; Gateway API's CRDs come from its module".to_owned()
        }
        Ok(()) => return true,
    };
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{why}");
    eprintln!("skipped: {why}");
    false
}

/// A replica; it is killed when dropped.
struct Replica {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Replica {
    fn start(cluster: &Cluster, name: &'static str, folder: &tempfile::TempDir) -> Self {
        let log = folder.path().join(format!("{name}.log"));
        let out = std::fs::File::create(&log).expect("a log");
        let child = Command::new(controller())
            .args(["--kubernetes", "--allow-plaintext", "--namespace", SYSTEM, "--replica", name])
            .args(["--xds-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0", "--proxy-image", IMAGE])
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .expect("the controller runs");
        Self { name, child, log }
    }

    fn terminate(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{} ends with {status}:\n{}", self.name, self.said());
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cluster with its replicas.
struct Scene {
    mesh: Mesh,
    replicas: Vec<Replica>,
}

impl Scene {
    /// Waits until a field is as it should be.
    fn shows(&self, arguments: &[&str], path: &str, fits: impl Fn(&str) -> bool) -> String {
        let path = format!("jsonpath={path}");
        let arguments = [&["get"], arguments, &["-o", &path]].concat();
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let seen = self.mesh.kubectl(&arguments).unwrap_or_else(|error| format!("{error:#}"));
            if fits(&seen) {
                return seen;
            }
            if Instant::now() > deadline {
                let logs: Vec<String> =
                    self.replicas.iter().map(|one| format!("{}:\n{}", one.name, one.said())).collect();
                panic!("kubectl {}: {seen}\n{}", arguments.join(" "), logs.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn holder(&self) -> String {
        self.shows(&["lease", "-n", SYSTEM, "ferromesh-controller-leader"], "{.spec.holderIdentity}", |holder| {
            self.replicas.iter().any(|replica| replica.name == holder)
        })
    }

    fn take(&mut self, name: &str) -> Replica {
        let place = self.replicas.iter().position(|replica| replica.name == name).expect("a replica of that name");
        self.replicas.remove(place)
    }

    fn apply(&self, yaml: &str) {
        self.mesh.apply_in("shop", yaml).expect("applied");
    }
}

fn gateway(name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec: {{gatewayClassName: istio, listeners: [{{name: http, protocol: HTTP, port: 80}}]}}\n"
    )
}

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: shop, port: 80}]}]}
";
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80}]}
";

fn scene(folder: &tempfile::TempDir) -> Scene {
    let cluster = Cluster::up(Options::new(0)).expect("the cluster comes up");
    let mesh = Mesh { cluster, progress: Progress::silent() };
    let crds = chart().join("files/crds.yaml").display().to_string();
    mesh.kubectl(&["apply", "--server-side", "-f", &crds]).expect("Istio's CRDs");
    for namespace in [SYSTEM, "shop"] {
        mesh.kubectl(&["create", "namespace", namespace]).expect("a namespace");
    }
    let replicas = ["first", "second"].map(|name| Replica::start(&mesh.cluster, name, folder)).into();
    // Kinds are followed as soon as their CRDs are there, not before.
    mesh.gateway_api().expect("Gateway API's CRDs");
    Scene { mesh, replicas }
}

#[test]
fn the_controller_follows_a_cluster_writes_to_it_and_is_relieved_when_it_dies() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut scene = scene(&folder);

    // The replica that leads makes the classes, and what a Gateway runs on.
    scene
        .shows(&["gatewayclass", "istio"], "{.status.conditions[?(@.type=='Accepted')].status}", |seen| seen == "True");
    scene.apply(&gateway("edge"));
    let container = "{.spec.template.spec.containers[0].image}";
    scene.shows(&["deployment", "-n", "shop", "edge-istio"], container, |image| image == IMAGE);
    scene.shows(&["service", "-n", "shop", "edge-istio"], "{.spec.type}", |kind| kind == "LoadBalancer");
    scene.shows(&["gateway", "-n", "shop", "edge"], "{.status.conditions[?(@.type=='Accepted')].status}", |seen| {
        seen == "True"
    });

    // What is applied later changes what was said before.
    let refs = "{.status.parents[0].conditions[?(@.type=='ResolvedRefs')].status}";
    scene.apply(ROUTE);
    scene.shows(&["httproute", "-n", "shop", "shop"], refs, |status| status == "False");
    scene.apply(SERVICE);
    scene.shows(&["httproute", "-n", "shop", "shop"], refs, |status| status == "True");
    scene.mesh.kubectl(&["delete", "service", "-n", "shop", "shop"]).expect("deleted");
    scene.shows(&["httproute", "-n", "shop", "shop"], refs, |status| status == "False");

    // One that is killed is relieved once its Lease has run out.
    let killed = scene.holder();
    drop(scene.take(&killed));
    let next = scene.holder();
    scene.apply(&gateway("second-edge"));
    scene.shows(&["deployment", "-n", "shop", "second-edge-istio"], container, |image| image == IMAGE);

    // One that ends gives it back: the next one leads at once, and writes.
    scene.replicas.push(Replica::start(&scene.mesh.cluster, "third", &folder));
    scene.take(&next).terminate();
    assert_eq!(scene.holder(), "third");
    scene.apply(SERVICE);
    scene.shows(&["httproute", "-n", "shop", "shop"], refs, |status| status == "True");

    // What was made goes with its Gateway.
    scene.mesh.kubectl(&["delete", "gateway", "-n", "shop", "edge"]).expect("deleted");
    scene.shows(&["deployment", "-n", "shop"], "{.items[*].metadata.name}", |names| names == "second-edge-istio");
}
