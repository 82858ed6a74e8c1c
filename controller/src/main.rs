//! `ferromesh-controller`: the control plane as a process of its own.

use clap::Parser;
use ferromesh_controller::app::Controller;
use ferromesh_controller::args::Args;
use ferromesh_core::runtime::signals::Signals;
use ferromesh_core::telemetry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let config = args.config()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let telemetry = telemetry::init(&args.log, &args.otlp, "ferromesh-controller")?;
        let mut signals = Signals::listen()?;
        let controller = Controller::start(config).await?;
        tracing::info!(xds = %controller.xds_addr(), admin = %controller.admin_addr(), "started");
        tokio::select! {
            () = controller.ready() => tracing::info!("proxies are served"),
            signal = signals.next() => {
                tracing::info!(signal, "stopping");
                return Ok(());
            }
        }
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        tokio::time::timeout(args.admin.drain_deadline(), controller.shutdown()).await?;
        telemetry.shutdown();
        Ok(())
    })
}
