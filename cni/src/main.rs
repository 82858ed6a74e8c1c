//! `ferromesh-cni`: a CNI plugin where a container runtime calls it (`CNI_COMMAND` is set), else see `ferromesh-cni --help`.

use std::process::ExitCode;

use clap::Parser;
use ferromesh_cni::args::{Cli, Command};
use ferromesh_cni::{app, plugin};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if std::env::var_os(plugin::COMMAND).is_some() {
        return plugin::main();
    }
    let done = match Cli::parse().command {
        Command::Agent(args) => runtime().and_then(|runtime| runtime.block_on(app::run(args))),
        Command::Remove(args) => app::remove(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferromesh-cni: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
