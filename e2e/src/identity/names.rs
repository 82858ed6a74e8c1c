//! A question for a name's IPv4 address, from the network of the thread that asks. RFC 1035, by hand: the programs of a
//! pod ask no other way.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// What the name server says: the address, or that there is none.
pub(super) fn look_up(server: SocketAddr, name: &str) -> String {
    match ask(server, name) {
        Ok((0, Some(address))) => address.to_string(),
        Ok((code, _)) => format!("code {code}, no address"),
        Err(error) => error.to_string(),
    }
}

fn ask(server: SocketAddr, name: &str) -> std::io::Result<(u8, Option<Ipv4Addr>)> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).map_err(std::io::Error::other)?);
        question.extend(label.as_bytes());
    }
    // The root, an address, of the Internet.
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(&question)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    let answer = answer.get(..length).unwrap_or_default();
    let code = answer.get(3).map_or(u8::MAX, |flags| flags & 0x0f);
    let has_answer = answer.get(6..8).is_some_and(|count| count == [0, 1]);
    // One address, and nothing behind it.
    let last = answer.last_chunk::<4>().filter(|_| has_answer);
    Ok((code, last.map(|ip| Ipv4Addr::from(*ip))))
}
