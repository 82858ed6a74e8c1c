//! Free ports of the loopback.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use ferromesh_core::ports::BELOW_EPHEMERAL;

use super::plan::Ports;

/// Gives each port once.
#[derive(Debug, Default)]
pub struct FreePorts {
    given: BTreeSet<u16>,
}

impl FreePorts {
    /// Fails if somebody else has this port of the loopback.
    ///
    /// # Errors
    /// Says what to do then.
    pub fn check(port: u16) -> anyhow::Result<()> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|error| {
            anyhow::anyhow!(
                "--gateway-port {port}: {error}; end what listens there, or take --gateway-port 0 for a free port"
            )
        })
    }

    fn try_port(&mut self, port: u16) -> Option<SocketAddr> {
        // The port is free if it can be bound now; whoever gets it binds it again at once.
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?.local_addr().ok()?;
        self.given.insert(bound.port()).then_some(bound)
    }
}

impl Ports for FreePorts {
    fn take(&mut self, wanted: Option<u16>) -> SocketAddr {
        let wanted = wanted.filter(|port| *port != 0).and_then(|port| self.try_port(port));
        if let Some(address) = wanted {
            return address;
        }
        for attempt in 0..1000 {
            // Of the last resort any other program's connection may take it before it is bound again.
            let port = if attempt < 900 { fastrand::u16(BELOW_EPHEMERAL) } else { 0 };
            if let Some(address) = self.try_port(port) {
                return address;
            }
        }
        // No port of the machine is free: whoever binds this one says so.
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }
}
