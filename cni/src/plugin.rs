//! The CNI plugin: environment and standard input in; a result, an error or nothing out (CNI specification 1.1.0).
//!
//! It is called for every pod of the node, so that it asks the agent as seldom as it can: where the runtime tells the pod's
//! annotations, only about pods that have a sidecar and were promised redirection. A pod that has a sidecar and is not
//! redirected all the same (a runtime that tells none, and no agent) is held up by its own `istio-validation`.

use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::json;

use crate::conflist::{PluginConfig, VERSIONS};
use crate::wire::Verb;

mod agent;
mod call;

pub use agent::Agent;
pub use call::{Call, Pod};

/// The variable that says what a plugin is to do.
pub const COMMAND: &str = "CNI_COMMAND";
/// A pod's result is far smaller.
const LARGEST_INPUT: u64 = 4 << 20;
/// The newest that we speak.
const NEWEST: &str = "1.1.0";

/// An error, as the specification has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CniError {
    /// Its number.
    pub code: u32,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl CniError {
    /// The version is none that we speak.
    pub const VERSION: u32 = 1;
    /// A variable is missing or wrong.
    pub const ENVIRONMENT: u32 = 4;
    /// The input cannot be read.
    pub const INPUT: u32 = 6;
    /// The configuration is wrong.
    pub const CONFIG: u32 = 7;
    /// It may work later.
    pub const LATER: u32 = 11;
    /// The pod's traffic is not redirected.
    pub const NOT_REDIRECTED: u32 = 101;

    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Answers the runtime, as a process.
pub fn main() -> ExitCode {
    let mut input = Vec::new();
    let read = std::io::stdin().take(LARGEST_INPUT).read_to_end(&mut input);
    let variable = |name: &str| std::env::var(name).ok();
    let (text, done) = match read {
        Ok(_) => run(&variable, &input, &Agent::default()),
        Err(error) => (failure(NEWEST, &CniError::new(CniError::INPUT, format!("standard input: {error}"))), false),
    };
    // Nobody is left to be told if that fails.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is printed, and whether it is no error.
pub fn run(variable: &dyn Fn(&str) -> Option<String>, input: &[u8], agent: &Agent) -> (String, bool) {
    let version = spoken(input);
    match answer(variable, input, agent) {
        Ok(text) => (text, true),
        Err(error) => (failure(&version, &error), false),
    }
}

/// The version that an answer is in, whatever else is wrong.
fn spoken(input: &[u8]) -> String {
    let config: PluginConfig = serde_json::from_slice(input).unwrap_or_default();
    if config.cni_version.is_empty() { NEWEST.to_owned() } else { config.cni_version }
}

fn failure(version: &str, error: &CniError) -> String {
    json!({"cniVersion": version, "code": error.code, "msg": error.message}).to_string()
}

fn answer(variable: &dyn Fn(&str) -> Option<String>, input: &[u8], agent: &Agent) -> Result<String, CniError> {
    let command = variable(COMMAND).unwrap_or_default();
    if command == "VERSION" {
        return Ok(json!({"cniVersion": spoken(input), "supportedVersions": VERSIONS}).to_string());
    }
    let config: PluginConfig = serde_json::from_slice(input)
        .map_err(|error| CniError::new(CniError::INPUT, format!("the configuration cannot be read: {error}")))?;
    if !VERSIONS.contains(&config.cni_version.as_str()) {
        let message = format!("cniVersion {:?}: the plugin speaks {}", config.cni_version, VERSIONS.join(", "));
        return Err(CniError::new(CniError::VERSION, message));
    }
    match command.as_str() {
        "ADD" => {
            let Some(result) = &config.prev_result else {
                let message =
                    "there is no prevResult: the plugin stands in a chain, behind the one that makes the network";
                return Err(CniError::new(CniError::CONFIG, message));
            };
            attend(Verb::Add, variable, &config, agent)?;
            Ok(result.get().to_owned())
        }
        "CHECK" => attend(Verb::Check, variable, &config, agent).map(|()| String::new()),
        // Rules go with the network namespace. Without the agent only pods with a sidecar have to wait, so that the network
        // is not to be called down for it (STATUS).
        "DEL" | "GC" | "STATUS" => Ok(String::new()),
        other => Err(CniError::new(CniError::ENVIRONMENT, format!("{COMMAND}={other:?} is no command"))),
    }
}

fn attend(
    verb: Verb,
    variable: &dyn Fn(&str) -> Option<String>,
    config: &PluginConfig,
    agent: &Agent,
) -> Result<(), CniError> {
    let call = Call::of(variable, config)?;
    let Some(pod) = &call.pod else { return Ok(()) };
    if config.exclude_namespaces.contains(&pod.namespace) || pod.promised == Some(false) {
        return Ok(());
    }
    agent.attend(verb, pod, &call.namespace, &config.socket)
}

#[cfg(test)]
mod tests;
