//! Listening sockets: one a worker on each address, all bound before any serves.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::Listener;

/// Options of a listener's sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// Length of the accept queue.
    pub backlog: i32,
    /// A socket for each worker (`SO_REUSEPORT`); else one that they share.
    pub reuse_port: bool,
    /// Addresses whose sockets take IPv6 only (`IPV6_V6ONLY`): those without `ipv4_compat`.
    pub only_v6: Vec<SocketAddr>,
    /// `IP_TRANSPARENT`.
    pub transparent: bool,
    /// `IP_FREEBIND`: the address need not be there yet.
    pub freebind: bool,
    /// TCP keepalive: (time, interval, probes).
    pub keepalive: Option<(Duration, Duration, u32)>,
}

/// Binds the addresses of a listener: for each worker, one socket on each address. Sockets that `inherited` has for an
/// address are taken first.
///
/// A listener with `bind_to_port: false` has no sockets.
///
/// # Errors
/// Names the address that cannot be had.
pub fn bind(
    listener: &Listener,
    workers: usize,
    mut inherited: impl FnMut(SocketAddr) -> Vec<TcpListener>,
) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut all: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    if !listener.bind_to_port {
        return Ok(all);
    }
    for address in &listener.addresses {
        let sockets =
            bind_address(*address, &listener.socket_options, workers, inherited(*address)).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("listener {:?} cannot listen on {address}: {error}", listener.name),
                )
            })?;
        // More sockets than workers come from a process that had more of them: each must be served.
        for (place, socket) in sockets.into_iter().enumerate() {
            all[place % workers].push(socket);
        }
    }
    Ok(all)
}

fn bind_address(
    address: SocketAddr,
    options: &SocketOptions,
    workers: usize,
    mut sockets: Vec<TcpListener>,
) -> io::Result<Vec<TcpListener>> {
    let only_v6 = options.only_v6.contains(&address);
    let (first, spread) = match sockets.pop() {
        Some(first) => (first, options.reuse_port),
        None => {
            let (first, spread) = open(address, only_v6, options)?;
            (first.into(), spread)
        }
    };
    // Port 0 has become a real one now; the others must have the same.
    let address = first.local_addr()?;
    while sockets.len() + 1 < workers {
        sockets.push(if spread { open(address, only_v6, options)?.0.into() } else { first.try_clone()? });
    }
    sockets.push(first);
    Ok(sockets)
}

/// A listening socket, and whether others may share its address.
fn open(address: SocketAddr, only_v6: bool, options: &SocketOptions) -> io::Result<(Socket, bool)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    let spread = options.reuse_port && crate::linux::spread_over_sockets(&socket);
    if options.transparent {
        crate::linux::set_transparent(&socket)?;
    }
    if options.freebind {
        crate::linux::set_freebind(&socket)?;
    }
    if let Some((time, interval, probes)) = options.keepalive {
        let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(probes);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok((socket, spread))
}
