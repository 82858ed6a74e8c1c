//! Hash policies: from a request to the number that consistent balancers place. Pure.

use std::net::SocketAddr;

use xxhash_rust::xxh64::xxh64;

use super::HashPolicy;
use crate::matcher::{cookie, query_value};
use crate::message::RequestHead;

/// The hash, and the `Set-Cookie` value if a cookie had to be made.
///
/// `random` makes the value of a new cookie; `local` and `remote` are the connection's addresses.
pub fn hash(
    policies: &[HashPolicy],
    head: &RequestHead,
    remote: SocketAddr,
    random: u64,
) -> (Option<u64>, Option<String>) {
    let mut all: Option<u64> = None;
    let mut set_cookie = None;
    for policy in policies {
        let (found, terminal) = match policy {
            HashPolicy::Header(name, rewrite, terminal) => {
                (header(head, name, rewrite.as_ref().map(|(regex, text)| (regex, text.as_str()))), *terminal)
            }
            HashPolicy::Cookie(name, ttl, attributes, terminal) => {
                let found =
                    cookie(head, name).filter(|value| !value.is_empty()).map(|value| xxh64(value.as_bytes(), 0));
                let made = || {
                    let ttl = (*ttl)?;
                    let value = format!("{random:016x}");
                    let hash = xxh64(value.as_bytes(), 0);
                    let age = match ttl.as_secs() {
                        0 => String::new(),
                        seconds => format!("; Max-Age={seconds}"),
                    };
                    set_cookie = Some(format!("{name}=\"{value}\"{age}{attributes}; HttpOnly"));
                    Some(hash)
                };
                (found.or_else(made), *terminal)
            }
            HashPolicy::SourceIp(terminal) => (Some(xxh64(remote.ip().to_string().as_bytes(), 0)), *terminal),
            HashPolicy::Query(name, terminal) => {
                (query_value(head.query(), name).map(|value| xxh64(value.as_bytes(), 0)), *terminal)
            }
        };
        if let Some(found) = found {
            // Rotated before it is mixed, so that two equal hashes do not cancel each other.
            all = Some(all.map_or(found, |before| before.rotate_left(1) ^ found));
        }
        if terminal && all.is_some() {
            break;
        }
    }
    (all, set_cookie)
}

fn header(head: &RequestHead, name: &http::HeaderName, rewrite: Option<(&regex::Regex, &str)>) -> Option<u64> {
    let mut values: smallvec::SmallVec<[&[u8]; 4]> =
        head.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
    if values.is_empty() {
        return None;
    }
    if let Some((regex, substitution)) = rewrite {
        let mut rewritten: Vec<String> = values
            .iter()
            .map(|value| regex.replace_all(&String::from_utf8_lossy(value), substitution).into_owned())
            .collect();
        rewritten.sort_unstable();
        return Some(rewritten.iter().fold(0, |seed, value| xxh64(value.as_bytes(), seed)));
    }
    // The order of several lines shall not matter.
    values.sort_unstable();
    Some(values.iter().fold(0, |seed, value| xxh64(value, seed)))
}
