//! Child processes: found, started, awaited, measured, ended.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ferromesh_core::ports::BELOW_EPHEMERAL;

use crate::image::catalog::ENVIRONMENT;

/// A process that ends when this is dropped.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program, with the environment of our images; its output goes to a file of that name in `folder`.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let out = std::fs::File::create(&log)?;
        let child = command
            .env(ENVIRONMENT.0, ENVIRONMENT.1)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("running {name}"))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Asks it to end (SIGTERM, to its children too) and waits until it has.
    ///
    /// # Errors
    /// If it has not after `within`; with the end of its output.
    pub fn end(mut self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        for pid in tree(self.id()).into_iter().rev() {
            Command::new("kill").args(["-TERM", &pid.to_string()]).status().context("running kill")?;
        }
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} does not end:\n{}", self.name, tail(&self.log, 8));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens at `address`.
    ///
    /// # Errors
    /// If the process ends first, or nothing does in 15 s; with the end of its output.
    pub fn listens(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        self.listens_within(address, Duration::from_secs(15))
    }

    /// As [`Self::listens`], with a time of its own.
    ///
    /// # Errors
    /// If the process ends first, or nothing listens in time; with the end of its output.
    pub fn listens_within(&mut self, address: SocketAddr, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let answers = TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok();
            let ended = self.child.try_wait()?;
            if answers && ended.is_none() {
                return Ok(());
            }
            if ended.is_some() || Instant::now() > deadline {
                bail!("{} does not listen at {address} ({ended:?}):\n{}", self.name, tail(&self.log, 8));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// CPU time that it has used, user and system, with its children's threads; seconds.
    ///
    /// # Errors
    /// If the system does not tell (only Linux does).
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        tree(self.id()).into_iter().map(cpu_seconds).sum()
    }

    /// Resident memory once it changes no more (or after 5 s), bytes.
    ///
    /// # Errors
    /// If the system does not tell (only Linux does).
    pub fn settled_rss(&self) -> anyhow::Result<u64> {
        let mut last = self.rss()?;
        let mut alike = 0;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(500));
            let now = self.rss()?;
            alike = if now.abs_diff(last) < 64 * 1024 { alike + 1 } else { 0 };
            // An allocator gives back after a second what it had to give back.
            if alike == 4 {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    /// Resident memory, bytes.
    ///
    /// # Errors
    /// If the system does not tell (only Linux does).
    pub fn rss(&self) -> anyhow::Result<u64> {
        tree(self.id()).into_iter().map(|pid| memory(pid, "VmRSS:")).sum()
    }

    /// The most memory that was resident, bytes; of a process with children the sum of what each had.
    ///
    /// # Errors
    /// If the system does not tell (only Linux does).
    pub fn peak_rss(&self) -> anyhow::Result<u64> {
        tree(self.id()).into_iter().map(|pid| memory(pid, "VmHWM:")).sum()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for child in tree(self.id()).into_iter().skip(1) {
            // A master's workers (nginx) end with it on a kind signal only.
            let _ = Command::new("kill").args(["-TERM", &child.to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a file, however large it is; nothing if it is not there.
pub fn tail(file: &Path, lines: usize) -> String {
    const MOST: u64 = 64 * 1024;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A process and its children.
fn tree(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    [pid].into_iter().chain(children).collect()
}

fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    // The scheduler counts nanoseconds by thread, where it is built to; the fallback counts hundredths of a second.
    if let Some(exact) = scheduled_seconds(pid) {
        return Ok(exact);
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').context("/proc/PID/stat")?.1.split_whitespace().collect();
    let ticks: f64 = [11, 12].into_iter().filter_map(|i| fields.get(i)?.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

fn scheduled_seconds(pid: u32) -> Option<f64> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let schedstat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += schedstat.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(nanoseconds / 1e9)
}

fn memory(pid: u32, row: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(row)).with_context(|| row.to_owned())?;
    let kib: u64 = line.split_whitespace().next().with_context(|| row.to_owned())?.parse()?;
    Ok(kib * 1024)
}

/// A free port of the loopback, below those that connections take by themselves: whoever starts slowly (under callgrind)
/// would find such a one taken.
///
/// # Errors
/// If there is none.
pub fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let random = RandomState::new().build_hasher().finish();
        let port = BELOW_EPHEMERAL.start + (random % u64::from(BELOW_EPHEMERAL.end - BELOW_EPHEMERAL.start)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A program by name, on the search path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The real Envoy: the binary that `FERROMESH_ENVOY` names.
pub fn envoy() -> Option<PathBuf> {
    std::env::var_os("FERROMESH_ENVOY").map(PathBuf::from).filter(|file| file.is_file())
}
