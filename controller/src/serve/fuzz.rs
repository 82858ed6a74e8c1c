//! Requests of xDS clients, as they come: any message, any order.

use ferromesh_proto::prost::Message;

use super::resources::ResourceSet;
use super::session::{Limits, Session};
use super::wire::{Delta, StateOfTheWorld, Wire};

/// Answers to one request that are looked at.
const MOST: usize = 64;

/// Requests after each other, each behind a byte that says how long it is.
pub fn discovery_request(data: &[u8]) {
    stream::<Delta>(data);
    stream::<StateOfTheWorld>(data);
}

fn stream<W: Wire>(mut data: &[u8])
where
    W::Request: Message + Default,
{
    let mut session = Session::new(W::PROTOCOL, Limits::default());
    while let Some((length, rest)) = data.split_first() {
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        data = rest;
        let Ok(mut message) = W::Request::decode(bytes) else { continue };
        let _ = W::node(&mut message);
        let Ok(request) = W::request(message) else { continue };
        // Too much asked for ends the stream.
        let Ok(_) = session.on_request(request) else { return };
        for _ in 0..MOST {
            let Some(due) = session.next() else { break };
            let wanted = session.wanted(due.kind);
            assert!(wanted.names.iter().all(|name| name.len() <= Limits::default().name_bytes));
            if session.respond(due, &ResourceSet::default()).is_none() {
                break;
            }
        }
    }
}
