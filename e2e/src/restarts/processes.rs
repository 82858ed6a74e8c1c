//! Processes of a cluster's containers, as the host sees them.

use std::path::Path;

use anyhow::Context;

/// A process of a pod.
pub(crate) fn of_pod(cluster: &str, pod: &str) -> anyhow::Result<i32> {
    let hostname = format!("HOSTNAME={pod}");
    let is_meant =
        |process: &Path| environment(process).split(|byte| *byte == 0).any(|pair| pair == hostname.as_bytes());
    all(cluster, is_meant).first().copied().with_context(|| format!("no process of pod {pod} runs"))
}

/// The processes of a program (by its path in its image) that run in pods whose names begin so.
pub(crate) fn of_program(cluster: &str, program: &str, pod: &str) -> Vec<i32> {
    let hostname = format!("HOSTNAME={pod}");
    all(cluster, |process| {
        std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe == Path::new(program))
            && environment(process).split(|byte| *byte == 0).any(|pair| pair.starts_with(hostname.as_bytes()))
    })
}

/// Kills processes as a crash would: without a warning.
pub(crate) fn kill(processes: &[i32]) -> anyhow::Result<()> {
    for process in processes {
        let id = rustix::process::Pid::from_raw(*process).context("a process id")?;
        rustix::process::kill_process(id, rustix::process::Signal::KILL)
            .with_context(|| format!("killing process {process}"))?;
    }
    Ok(())
}

fn environment(process: &Path) -> Vec<u8> {
    std::fs::read(process.join("environ")).unwrap_or_default()
}

/// Processes in containers of this cluster: its control groups have its name.
fn all(cluster: &str, is_meant: impl Fn(&Path) -> bool) -> Vec<i32> {
    let group = format!("/ferromesh-e2e/{cluster}/");
    let number = |entry: std::fs::DirEntry| {
        let process = entry.path();
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        let ours = std::fs::read_to_string(process.join("cgroup")).is_ok_and(|text| text.contains(&group));
        (ours && is_meant(&process)).then_some(id)
    };
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(number).collect()
}
