//! The calls that only Linux has, each with what stands for it elsewhere.

use std::net::SocketAddr;

use tokio::net::TcpStream;

/// Where a redirected connection wanted to go (`SO_ORIGINAL_DST`); `None` if it was not redirected.
#[cfg(target_os = "linux")]
pub fn original_dst(socket: &TcpStream) -> Option<SocketAddr> {
    let local = socket.local_addr().ok()?;
    let socket = socket2::SockRef::from(socket);
    // A socket for both families has IPv4 connections, too.
    let is_v4 = local.ip().to_canonical().is_ipv4();
    let address = if is_v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let address = address.ok()?.as_socket()?;
    // With connection tracking the kernel has an answer for every connection: this one wanted to go here.
    let is_here = address.port() == local.port() && address.ip() == local.ip().to_canonical();
    (!is_here).then_some(address)
}

/// Where a redirected connection wanted to go; this system has no redirect that tells it.
#[cfg(not(target_os = "linux"))]
pub fn original_dst(_socket: &TcpStream) -> Option<SocketAddr> {
    None
}

/// Lets several sockets share an address, the kernel spreading connections over them; `false` if it cannot.
#[cfg(target_os = "linux")]
pub fn spread_over_sockets(socket: &socket2::Socket) -> bool {
    socket.set_reuse_port(true).is_ok()
}

/// Lets several sockets share an address; elsewhere the kernel does not spread connections over them.
#[cfg(not(target_os = "linux"))]
pub fn spread_over_sockets(_socket: &socket2::Socket) -> bool {
    false
}

/// Lets a socket take connections for addresses that are not this machine's (`IP_TRANSPARENT`).
///
/// # Errors
/// If the process lacks the capability.
#[cfg(target_os = "linux")]
pub fn set_transparent(socket: &socket2::Socket) -> std::io::Result<()> {
    socket.set_ip_transparent_v4(true)
}

/// Lets a socket take connections for addresses that are not this machine's.
///
/// # Errors
/// Always: only Linux can.
#[cfg(not(target_os = "linux"))]
pub fn set_transparent(_socket: &socket2::Socket) -> std::io::Result<()> {
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "transparent listeners need Linux"))
}

/// Lets a socket listen on an address that is not there yet (`IP_FREEBIND`).
///
/// # Errors
/// If the system refuses.
#[cfg(target_os = "linux")]
pub fn set_freebind(socket: &socket2::Socket) -> std::io::Result<()> {
    Ok(rustix::net::sockopt::set_ip_freebind(socket, true)?)
}

/// Lets a socket listen on an address that is not there yet.
///
/// # Errors
/// Always: only Linux can.
#[cfg(not(target_os = "linux"))]
pub fn set_freebind(_socket: &socket2::Socket) -> std::io::Result<()> {
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "freebind needs Linux"))
}
