//! Who the client is: X-Forwarded-For, -Proto and -Port (Envoy, "x-forwarded-for").

use std::net::{IpAddr, SocketAddr};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::{FORWARDED_PORT, FORWARDED_PROTO, append};
use crate::connection::Connection;
use crate::http::manager::HttpConnectionManager;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client as far as it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its address; port 0 if a proxy in front told it.
    pub address: SocketAddr,
    /// There was at most one proxy in front, so that its address may make the request internal.
    pub trusted: bool,
}

/// Finds the client's address. Pure.
pub fn client(manager: &HttpConnectionManager, remote: SocketAddr, headers: &HeaderMap) -> Client {
    let hops = manager.xff_num_trusted_hops as usize;
    if manager.use_remote_address {
        let trusted = !headers.contains_key(FORWARDED_FOR);
        let told = hops.checked_sub(1).and_then(|skip| last_address(headers, skip));
        return Client { address: told.map_or(remote, |ip| SocketAddr::new(ip, 0)), trusted };
    }
    match last_address(headers, hops) {
        Some(ip) => Client { address: SocketAddr::new(ip, 0), trusted: hops == 0 && count(headers) == 1 },
        None => Client { address: remote, trusted: false },
    }
}

/// Sets the headers that tell the next hop about this one.
pub fn apply(manager: &HttpConnectionManager, connection: &Connection, secure: bool, headers: &mut HeaderMap) {
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

fn addresses(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
}

fn count(headers: &HeaderMap) -> usize {
    addresses(headers).count()
}

/// The address that is `skip` places before the last.
fn last_address(headers: &HeaderMap, skip: usize) -> Option<IpAddr> {
    let place = count(headers).checked_sub(skip + 1)?;
    let text = addresses(headers).nth(place)?.trim();
    text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok()
}
