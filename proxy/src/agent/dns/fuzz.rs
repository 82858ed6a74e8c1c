//! Questions of an application, answers of name servers, name tables of a control plane: any bytes of each.

use ferromesh_proto::istio::networking::nds::v1::NameTable;
use ferromesh_proto::istio::networking::nds::v1::name_table::NameInfo;
use ferromesh_proto::prost::Message as _;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};

use super::message::{self, Incoming, Question, Transport};
use super::table::{Addresses, Found, Place, Table};
use super::{listen, resolv_conf};

/// The bytes as each of them.
pub fn dns(data: &[u8]) {
    let place = Place::new("shop", "shop.svc.cluster.local", Some("shop.svc.cluster.local"));
    if let Ok(names) = NameTable::decode(data) {
        let table = Table::new(&names, &place);
        for host in names.table.keys() {
            let _ = table.find(host);
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = (listen(text), resolv_conf::parse(text));
    }
    let info = NameInfo { ips: vec!["10.0.0.1".into()], ..NameInfo::default() };
    let table = Table::new(&NameTable { table: [("*.com".into(), info)].into() }, &place);
    for transport in [Transport::Udp, Transport::Tcp] {
        match message::read(data, transport) {
            Incoming::Question(question) => asked(&question, &table, data),
            Incoming::Refused(answer) => answers(&answer, data),
            Incoming::Nothing => {}
        }
    }
}

fn asked(question: &Question, table: &Table, data: &[u8]) {
    let many = Addresses { v4: vec![[10, 0, 0, 1].into(); 300], v6: vec![[0; 16].into(); 300] };
    let host = question.host().unwrap_or_default();
    let labels = (host.contains('.')).then_some(1);
    let mut random = fastrand::Rng::with_seed(1);
    for found in [table.find(&host), Some(Found { addresses: &many, labels })].into_iter().flatten() {
        let answer = question.answer(&found, &mut random);
        assert!(answer.len() <= question.limit(), "{} bytes, {} are taken", answer.len(), question.limit());
        answers(&answer, data);
    }
    answers(&question.failure(ResponseCode::ServFail), data);
    answers(&question.truncated(), data);
    // The bytes as a name server's answer: to themselves, and to nobody else.
    let _ = question.is_answered_by(data, 1);
    assert!(question.returned(data).len() <= question.limit().max(data.len()));
    assert!(!question.is_answered_by(&question.forwarded(1), 1), "a question is no answer");
}

/// Whether this is an answer to what came.
fn answers(answer: &[u8], data: &[u8]) {
    let read = Message::from_vec(answer).expect("an answer of ours can be read");
    assert_eq!(read.metadata.message_type, MessageType::Response);
    assert_eq!(Some(&read.metadata.id.to_be_bytes()[..]), data.get(..2));
}
