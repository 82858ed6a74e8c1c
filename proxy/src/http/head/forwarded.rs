//! Who the client is: X-Forwarded-For, -Proto and -Port (Envoy, "x-forwarded-for").

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue};

use super::{FORWARDED_PORT, FORWARDED_PROTO, append};
use crate::connection::Connection;
use crate::http::manager::HttpConnectionManager;
use crate::http::manager::detection::{Detected, FORWARDED_FOR, count, forwarded};

/// The client as far as it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its address; port 0 if a proxy in front told it.
    pub address: SocketAddr,
    /// There was at most one proxy in front, so that its address may make the request internal.
    pub trusted: bool,
    /// How many of the manager's detections want the peer's address in X-Forwarded-For.
    appends: usize,
}

/// Finds the client's address. Pure.
///
/// # Errors
/// With the status of the answer, if there must be one and is none.
pub fn client(
    manager: &HttpConnectionManager,
    remote: SocketAddr,
    headers: &HeaderMap,
) -> Result<Client, http::StatusCode> {
    let hops = manager.xff_num_trusted_hops as usize;
    if manager.use_remote_address {
        let trusted = !headers.contains_key(FORWARDED_FOR);
        let told = hops.checked_sub(1).and_then(|skip| forwarded(headers, skip));
        return Ok(Client { address: told.map_or(remote, |ip| SocketAddr::new(ip, 0)), trusted, appends: 0 });
    }
    if manager.ip_detection.is_empty() {
        return Ok(match forwarded(headers, hops) {
            Some(ip) => {
                Client { address: SocketAddr::new(ip, 0), trusted: hops == 0 && count(headers) == 1, appends: 0 }
            }
            None => Client { address: remote, trusted: false, appends: 0 },
        });
    }
    let mut appends = 0;
    for detection in &manager.ip_detection {
        let (detected, append) = detection.detect(remote, headers);
        appends += usize::from(append);
        match detected {
            Detected::Address(ip, trusted) => return Ok(Client { address: SocketAddr::new(ip, 0), trusted, appends }),
            Detected::Refused(status) => return Err(status),
            Detected::Unknown => {}
        }
    }
    Ok(Client { address: remote, trusted: false, appends })
}

/// Sets the headers that tell the next hop about this one.
pub fn apply(
    manager: &HttpConnectionManager,
    connection: &Connection,
    client: Client,
    secure: bool,
    headers: &mut HeaderMap,
) {
    for _ in 0..client.appends {
        append(headers, &FORWARDED_FOR, &connection.remote.ip().to_string(), ",");
    }
    if manager.use_remote_address {
        if !manager.skip_xff_append {
            append(headers, &FORWARDED_FOR, &connection.remote.ip().to_string(), ",");
        }
        if manager.xff_num_trusted_hops == 0 {
            headers.remove(FORWARDED_PROTO);
        }
    }
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if secure { "https" } else { "http" }));
    }
    if manager.append_x_forwarded_port && !headers.contains_key(FORWARDED_PORT) {
        headers.insert(FORWARDED_PORT, HeaderValue::from(connection.local.port()));
    }
}

/// Appends an address to X-Forwarded-For.
pub fn append_for(headers: &mut HeaderMap, address: &str) {
    append(headers, &FORWARDED_FOR, address, ",");
}
