//! A name server of a test: answers by UDP and TCP what it is told to.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// What is said of a name.
#[derive(Clone)]
pub enum Say {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    NoSuchName,
    ServerFailure,
    Nothing,
}

/// A running server; ends with the test's runtime.
#[derive(Clone)]
pub struct DnsServer {
    pub address: SocketAddr,
    names: Arc<Mutex<BTreeMap<String, Say>>>,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    over_tcp: Arc<Mutex<usize>>,
}

impl DnsServer {
    pub async fn start() -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // The port may be taken for UDP: another one then.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let server = Self { address, names: Arc::default(), asked: Arc::default(), over_tcp: Arc::default() };
        tokio::spawn(server.clone().serve_udp(udp));
        tokio::spawn(server.clone().serve_tcp(tcp));
        server
    }

    pub fn say(&self, name: &str, what: Say) {
        self.names.lock().unwrap().insert(name.to_owned(), what);
    }

    /// Addresses that hold for a minute.
    pub fn addresses(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.say(name, Say::Addresses(addresses, 60));
    }

    /// How often it was asked for a name.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    /// How often by TCP, for any name.
    pub fn asked_over_tcp(&self) -> usize {
        *self.over_tcp.lock().unwrap()
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let Some((query, mut answer)) = self.answer(&buffer[..length]) else { continue };
            let mut bytes = answer.to_vec().unwrap();
            if bytes.len() > usize::from(query.max_payload()) {
                answer = answer.truncate();
                bytes = answer.to_vec().unwrap();
            }
            socket.send_to(&bytes, from).await.unwrap();
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let server = self.clone();
            tokio::spawn(async move {
                while let Ok(length) = socket.read_u16().await {
                    let mut buffer = vec![0; usize::from(length)];
                    socket.read_exact(&mut buffer).await.unwrap();
                    *server.over_tcp.lock().unwrap() += 1;
                    let Some((_, answer)) = server.answer(&buffer) else { return };
                    let bytes = answer.to_vec().unwrap();
                    socket.write_u16(bytes.len() as u16).await.unwrap();
                    socket.write_all(&bytes).await.unwrap();
                }
            });
        }
    }

    fn answer(&self, bytes: &[u8]) -> Option<(Message, Message)> {
        let query = Message::from_vec(bytes).unwrap();
        let question = query.queries.first()?.clone();
        let name = question.name().to_ascii().trim_end_matches('.').to_owned();
        *self.asked.lock().unwrap().entry(name.clone()).or_default() += 1;
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_available = true;
        answer.add_query(question.clone());
        let said = self.names.lock().unwrap().get(&name).cloned().unwrap_or(Say::NoSuchName);
        match said {
            Say::Addresses(addresses, ttl) => {
                let of_type = |address: IpAddr| match (address, question.query_type()) {
                    (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(address))),
                    (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(address))),
                    _ => None,
                };
                let records = addresses.into_iter().filter_map(of_type);
                answer.add_answers(records.map(|data| Record::from_rdata(question.name().clone(), ttl, data)));
            }
            Say::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
            Say::ServerFailure => answer.metadata.response_code = ResponseCode::ServFail,
            Say::Nothing => return None,
        }
        Some((query, answer))
    }
}
