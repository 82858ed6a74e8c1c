//! How connections come in: accepted, handed over by another worker, or turned away.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::counted::Counted;
use super::{Active, Listeners};
use crate::linux::DescriptorShare;
use crate::listener::{Listener, serve};
use crate::overload::Action;

/// Pause after `accept` failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that connections are accepted on.
pub(super) struct Accepting {
    stop: watch::Sender<bool>,
    pub(super) address: SocketAddr,
}

impl Accepting {
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Listeners {
    pub(super) fn accept_on(self: &Rc<Self>, active: &Rc<Active>, socket: TcpListener) -> Accepting {
        let stop = watch::Sender::new(false);
        let address = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        tokio::task::spawn_local(self.clone().accept_loop(active.clone(), socket, stop.subscribe()));
        Accepting { stop, address }
    }

    async fn accept_loop(self: Rc<Self>, active: Rc<Active>, socket: TcpListener, mut stop: watch::Receiver<bool>) {
        let mut paused = self.worker.context.overload.paused();
        loop {
            let bypasses = active.listener().bypasses_overload;
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = accept(&socket, &mut paused, bypasses) => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.arrived(&active, socket, peer),
                Err(error) if is_about_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(listener = %active.listener().name, %error, "accept failed; trying again shortly");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Connections that the kernel has already given to this socket would be reset when it closes. The runtime may not
        // know of them yet, so the kernel is asked.
        let Ok(socket) = socket.into_std() else { return };
        while let Ok((socket, peer)) = socket.accept() {
            if socket.set_nonblocking(true).is_ok()
                && let Ok(socket) = TcpStream::from_std(socket)
            {
                self.start(&active, socket, peer);
            }
        }
    }

    pub(super) async fn take_handed(self: Rc<Self>, active: Rc<Active>, listener: Arc<Listener>) {
        let Some(balancer) = &listener.balancer else { return };
        let mut sockets = balancer.join(self.worker.index, active.load.clone());
        while let Some((socket, peer)) = sockets.recv().await {
            // The sender has already counted it.
            active.load.fetch_sub(1, Ordering::Relaxed);
            if let Ok(socket) = TcpStream::from_std(socket) {
                self.start(&active, socket, peer);
            }
        }
    }

    /// An accepted socket: kept, or given to a worker with fewer connections.
    fn arrived(self: &Rc<Self>, active: &Rc<Active>, socket: TcpStream, peer: SocketAddr) {
        let listener = active.listener();
        let other = listener.balancer.as_ref().and_then(|balancer| balancer.choose(self.worker.index));
        let Some(other) = other else { return self.start(active, socket, peer) };
        let Ok(socket) = socket.into_std() else { return };
        if let Err(refused) = other.try_send((socket, peer)) {
            let (socket, peer) = refused.into_inner();
            if let Ok(socket) = TcpStream::from_std(socket) {
                self.start(active, socket, peer);
            }
        }
    }

    fn start(self: &Rc<Self>, active: &Rc<Active>, socket: TcpStream, peer: SocketAddr) {
        let listener = active.listener();
        if listener.stats.downstream_cx_active.get() >= listener.max_connections {
            return listener.stats.downstream_cx_overflow.inc();
        }
        if crate::linux::is_of_the_reserve(socket.as_raw_fd(), DescriptorShare::Downstream) {
            return listener.stats.downstream_cx_descriptor_overflow.inc();
        }
        let overload = &self.worker.context.overload;
        if !listener.bypasses_overload && overload.meets(Action::RejectIncomingConnections) {
            return listener.stats.downstream_cx_overload_reject.inc();
        }
        let Some(connected) = overload.connection(listener.ignores_global_limit) else {
            return listener.stats.downstream_global_cx_overflow.inc();
        };
        let counted = Counted::new(self.clone(), active.clone(), connected);
        tokio::task::spawn_local(serve::connection(self.clone(), active.clone(), socket, peer, counted));
    }
}

/// Accepts, unless the overload manager says that connections are to wait.
async fn accept(
    socket: &TcpListener,
    paused: &mut watch::Receiver<bool>,
    bypasses: bool,
) -> std::io::Result<(TcpStream, SocketAddr)> {
    if bypasses {
        return socket.accept().await;
    }
    loop {
        // The sender lives in the context that the worker holds.
        let _ = paused.wait_for(|paused| !*paused).await;
        tokio::select! {
            biased;
            _ = paused.wait_for(|paused| *paused) => {}
            accepted = socket.accept() => return accepted,
        }
    }
}

pub(super) fn to_tokio(socket: StdListener) -> std::io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Errors of `accept` that tell of a connection that went away, not of this process.
fn is_about_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted | ErrorKind::TimedOut
    )
}
