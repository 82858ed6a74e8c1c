//! Bytes of two connections, each to the other, until both have ended.
//!
//! What is read goes on at once, through room that all connections of a worker share; only what the other side does not take
//! now is kept. So a connection at rest owns no buffer, and a busy one is read in large pieces.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Most that one read asks for, and most that is kept each way.
const ROOM: usize = 64 * 1024;

thread_local! {
    /// Borrowed within one poll only.
    static SHARED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is known of a pair while it runs.
#[derive(Debug)]
pub(super) struct Counts {
    /// Bytes from the client.
    pub(super) received: Cell<u64>,
    /// Bytes from the upstream.
    pub(super) sent: Cell<u64>,
    /// When bytes last moved, either way.
    pub(super) moved: Cell<Instant>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { received: Cell::new(0), sent: Cell::new(0), moved: Cell::new(Instant::now()) }
    }
}

/// Copies both ways; an end on one side is passed on, and the other way goes on.
///
/// # Errors
/// The first of either side.
pub(super) async fn run<D, U>(mut down: D, mut up: U, counts: &Counts) -> io::Result<()>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut request, mut response) = (Way::default(), Way::default());
    std::future::poll_fn(|cx| {
        SHARED.with_borrow_mut(|room| {
            room.resize(ROOM, 0);
            let to = request.poll(cx, &mut down, &mut up, room, (&counts.received, &counts.moved))?;
            let back = response.poll(cx, &mut up, &mut down, room, (&counts.sent, &counts.moved))?;
            if to.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
    })
    .await
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Read, and not taken by the other side from `taken` on.
    kept: Vec<u8>,
    taken: usize,
    /// Something was written since the last flush.
    is_dirty: bool,
    is_at_end: bool,
    is_shut: bool,
}

impl Way {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        room: &mut [u8],
        (count, moved): (&Cell<u64>, &Cell<Instant>),
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(rest) = self.kept.get(self.taken..).filter(|rest| !rest.is_empty()) {
                self.taken += ready!(write(cx, to, rest))?;
                moved.set(Instant::now());
            }
            self.kept = Vec::new();
            self.taken = 0;
            if self.is_shut {
                return Poll::Ready(Ok(()));
            }
            if self.is_at_end {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.is_shut = true;
                continue;
            }
            let mut buffer = ReadBuf::new(room);
            let Poll::Ready(read) = Pin::new(&mut *from).poll_read(cx, &mut buffer) else {
                if self.is_dirty {
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    self.is_dirty = false;
                }
                return Poll::Pending;
            };
            read?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.is_at_end = true;
                continue;
            }
            count.set(count.get() + bytes.len() as u64);
            moved.set(Instant::now());
            self.is_dirty = true;
            let mut taken = 0;
            while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
                let Poll::Ready(written) = write(cx, to, rest) else {
                    self.kept.extend_from_slice(rest);
                    return Poll::Pending;
                };
                taken += written?;
            }
        }
    }
}

fn write(cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Poll<io::Result<usize>> {
    let written = ready!(Pin::new(to).poll_write(cx, bytes))?;
    Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_through_narrow_pipes_and_each_end_is_passed_on_by_itself() {
        let (mut client, down) = duplex(100);
        let (up, mut server) = duplex(1000);
        let counts = Counts::default();
        let request = vec![b'q'; 3 * ROOM + 7];
        let response = vec![b'a'; 2 * ROOM + 5];
        let talk = async {
            let (mut reads, mut writes) = tokio::io::split(&mut client);
            let mut answer = Vec::new();
            let ask = async {
                writes.write_all(&request).await.unwrap();
                writes.shutdown().await.unwrap();
            };
            tokio::join!(ask, async { reads.read_to_end(&mut answer).await.unwrap() });
            answer
        };
        let serve = async {
            let mut asked = Vec::new();
            // The client has ended; the answer still goes to it.
            server.read_to_end(&mut asked).await.unwrap();
            server.write_all(&response).await.unwrap();
            server.shutdown().await.unwrap();
            asked
        };
        let (ran, answer, asked) = tokio::join!(run(down, up, &counts), talk, serve);
        ran.unwrap();
        assert_eq!((&asked, &answer), (&request, &response));
        assert_eq!((counts.received.get(), counts.sent.get()), (request.len() as u64, response.len() as u64));
    }

    #[tokio::test]
    async fn a_pair_at_rest_owns_no_buffer() {
        let (mut client, mut down) = duplex(1000);
        let (mut up, mut server) = duplex(4);
        let mut way = Way::default();
        let mut room = vec![0; ROOM];
        let counts = Counts::default();
        client.write_all(b"ten bytes.").await.unwrap();
        let mut poll = |way: &mut Way| {
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            way.poll(cx, &mut down, &mut up, &mut room, (&counts.received, &counts.moved)).is_pending()
        };
        assert!(poll(&mut way) && !way.kept.is_empty(), "the other side takes four at a time");
        let mut all = [0; 10];
        for piece in all.chunks_mut(4) {
            server.read_exact(piece).await.unwrap();
            assert!(poll(&mut way));
        }
        assert_eq!((&all, way.kept.capacity()), (b"ten bytes.", 0));
    }
}
