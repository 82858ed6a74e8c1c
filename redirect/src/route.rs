//! Policy routes for transparent sockets: marked packets are for this host, whatever their address.
//!
//! The kernel's `include/uapi/linux/rtnetlink.h` and `fib_rules.h`. Numbers in these attributes are in the machine's
//! order.

use crate::nft::{Attributes, Message};
use crate::plan::{Mode, Plan};
use crate::rules::TPROXY_MARK;

const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;
/// `NLM_F_CREATE | NLM_F_EXCL`.
const ONCE: u16 = 0x400 | 0x200;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// The table of routes (Istio's number).
const TABLE: u8 = 133;
/// `RTPROT_BOOT`, `RT_SCOPE_HOST`, `RTN_LOCAL`, `FR_ACT_TO_TBL`.
const BOOT: u8 = 3;
const HOST: u8 = 254;
const LOCAL: u8 = 2;
const TO_TABLE: u8 = 1;
/// The loopback interface is always the first.
const LO: u32 = 1;

/// None where no transparent sockets are used.
pub fn requests(plan: &Plan) -> Vec<Message> {
    if plan.mode != Mode::Tproxy {
        return Vec::new();
    }
    [IPV4, IPV6].into_iter().flat_map(|family| [rule(family), route(family)]).collect()
}

fn rule(family: u8) -> Message {
    let head = vec![family, 0, 0, 0, TABLE, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let mut attributes = Attributes::default();
    // FRA_FWMARK, FRA_FWMASK.
    attributes.raw(10, &TPROXY_MARK.to_ne_bytes()).raw(16, &u32::MAX.to_ne_bytes());
    Message::new(NEW_RULE, ONCE, head, attributes, format!("ip rule fwmark {TPROXY_MARK} lookup {TABLE}"))
}

fn route(family: u8) -> Message {
    let head = vec![family, 0, 0, 0, TABLE, BOOT, HOST, LOCAL, 0, 0, 0, 0];
    let mut attributes = Attributes::default();
    // RTA_OIF.
    attributes.raw(4, &LO.to_ne_bytes());
    Message::new(NEW_ROUTE, ONCE, head, attributes, format!("ip route local default dev lo table {TABLE}"))
}
