//! The applications behind the pods: the built-in one, or processes of one's own.

use std::process::Stdio;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::plan::PodPlan;
use super::workloads::Behind;
use crate::echo;

/// A running application; dropping it ends it.
pub enum App {
    /// Served in this process.
    Echo(Vec<JoinHandle<()>>),
    /// A process of its own.
    Process(Box<tokio::process::Child>),
    /// Somebody else's.
    Foreign,
}

impl App {
    /// Starts what stands behind a pod.
    ///
    /// # Errors
    /// If its port is taken or its program cannot be run.
    pub async fn start(plan: &PodPlan) -> anyhow::Result<Self> {
        match &plan.behind {
            Behind::Echo => {
                let settings = echo::Settings::from_env(&plan.env);
                let mut serving = Vec::new();
                for port in &plan.ports {
                    let listener = TcpListener::bind(port.app)
                        .await
                        .with_context(|| format!("{}: the application's address {}", plan.key, port.app))?;
                    serving.push(tokio::spawn(echo::serve(listener, settings.clone())));
                }
                Ok(Self::Echo(serving))
            }
            Behind::Command(command) => process(plan, command),
            Behind::Address(_) | Behind::Nothing => Ok(Self::Foreign),
        }
    }
}

fn process(plan: &PodPlan, command: &[String]) -> anyhow::Result<App> {
    let (program, arguments) = command.split_first().context("the command is empty")?;
    let mut process = tokio::process::Command::new(program);
    process.args(arguments).envs(&plan.env).stdin(Stdio::null()).kill_on_drop(true);
    process.env("HOST", "127.0.0.1");
    if let Some(first) = plan.ports.first() {
        process.env("PORT", first.app.port().to_string());
    }
    for port in &plan.ports {
        process.env(format!("PORT_{}", port.port), port.app.port().to_string());
    }
    if let Some(address) = plan.http_proxy {
        process.env("http_proxy", format!("http://{address}"));
    }
    let child = process.spawn().with_context(|| format!("{}: running {program:?}", plan.key))?;
    Ok(App::Process(Box::new(child)))
}

impl Drop for App {
    fn drop(&mut self) {
        if let Self::Echo(serving) = self {
            for task in serving {
                task.abort();
            }
        }
    }
}
