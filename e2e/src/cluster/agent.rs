//! What stands between the cluster's network and the host, and in for a cloud.
//!
//! The relay: connections to the host's port of the API server are carried on to it. The listening socket was made on the host's
//! loopback and handed in; the other side is dialled here, in the cluster's network. Nothing else crosses.

use std::time::Duration;

use anyhow::Context;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::init;
use super::layout::{API_PORT, HUB, Layout};

/// Runs for ever.
///
/// # Errors
/// If it is not given its socket.
pub fn run(_layout: &Layout) -> anyhow::Result<()> {
    let listener = init::listener_of_stdin()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener).context("standard input is no listening socket")?;
        relay(listener).await
    })
}

async fn relay(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
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
