//! Messages to the kernel and its answers: netfilter in one batch, routes one by one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::nft::Message;

/// An answer that is an error or a confirmation (`NLMSG_ERROR`).
const ERROR: u16 = 2;
/// One answer holds at most this.
const ANSWER: usize = 64 * 1024;

/// Why the kernel was not told.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// There is no such socket.
    #[error("netlink: {0}; this kernel has no nf_tables, or the sandbox forbids it")]
    Socket(io::Error),
    /// The process may not.
    #[error(
        "{what}: not permitted; the container needs the capability NET_ADMIN in its own network namespace \
         (in namespaces that forbid it, install the node agent)"
    )]
    NotPermitted {
        /// What was to be done.
        what: String,
    },
    /// The kernel lacks a part.
    #[error(
        "{what}: {source}; the kernel lacks what it needs (modules nf_tables, nft_nat, nft_redir; for TPROXY nft_tproxy, nft_socket)"
    )]
    Unsupported {
        /// What was to be done.
        what: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// It refuses.
    #[error("{what}: {source}")]
    Refused {
        /// What was to be done.
        what: String,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Sends a netfilter batch: all of it holds, or none.
///
/// # Errors
/// The first that the kernel refuses.
pub fn batch(messages: &[Message]) -> Result<(), NetlinkError> {
    exchange(Some(rustix::net::netlink::NETFILTER), messages)
}

/// Sends one request about routes. That it exists already is no error.
///
/// # Errors
/// If the kernel refuses.
pub fn request(message: &Message) -> Result<(), NetlinkError> {
    match exchange(None, std::slice::from_ref(message)) {
        Err(NetlinkError::Refused { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Asks netfilter for one thing: whether it is there.
///
/// # Errors
/// If the kernel does not say.
pub fn exists(message: &Message) -> Result<bool, NetlinkError> {
    match exchange(Some(rustix::net::netlink::NETFILTER), std::slice::from_ref(message)) {
        Ok(()) => Ok(true),
        Err(NetlinkError::Unsupported { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// `protocol` none is routes (number 0).
fn exchange(protocol: Option<Protocol>, messages: &[Message]) -> Result<(), NetlinkError> {
    let failed = |error: rustix::io::Errno| NetlinkError::Socket(error.into());
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
        .map_err(failed)?;
    let mut bytes = Vec::new();
    let mut waiting = BTreeMap::new();
    for (sequence, message) in (1u32..).zip(messages) {
        bytes.extend(message.bytes(sequence));
        if message.has_answer() {
            waiting.insert(sequence, message.what.as_str());
        }
    }
    let kernel = SocketAddrNetlink::new(0, 0);
    let sent = rustix::net::sendto(&socket, &bytes, SendFlags::empty(), &kernel);
    sent.map_err(|error| explain("netfilter rules", error))?;
    while !waiting.is_empty() {
        for (sequence, code) in answers(&socket)? {
            let what = waiting.remove(&sequence).unwrap_or("netfilter batch");
            if code != 0 {
                return Err(explain(what, rustix::io::Errno::from_raw_os_error(-code)));
            }
        }
    }
    Ok(())
}

fn explain(what: &str, error: rustix::io::Errno) -> NetlinkError {
    use rustix::io::Errno;
    let what = what.to_owned();
    match error {
        Errno::PERM | Errno::ACCESS => NetlinkError::NotPermitted { what },
        Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT => {
            NetlinkError::Unsupported { what, source: error.into() }
        }
        _ => NetlinkError::Refused { what, source: error.into() },
    }
}

/// Sequence numbers and codes (0, or the negative of an error) of the next answers.
fn answers(socket: &OwnedFd) -> Result<Vec<(u32, i32)>, NetlinkError> {
    let mut buffer = vec![0u8; ANSWER];
    let (length, _) = rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty())
        .map_err(|error| NetlinkError::Socket(error.into()))?;
    let mut rest = &buffer[..length.min(ANSWER)];
    let mut all = Vec::new();
    while let Some((length, kind, sequence)) = header(rest) {
        if kind == ERROR
            && let Some(code) = word(rest, 16)
        {
            all.push((sequence, i32::from_ne_bytes(code)));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(all)
}

fn header(bytes: &[u8]) -> Option<(usize, u16, u32)> {
    let length = usize::try_from(u32::from_ne_bytes(word(bytes, 0)?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(word(bytes, 8)?);
    (length >= 16 && length <= bytes.len()).then_some((length, kind, sequence))
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}
