//! A rule as a list of nf_tables expressions: load a field, compare it, and the verdict at the end.

use std::net::IpAddr;

use ipnet::IpNet;

use super::message::Attributes;
use crate::rules::{Match, Rule, TPROXY_MARK, Transport, Verdict};

/// The register that fields are loaded into (16 bytes).
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
/// An element of a list.
const ELEMENT: u16 = 1;
/// Keys of `meta` (`enum nft_meta_keys`).
const META_MARK: u32 = 3;
const META_IN: u32 = 6;
const META_OUT: u32 = 7;
const META_USER: u32 = 10;
const META_GROUP: u32 = 11;
const META_FAMILY: u32 = 15;
const META_TRANSPORT: u32 = 16;
/// Key of `ct` (`enum nft_ct_keys`).
const CT_ZONE: u32 = 17;
/// Where `payload` reads (`enum nft_payload_bases`).
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// Verdicts (`enum nft_verdicts`, and netfilter's own).
const JUMP: i32 = -3;
const RETURN: i32 = -5;
const ACCEPT: i32 = 1;
/// Longest name of an interface, with its end.
const INTERFACE: usize = 16;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const PORT_GIVEN: u32 = 2;

/// Appends the expressions of `rule`.
pub(super) fn of_rule(rule: &Rule, list: &mut Attributes) {
    for one in &rule.matches {
        of_match(one, list);
    }
    match rule.verdict {
        Verdict::Return => verdict(list, RETURN, None),
        Verdict::Jump(chain) => verdict(list, JUMP, Some(chain)),
        Verdict::Redirect(port) => {
            immediate(list, &port.to_be_bytes());
            expression(list, "redir", |data| {
                data.number(1, REGISTER).number(3, PORT_GIVEN);
            });
        }
        Verdict::Tproxy(port) => {
            immediate(list, &port.to_be_bytes());
            expression(list, "tproxy", |data| {
                // Both families; the socket is looked for on the packet's own address.
                data.number(1, 0).number(3, REGISTER);
            });
            mark_and_accept(list);
        }
        Verdict::MarkAndAccept => mark_and_accept(list),
        Verdict::Zone(zone) => {
            immediate(list, &zone.to_ne_bytes());
            expression(list, "ct", |data| {
                data.number(2, CT_ZONE).number(4, REGISTER);
            });
            verdict(list, RETURN, None);
        }
    }
}

fn mark_and_accept(list: &mut Attributes) {
    immediate(list, &TPROXY_MARK.to_ne_bytes());
    expression(list, "meta", |data| {
        data.number(2, META_MARK).number(3, REGISTER);
    });
    verdict(list, ACCEPT, None);
}

fn of_match(one: &Match, list: &mut Attributes) {
    match one {
        Match::In(name, is) => meta(list, META_IN, &interface(name), *is),
        Match::Out(name, is) => meta(list, META_OUT, &interface(name), *is),
        Match::User(id, is) => meta(list, META_USER, &id.to_ne_bytes(), *is),
        Match::Group(id, is) => meta(list, META_GROUP, &id.to_ne_bytes(), *is),
        Match::Transport(Transport::Tcp) => meta(list, META_TRANSPORT, &[6], true),
        Match::Transport(Transport::Udp) => meta(list, META_TRANSPORT, &[17], true),
        Match::Port(port, is) => {
            payload(list, TRANSPORT, 2, 2);
            compare(list, &port.to_be_bytes(), *is);
        }
        Match::FromPort(port) => {
            payload(list, TRANSPORT, 0, 2);
            compare(list, &port.to_be_bytes(), true);
        }
        Match::From(range) => address(list, range, true, true),
        Match::To(range, is) => address(list, range, false, *is),
        Match::TransparentSocket => {
            expression(list, "socket", |data| {
                // The key is "transparent".
                data.number(1, 0).number(2, REGISTER);
            });
            compare(list, &[1], true);
        }
    }
}

fn interface(name: &str) -> [u8; INTERFACE] {
    let mut bytes = [0; INTERFACE];
    for (place, byte) in bytes.iter_mut().take(INTERFACE - 1).zip(name.bytes()) {
        *place = byte;
    }
    bytes
}

/// The packet's family, then its address under the range's mask.
fn address(list: &mut Attributes, range: &IpNet, source: bool, is: bool) {
    let (family, offset) = match (range, source) {
        (IpNet::V4(_), true) => (IPV4, 12),
        (IpNet::V4(_), false) => (IPV4, 16),
        (IpNet::V6(_), true) => (IPV6, 8),
        (IpNet::V6(_), false) => (IPV6, 24),
    };
    let (network, mask) = (octets(range.network()), octets(range.netmask()));
    meta(list, META_FAMILY, &[family], true);
    let length = u32::try_from(network.len()).unwrap_or_default();
    payload(list, NETWORK, offset, length);
    if range.prefix_len() != range.max_prefix_len() {
        expression(list, "bitwise", |data| {
            data.number(1, REGISTER).number(2, REGISTER).number(3, length);
            data.nest(4, |value| _ = value.raw(1, &mask));
            data.nest(5, |value| _ = value.raw(1, &vec![0; mask.len()]));
        });
    }
    compare(list, &network, is);
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn expression(list: &mut Attributes, name: &str, fill: impl FnOnce(&mut Attributes)) {
    list.nest(ELEMENT, |element| {
        element.text(1, name).nest(2, fill);
    });
}

fn meta(list: &mut Attributes, key: u32, value: &[u8], is: bool) {
    expression(list, "meta", |data| {
        data.number(1, REGISTER).number(2, key);
    });
    compare(list, value, is);
}

fn payload(list: &mut Attributes, base: u32, offset: u32, length: u32) {
    expression(list, "payload", |data| {
        data.number(1, REGISTER).number(2, base).number(3, offset).number(4, length);
    });
}

fn compare(list: &mut Attributes, value: &[u8], is: bool) {
    expression(list, "cmp", |data| {
        data.number(1, REGISTER).number(2, u32::from(!is));
        data.nest(3, |data| _ = data.raw(1, value));
    });
}

fn immediate(list: &mut Attributes, value: &[u8]) {
    expression(list, "immediate", |data| {
        data.number(1, REGISTER);
        data.nest(2, |data| _ = data.raw(1, value));
    });
}

fn verdict(list: &mut Attributes, code: i32, chain: Option<&str>) {
    expression(list, "immediate", |data| {
        data.number(1, VERDICT_REGISTER);
        data.nest(2, |data| {
            data.nest(2, |verdict| {
                verdict.number(1, code.cast_unsigned());
                if let Some(chain) = chain {
                    verdict.text(2, chain);
                }
            });
        });
    });
}
