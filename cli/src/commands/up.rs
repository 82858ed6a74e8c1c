//! `ferromesh up`.

use std::time::Duration;

use ferromesh_core::runtime::signals::Signals;

use crate::args::Up;
use crate::failure::Failure;
use crate::up::state::{self, MeshState, Written};
use crate::up::workloads::Workloads;
use crate::up::{Mesh, MeshOptions};
use crate::{Exit, output};

/// Runs the mesh until Ctrl-C or SIGTERM; either one drains, a second one ends at once.
///
/// # Errors
/// If the folder or the workload file cannot be used, or the mesh does not start.
pub async fn run(args: &Up) -> Result<Exit, Failure> {
    let options = options(args)?;
    let mut signals = Signals::listen().map_err(Failure::unreachable)?;
    let start = async {
        let mesh = Mesh::start(options).await?;
        mesh.ready().await?;
        anyhow::Ok(mesh)
    };
    let mut mesh = tokio::select! {
        mesh = start => mesh.map_err(Failure::unreachable)?,
        // Nothing has been served yet; what runs ends as it is dropped.
        _ = signals.next() => return Ok(Exit::Ok),
    };
    let path = state::path();
    mesh.state().write(&path).map_err(Failure::unreachable)?;
    let written = Written(path);
    show(args, &mesh.state());
    if mesh.state().pods.is_empty() {
        output::note(&format!(
            "{} holds no Deployment and no Gateway of ours yet: nothing runs. Files that come are taken up.",
            args.folder.display()
        ));
    }
    follow(args, &mut mesh, &written, &mut signals).await;
    output::status("");
    output::note("Draining; Ctrl-C again ends at once.");
    tokio::select! {
        () = mesh.stop() => {}
        _ = signals.next() => {}
    }
    Ok(Exit::Ok)
}

fn options(args: &Up) -> Result<MeshOptions, Failure> {
    if !args.folder.is_dir() {
        return Err(Failure::usage(anyhow::anyhow!("-f {}: is not a folder", args.folder.display())));
    }
    let default = args.folder.join("workloads.yaml");
    let workloads = match &args.workloads {
        Some(file) => Workloads::read(file).map_err(Failure::usage)?,
        None if default.exists() => Workloads::read(&default).map_err(Failure::usage)?,
        None => Workloads::default(),
    };
    Ok(MeshOptions {
        folder: args.folder.clone(),
        default_namespace: args.namespace.clone(),
        workloads,
        gateway_port: args.gateway_port,
        concurrency: args.concurrency,
        drain: Duration::from_secs(10),
    })
}

/// Follows the folder until a signal asks for the end; keeps the status line alive.
async fn follow(args: &Up, mesh: &mut Mesh, written: &Written, signals: &mut Signals) {
    let mut views = mesh.controller().views();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut said = Vec::new();
    say_problems(mesh, &mut said);
    loop {
        tokio::select! {
            _ = signals.next() => return,
            changed = views.changed() => {
                if changed.is_err() {
                    return;
                }
                match mesh.reconcile().await {
                    Ok(true) => {
                        let state = mesh.state();
                        if let Err(error) = state.write(&written.0) {
                            output::note(&format!("warning: {error:#}"));
                        }
                        show(args, &state);
                    }
                    Ok(false) => {}
                    Err(error) => output::note(&format!("error: {error:#}; the mesh goes on as it was")),
                }
                say_problems(mesh, &mut said);
            }
            _ = tick.tick() => {
                // Another mesh has taken the file over, and has ended.
                if !written.0.exists() && let Err(error) = mesh.state().write(&written.0) {
                    output::note(&format!("warning: {error:#}"));
                }
                status_line(mesh);
            }
        }
    }
}

fn say_problems(mesh: &Mesh, said: &mut Vec<String>) {
    let problems: Vec<String> = mesh.controller().problems().iter().map(ToString::to_string).collect();
    for problem in &problems {
        if !said.contains(problem) {
            output::status("");
            output::note(&output::wrapped(problem, "    "));
        }
    }
    *said = problems;
}

fn status_line(mesh: &Mesh) {
    let sync = mesh.controller().sync();
    let synced = sync.iter().filter(|proxy| proxy.is_synced()).count();
    let findings = mesh.findings().len();
    let findings = match findings {
        0 => "nothing found".to_owned(),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    };
    output::status(&format!("{synced} of {} proxies in sync, {findings} (ferromesh analyze); Ctrl-C ends", sync.len()));
}

fn show(args: &Up, state: &MeshState) {
    if args.json {
        output::line(&serde_json::to_string(state).unwrap_or_default());
    } else {
        output::status("");
        output::print(&state.table());
    }
}
