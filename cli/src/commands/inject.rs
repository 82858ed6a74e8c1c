//! `ferromesh inject`: what the webhook does to pods, done to a file.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow};
use ferromesh_injector::workload::Outcome;
use ferromesh_injector::{Mesh, manifest, values};
use serde_json::Value;

use crate::args::Inject;
use crate::failure::Failure;
use crate::{Exit, output};

/// Largest input (Kubernetes takes objects of 1.5 MB; a file may have many).
const MAX_INPUT: u64 = 64 * 1024 * 1024;

/// Writes the input with its workloads injected; says on standard error what the webhook would warn of.
///
/// # Errors
/// If a file cannot be used, or the webhook would refuse a pod; nothing is written then.
pub fn run(args: &Inject) -> Result<Exit, Failure> {
    super::check_namespace(Some(&args.namespace))?;
    let mesh = mesh(args).map_err(Failure::usage)?;
    let text = read(&args.filename).map_err(Failure::usage)?;
    let input = if is_stdin(&args.filename) { "(standard input)".into() } else { args.filename.display().to_string() };
    let done = manifest::inject(&text, &args.namespace, &mesh).map_err(|error| {
        let lines: Vec<String> = error.to_string().lines().map(|line| format!("{input}: {line}")).collect();
        Failure::usage(anyhow!("{}", lines.join("\n       ")))
    })?;
    for workload in &done.workloads {
        match &workload.outcome {
            Outcome::Injected(warnings) => {
                for warning in warnings {
                    output::note(&format!("warning: {}: {warning}", workload.name));
                }
            }
            Outcome::Skipped(reason) => output::note(&format!("{} is left as it is: {reason}", workload.name)),
            Outcome::NoWorkload => {}
        }
    }
    match &args.output {
        Some(path) => std::fs::write(path, &done.text)
            .with_context(|| format!("writing {}", path.display()))
            .map_err(Failure::usage)?,
        None => output::print(&done.text),
    }
    Ok(Exit::Ok)
}

fn mesh(args: &Inject) -> anyhow::Result<Mesh> {
    let text = |path: &Option<std::path::PathBuf>| path.as_deref().map_or(Ok(String::new()), read);
    let settings = text(&args.inject_config_file)?;
    let mut mesh = Mesh::read(&settings, &text(&args.mesh_config_file)?).map_err(|error| {
        // Istio's file of this flag is one of templates.
        let hint =
            if settings.contains("templates:") { "; templates of Istio's injector are not supported" } else { "" };
        anyhow!("{error}{hint}")
    })?;
    if args.inject_config_file.is_none() {
        mesh.settings.proxy_image = format!("ferromesh/proxy:{}", env!("CARGO_PKG_VERSION"));
    }
    if args.values_file.is_some() {
        let values: Value = serde_saphyr::from_str(&text(&args.values_file)?).context("the values file")?;
        let read = values::read(&values);
        mesh = mesh.with_values(&read)?;
        for path in read.unread {
            output::note(&format!("warning: values: {path} has no effect on injection here"));
        }
    }
    if let Some(revision) = &args.revision {
        mesh.settings.revision.clone_from(revision);
    }
    Ok(mesh)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The text of a file or of standard input.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let (mut text, name) = (String::new(), path.display());
    let read = if is_stdin(path) {
        std::io::stdin().take(MAX_INPUT + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
        file.take(MAX_INPUT + 1).read_to_string(&mut text)
    };
    let bytes = read.with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(bytes as u64 <= MAX_INPUT, "{name} has more than {} MiB", MAX_INPUT >> 20);
    Ok(text)
}
