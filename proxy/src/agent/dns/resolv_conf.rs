//! `/etc/resolv.conf`: the name servers that what is not of the mesh is asked of, and the search domains. Format:
//! resolv.conf(5).

use std::net::{IpAddr, SocketAddr};

/// Where Kubernetes, and everybody else, puts it.
pub const PATH: &str = "/etc/resolv.conf";
/// Name servers that are used; the C library takes three.
const MOST: usize = 8;
const PORT: u16 = 53;

/// What it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers, in order.
    pub servers: Vec<SocketAddr>,
    /// Search domains, in order.
    pub search: Vec<String>,
}

/// Reads its text; lines that say nothing to us are passed over.
pub fn parse(text: &str) -> ResolvConf {
    let mut found = ResolvConf::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => match words.next().map(str::parse::<IpAddr>) {
                Some(Ok(ip)) if found.servers.len() < MOST => found.servers.push(SocketAddr::new(ip, PORT)),
                _ => tracing::warn!(line, "a line of {PATH} that is not used"),
            },
            // Of several lines the last one counts.
            Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    found
}
