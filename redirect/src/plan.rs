//! What is redirected and where to: lists of ports, ranges, users and interfaces.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// How inbound traffic reaches the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Destination NAT.
    Redirect,
    /// A transparent socket.
    Tproxy,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "REDIRECT" => Ok(Self::Redirect),
            "TPROXY" => Ok(Self::Tproxy),
            _ => Err("write REDIRECT or TPROXY".into()),
        }
    }
}

/// Ports of a list, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// `*`.
    All,
    /// Each of them.
    Of(Vec<u16>),
}

impl Ports {
    /// The listed ones; none if it is all.
    pub fn listed(&self) -> Vec<u16> {
        match self {
            Self::All => Vec::new(),
            Self::Of(ports) => ports.clone(),
        }
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts
            .map(|part| part.parse().map_err(|_| format!("{part:?} is not a port")))
            .collect::<Result<_, _>>()
            .map(Self::Of)
    }
}

/// Ranges of a list, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// `*`.
    All,
    /// Each of them.
    Of(Vec<IpNet>),
}

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts
            .map(|part| part.parse::<IpNet>().map_err(|_| format!("{part:?} is not a range such as 10.0.0.0/8")))
            .collect::<Result<_, _>>()
            .map(Self::Of)
    }
}

/// Which outbound traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// To these.
    pub include_ranges: Ranges,
    /// But not to these.
    pub exclude_ranges: Vec<IpNet>,
    /// And to these ports, wherever.
    pub include_ports: Ports,
    /// But not to these ports.
    pub exclude_ports: Vec<u16>,
}

impl Capture {
    /// Whether a connection to there is redirected.
    pub fn takes(&self, address: IpAddr, port: u16) -> bool {
        if self.exclude_ports.contains(&port) || self.exclude_ranges.iter().any(|range| range.contains(&address)) {
            return false;
        }
        let by_port = match &self.include_ports {
            Ports::All => true,
            Ports::Of(ports) => ports.contains(&port),
        };
        by_port
            || match &self.include_ranges {
                Ranges::All => true,
                Ranges::Of(ranges) => ranges.iter().any(|range| range.contains(&address)),
            }
    }
}

/// All that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How inbound.
    pub mode: Mode,
    /// Port of the proxy for outbound traffic.
    pub outbound_port: u16,
    /// Port of the proxy for inbound traffic.
    pub inbound_port: u16,
    /// Port of the proxy for DNS; none if DNS is left alone.
    pub dns_port: Option<u16>,
    /// Users that are exempt.
    pub uids: Vec<u32>,
    /// Groups that are exempt.
    pub gids: Vec<u32>,
    /// Which outbound traffic.
    pub outbound: Capture,
    /// Inbound ports.
    pub include_inbound: Ports,
    /// Inbound ports that are not.
    pub exclude_inbound: Vec<u16>,
    /// Interfaces whose inbound traffic is outbound.
    pub reroute_interfaces: Vec<String>,
    /// Interfaces that are left alone.
    pub exclude_interfaces: Vec<String>,
}

impl Plan {
    /// One line for the log.
    pub fn summary(&self) -> String {
        let dns = self.dns_port.map_or(String::new(), |port| format!(", DNS to {port}"));
        format!("outbound to {}, inbound to {} by {}{dns}", self.outbound_port, self.inbound_port, self.mode)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redirect => "REDIRECT",
            Self::Tproxy => "TPROXY",
        })
    }
}
