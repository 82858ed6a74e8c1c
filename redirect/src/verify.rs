//! Whether traffic is redirected, seen by a connection: it must arrive at the proxy's port and still know where it was
//! to go.
//!
//! Who runs this decides what can be seen: an exempt user (the proxy's) sees the inbound side, any other the outbound
//! side. Nothing leaves the namespace: a redirected connection ends here, and one that is not is to an address that is
//! reserved for documentation (RFC 5737, RFC 3849).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::plan::{Plan, Ranges};

/// A connection inside one host is there at once; this is for a busy one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Ports to try with, the first that is redirected.
const PORTS: [u16; 4] = [80, 8443, 9080, 61337];

/// Why redirection was not seen.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Nothing came.
    #[error(
        "a connection to {target} did not arrive at the proxy's port {port} ({reason}); another program's rules may come \
         first: look at `nft list ruleset` and `iptables-save` in the pod's network namespace"
    )]
    NotRedirected {
        /// Where it was to go.
        target: SocketAddr,
        /// Where it should have come.
        port: u16,
        /// What happened instead.
        reason: String,
    },
    /// It came without its destination.
    #[error(
        "a connection to {target} arrived at port {port} and its first destination reads as {seen}; the kernel has no \
         SO_ORIGINAL_DST for it (module nf_conntrack)"
    )]
    NoOriginalDestination {
        /// Where it was to go.
        target: SocketAddr,
        /// Where it came.
        port: u16,
        /// What the kernel says.
        seen: String,
    },
}

/// Checks what can be checked by this user; a line for each.
///
/// # Errors
/// If a connection that should be redirected was not.
pub fn verify(plan: &Plan) -> Result<Vec<String>, VerifyError> {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let exempt = plan.uids.contains(&user) || plan.gids.contains(&group);
    let mut lines = Vec::new();
    for v6 in [false, true] {
        let (target, port) = if exempt {
            (own_address(v6).map(|address| SocketAddr::new(address, 80)), plan.inbound_port)
        } else {
            (outbound_target(plan, v6), plan.outbound_port)
        };
        let Some(target) = target else { continue };
        lines.extend(check(target, port)?);
    }
    Ok(lines)
}

/// An address of ours that is not the loopback's, if there is one of this family.
fn own_address(v6: bool) -> Option<IpAddr> {
    let (any, there) = families(v6);
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Connecting a datagram socket sends nothing; it only looks for the route.
    socket.connect((there, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

fn families(v6: bool) -> (IpAddr, IpAddr) {
    if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    }
}

/// A destination that the plan redirects; none if it redirects nothing of this family.
pub fn outbound_target(plan: &Plan, v6: bool) -> Option<SocketAddr> {
    let mut addresses: Vec<IpAddr> = vec![families(v6).1];
    if !v6 {
        addresses.extend([IpAddr::from([198, 51, 100, 1]), IpAddr::from([203, 0, 113, 1])]);
    }
    if let Ranges::Of(ranges) = &plan.outbound.include_ranges {
        // The last address of a range: the first ones are more often somebody's.
        addresses.extend(ranges.iter().map(|range| range.broadcast()).filter(|address| address.is_ipv6() == v6));
    }
    let pairs = addresses.into_iter().flat_map(|address| PORTS.map(|port| SocketAddr::new(address, port)));
    pairs.into_iter().find(|target| !target.ip().is_loopback() && plan.outbound.takes(target.ip(), target.port()))
}

/// None if this family has no route, or if the proxy itself listens already.
fn check(target: SocketAddr, port: u16) -> Result<Option<String>, VerifyError> {
    let (any, _) = families(target.is_ipv6());
    let listener = match listen(SocketAddr::new(any, port)) {
        Ok(listener) => listener,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            return Ok(Some(format!("port {port} is in use; redirection to it is not checked")));
        }
        Err(_) if target.is_ipv6() => return Ok(None),
        Err(error) => return Err(VerifyError::NotRedirected { target, port, reason: error.to_string() }),
    };
    let client = std::thread::spawn(move || TcpStream::connect_timeout(&target, PATIENCE));
    let accepted = accept(&listener);
    let connected = client.join().unwrap_or_else(|_| Err(io::Error::other("the check ended")));
    let Some(stream) = accepted else {
        return match connected {
            Err(error) if no_route(&error) => Ok(None),
            Err(error) => Err(VerifyError::NotRedirected { target, port, reason: error.to_string() }),
            Ok(_) => Err(VerifyError::NotRedirected { target, port, reason: "somebody else answered".into() }),
        };
    };
    let socket = SockRef::from(&stream);
    let seen = if target.is_ipv6() { socket.original_dst_v6() } else { socket.original_dst_v4() };
    match seen.map(|address| address.as_socket()) {
        Ok(Some(seen)) if seen.ip() == target.ip() && seen.port() == target.port() => {
            Ok(Some(format!("a connection to {target} arrives at port {port}")))
        }
        other => Err(VerifyError::NoOriginalDestination { target, port, seen: format!("{other:?}") }),
    }
}

fn no_route(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), NetworkUnreachable | HostUnreachable | AddrNotAvailable)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The next connection within the patience.
fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match listener.accept() {
            Ok((stream, _)) => return Some(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => return None,
        }
    }
    None
}
