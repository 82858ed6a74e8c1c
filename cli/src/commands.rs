//! One file a command; each says how it ended.

use crate::Exit;
use crate::args::{Cli, Command};
use crate::failure::Failure;

pub mod analyze;
pub mod config;
pub mod get;
pub mod inject;
pub mod up;
pub mod version;

/// A namespace that cannot be one is a slip of the keyboard, not an empty result.
fn check_namespace(namespace: Option<&str>) -> Result<(), Failure> {
    let is_one = |name: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&name.len()) && name.bytes().all(inside) && !name.starts_with('-') && !name.ends_with('-')
    };
    match namespace.filter(|name| !is_one(name)) {
        Some(name) => Err(Failure::usage(anyhow::anyhow!(
            "{name:?} cannot be a namespace: lower-case letters, digits and hyphens, at most 63 (RFC 1123)"
        ))),
        None => Ok(()),
    }
}

/// Runs a command.
///
/// # Errors
/// If it could not do its work.
pub async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Up(args) => up::run(&args).await,
        Command::Demo(args) => crate::demo::run(&args).await,
        Command::Analyze(args) => analyze::run(&args).await,
        Command::Inject(args) => inject::run(&args),
        Command::Get(args) => get::run(&args).await,
        Command::Config(args) => config::run(&args).await,
        Command::Version(args) => version::run(&args),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "ferromesh", &mut script);
            crate::output::print(&String::from_utf8_lossy(&script));
            Ok(Exit::Ok)
        }
    }
}
