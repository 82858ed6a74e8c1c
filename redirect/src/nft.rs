//! Chains as one nf_tables batch of netlink messages.
//!
//! Numbers and layout: the kernel's `include/uapi/linux/netfilter/nf_tables.h` and `nfnetlink.h`. Numbers in
//! attributes are big-endian; what is compared with a packet is as it stands in the packet; what is compared with the
//! kernel's own numbers (user, mark) is in the machine's order.

use crate::rules::{Chain, Hook, Point, TABLE};

mod expression;
mod message;

pub use message::{Attributes, Message};

/// Family of tables for IPv4 and IPv6 together (`NFPROTO_INET`).
const INET: u8 = 1;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
/// `NLM_F_CREATE`.
const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
const APPEND: u16 = 0x800;
/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;

/// Replaces our table by these chains, whether it was there or not.
pub fn replace_table(chains: &[Chain]) -> Vec<Message> {
    let mut batch = delete_table();
    let end = batch.pop();
    batch.push(table(NEW_TABLE, CREATE, "table"));
    batch.extend(chains.iter().map(new_chain));
    for chain in chains {
        batch.extend(chain.rules.iter().map(|rule| {
            let mut attributes = Attributes::default();
            attributes.text(1, TABLE).text(2, chain.name);
            attributes.nest(4, |list| expression::of_rule(rule, list));
            message(
                NEW_RULE,
                CREATE | APPEND,
                attributes,
                format!("rule {:?} of chain {}", rule.to_string(), chain.name),
            )
        }));
    }
    batch.extend(end);
    batch
}

/// Deletes our table. It is made first, since deleting what is not there would fail.
pub fn delete_table() -> Vec<Message> {
    vec![mark(BATCH_BEGIN), table(NEW_TABLE, CREATE, "table"), table(DEL_TABLE, 0, "old table"), mark(BATCH_END)]
}

/// Asks for our table. It stands alone, outside a batch.
pub fn get_table() -> Message {
    table(GET_TABLE, 0, "table")
}

fn mark(kind: u16) -> Message {
    // The family is none, the resource is the subsystem.
    Message::new(kind, 0, vec![0, 0, 0, SUBSYSTEM as u8], Attributes::default(), "batch".into()).without_answer()
}

fn table(kind: u16, flags: u16, what: &str) -> Message {
    let mut attributes = Attributes::default();
    attributes.text(1, TABLE);
    message(kind, flags, attributes, format!("{what} inet {TABLE}"))
}

fn new_chain(chain: &Chain) -> Message {
    let mut attributes = Attributes::default();
    attributes.text(1, TABLE).text(3, chain.name);
    if let Some(Hook { kind, point, priority }) = chain.hook {
        attributes.nest(4, |hook| {
            hook.number(1, hook_number(point)).number(2, priority.cast_unsigned());
        });
        attributes.number(5, ACCEPT).text(7, kind);
    }
    message(NEW_CHAIN, CREATE, attributes, format!("chain {}", chain.name))
}

fn hook_number(point: Point) -> u32 {
    match point {
        Point::Prerouting => 0,
        Point::Output => 3,
    }
}

fn message(kind: u16, flags: u16, attributes: Attributes, what: String) -> Message {
    Message::new(kind, flags, vec![INET, 0, 0, 0], attributes, what)
}
