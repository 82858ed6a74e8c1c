//! `ferromesh demo`: the tutorial as a mesh on this machine, with each of its steps checked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use ferromesh_core::runtime::signals::Signals;
use serde_json::json;

use crate::Exit;
use crate::args::Demo;
use crate::failure::Failure;
use crate::output::{self, Colour};
use crate::up::state::Written;
use crate::up::workloads::{Behind, Entry, Workloads};
use crate::up::{Mesh, MeshOptions};

pub mod binomial;
pub mod checks;

use checks::{Addresses, Check};

/// The tutorial's objects: path below the mesh folder, and content.
const TUTORIAL: [(&str, &str); 6] = [
    ("namespaces.yaml", include_str!("../../examples/tutorial/namespaces.yaml")),
    ("demo/apps.yaml", include_str!("../../examples/tutorial/demo/apps.yaml")),
    ("demo/gateway.yaml", include_str!("../../examples/tutorial/demo/gateway.yaml")),
    ("demo/route-myapp.yaml", include_str!("../../examples/tutorial/demo/route-myapp.yaml")),
    ("demo/route-otherapp.yaml", include_str!("../../examples/tutorial/demo/route-otherapp.yaml")),
    ("istio-system/ratelimit.yaml", include_str!("../../examples/tutorial/istio-system/ratelimit.yaml")),
];
/// The rate limit that applies.
const LIMIT: &str = include_str!("../../examples/tutorial-ratelimit-that-applies.yaml");
/// Longest that a changed file may take to reach every proxy.
const CHANGE: Duration = Duration::from_secs(5);

/// Runs the tutorial and its checks. A signal ends it, with what it started.
///
/// # Errors
/// If the manifests cannot be used, or the mesh could not be started.
pub async fn run(args: &Demo) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().map_err(Failure::unreachable)?;
    let folder = tempfile::Builder::new().prefix("ferromesh-demo-").tempdir().map_err(Failure::unreachable)?;
    match &args.manifests {
        Some(manifests) => copy_manifests(manifests, folder.path()).map_err(Failure::usage)?,
        None => write_tutorial(folder.path()).map_err(Failure::unreachable)?,
    }
    let (mesh, written, passed) = tokio::select! {
        done = check(args, folder.path()) => done.map_err(Failure::unreachable)?,
        name = signals.next() => return Err(Failure::unreachable(anyhow!("{name} came before the checks were done"))),
    };
    if args.keep {
        signals.next().await;
    }
    mesh.stop().await;
    drop(written);
    Ok(if passed { Exit::Ok } else { Exit::Failed })
}

/// Starts the mesh and makes the checks; says whether all passed. While the file of its addresses is kept, `get` and
/// `config` find it.
async fn check(args: &Demo, folder: &Path) -> anyhow::Result<(Mesh, Written, bool)> {
    let start = Instant::now();
    output::status("starting the mesh ...");
    let mut mesh = Mesh::start(options(folder)).await?;
    mesh.ready().await?;
    mesh.settled(CHANGE).await;
    let ready = start.elapsed();
    let state = mesh.state();
    let path = crate::up::state::path();
    state.write(&path)?;
    let written = Written(path);
    let at = addresses(&mesh)?;
    output::status("");
    if !args.json {
        output::line(&format!("The tutorial runs on this machine, ready in {:.2} s.\n", ready.as_secs_f64()));
        output::print(&state.table());
        output::line("");
    }
    let checks = checked(&mut mesh, &at, folder, args).await?;
    let passed = checks.iter().all(|check| check.passed);
    report(args, &checks, ready, start.elapsed())?;
    if args.keep {
        output::note(&format!("The mesh goes on at http://{} ; Ctrl-C ends it.", at.gateway));
    }
    Ok((mesh, written, passed))
}

async fn checked(mesh: &mut Mesh, at: &Addresses, folder: &Path, args: &Demo) -> anyhow::Result<Vec<Check>> {
    output::status("routes and canary ...");
    let mut checks = checks::routing(at, args.requests).await;
    output::status("mTLS ...");
    checks.extend(checks::identities(at).await);
    output::status("rate limit ...");
    let findings: Vec<String> = mesh.findings().iter().map(ToString::to_string).collect();
    checks.extend(checks::unlimited(at, &findings).await);
    let file = folder.join("istio-system/ratelimit-that-applies.yaml");
    std::fs::create_dir_all(folder.join("istio-system"))?;
    let changed = Instant::now();
    std::fs::write(&file, LIMIT)?;
    wait_for_limit(at).await?;
    checks.push(Check {
        step: "a changed file reaches the proxies",
        expected: "in under a second".into(),
        measured: format!("{:.2} s", changed.elapsed().as_secs_f64()),
        passed: changed.elapsed() < Duration::from_secs(1),
    });
    checks.extend(checks::limited(at).await);
    output::status("");
    Ok(checks)
}

/// Waits until each sidecar has the filter, without spending its tokens.
async fn wait_for_limit(at: &Addresses) -> anyhow::Result<()> {
    let deadline = Instant::now() + CHANGE;
    for (pod, admin) in at.admin.iter().filter(|(pod, _)| at.http_proxy.contains_key(*pod)) {
        loop {
            let dump = crate::client::Ask::get(*admin, "/config_dump").send().await?.text();
            if dump.contains("envoy.filters.http.local_ratelimit") {
                break;
            }
            if Instant::now() > deadline {
                bail!("the rate limit did not reach {pod} in {CHANGE:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

fn options(folder: &Path) -> MeshOptions {
    let echo = Entry { image: Some("rlawnsdud/demo".into()), builtin: Some("echo".into()), ..Entry::default() };
    let workloads = Workloads { kind: String::new(), workloads: vec![echo] };
    debug_assert_eq!(workloads.behind("", &["rlawnsdud/demo"]), Behind::Echo);
    MeshOptions {
        folder: folder.to_owned(),
        default_namespace: "demo".into(),
        workloads,
        gateway_port: Some(0),
        // More than one, so that the checks of the rate limit see that its bucket is one for all workers of a proxy.
        concurrency: 2,
        drain: Duration::from_secs(5),
    }
}

fn write_tutorial(folder: &Path) -> anyhow::Result<()> {
    for (path, text) in TUTORIAL {
        write(&folder.join(path), text)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Lays manifests out as the tutorial's commands apply them: EnvoyFilters to istio-system, the rest to demo, which is
/// labelled for injection.
fn copy_manifests(from: &Path, to: &Path) -> anyhow::Result<()> {
    let (path, text) = TUTORIAL[0];
    write(&to.join(path), text)?;
    let mut found = false;
    let entries = std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "yaml" || kind == "yml")) {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let namespace = if text.contains("kind: EnvoyFilter") { "istio-system" } else { "demo" };
        let name = file.file_name().unwrap_or_default();
        write(&to.join(namespace).join(name), &text)?;
        found = true;
    }
    if found { Ok(()) } else { bail!("{} holds no YAML", from.display()) }
}

fn addresses(mesh: &Mesh) -> anyhow::Result<Addresses> {
    let state = mesh.state();
    let gateway = state.pods.values().find(|pod| pod.role == "gateway").and_then(|pod| pod.ports.get(&80));
    Ok(Addresses {
        gateway: *gateway.context("the tutorial's Gateway has no port 80")?,
        admin: state.pods.iter().filter_map(|(key, pod)| Some((key.clone(), pod.admin?))).collect(),
        http_proxy: state.pods.iter().filter_map(|(key, pod)| Some((key.clone(), pod.http_proxy?))).collect(),
    })
}

fn report(args: &Demo, checks: &[Check], ready: Duration, total: Duration) -> anyhow::Result<()> {
    let passed = checks.iter().filter(|check| check.passed).count();
    if args.json {
        let value = json!({
            "ready_seconds": ready.as_secs_f64(),
            "total_seconds": total.as_secs_f64(),
            "passed": passed,
            "failed": checks.len() - passed,
            "checks": checks,
        });
        output::line(&serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|check| {
            let mark =
                if check.passed { output::paint("ok", Colour::Green) } else { output::paint("FAILED", Colour::Red) };
            vec![mark, check.step.to_owned(), check.expected.clone(), check.measured.clone()]
        })
        .collect();
    output::print(&output::table(&["", "STEP", "EXPECTED", "MEASURED"], &rows));
    output::line(&format!("\n{passed} of {} checks passed in {:.1} s.", checks.len(), total.as_secs_f64()));
    Ok(())
}
