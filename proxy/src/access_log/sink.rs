//! The files that logs go to, each written by a thread of its own over a bounded queue: a slow or full disk costs
//! lines, which are counted, and never a worker's time.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::ConfigError;
use crate::stats::{Counter, Gauge, Store};

/// Lines that may wait for a file's writer; beyond it they are dropped.
const QUEUE: usize = 4096;

/// Bytes that may wait for a file's writer.
const QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that are gathered before they are written, while more lines wait.
const BATCH: usize = 64 * 1024;

/// How long the writer lets lines gather after it wrote some: while it sleeps no worker has to wake it, which costs more
/// than the line itself. The first line after a rest is written at once.
const GATHER: Duration = Duration::from_millis(20);

/// The log files of a proxy, each opened once and closed with the last log that goes to it.
#[derive(Debug)]
pub struct Sinks {
    files: Mutex<BTreeMap<String, Weak<Sink>>>,
    stats: SinkStats,
}

/// Envoy's `filesystem.` counters, and what its file logger does not have: what became of the lines.
#[derive(Debug, Clone)]
struct SinkStats {
    write_buffered: Counter,
    write_completed: Counter,
    write_failed: Counter,
    reopen_failed: Counter,
    write_total_buffered: Gauge,
    logs_written: Counter,
    logs_dropped: Counter,
}

/// One log file.
#[derive(Debug)]
pub struct Sink {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// What a file's writer shares with those who log.
#[derive(Debug)]
struct Shared {
    path: String,
    queued: AtomicUsize,
    reopen: AtomicBool,
    stats: SinkStats,
}

#[derive(Debug)]
enum Target {
    File(File),
    Stdout,
    Stderr,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Something else is to be done than writing.
    Wake,
    /// Answered when all that came before is written, or lost.
    Flush(SyncSender<()>),
}

impl Sinks {
    /// No files yet; counts in `stats`.
    pub fn new(stats: &Arc<Store>) -> Self {
        let files = stats.root().scope("filesystem");
        let logs = stats.root().scope("access_logs").scope("file_access_log");
        let stats = SinkStats {
            write_buffered: files.counter("write_buffered"),
            write_completed: files.counter("write_completed"),
            write_failed: files.counter("write_failed"),
            reopen_failed: files.counter("reopen_failed"),
            write_total_buffered: files.gauge("write_total_buffered"),
            logs_written: logs.counter("logs_written"),
            logs_dropped: logs.counter("logs_dropped"),
        };
        Self { files: Mutex::default(), stats }
    }

    /// The sink of a path; opened if it is new.
    ///
    /// # Errors
    /// If the file cannot be opened for appending, or the writer's thread cannot be made.
    pub fn open(&self, path: &str) -> Result<Arc<Sink>, ConfigError> {
        let mut files = self.files.lock();
        files.retain(|_, sink| sink.strong_count() > 0);
        if let Some(sink) = files.get(path).and_then(Weak::upgrade) {
            return Ok(sink);
        }
        let failed = |error: io::Error| ConfigError::new("", format!("{path}: {error}"));
        let target = Target::open(path).map_err(failed)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            queued: AtomicUsize::new(0),
            reopen: AtomicBool::new(false),
            stats: self.stats.clone(),
        });
        let writer = Writer { target, shared: shared.clone(), batch: Vec::new(), lines: 0, is_torn: false };
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(failed)?;
        let sink = Arc::new(Sink { sender, shared });
        files.insert(path.to_owned(), Arc::downgrade(&sink));
        Ok(sink)
    }

    /// Lets every file be opened again (after it was rotated), by its writer; one that fails stays as it is.
    pub fn reopen(&self) {
        for sink in self.open_sinks() {
            sink.shared.reopen.store(true, Ordering::Release);
            // A full queue keeps its writer awake anyway.
            let _ = sink.sender.try_send(Message::Wake);
        }
    }

    /// Waits until all lines so far are written, at most for `limit`. Blocks; not for workers.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        for sink in self.open_sinks() {
            let (done, wait) = sync_channel(1);
            if sink.sender.try_send(Message::Flush(done)).is_ok() {
                let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            }
        }
    }

    fn open_sinks(&self) -> Vec<Arc<Sink>> {
        self.files.lock().values().filter_map(Weak::upgrade).collect()
    }
}

impl Sink {
    /// Hands a line to the writer, or drops and counts it.
    pub fn write(&self, line: Vec<u8>) {
        let (shared, size) = (&self.shared, line.len());
        let fits = shared.queued.load(Ordering::Relaxed) + size <= QUEUED_BYTES;
        if !fits {
            return shared.stats.logs_dropped.inc();
        }
        shared.queued.fetch_add(size, Ordering::Relaxed);
        match self.sender.try_send(Message::Line(line)) {
            Ok(()) => shared.stats.write_buffered.inc(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                shared.queued.fetch_sub(size, Ordering::Relaxed);
                shared.stats.logs_dropped.inc();
            }
        }
    }
}

impl Target {
    fn open(path: &str) -> io::Result<Self> {
        // Opening these by path fails where they are sockets.
        match path {
            "/dev/stdout" => Ok(Self::Stdout),
            "/dev/stderr" => Ok(Self::Stderr),
            path => open_file(path).map(Self::File),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                let written = out.write(bytes)?;
                out.flush()?;
                Ok(written)
            }
            Self::Stderr => io::stderr().lock().write(bytes),
        }
    }
}

/// Opens for appending. A pipe that nobody reads is an error, where a plain `open` would wait for a reader.
fn open_file(path: &str) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)?;
    // Writing may block: it has a thread for it.
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - rustix::fs::OFlags::NONBLOCK)?;
    Ok(file)
}

/// One file's writer: gathers the lines that wait and writes them; ends when every sender is gone.
struct Writer {
    target: Target,
    shared: Arc<Shared>,
    batch: Vec<u8>,
    lines: u64,
    /// The file ends in the middle of a line.
    is_torn: bool,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        while let Ok(message) = receiver.recv() {
            self.take(message);
            while self.batch.len() < BATCH {
                match receiver.try_recv() {
                    Ok(message) => self.take(message),
                    Err(_) => break,
                }
            }
            let is_full = self.batch.len() >= BATCH;
            self.write();
            if !is_full {
                std::thread::sleep(GATHER);
            }
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line) => {
                self.batch.extend_from_slice(&line);
                self.lines += 1;
                self.shared.stats.write_total_buffered.set(self.shared.queued.load(Ordering::Relaxed) as u64);
            }
            Message::Wake => {}
            Message::Flush(done) => {
                self.write();
                let _ = done.send(());
            }
        }
    }

    fn reopen(&mut self) {
        match Target::open(&self.shared.path) {
            Ok(target) => {
                self.target = target;
                self.is_torn = false;
            }
            Err(error) => {
                self.shared.stats.reopen_failed.inc();
                tracing::warn!(path = %self.shared.path, %error, "the access log cannot be opened again");
            }
        }
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        let stats = &self.shared.stats;
        match write_whole(&mut self.target, &self.batch, &mut self.is_torn) {
            Ok(()) => {
                stats.write_completed.inc();
                stats.logs_written.add(lines);
            }
            Err((error, lost)) => {
                stats.write_failed.inc();
                stats.logs_dropped.add(lost.min(lines));
                stats.logs_written.add(lines.saturating_sub(lost));
                tracing::warn!(path = %self.shared.path, %error, lost, "access log lines were lost");
            }
        }
        let before = self.shared.queued.fetch_sub(self.batch.len(), Ordering::Relaxed);
        stats.write_total_buffered.set(before.saturating_sub(self.batch.len()) as u64);
        self.batch.clear();
    }
}

/// Writes all of it, on a line of its own; the error comes with how many lines are lost.
fn write_whole(target: &mut Target, mut bytes: &[u8], is_torn: &mut bool) -> Result<(), (io::Error, u64)> {
    let lost = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    if *is_torn {
        match target.write(b"\n") {
            Ok(1..) => *is_torn = false,
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), lost(bytes))),
            Err(error) => return Err((error, lost(bytes))),
        }
    }
    while !bytes.is_empty() {
        match target.write(bytes) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), lost(bytes))),
            Ok(count) => {
                *is_torn = bytes.get(count - 1) != Some(&b'\n');
                bytes = bytes.get(count..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((error, lost(bytes))),
        }
    }
    // A format without a line's end has none to tear.
    *is_torn = false;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_counts_its_lines_as_dropped() {
        let stats = Arc::<Store>::default();
        let sinks = Sinks::new(&stats);
        let full = sinks.open("/dev/full").unwrap();
        for _ in 0..10 {
            full.write(b"a line\n".to_vec());
        }
        sinks.flush(Duration::from_secs(10));
        assert_eq!(sinks.stats.logs_dropped.get(), 10);
        assert_eq!(full.shared.queued.load(Ordering::Relaxed), 0);
        assert!(sinks.stats.write_failed.get() > 0);
    }

    #[test]
    fn a_file_is_closed_with_its_last_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log").display().to_string();
        let sinks = Sinks::new(&Arc::default());
        let first = sinks.open(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &sinks.open(&path).unwrap()));
        drop(first);
        assert!(sinks.open_sinks().is_empty());
        let again = sinks.open(&path).unwrap();
        again.write(b"one\n".to_vec());
        sinks.flush(Duration::from_secs(10));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
    }
}
