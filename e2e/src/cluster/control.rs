//! Orders to the first process of a cluster or a node, over a Unix socket in its folder: one line of JSON each way.
//!
//! The socket answers exactly as long as that process lives, and the kernel tells its number: no file of process ids can be stale.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How is everything?
    Status,
    /// Start a daemon that was stopped.
    Start(String),
    /// Stop a daemon and leave it so; a node is cut off like one whose power fails.
    Stop(String),
    /// End the cluster.
    Exit,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// As things stand.
    Status(Status),
    /// Done.
    Done,
    /// Not done, and why.
    Refused(String),
}

/// How a cluster or a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it is doing on its way up.
    pub phase: String,
    /// It is up.
    pub ready: bool,
    /// Why it will not come up.
    pub failed: Option<String>,
    /// Each daemon.
    pub daemons: Vec<DaemonStatus>,
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its name.
    pub name: String,
    /// It runs.
    pub running: bool,
    /// How often it ended by itself and was started again.
    pub restarts: u32,
}

/// Gives an order and waits for the answer.
///
/// # Errors
/// If nobody listens, or the answer takes more than a minute.
pub fn ask(socket: &Path, request: &Request) -> anyhow::Result<Response> {
    let mut stream = connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    serde_json::from_str(&answer).with_context(|| format!("answer of {}: {answer:?}", socket.display()))
}

/// Gives an order that must be carried out.
///
/// # Errors
/// If it is refused, or nobody listens.
pub fn order(socket: &Path, request: &Request) -> anyhow::Result<()> {
    match ask(socket, request)? {
        Response::Refused(why) => bail!(why),
        Response::Done | Response::Status(_) => Ok(()),
    }
}

/// Asks how things are.
///
/// # Errors
/// If nobody listens.
pub fn status(socket: &Path) -> anyhow::Result<Status> {
    match ask(socket, &Request::Status)? {
        Response::Status(status) => Ok(status),
        other => bail!("asked {} for its status, got {other:?}", socket.display()),
    }
}

/// The number, as seen from here, of the process that listens.
///
/// # Errors
/// If nobody listens.
pub fn first_process(socket: &Path) -> anyhow::Result<i32> {
    let stream = connect(socket)?;
    Ok(rustix::net::sockopt::socket_peercred(&stream)?.pid.as_raw_nonzero().get())
}

fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(socket).with_context(|| format!("nothing runs there: {}", socket.display()))
}
