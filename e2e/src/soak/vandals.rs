//! Clients that vanish: after a connection, half a head, a whole request, or half a body; by FIN or by RST.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::random::Random;

pub(super) struct Vandals {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Vandals {
    pub(super) fn start(address: SocketAddr, mut random: Random) -> anyhow::Result<Self> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), done.clone());
        let thread = std::thread::Builder::new().name("vandals".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if vanish(address, &mut random).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                // Their pace.
                std::thread::sleep(Duration::from_millis(10 + random.below(40)));
            }
        })?;
        Ok(Self { stop, done, thread })
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.join();
        if joined.is_err() { 0 } else { self.done.load(Ordering::Relaxed) }
    }
}

fn vanish(address: SocketAddr, random: &mut Random) -> std::io::Result<()> {
    const BEGUN: [&[u8]; 4] = [
        b"",
        b"GET / HTTP/1.1\r\nhost: a",
        b"GET / HTTP/1.1\r\nhost: app\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 100000\r\n\r\nhalf of it",
    ];
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    socket.write_all(BEGUN[random.below(4) as usize])?;
    std::thread::sleep(Duration::from_millis(random.below(5)));
    if random.below(2) == 0 {
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    }
    Ok(())
}
