//! `exact_balance`: an accepted socket goes to the worker with the fewest connections of this listener.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Sockets on their way to another worker; beyond this the accepting worker keeps them.
const IN_FLIGHT: usize = 256;

/// A socket for another worker.
pub(super) type Handed = (TcpStream, SocketAddr);

/// The workers of one listener and how many connections each has.
#[derive(Debug, Default)]
pub(super) struct Balancer {
    workers: Mutex<Vec<Member>>,
}

#[derive(Debug)]
struct Member {
    index: usize,
    load: Arc<AtomicUsize>,
    sender: mpsc::Sender<Handed>,
}

impl Balancer {
    /// A worker takes part from now on.
    pub(super) fn join(&self, index: usize, load: Arc<AtomicUsize>) -> mpsc::Receiver<Handed> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let mut workers = self.workers.lock();
        workers.retain(|member| member.index != index && !member.sender.is_closed());
        workers.push(Member { index, load, sender });
        receiver
    }

    /// Where the next connection goes, if another worker has fewer; its load is raised at once.
    pub(super) fn choose(&self, own: usize) -> Option<mpsc::Sender<Handed>> {
        let workers = self.workers.lock();
        let load = |member: &&Member| (member.load.load(Ordering::Relaxed), member.index != own);
        let least = workers.iter().filter(|member| !member.sender.is_closed()).min_by_key(load)?;
        if least.index == own {
            return None;
        }
        least.load.fetch_add(1, Ordering::Relaxed);
        Some(least.sender.clone())
    }
}
