//! The calls that only Linux has, each with what stands for it elsewhere.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use tokio::net::TcpStream;

/// Keeps the kernel from giving the process memory in huge pages (`PR_SET_THP_DISABLE`), with which a heap of a few
/// hundred kilobytes takes 2 MiB a thread and more; without effect where it cannot.
#[cfg(target_os = "linux")]
pub fn without_huge_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Huge pages are Linux's.
#[cfg(not(target_os = "linux"))]
pub fn without_huge_pages() {}

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

/// Sends a descriptor over a Unix socket, with one byte.
///
/// # Errors
/// If the peer is gone.
pub fn send_descriptor(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> std::io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let descriptors = [descriptor];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(std::io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(socket, &[std::io::IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes a descriptor that [`send_descriptor`] has sent.
///
/// # Errors
/// If something else comes, or nothing.
pub fn receive_descriptor(socket: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [std::io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    descriptors.flatten().next().ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

/// Whether the peer of a Unix socket runs as this process' user.
///
/// # Errors
/// If the system does not say.
#[cfg(target_os = "linux")]
pub fn is_same_user(socket: BorrowedFd<'_>) -> std::io::Result<bool> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.uid == rustix::process::geteuid())
}

/// Whether the peer of a Unix socket runs as this process' user; here only the socket's permissions say so.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn is_same_user(_socket: BorrowedFd<'_>) -> std::io::Result<bool> {
    Ok(true)
}

/// Bytes of memory that this process has resident.
///
/// # Errors
/// If the system does not say.
pub fn resident_bytes() -> std::io::Result<u64> {
    process_bytes("VmRSS:")
}

/// Bytes of memory that this process has for its data, resident or not.
///
/// # Errors
/// If the system does not say.
pub fn data_bytes() -> std::io::Result<u64> {
    process_bytes("VmData:")
}

/// A number of `/proc/self/status`.
fn process_bytes(name: &str) -> std::io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    let kilobytes = line.and_then(|number| number.parse::<u64>().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(kilobytes * 1024)
}

/// Descriptors that are left to the admin address and the control plane when connections have taken all others.
fn reserve() -> RawFd {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    RawFd::try_from(limit.map_or(1024, |limit| (limit / 16).clamp(16, 1024))).unwrap_or(1024)
}

/// Whether a descriptor's number says that nearly all are in use: the system gives the lowest that is free.
pub fn is_of_the_reserve(descriptor: RawFd, share: DescriptorShare) -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let Some(limit) = limit.and_then(|limit| RawFd::try_from(limit).ok()) else { return false };
    let left = limit.saturating_sub(descriptor);
    match share {
        DescriptorShare::Downstream => left <= reserve() * 2,
        DescriptorShare::Upstream => left <= reserve(),
    }
}

/// Who takes a descriptor: clients may take fewer than what serves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptorShare {
    /// A client's connection.
    Downstream,
    /// A connection to a host.
    Upstream,
}

/// Lets this process have as many descriptors as it may.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of descriptors stays");
        }
    }
}
