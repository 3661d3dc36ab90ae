//! What HTTP runs on: a TCP or TLS connection that can be cut from outside.
//!
//! Floor 4. Cut means that reads and writes fail, whatever they wait for; HTTP then drops its streams and
//! the socket. What the prelude has read ahead comes first.

use std::fmt;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::handle::{ConnectionGuard, ConnectionHandle};

/// The connection that a request came over. An extension of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Which one it is, and when it ends.
    pub connection: ConnectionHandle,
    /// The address of this side that the peer connected to.
    pub local: SocketAddr,
    /// The peer's address, or its last proxy's.
    pub remote: SocketAddr,
    /// Whether TLS protects it.
    pub tls: bool,
}

/// A connection whose prelude is over.
pub(super) struct Connection {
    io: Io,
    info: ConnectionInfo,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Tells the holders of the handle that it is gone.
    _gone: ConnectionGuard,
    /// Read already, and not yet by HTTP.
    ahead: Bytes,
    /// Its place among the listener's connections.
    place: Option<OwnedSemaphorePermit>,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn plain(tcp: TcpStream, cut: CancellationToken) -> io::Result<Self> {
        let info = info(&tcp, false)?;
        Ok(Self::new(Io::Plain(tcp), info, cut))
    }

    pub(super) fn tls(tls: TlsStream<TcpStream>, cut: CancellationToken) -> io::Result<Self> {
        let info = info(tls.get_ref().0, true)?;
        Ok(Self::new(Io::Tls(Box::new(tls)), info, cut))
    }

    fn new(io: Io, info: ConnectionInfo, cut: CancellationToken) -> Self {
        let _gone = info.connection.guard();
        Self { io, info, cut: Box::pin(cut.cancelled_owned()), _gone, ahead: Bytes::new(), place: None }
    }

    /// What was read from it is to be read again. Once, before anybody else reads.
    pub(super) fn unread(&mut self, ahead: Bytes) {
        self.ahead = ahead;
    }

    /// Keeps the place until the connection is dropped.
    pub(super) fn keep(&mut self, place: OwnedSemaphorePermit) {
        self.place = Some(place);
    }

    /// Fails once the connection is cut; else wakes the task when it is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "listener is closed")),
            Poll::Pending => Ok(()),
        }
    }
}

fn info(tcp: &TcpStream, tls: bool) -> io::Result<ConnectionInfo> {
    let connection = ConnectionHandle::new();
    Ok(ConnectionInfo { connection, local: tcp.local_addr()?, remote: tcp.peer_addr()?, tls })
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.info).finish()
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

/// Calls a poll method of whichever stream it is.
macro_rules! delegate {
    ($self:ident, $method:ident, $cx:ident $(, $argument:expr)*) => {
        match &mut $self.io {
            Io::Plain(tcp) => Pin::new(tcp).$method($cx $(, $argument)*),
            Io::Tls(tls) => Pin::new(tls.as_mut()).$method($cx $(, $argument)*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        if !self.ahead.is_empty() {
            let now = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..now]);
            self.ahead.advance(now);
            return Poll::Ready(Ok(()));
        }
        delegate!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        delegate!(self, poll_write, cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        delegate!(self, poll_flush, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        delegate!(self, poll_shutdown, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        delegate!(self, poll_write_vectored, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(tcp) => tcp.is_write_vectored(),
            Io::Tls(tls) => tls.is_write_vectored(),
        }
    }
}
