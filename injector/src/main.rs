//! `ferromesh-injector`: see `ferromesh-injector --help`.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let args = ferromesh_injector::args::Args::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(ferromesh_injector::app::run(args))
}
