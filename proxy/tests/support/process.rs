//! The real binary, started with a bootstrap of the test's own; killed with the test at the latest.

use std::net::SocketAddr;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

use crate::peers::{PATIENCE, eventually, get};

pub struct Process {
    child: Child,
    pub admin: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Started and ready.
    pub async fn start(bootstrap: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferromesh-proxy"));
        command.args(arguments);
        Self::of(command, bootstrap).await
    }

    /// By a command to which the arguments of a bootstrap are added.
    pub async fn of(mut command: Command, bootstrap: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (config, admin) = (folder.path().join("bootstrap.yaml"), folder.path().join("admin"));
        std::fs::write(&config, bootstrap).unwrap();
        command.arg("-c").arg(&config).arg("--admin-address-path").arg(&admin).args(["--concurrency", "2"]);
        let child = command.spawn().unwrap();
        let address = || std::fs::read_to_string(&admin).ok().and_then(|text| text.parse().ok());
        eventually("the admin address is written", || async { address().is_some() }).await;
        let process = Self { child, admin: address().unwrap(), _folder: folder };
        eventually("it is ready", || async { get(process.admin, "/ready").await.0 == 200 }).await;
        process
    }

    /// The address of a listener.
    pub async fn listener(&self, name: &str) -> SocketAddr {
        let text = get(self.admin, "/listeners").await.1;
        let prefix = format!("{name}::");
        text.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok()).expect("a listener of that name")
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; its exit code, `None` if a signal ended it.
    pub async fn ended(&mut self) -> Option<i32> {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.child.try_wait().unwrap() {
                    Some(status) => return status.code(),
                    None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        });
        waited.await.expect("it ends in time")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
