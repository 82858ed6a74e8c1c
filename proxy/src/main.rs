//! `ferromesh-proxy`.

use std::process::ExitCode;

use clap::Parser;
use ferromesh_proxy::args::Args;
use ferromesh_proxy::daemon;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daemon::run(&Args::parse())
}
