//! The rules, pure: a plan in; chains of matches and verdicts out, and their text in the language of `nft`.
//!
//! They do what Istio's iptables rules do, in one table `inet ferromesh`.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::plan::{Mode, Plan, Ports, Ranges};

/// The table.
pub const TABLE: &str = "ferromesh";
/// Mark of packets that belong to the proxy's transparent sockets (Istio's number).
pub const TPROXY_MARK: u32 = 1337;
/// Port of mesh tunnels, which is never redirected (Istio).
const TUNNEL_PORT: u16 = 15008;
const DNS: u16 = 53;
/// Source of connections that the proxy passes through to the application (Istio's InboundPassthroughBindIpv4).
const PASSTHROUGH: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const PASSTHROUGH_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// Where in the kernel a chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// `nat`, `filter`.
    pub kind: &'static str,
    /// Which hook.
    pub point: Point,
    /// Order among the chains of a hook.
    pub priority: i32,
}

/// A hook of netfilter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Packets that come in.
    Prerouting,
    /// Packets that are made here.
    Output,
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// `None` is a chain that others jump to.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// All matches must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is about.
    pub matches: Vec<Match>,
    /// What happens then.
    pub verdict: Verdict,
}

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One condition; the `bool` is whether it must hold (or must not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The interface that it came in by.
    In(String, bool),
    /// The interface that it goes out by.
    Out(String, bool),
    /// The user of the socket.
    User(u32, bool),
    /// The group of the socket.
    Group(u32, bool),
    /// Transport protocol.
    Transport(Transport),
    /// Destination port; a `Transport` comes before it.
    Port(u16, bool),
    /// Source port; a `Transport` comes before it.
    FromPort(u16),
    /// Source range.
    From(IpNet),
    /// Destination range.
    To(IpNet, bool),
    /// It belongs to a transparent socket.
    TransparentSocket,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing more in this chain.
    Return,
    /// Go on in another chain.
    Jump(&'static str),
    /// To this port of this host.
    Redirect(u16),
    /// To a transparent socket on this port.
    Tproxy(u16),
    /// It is marked and let in.
    MarkAndAccept,
    /// Its connection is kept apart from those of other zones.
    Zone(u16),
}

/// Destination NAT's priority.
const DSTNAT: i32 = -100;
/// Where packets are marked.
const MANGLE: i32 = -150;
/// Before connections are tracked.
const RAW: i32 = -300;
/// Zones of tracked connections for DNS by UDP: the proxy's with name servers, and applications' with the proxy. Where a
/// port was an application's a moment ago and is the proxy's now, both have the same addresses and ports; in one zone
/// the proxy's question would be taken for the application's and come back to the proxy.
const PROXY_ZONE: u16 = 1;
const APPLICATION_ZONE: u16 = 2;

/// All chains of a plan; one comes before those that jump to it.
pub fn chains(plan: &Plan) -> Vec<Chain> {
    let hook = |kind, point, priority| Some(Hook { kind, point, priority });
    let mut chains = vec![
        Chain { name: "to_inbound", hook: None, rules: vec![tcp(vec![], Verdict::Redirect(plan.inbound_port))] },
        Chain { name: "to_outbound", hook: None, rules: vec![tcp(vec![], Verdict::Redirect(plan.outbound_port))] },
        Chain { name: "outbound", hook: None, rules: outbound(plan) },
    ];
    let mut prerouting = untouched(plan, Match::In);
    for name in &plan.reroute_interfaces {
        prerouting.push(tcp(vec![Match::In(name.clone(), true)], Verdict::Jump("outbound")));
        prerouting.push(Rule { matches: vec![Match::In(name.clone(), true)], verdict: Verdict::Return });
    }
    match plan.mode {
        Mode::Redirect => prerouting.extend(inbound(plan, Verdict::Jump("to_inbound"))),
        Mode::Tproxy => {
            let mut rules = untouched(plan, Match::In);
            rules.extend(loopback());
            rules.push(tcp(vec![Match::TransparentSocket], Verdict::MarkAndAccept));
            rules.extend(inbound(plan, Verdict::Tproxy(plan.inbound_port)));
            chains.push(Chain { name: "divert", hook: hook("filter", Point::Prerouting, MANGLE), rules });
        }
    }
    if let Some(port) = plan.dns_port {
        chains.push(Chain { name: "dns_in", hook: hook("filter", Point::Prerouting, RAW), rules: dns_answers() });
        chains.push(Chain { name: "dns_out", hook: hook("filter", Point::Output, RAW), rules: dns_zones(plan, port) });
    }
    chains.push(Chain { name: "prerouting", hook: hook("nat", Point::Prerouting, DSTNAT), rules: prerouting });
    chains.push(Chain { name: "output", hook: hook("nat", Point::Output, DSTNAT), rules: output(plan) });
    chains
}

fn tcp(mut matches: Vec<Match>, verdict: Verdict) -> Rule {
    matches.insert(0, Match::Transport(Transport::Tcp));
    Rule { matches, verdict }
}

fn give_back(matches: Vec<Match>) -> Rule {
    Rule { matches, verdict: Verdict::Return }
}

/// Interfaces that are left alone.
fn untouched(plan: &Plan, by: fn(String, bool) -> Match) -> Vec<Rule> {
    plan.exclude_interfaces.iter().map(|name| give_back(vec![by(name.clone(), true)])).collect()
}

/// What goes to the loopback address is never redirected.
fn loopback() -> [Rule; 2] {
    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(|address: IpAddr| give_back(vec![to(address, true)]))
}

fn to(address: IpAddr, is: bool) -> Match {
    Match::To(address.into(), is)
}

fn inbound(plan: &Plan, verdict: Verdict) -> Vec<Rule> {
    let port = |port: u16| vec![Match::Port(port, true)];
    match &plan.include_inbound {
        Ports::All => {
            let mut excluded: Vec<u16> = vec![TUNNEL_PORT];
            excluded.extend(plan.exclude_inbound.iter().filter(|port| **port != TUNNEL_PORT));
            let mut rules: Vec<Rule> = excluded.into_iter().map(|one| tcp(port(one), Verdict::Return)).collect();
            rules.push(tcp(vec![], verdict));
            rules
        }
        Ports::Of(ports) => ports.iter().map(|one| tcp(port(*one), verdict)).collect(),
    }
}

fn udp(mut matches: Vec<Match>, verdict: Verdict) -> Rule {
    matches.insert(0, Match::Transport(Transport::Udp));
    Rule { matches, verdict }
}

/// Packets from name servers.
fn dns_answers() -> Vec<Rule> {
    vec![udp(vec![Match::FromPort(DNS)], Verdict::Zone(PROXY_ZONE))]
}

/// Questions of the proxy, its answers, and questions of applications.
fn dns_zones(plan: &Plan, port: u16) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (by, id) in owners(plan) {
        rules.push(udp(vec![Match::Port(DNS, true), by(id, true)], Verdict::Zone(PROXY_ZONE)));
        rules.push(udp(vec![Match::FromPort(port), by(id, true)], Verdict::Zone(APPLICATION_ZONE)));
    }
    rules.push(udp(vec![Match::Port(DNS, true)], Verdict::Zone(APPLICATION_ZONE)));
    rules
}

/// A match by user or by group.
type Owner = fn(u32, bool) -> Match;

/// Whose packets are the proxy's.
fn owners(plan: &Plan) -> Vec<(Owner, u32)> {
    let users = plan.uids.iter().map(|&id| (Match::User as Owner, id));
    users.chain(plan.gids.iter().map(|&id| (Match::Group as Owner, id))).collect()
}

/// Packets made in this namespace, by whom and where to.
fn output(plan: &Plan) -> Vec<Rule> {
    let lo = |is| Match::Out("lo".into(), is);
    let mut rules = untouched(plan, Match::Out);
    for address in [PASSTHROUGH, PASSTHROUGH_V6] {
        // The proxy hands a connection to the application.
        rules.push(give_back(vec![lo(true), Match::From(address.into())]));
    }
    let whom = owners(plan);
    for (by, id) in &whom {
        // The application calls itself by its Service: the proxy's outbound side, then its inbound side.
        for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let matches = vec![Match::Port(TUNNEL_PORT, false), lo(true), to(loopback, false), by(*id, true)];
            rules.push(tcp(matches, Verdict::Jump("to_inbound")));
        }
    }
    for (by, id) in &whom {
        // The proxy's own connections go out as they are.
        rules.push(give_back(vec![by(*id, true)]));
    }
    if let Some(port) = plan.dns_port {
        for transport in [Transport::Udp, Transport::Tcp] {
            let matches = vec![Match::Transport(transport), Match::Port(DNS, true)];
            rules.push(Rule { matches, verdict: Verdict::Redirect(port) });
        }
    }
    // The application calls itself by its own address.
    rules.push(give_back(vec![lo(true)]));
    rules.extend(loopback());
    rules.push(tcp(vec![], Verdict::Jump("outbound")));
    rules
}

fn outbound(plan: &Plan) -> Vec<Rule> {
    let capture = &plan.outbound;
    let mut rules: Vec<Rule> = Vec::new();
    rules.extend(capture.exclude_ports.iter().map(|port| tcp(vec![Match::Port(*port, true)], Verdict::Return)));
    rules.extend(capture.exclude_ranges.iter().map(|range| give_back(vec![Match::To(*range, true)])));
    let taken = Verdict::Jump("to_outbound");
    match &capture.include_ports {
        Ports::All => rules.push(tcp(vec![], taken)),
        Ports::Of(ports) => rules.extend(ports.iter().map(|port| tcp(vec![Match::Port(*port, true)], taken))),
    }
    match &capture.include_ranges {
        Ranges::All => rules.push(tcp(vec![], taken)),
        Ranges::Of(ranges) => rules.extend(ranges.iter().map(|range| tcp(vec![Match::To(*range, true)], taken))),
    }
    rules
}

/// The table as `nft` would list it.
pub fn text(chains: &[Chain]) -> String {
    let mut out = format!("table inet {TABLE} {{\n");
    for chain in chains {
        let _ = writeln!(out, "\tchain {} {{", chain.name);
        if let Some(Hook { kind, point, priority }) = chain.hook {
            let point = match point {
                Point::Prerouting => "prerouting",
                Point::Output => "output",
            };
            let _ = writeln!(out, "\t\ttype {kind} hook {point} priority {priority}; policy accept;");
        }
        for rule in &chain.rules {
            let _ = writeln!(out, "\t\t{rule}");
        }
        out.push_str("\t}\n");
    }
    out + "}\n"
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut transport = "tcp";
        let with_port = self.matches.iter().any(|one| matches!(one, Match::Port(..) | Match::FromPort(_)));
        for one in &self.matches {
            let not = |is: bool| if is { "" } else { "!= " };
            match one {
                Match::In(name, is) => write!(f, "iifname {}\"{name}\" ", not(*is))?,
                Match::Out(name, is) => write!(f, "oifname {}\"{name}\" ", not(*is))?,
                Match::User(id, is) => write!(f, "meta skuid {}{id} ", not(*is))?,
                Match::Group(id, is) => write!(f, "meta skgid {}{id} ", not(*is))?,
                Match::Transport(which) => {
                    transport = if *which == Transport::Tcp { "tcp" } else { "udp" };
                    if !with_port {
                        write!(f, "meta l4proto {transport} ")?;
                    }
                }
                Match::Port(port, is) => write!(f, "{transport} dport {}{port} ", not(*is))?,
                Match::FromPort(port) => write!(f, "{transport} sport {port} ")?,
                Match::From(range) => write!(f, "{} saddr {} ", family(range), short(range))?,
                Match::To(range, is) => write!(f, "{} daddr {}{} ", family(range), not(*is), short(range))?,
                Match::TransparentSocket => f.write_str("socket transparent 1 ")?,
            }
        }
        match self.verdict {
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Redirect(port) => write!(f, "redirect to :{port}"),
            Verdict::Tproxy(port) => write!(f, "tproxy to :{port} meta mark set {TPROXY_MARK:#010x} accept"),
            Verdict::Zone(zone) => write!(f, "ct zone set {zone} return"),
            Verdict::MarkAndAccept => write!(f, "meta mark set {TPROXY_MARK:#010x} accept"),
        }
    }
}

fn family(range: &IpNet) -> &'static str {
    if matches!(range, IpNet::V4(_)) { "ip" } else { "ip6" }
}

fn short(range: &IpNet) -> String {
    let range = range.trunc();
    if range.prefix_len() == range.max_prefix_len() { range.addr().to_string() } else { range.to_string() }
}

#[cfg(test)]
mod tests;
