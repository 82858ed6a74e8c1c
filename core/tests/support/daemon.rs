//! A daemon as a process of its own, as an operator runs it: started, listened to, asked over HTTP, ended.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How long anything may take before a test gives up. Only a hang gets near it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon; it is killed when dropped.
pub struct Daemon {
    child: Child,
    lines: watch::Receiver<Arc<Vec<String>>>,
}

impl Daemon {
    /// Starts `binary`. What it logs on standard error is kept.
    pub fn start<S: AsRef<std::ffi::OsStr>>(binary: &str, args: &[S]) -> Self {
        let mut child = Command::new(binary)
            .args(args)
            .env_remove("FERROMESH_LOG")
            .env_remove("FERROMESH_LOG_FORMAT")
            .env_remove("FERROMESH_OTLP_ENDPOINT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{binary}: {error}"));
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let (sender, lines) = watch::channel(Arc::default());
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                sender.send_modify(|lines: &mut Arc<Vec<String>>| Arc::make_mut(lines).push(line));
            }
        });
        Self { child, lines }
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// Waits for a line with all of `words` in it.
    pub async fn says(&mut self, words: &[&str]) -> String {
        let fits = |line: &&String| words.iter().all(|word| line.contains(word));
        let found = self.lines.wait_for(|lines| lines.iter().any(|line| fits(&line)));
        let found = tokio::time::timeout(PATIENCE, found).await.ok().and_then(Result::ok);
        let line = found.as_ref().and_then(|lines| lines.iter().find(fits).cloned());
        drop(found);
        line.unwrap_or_else(|| panic!("it never said {words:?}:\n{}", self.log()))
    }

    /// Waits for a JSON line with this message, and reads its fields.
    pub async fn tells(&mut self, message: &str) -> serde_json::Value {
        let line = self.says(&[&format!("\"message\":{message:?}")]).await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Asks for an orderly end (SIGTERM).
    pub fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id]).status().unwrap();
        assert!(sent.success());
    }

    /// The same for one that logs nothing: once it handles the signal itself (Linux tells).
    pub async fn terminate_when_it_handles_signals(&self) {
        let status = format!("/proc/{}/status", self.child.id().expect("it runs"));
        let caught = || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
            // SIGTERM is 15, bits count from signal 1.
            u64::from_str_radix(mask, 16).unwrap_or(0) & (1 << 14) != 0
        };
        let wait = async {
            while !caught() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("it never handles SIGTERM"));
        self.terminate();
    }

    /// Kills it where it stands (SIGKILL).
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        status.unwrap_or_else(|_| panic!("it does not end:\n{}", self.log())).unwrap()
    }
}

/// The address under a field of a log line.
pub fn address(line: &serde_json::Value, field: &str) -> SocketAddr {
    line[field].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{field} in {line}"))
}

/// One HTTP/1.1 request without a body: status and body. `None` if nobody answers whole.
pub async fn http(address: SocketAddr, method: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
