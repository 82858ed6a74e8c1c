//! `ferromesh-controller`: see `ferromesh-controller --help`.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let args = ferromesh_controller::args::Args::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(ferromesh_controller::daemon::run(args))
}
