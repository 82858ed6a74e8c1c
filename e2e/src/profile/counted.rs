//! A pair under a counting tool, driven by a fixed number of requests one after the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::callgrind::{self, Functions};
use crate::bench::peers::{Launcher, Peer, Protocol};

/// A tool that a proxy runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Counts instructions by function.
    Callgrind,
    /// Counts system calls.
    Strace,
}

/// Counts of one request in each proxy of a pair, the client's first.
pub type Pair = [Functions; 2];

/// Counts `requests` requests through a pair of `peer`: the difference of two runs, so that start and end cancel.
///
/// # Errors
/// If the tool is not there, a proxy does not start under it or end in time, or a request fails.
pub fn measure(peer: &Peer, tool: Tool, folder: &Path, backend: SocketAddr, requests: u32) -> anyhow::Result<Pair> {
    let fewer = run(peer, tool, folder, backend, requests / 10)?;
    let more = run(peer, tool, folder, backend, requests / 10 + requests)?;
    let each = |index: usize| callgrind::difference(&more[index], &fewer[index], f64::from(requests));
    Ok([each(0), each(1)])
}

fn run(peer: &Peer, tool: Tool, folder: &Path, backend: SocketAddr, requests: u32) -> anyhow::Result<Pair> {
    let out = |side: &str| folder.join(format!("{}-{side}.{tool:?}", peer.name));
    let launcher = |side: &str| launcher(tool, &out(side));
    let pair = peer.start_under(folder, backend, &launcher)?.context("this peer is not here")?;
    match peer.protocol() {
        Protocol::Http2 => drive_http2(pair.address, requests)?,
        Protocol::Http1 => drive(pair.address, requests)?,
        Protocol::Tcp => bail!("bytes are no requests; take --protocol http1 or http2"),
    }
    for process in pair.processes {
        process.end(Duration::from_secs(60))?;
    }
    let read = |side: &str| {
        let file = out(side);
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok::<_, anyhow::Error>(match tool {
            Tool::Callgrind => callgrind::read(&text),
            Tool::Strace => system_calls(&text),
        })
    };
    Ok([read("client")?, read("server")?])
}

/// The C library copies more than 2 KiB by one instruction that is counted once a byte, though it costs no more than copying
/// by vectors does: so that the count is one of work, it copies by vectors.
const PLAIN_COPIES: &str =
    "GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1048576:glibc.cpu.x86_rep_stosb_threshold=1048576";

fn launcher(tool: Tool, out: &Path) -> Launcher {
    let (program, arguments) = match tool {
        Tool::Callgrind => {
            let out = format!("--callgrind-out-file={}", out.display());
            ("env", vec![PLAIN_COPIES.into(), "valgrind".into(), "--tool=callgrind".into(), "--quiet".into(), out])
        }
        Tool::Strace => ("strace", vec!["-f".into(), "-c".into(), "-o".into(), out.display().to_string()]),
    };
    Launcher { program: PathBuf::from(program), arguments }
}

/// Reads strace's table: calls by name.
fn system_calls(text: &str) -> Functions {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (*words.last()?, words.get(3)?.parse().ok()?);
        (name != "total").then(|| (name.to_owned(), callgrind::Cost { own: calls, whole: calls, calls }))
    };
    text.lines().filter_map(row).collect()
}

/// GETs one after the other on one connection, each answered with 1 KiB.
fn drive(address: SocketAddr, requests: u32) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut answer = [0; 8192];
    for _ in 0..requests {
        socket.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut read = 0;
        while !is_whole(&answer[..read]) {
            let more = socket.read(&mut answer[read..]).context("the answer")?;
            ensure!(more > 0, "the connection closed before the answer was whole");
            read += more;
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "not answered with 200");
    }
    Ok(())
}

/// The same over HTTP/2.
fn drive_http2(address: SocketAddr, requests: u32) -> anyhow::Result<()> {
    let output = Command::new("h2load")
        .args(["-t1", "-c1", "-m1", &format!("-n{requests}"), &format!("http://{address}/")])
        .output()
        .context("h2load is needed: apt-get install nghttp2-client")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains(&format!("{requests} succeeded, 0 failed")), "not answered with 200:\n{text}");
    Ok(())
}

fn is_whole(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    head.is_some_and(|head| answer.len() >= head + 4 + 1024)
}

/// Calls of a command's own: whether a tool is there.
///
/// # Errors
/// If it is not.
pub fn is_there(tool: Tool) -> anyhow::Result<()> {
    let (program, argument) = match tool {
        Tool::Callgrind => ("valgrind", "--version"),
        Tool::Strace => ("strace", "-V"),
    };
    let output = Command::new(program).arg(argument).output();
    ensure!(output.is_ok_and(|output| output.status.success()), "{program} is needed: apt-get install {program}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ----------------\n 60.00    0.010000           5      2000        10 read\n 40.00    0.005000           5      1000           write\n------ ----------- ----------- --------- --------- ----------------\n100.00    0.015000           5      3000        10 total\n";
        let calls = system_calls(text);
        assert_eq!((calls["read"].calls, calls["write"].calls, calls.len()), (2000.0, 1000.0, 2));
    }
}
