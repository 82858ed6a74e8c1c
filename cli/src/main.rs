//! `ferromesh`.

use std::process::ExitCode;

use clap::Parser;
use ferromesh_cli::args::{Cli, Command};
use ferromesh_cli::{commands, output};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What the mesh inside logs is for `up`; the other commands print results only.
    let level = if matches!(cli.command, Command::Up(_)) { "warn" } else { "error" };
    let log = ferromesh_core::args::LogArgs {
        log_level: std::env::var("FERROMESH_LOG").unwrap_or_else(|_| level.to_owned()),
        ..Default::default()
    };
    let telemetry = ferromesh_core::telemetry::init(&log, &Default::default(), "ferromesh");
    if let Err(error) = telemetry {
        output::note(&format!("error: {error}"));
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("error: no async runtime: {error}"));
            return ExitCode::from(3);
        }
    };
    match runtime.block_on(commands::run(cli.command)) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            output::note(&format!("error: {:#}", failure.error));
            ExitCode::from(failure.exit.code())
        }
    }
}
