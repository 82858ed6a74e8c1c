//! The files that logs go to, written by one thread over a bounded channel.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use parking_lot::Mutex;

use crate::config::ConfigError;

/// Lines that may wait for the writer; beyond it they are dropped.
const QUEUE: usize = 8192;

/// Bytes that are gathered before they are written, while more lines wait.
const BATCH: usize = 64 * 1024;

/// The log files of a proxy, each opened once.
#[derive(Debug, Default)]
pub struct Sinks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sender: Option<SyncSender<Message>>,
    files: BTreeMap<String, Arc<Sink>>,
}

/// One log file.
#[derive(Debug)]
pub struct Sink {
    path: String,
    sender: SyncSender<Message>,
    target: Arc<Mutex<Target>>,
    written: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Target {
    File(File),
    Stdout,
    Stderr,
}

#[derive(Debug)]
enum Message {
    Line(Arc<Mutex<Target>>, Vec<u8>),
    /// Answered when all that came before is written.
    Flush(SyncSender<()>),
}

impl Sinks {
    /// The sink of a path; opened if it is new.
    ///
    /// # Errors
    /// If the file cannot be opened for appending, or the writer's thread cannot be made.
    pub fn open(&self, path: &str) -> Result<Arc<Sink>, ConfigError> {
        let mut state = self.0.lock();
        if let Some(sink) = state.files.get(path) {
            return Ok(sink.clone());
        }
        let failed = |error: io::Error| ConfigError::new("", format!("{path}: {error}"));
        let target = Target::open(path).map_err(failed)?;
        let sender = match &state.sender {
            Some(sender) => sender.clone(),
            None => {
                let (sender, receiver) = sync_channel(QUEUE);
                std::thread::Builder::new()
                    .name("access-log".to_owned())
                    .spawn(move || run(&receiver))
                    .map_err(failed)?;
                state.sender.insert(sender).clone()
            }
        };
        let sink = Arc::new(Sink {
            path: path.to_owned(),
            sender,
            target: Arc::new(Mutex::new(target)),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        state.files.insert(path.to_owned(), sink.clone());
        Ok(sink)
    }

    /// Opens every file again (after it was rotated); one that fails is left as it is.
    ///
    /// # Errors
    /// The first failure.
    pub fn reopen(&self) -> io::Result<()> {
        let sinks: Vec<_> = self.0.lock().files.values().cloned().collect();
        let mut result = Ok(());
        for sink in sinks {
            match Target::open(&sink.path) {
                Ok(target) => *sink.target.lock() = target,
                Err(error) if result.is_ok() => result = Err(error),
                Err(_) => {}
            }
        }
        result
    }

    /// Waits until all lines so far are written. Blocks; not for workers.
    pub fn flush(&self) {
        let Some(sender) = self.0.lock().sender.clone() else { return };
        let (done, wait) = sync_channel(1);
        if sender.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// (path, lines accepted, lines dropped) of each file.
    pub fn counts(&self) -> Vec<(String, u64, u64)> {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.0
            .lock()
            .files
            .values()
            .map(|sink| (sink.path.clone(), count(&sink.written), count(&sink.dropped)))
            .collect()
    }
}

impl Sink {
    /// Hands a line to the writer, or drops and counts it.
    pub fn write(&self, line: Vec<u8>) {
        match self.sender.try_send(Message::Line(self.target.clone(), line)) {
            Ok(()) => self.written.fetch_add(1, Ordering::Relaxed),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped.fetch_add(1, Ordering::Relaxed),
        };
    }
}

impl Target {
    fn open(path: &str) -> io::Result<Self> {
        // Opening these by path fails where they are sockets.
        match path {
            "/dev/stdout" => Ok(Self::Stdout),
            "/dev/stderr" => Ok(Self::Stderr),
            path => OpenOptions::new().create(true).append(true).open(path).map(Self::File),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

/// The writer: gathers the lines that wait, writes them file by file, ends when every sender is gone.
fn run(receiver: &Receiver<Message>) {
    let mut batch = Batch::default();
    while let Ok(message) = receiver.recv() {
        batch.take(message);
        while batch.size < BATCH {
            match receiver.try_recv() {
                Ok(message) => batch.take(message),
                Err(_) => break,
            }
        }
        batch.write();
    }
}

#[derive(Default)]
struct Batch {
    files: Vec<(Arc<Mutex<Target>>, Vec<u8>)>,
    size: usize,
}

impl Batch {
    fn take(&mut self, message: Message) {
        match message {
            Message::Line(target, line) => {
                self.size += line.len();
                match self.files.iter_mut().find(|(found, _)| Arc::ptr_eq(found, &target)) {
                    Some((_, bytes)) => bytes.extend_from_slice(&line),
                    None => self.files.push((target, line)),
                }
            }
            Message::Flush(done) => {
                self.write();
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self) {
        self.size = 0;
        for (target, bytes) in self.files.drain(..) {
            if let Err(error) = target.lock().write(&bytes) {
                tracing::warn!(%error, "access log lines were lost");
            }
        }
    }
}
