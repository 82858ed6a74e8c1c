//! Byte streams of connections: sockets, what was read ahead of them, and TLS over them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket, or an in-process pipe.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain.
    Unix(UnixStream),
    /// Within the process (tests, internal listeners).
    Duplex(DuplexStream),
}

/// A socket with bytes that were read from it to detect its protocol.
#[derive(Debug)]
pub struct Rewind {
    ahead: Bytes,
    socket: Socket,
}

impl Rewind {
    /// `ahead` is given to readers before the socket's next bytes.
    pub fn new(ahead: Bytes, socket: Socket) -> Self {
        Self { ahead, socket }
    }

    /// The socket under it.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// A connection's byte stream.
#[derive(Debug)]
pub enum Io {
    /// Plain text.
    Plain(Rewind),
    /// TLS that a peer opened to us.
    Accepted(Box<tokio_rustls::server::TlsStream<Rewind>>),
    /// TLS that we opened.
    Opened(Box<tokio_rustls::client::TlsStream<Rewind>>),
}

impl Io {
    /// A plain stream with nothing read ahead.
    pub fn plain(socket: Socket) -> Self {
        Self::Plain(Rewind::new(Bytes::new(), socket))
    }

    /// The socket at the bottom.
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(stream) => &stream.socket,
            Self::Accepted(stream) => &stream.get_ref().0.socket,
            Self::Opened(stream) => &stream.get_ref().0.socket,
        }
    }
}

macro_rules! each {
    ($self:expr, $kinds:ident { $($kind:ident),* }, $stream:ident => $body:expr) => {
        match $self.get_mut() { $($kinds::$kind($stream) => $body,)* }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, Socket { Tcp, Unix, Duplex }, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, Socket { Tcp, Unix, Duplex }, stream => Pin::new(stream).poll_write(cx, buf))
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, Socket { Tcp, Unix, Duplex }, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }
    fn is_write_vectored(&self) -> bool {
        !matches!(self, Self::Duplex(_))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, Socket { Tcp, Unix, Duplex }, stream => Pin::new(stream).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, Socket { Tcp, Unix, Duplex }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsyncRead for Rewind {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let length = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewind {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, Io { Plain, Accepted, Opened }, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, Io { Plain, Accepted, Opened }, stream => Pin::new(stream).poll_write(cx, buf))
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, Io { Plain, Accepted, Opened }, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Accepted(stream) => stream.is_write_vectored(),
            Self::Opened(stream) => stream.is_write_vectored(),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, Io { Plain, Accepted, Opened }, stream => Pin::new(stream).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, Io { Plain, Accepted, Opened }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
