//! Hot restart: a new process takes the listening sockets over from the one that runs, by a Unix socket.
//!
//! ```text
//! new: connect, "take" ──> old: names and descriptors of its sockets (SCM_RIGHTS)
//! new: ready,   "drain" ─> old: stops accepting, lets its connections end, exits
//! ```
//!
//! Both hold the same sockets meanwhile, so that no connection that the kernel has queued is lost; closing sockets that
//! only share an address (SO_REUSEPORT) would reset what is queued on them. Metrics begin anew, unlike Envoy's.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::linux;

/// Name under which the admin address goes over; no listener of xDS is named so.
pub const ADMIN: &str = "\0admin";

/// Of what goes over the socket; processes of different versions do not understand each other.
pub const VERSION: u32 = 1;

/// A peer that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listening socket that goes from process to process.
#[derive(Debug)]
pub struct Passed {
    /// The listener's name.
    pub name: String,
    /// Its address as configured; the port may be 0.
    pub address: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

/// What is said of the sockets that follow.
#[derive(Debug, Serialize, Deserialize)]
struct Announced {
    name: String,
    address: SocketAddr,
}

/// The old process, as the new one sees it.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    /// Its sockets.
    pub sockets: Vec<Passed>,
}

impl Predecessor {
    /// The process that serves at `path`; `None` if there is none.
    ///
    /// # Errors
    /// If it does not answer as it should.
    pub fn find(path: &Path) -> io::Result<Option<Self>> {
        let mut stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"t")?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut text)?;
        let announced: Vec<Announced> = serde_json::from_slice(&text)?;
        let mut sockets = Vec::with_capacity(announced.len());
        for Announced { name, address } in announced {
            let socket = TcpListener::from(linux::receive_descriptor(stream.as_fd())?);
            sockets.push(Passed { name, address, socket });
        }
        Ok(Some(Self { stream, sockets }))
    }

    /// Lets the old process end; comes back when it has stopped accepting.
    ///
    /// # Errors
    /// If it is gone already.
    pub fn relieve(mut self) -> io::Result<()> {
        self.stream.write_all(b"d")?;
        self.stream.read_exact(&mut [0])
    }
}

/// What a new process asks for.
pub enum Asked {
    /// The sockets.
    Sockets(std::sync::mpsc::SyncSender<Vec<Passed>>),
    /// To stop accepting now; answered when that is done.
    Drain(std::sync::mpsc::SyncSender<()>),
}

/// Waits at `path` for the next process, in a thread of its own; what it asks for goes to `asked`.
///
/// # Errors
/// If the path cannot be bound.
pub fn serve(path: &Path, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    // Who was there has been relieved, or is dead.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::thread::Builder::new().name("hot-restart".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            match successor(stream, &asked) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "hot restart: the next process gave up"),
            }
        }
    })?;
    Ok(())
}

/// Serves one connection; whether this process was relieved.
fn successor(mut stream: UnixStream, asked: &mpsc::Sender<Asked>) -> io::Result<bool> {
    if !linux::is_same_user(stream.as_fd())? {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it runs as another user"));
    }
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let mut word = [0];
    while stream.read(&mut word)? == 1 {
        match &word {
            b"t" => {
                let (answer, sockets) = std::sync::mpsc::sync_channel(1);
                asked.blocking_send(Asked::Sockets(answer)).map_err(|_| io::ErrorKind::BrokenPipe)?;
                pass(&mut stream, &sockets.recv().map_err(gone)?)?;
            }
            b"d" => {
                let (answer, done) = std::sync::mpsc::sync_channel(1);
                asked.blocking_send(Asked::Drain(answer)).map_err(|_| io::ErrorKind::BrokenPipe)?;
                done.recv().map_err(gone)?;
                // The next process may bind the path only now.
                stream.write_all(b".")?;
                return Ok(true);
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(false)
}

fn pass(stream: &mut UnixStream, sockets: &[Passed]) -> io::Result<()> {
    let announced: Vec<Announced> =
        sockets.iter().map(|passed| Announced { name: passed.name.clone(), address: passed.address }).collect();
    let text = serde_json::to_vec(&announced)?;
    stream.write_all(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes())?;
    stream.write_all(&text)?;
    for passed in sockets {
        linux::send_descriptor(stream.as_fd(), passed.socket.as_fd())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_from_one_to_the_next_and_keep_what_is_queued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("restart");
        assert!(Predecessor::find(&path).unwrap().is_none());
        let (asked, mut requests) = mpsc::channel(1);
        serve(&path, asked).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let old = std::thread::spawn(move || {
            while let Some(request) = requests.blocking_recv() {
                match request {
                    Asked::Sockets(answer) => {
                        let socket = socket.try_clone().unwrap();
                        answer.send(vec![Passed { name: "in".into(), address, socket }]).unwrap();
                    }
                    Asked::Drain(done) => {
                        drop(socket);
                        done.send(()).unwrap();
                        return;
                    }
                }
            }
        });
        let client = std::net::TcpStream::connect(address).unwrap();
        let mut found = Predecessor::find(&path).unwrap().unwrap();
        let Passed { name, address: configured, socket } = found.sockets.pop().unwrap();
        assert_eq!((name.as_str(), configured), ("in", address));
        found.relieve().unwrap();
        old.join().unwrap();
        assert_eq!(socket.accept().unwrap().1, client.local_addr().unwrap());
    }
}
