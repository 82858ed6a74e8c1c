//! Single requests from the network of the thread that asks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;

const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer, at most.
const MOST: u64 = 1 << 20;

/// The status of a GET, or why there is none.
pub(crate) fn status(address: SocketAddr, host: &str, path: &str) -> String {
    match get(address, host, path) {
        Ok(answer) => {
            let status = answer.split(' ').nth(1).filter(|_| answer.starts_with("HTTP/1.1 "));
            status.unwrap_or("closed without an answer").to_owned()
        }
        Err(error) => error.to_string(),
    }
}

/// The serial number of the workload certificate that the proxy of this network has.
pub(super) fn serial() -> anyhow::Result<String> {
    let answer = get(([127, 0, 0, 1], 15000).into(), "localhost", "/certs")?;
    let body = answer.split_once("\r\n\r\n").context("no answer")?.1;
    let certificates: serde_json::Value = serde_json::from_str(body).context("/certs")?;
    let all = certificates["certificates"].as_array().context("no certificates")?;
    let own = all.iter().find(|secret| secret["name"] == "default").context("no secret \"default\"")?;
    own["cert_chain"][0]["serial_number"].as_str().map(str::to_owned).context("no serial number")
}

fn get(address: SocketAddr, host: &str, path: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    socket.take(MOST).read_to_string(&mut answer)?;
    Ok(answer)
}
