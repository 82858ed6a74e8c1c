//! Asks name servers what is not known here: by the transport of the client, under a random number and from a port of
//! its own for each question, so that nobody can guess an answer.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::message::{Question, Transport, is_unwilling};

/// Name servers, and how they are asked.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// In order.
    pub servers: Vec<SocketAddr>,
    /// All at once, the first good answer counts; else one after the other (Istio's `DNS_FORWARD_PARALLEL`).
    pub parallel: bool,
    /// Time for each (Istio's `DNS_FORWARD_TIMEOUT`).
    pub timeout: Duration,
}

/// Name servers that did not answer last time; said in the log when that changes, not at each question.
pub(super) type Silent = RefCell<BTreeSet<SocketAddr>>;

impl Upstream {
    /// The answer for the client; `None` if no name server gave any. One that is unwilling is asked last.
    pub(super) async fn ask(&self, question: &Question, silent: &Silent) -> Option<Vec<u8>> {
        let mut unwilling = None;
        let mut keep = |answer: Option<Vec<u8>>| match answer {
            Some(answer) if is_unwilling(&answer) => {
                unwilling = Some(answer);
                None
            }
            other => other,
        };
        if self.parallel {
            let mut asked: FuturesUnordered<_> =
                self.servers.iter().map(|server| self.one(*server, question, silent)).collect();
            while let Some(answer) = asked.next().await {
                if let Some(answer) = keep(answer) {
                    return Some(question.returned(&answer));
                }
            }
        } else {
            for server in &self.servers {
                if let Some(answer) = keep(self.one(*server, question, silent).await) {
                    return Some(question.returned(&answer));
                }
            }
        }
        unwilling.map(|answer| question.returned(&answer))
    }

    /// What one name server answers in time.
    async fn one(&self, server: SocketAddr, question: &Question, silent: &Silent) -> Option<Vec<u8>> {
        let mut id = [0; 2];
        // The system's own randomness; without it there is no safe question.
        aws_lc_rs::rand::fill(&mut id).ok()?;
        let id = u16::from_be_bytes(id);
        let asked = async {
            match question.transport() {
                Transport::Udp => by_udp(server, question, id).await,
                Transport::Tcp => by_tcp(server, question, id).await,
            }
        };
        let late = |_| Err(std::io::ErrorKind::TimedOut.into());
        match tokio::time::timeout(self.timeout, asked).await.unwrap_or_else(late) {
            Ok(answer) => {
                if silent.borrow_mut().remove(&server) {
                    tracing::info!(%server, "the name server answers again");
                }
                Some(answer)
            }
            Err(error) => {
                if silent.borrow_mut().insert(server) {
                    tracing::info!(%server, %error, timeout = ?self.timeout, "the name server does not answer");
                }
                None
            }
        }
    }
}

async fn by_udp(server: SocketAddr, question: &Question, id: u16) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Nobody else's packets come to a connected socket.
    socket.connect(server).await?;
    socket.send(&question.forwarded(id)).await?;
    // One byte more than the client takes shows that there is more.
    let mut buffer = vec![0; question.limit() + 1];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if question.is_answered_by(answer, id) {
            return Ok(answer.to_vec());
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Question, id: u16) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, &question.forwarded(id)).await?;
    loop {
        let answer = read_message(&mut stream).await?;
        if question.is_answered_by(&answer, id) {
            return Ok(answer);
        }
    }
}

/// A message over TCP, behind its length.
pub(super) async fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Writes a message over TCP; one without bytes, or too long to have a length, is an error.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).ok().filter(|length| *length > 0);
    let length = length.ok_or(std::io::ErrorKind::InvalidData)?;
    let mut bytes = Vec::with_capacity(message.len() + 2);
    bytes.extend(length.to_be_bytes());
    bytes.extend(message);
    stream.write_all(&bytes).await
}
