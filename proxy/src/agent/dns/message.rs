//! DNS messages, pure: bytes of a question in, bytes of its answer out. Wire format: RFC 1035, EDNS: RFC 6891, one
//! question a message: RFC 9619.

use hickory_resolver::proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinDecodable, BinDecoder};

use super::table::Found;

/// Seconds for which an answer holds (Istio's), so that a client that keeps it soon sees what changed.
const TTL: u32 = 30;
/// Length of a message's header.
const HEADER: usize = 12;
/// What every client takes over UDP.
const LEAST: usize = 512;
/// The longest message, over TCP.
const MOST: usize = u16::MAX as usize;
/// Bytes of the longest address record whose name is a reference to an earlier one.
const RECORD: usize = 28;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What came.
#[derive(Debug)]
pub(super) enum Incoming {
    Question(Box<Question>),
    /// No question that can be asked; this says why.
    Refused(Vec<u8>),
    /// Nothing that has an answer.
    Nothing,
}

/// A question, as it came and taken apart.
#[derive(Debug)]
pub(super) struct Question {
    bytes: Vec<u8>,
    transport: Transport,
    metadata: Metadata,
    query: Query,
    edns: Option<Edns>,
    /// Where its question section ends.
    end: usize,
}

/// Reads what a client sent.
pub(super) fn read(bytes: &[u8], transport: Transport) -> Incoming {
    let mut decoder = BinDecoder::new(bytes);
    let Ok(Header { metadata, counts }) = Header::read(&mut decoder) else { return Incoming::Nothing };
    if metadata.message_type == MessageType::Response {
        // To answer an answer could go on for ever.
        return Incoming::Nothing;
    }
    let refused = |code| {
        let mut message = Message::error_msg(metadata.id, metadata.op_code, code);
        message.metadata.recursion_desired = metadata.recursion_desired;
        Incoming::Refused(message.to_vec().unwrap_or_default())
    };
    if metadata.op_code != OpCode::Query {
        return refused(ResponseCode::NotImp);
    }
    if counts.queries != 1 {
        return refused(ResponseCode::FormErr);
    }
    let Ok(query) = Query::read(&mut decoder) else { return refused(ResponseCode::FormErr) };
    let end = decoder.index();
    let mut edns = None;
    // What cannot be read behind the question is for the name server to judge.
    if counts.answers == 0 && counts.authorities == 0 {
        let count = usize::from(counts.additionals);
        let rest = Message::read_records(&mut decoder, count, true, metadata.op_code);
        edns = rest.ok().and_then(|(_, edns, _)| edns);
    }
    Incoming::Question(Box::new(Question { bytes: bytes.to_vec(), transport, metadata, query, edns, end }))
}

impl Question {
    /// The name that is asked for, in lower case and without a dot at its end. `None` if no host can have it.
    pub fn host(&self) -> Option<String> {
        let mut host = String::with_capacity(64);
        for label in self.query.name.iter() {
            if !host.is_empty() {
                host.push('.');
            }
            for byte in label {
                let letter = char::from(byte.to_ascii_lowercase());
                if !(letter.is_ascii_alphanumeric() || "-_*".contains(letter)) {
                    return None;
                }
                host.push(letter);
            }
        }
        (!host.is_empty()).then_some(host)
    }

    /// Whether it asks for addresses: other records of a name that is known here are the cluster's DNS's to give.
    pub fn is_for_addresses(&self) -> bool {
        self.query.query_class == DNSClass::IN && matches!(self.query.query_type, RecordType::A | RecordType::AAAA)
    }

    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Bytes that the client takes.
    pub fn limit(&self) -> usize {
        match self.transport {
            Transport::Tcp => MOST,
            Transport::Udp => self.edns.as_ref().map_or(LEAST, |edns| usize::from(edns.max_payload()).max(LEAST)),
        }
    }

    /// The answer with what is known of the name, in random order. Without an address of the family that is asked for it
    /// is empty and no error: an error would say that the name has none of the other family either.
    pub fn answer(&self, found: &Found<'_>, random: &mut fastrand::Rng) -> Vec<u8> {
        if self.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return self.failure(ResponseCode::BADVERS);
        }
        let name = match found.labels {
            Some(labels) => Name::from_labels(self.query.name.iter().take(labels)).unwrap_or_default(),
            None => self.query.name.clone(),
        };
        let record = |data| Record::from_rdata(name.clone(), TTL, data);
        let addresses = found.addresses;
        let mut records: Vec<Record> = match self.query.query_type {
            RecordType::A => addresses.v4.iter().map(|ip| record(RData::A(A(*ip)))).collect(),
            _ => addresses.v6.iter().map(|ip| record(RData::AAAA(AAAA(*ip)))).collect(),
        };
        random.shuffle(&mut records);
        if found.labels.is_some() && !records.is_empty() {
            let alias = RData::CNAME(CNAME(name.clone()));
            records.insert(0, Record::from_rdata(self.query.name.clone(), TTL, alias));
        }
        let mut message = self.reply(ResponseCode::NoError);
        message.metadata.authoritative = true;
        message.answers = records;
        self.encode(message)
    }

    /// The answer that there is none, and why.
    pub fn failure(&self, code: ResponseCode) -> Vec<u8> {
        self.encode(self.reply(code))
    }

    /// The answer that is too long for the way on which it was asked for.
    pub fn truncated(&self) -> Vec<u8> {
        let mut message = self.reply(ResponseCode::NoError);
        message.metadata.truncation = true;
        self.encode(message)
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let mut message = Message::error_msg(self.metadata.id, OpCode::Query, code);
        message.metadata.recursion_desired = self.metadata.recursion_desired;
        message.metadata.checking_disabled = self.metadata.checking_disabled;
        message.metadata.recursion_available = true;
        message.add_query(self.query.clone());
        if self.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            message.set_edns(edns);
        }
        message
    }

    /// The bytes of an answer; records that the client would not take are left out, and it is told so.
    fn encode(&self, mut message: Message) -> Vec<u8> {
        let limit = self.limit();
        loop {
            let Ok(bytes) = message.to_vec() else { return Vec::new() };
            let beyond = bytes.len().saturating_sub(limit);
            if beyond == 0 || message.answers.is_empty() {
                return bytes;
            }
            message.metadata.truncation = true;
            let keep = message.answers.len().saturating_sub((beyond / RECORD).max(1));
            message.answers.truncate(keep);
        }
    }

    /// The question for a name server, under another number.
    pub fn forwarded(&self, id: u16) -> Vec<u8> {
        with_id(&self.bytes, id)
    }

    /// The answer of a name server, under the client's number.
    pub fn returned(&self, answer: &[u8]) -> Vec<u8> {
        if answer.len() > self.limit() { self.truncated() } else { with_id(answer, self.metadata.id) }
    }

    /// Whether these bytes of a name server answer this question under that number.
    pub fn is_answered_by(&self, answer: &[u8], id: u16) -> bool {
        let [high, low, flags, _, questions_high, questions_low, ..] = *answer else { return false };
        if answer.len() < HEADER || u16::from_be_bytes([high, low]) != id || flags & 0x80 == 0 {
            return false;
        }
        // An error may come without the question.
        if [questions_high, questions_low] == [0, 0] {
            return code_of(answer) != 0;
        }
        let asked = self.bytes.get(HEADER..self.end);
        asked.zip(answer.get(HEADER..self.end)).is_some_and(|(asked, said)| asked.eq_ignore_ascii_case(said))
    }
}

/// The response code of an answer, without EDNS' part of it.
fn code_of(answer: &[u8]) -> u8 {
    answer.get(3).map_or(0, |flags| flags & 0x0f)
}

/// Whether a name server could not, or did not want to, answer: another one may.
pub(super) fn is_unwilling(answer: &[u8]) -> bool {
    let code = ResponseCode::from_low(code_of(answer));
    matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for (place, byte) in bytes.iter_mut().zip(id.to_be_bytes()) {
        *place = byte;
    }
    bytes
}
