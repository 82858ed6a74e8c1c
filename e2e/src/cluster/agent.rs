//! What stands between the cluster's network and the host, and in for a cloud.
//!
//! ```text
//! host's loopback ── relay ──> API server          (the socket was made there and handed in; nothing else crosses)
//! pods ── simulated ──> Running at once, on nodes without machines
//! nodes ── registry ──> images that were loaded
//! Services, Nodes ── load_balancer: plan (pure) ──> status.loadBalancer, routes of the hub: each address to the ready nodes
//! ```

use std::time::Duration;

use anyhow::Context;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::init;
use super::layout::{API_PORT, HUB, Layout, REGISTRY_PORT};

mod load_balancer;
mod plan;
mod registry;
mod simulated;

/// Runs for ever.
///
/// # Errors
/// If it is not given its socket.
pub fn run(layout: &Layout) -> anyhow::Result<()> {
    let listener = init::listener_of_stdin()?;
    listener.set_nonblocking(true)?;
    let spec = layout.spec()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener).context("standard input is no listening socket")?;
        if spec.nodes > 0 {
            tokio::spawn(load_balancer::run(layout.pki("agent.kubeconfig")));
            tokio::spawn(registry::serve((HUB, REGISTRY_PORT).into(), layout.registry()));
        }
        if spec.simulated > 0 {
            tokio::spawn(simulated::run(layout.pki("agent.kubeconfig"), spec.simulated, spec.nodes > 0));
        }
        relay(listener).await
    })
}

async fn relay(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            // Out of descriptors: the next one may have more luck.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(async move {
            let dial = TcpStream::connect((HUB, API_PORT));
            if let Ok(Ok(mut server)) = tokio::time::timeout(Duration::from_secs(5), dial).await {
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
