//! Packets of a pod's link, and what is in them: whole TLS records, or something else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with};

use crate::cluster::network::Namespace;

/// Packets that are kept, at most.
const MOST: usize = 200_000;

/// A capture that runs until it is ended.
pub(super) struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Packets>>,
}

impl Capture {
    /// All packets of all links of a process's network.
    pub(super) fn start(process: i32) -> anyhow::Result<Self> {
        let namespace = Namespace::of(process)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, (ready, started)) = (stop.clone(), std::sync::mpsc::channel());
        let run = move || -> anyhow::Result<Packets> {
            namespace.enter()?;
            let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(eth::ALL))
                .context("a packet socket")?;
            rustix::net::sockopt::set_socket_timeout(
                &socket,
                rustix::net::sockopt::Timeout::Recv,
                Some(Duration::from_millis(50)),
            )?;
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 << 20)?;
            ready.send(())?;
            let mut packets = Packets::default();
            let mut bytes = vec![0; 65_536];
            while packets.0.len() < MOST {
                match recv(&socket, &mut bytes[..], RecvFlags::empty()) {
                    Ok((_, length)) => packets.0.extend(Packet::read(&bytes[..length.min(65_536)])),
                    // Nothing is on its way any more.
                    Err(rustix::io::Errno::AGAIN) if theirs.load(Ordering::Relaxed) => break,
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error).context("reading packets"),
                }
            }
            Ok(packets)
        };
        let thread = std::thread::Builder::new().name("capture".into()).spawn(run)?;
        // Its thread says what was wrong.
        let _ = started.recv_timeout(Duration::from_secs(5));
        Ok(Self { stop, thread })
    }

    /// Ends it, once what is on its way has come.
    pub(super) fn end(self) -> anyhow::Result<Packets> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the capture ended before its time"))?
    }
}

/// A TCP segment with a payload, as it was on a link.
#[derive(Debug, Clone, PartialEq)]
struct Packet {
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    sequence: u32,
    payload: Vec<u8>,
}

impl Packet {
    /// Ethernet, IPv4, TCP with a payload; nothing else, and not the loopback, which has no addresses of links.
    fn read(frame: &[u8]) -> Option<Self> {
        let (link, ip) = frame.split_at_checked(14)?;
        if link[..12].iter().all(|byte| *byte == 0) || link[12..] != [8, 0] {
            return None;
        }
        let header = usize::from(ip.first()? & 0xf) * 4;
        let length: usize = u16::from_be_bytes(ip.get(2..4)?.try_into().ok()?).into();
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
        let (from, to) = (address(12)?, address(16)?);
        if *ip.get(9)? != 6 {
            return None;
        }
        let tcp = ip.get(header..length)?;
        let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
        let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
        let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
        let (from, to) = ((from, port(0)?), (to, port(2)?));
        (!payload.is_empty()).then(|| Self { from, to, sequence, payload: payload.to_vec() })
    }
}

/// What was captured.
#[derive(Debug, Default)]
pub(super) struct Packets(Vec<Packet>);

/// What was between two addresses.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    /// Connections, by both ends' ports.
    pub(super) connections: usize,
    /// Packets with a payload.
    pub(super) packets: usize,
    /// Their payloads' bytes, what was sent again counted once.
    pub(super) bytes: usize,
    /// Bytes that are in no TLS record.
    pub(super) other: usize,
    /// Packets that hold the mark.
    pub(super) marks: usize,
}

impl Packets {
    /// What went between two addresses, both ways.
    pub(super) fn between(&self, one: IpAddr, other: IpAddr, mark: &[u8]) -> Told {
        let pair = |packet: &&Packet| {
            let ends = (IpAddr::V4(packet.from.0), IpAddr::V4(packet.to.0));
            ends == (one, other) || ends == (other, one)
        };
        let mut told = Told::default();
        let mut streams: BTreeMap<_, Vec<&Packet>> = BTreeMap::new();
        for packet in self.0.iter().filter(pair) {
            told.packets += 1;
            told.marks += usize::from(packet.payload.windows(mark.len().max(1)).any(|window| window == mark));
            streams.entry((packet.from, packet.to)).or_default().push(packet);
        }
        for packets in streams.values() {
            let bytes = assemble(packets);
            told.bytes += bytes.len();
            told.other += bytes.len() - records(&bytes);
        }
        let ends = |key: &((Ipv4Addr, u16), (Ipv4Addr, u16))| (key.0.min(key.1), key.0.max(key.1));
        told.connections = streams.keys().map(ends).collect::<std::collections::BTreeSet<_>>().len();
        told
    }
}

/// The bytes of one direction in their order, up to the first gap.
fn assemble(packets: &[&Packet]) -> Vec<u8> {
    let Some(first) = packets.first() else { return Vec::new() };
    // Sequence numbers wrap; what comes a little before the first packet that was seen was sent before it.
    let place = |packet: &Packet| i64::from(packet.sequence.wrapping_sub(first.sequence).cast_signed());
    let mut sorted = packets.to_vec();
    sorted.sort_by_key(|packet| place(packet));
    let begin = place(sorted[0]);
    let mut bytes = Vec::new();
    for packet in sorted {
        let have = begin + i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let Ok(known) = usize::try_from(have - place(packet)) else { break };
        bytes.extend(packet.payload.iter().skip(known));
    }
    bytes
}

/// How many of the bytes, from the first on, are TLS records (RFC 8446, 5.1); a last one may be incomplete.
fn records(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let kind = (20..=23).contains(&rest[0]);
        let version = rest.len() < 3 || (rest[1] == 3 && rest[2] <= 4);
        let length = rest.get(3..5).map_or(0, |length| usize::from(u16::from_be_bytes([length[0], length[1]])));
        if !kind || !version || length > (1 << 14) + 256 {
            return at;
        }
        at += 5 + length;
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn packet(sequence: u32, payload: &[u8]) -> Packet {
        Packet { from: (A, 1000), to: (B, 80), sequence, payload: payload.to_vec() }
    }

    #[test]
    fn records_are_told_from_anything_else() {
        let record = [23, 3, 3, 0, 2, 9, 9];
        assert_eq!(records(&[record, record].concat()), 14);
        assert_eq!(records(&[&record[..], b"GET / HTTP/1.1"].concat()), 7);
        assert_eq!(records(b"GET / HTTP/1.1"), 0);
        assert_eq!(records(&record[..6]), 6, "the last one may be incomplete");
        assert_eq!(records(&[23, 3, 3, 255, 255]), 0, "no record is that long");
    }

    #[test]
    fn plaintext_in_the_middle_of_a_connection_is_found_whatever_the_order_of_packets() {
        let mark = b"/secret";
        let all = Packets(vec![
            packet(107, b"GET /secret"),
            packet(100, &[23, 3, 3, 0, 2, 9, 9]),
            packet(100, &[23, 3, 3, 0, 2, 9, 9]),
        ]);
        let told = all.between(A.into(), B.into(), mark);
        assert_eq!(told, Told { connections: 1, packets: 3, bytes: 18, other: 11, marks: 1 });
        assert_eq!(all.between(A.into(), A.into(), mark), Told::default());
    }

    #[test]
    fn sequence_numbers_wrap() {
        let all = [packet(u32::MAX - 1, b"abc"), packet(1, b"de")];
        assert_eq!(assemble(&all.iter().collect::<Vec<_>>()), b"abcde");
    }

    #[test]
    fn a_frame_is_read_and_the_loopback_is_not() {
        let mut frame = vec![1; 12];
        frame.extend([8, 0]);
        let mut ip = vec![0x45, 0, 0, 43, 0, 0, 0, 0, 64, 6, 0, 0];
        ip.extend(A.octets());
        ip.extend(B.octets());
        ip.extend([3, 232, 0, 80, 0, 0, 0, 100, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        ip.extend(b"abc");
        frame.extend(&ip);
        // Short frames are filled up.
        frame.extend([0; 6]);
        assert_eq!(Packet::read(&frame), Some(packet(100, b"abc")));
        frame[..12].fill(0);
        assert_eq!(Packet::read(&frame), None);
    }
}
