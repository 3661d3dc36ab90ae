//! A byte stream to a relay: TCP, or TLS over it.
//!
//! Datagrams go into it, so what does not fit is dropped as a network would: the sender's congestion control
//! then knows. What steers the relay is never dropped, as nobody sends it again.
//!
//! # Invariant
//! [`QUEUE`] bytes of datagrams wait at most, and little more in the system, where nothing can overtake them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::scratch::{self, SLOT};
use super::tls::Trust;

/// Bytes that wait to be written until datagrams are dropped: a fifth of a second at 10 Mbit/s.
const QUEUE: usize = 256 * 1024;
/// A queue that grew beyond this is given back once it is empty.
const KEPT: usize = 16 * 1024;
/// Bytes that may lie unsent in the system's buffer.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 64 * 1024;

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Stream {
    io: Box<dyn Duplex>,
    local: SocketAddr,
    queue: Vec<u8>,
    /// How much of the queue is written.
    written: usize,
    /// TLS keeps what it could not write.
    flushed: bool,
}

/// TCP or TLS.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug {}

impl Duplex for TcpStream {}
impl Duplex for TlsStream<TcpStream> {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("TCP: {0}")]
    Tcp(io::Error),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("no connection within {0:?}")]
    Deadline(Duration),
}

impl Stream {
    /// Connects, for [`Event::Connect`](crate::peer::engine::gathering::Event::Connect): with TLS when there is a
    /// name, an address or a DNS name, that the certificate must be for. Cancel safe.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(crate) async fn connect(
        to: SocketAddr,
        name: Option<&str>,
        trust: &Trust,
        deadline: Duration,
    ) -> Result<Self, StreamError> {
        let connecting = tokio::time::timeout(deadline, Self::open(to, name, trust));
        connecting.await.map_err(|_| StreamError::Deadline(deadline))?
    }

    async fn open(to: SocketAddr, name: Option<&str>, trust: &Trust) -> Result<Self, StreamError> {
        let tcp = TcpStream::connect(to).await.map_err(StreamError::Tcp)?;
        let local = tcp.local_addr().map_err(StreamError::Tcp)?;
        let _ = tcp.set_nodelay(true);
        #[cfg(any(target_os = "android", target_os = "linux"))]
        let _ = socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT);
        let io: Box<dyn Duplex> = match name {
            None => Box::new(tcp),
            Some(name) => {
                let config = trust.config().await.map_err(StreamError::Tls)?;
                let name = ServerName::try_from(name.to_owned())
                    .map_err(|error| StreamError::Tls(error.to_string()))?;
                let connecting = TlsConnector::from(Arc::clone(&config)).connect(name, tcp);
                let tls = connecting.await.map_err(|error| StreamError::Tls(error.to_string()))?;
                Box::new(tls)
            }
        };
        Ok(Self { io, local, queue: Vec::new(), written: 0, flushed: true })
    }

    /// What it is bound to.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Reads what is there, at most 64 KiB, and hands it to `take`. Call it again until it is pending, or the
    /// task is not woken.
    ///
    /// # Errors
    /// When the connection is over; its orderly end is `UnexpectedEof`.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut [u8]),
    ) -> Poll<io::Result<()>> {
        scratch::lend(|buffer| {
            let slot = buffer.get_mut(..SLOT).unwrap_or_default();
            let mut read = ReadBuf::new(slot);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            take(read.filled_mut());
            Poll::Ready(Ok(()))
        })
    }

    /// Queues one datagram in its frame, or drops it because the queue is full. `false` when dropped. Then
    /// [`poll_flush`](Self::poll_flush).
    pub(crate) fn send_datagram(&mut self, parts: &[&[u8]]) -> bool {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let fits = self.waiting().saturating_add(length) <= QUEUE;
        if fits {
            parts.iter().for_each(|part| self.send(part));
        }
        fits
    }

    /// Queues what must not be lost. Its sender bounds it.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if self.written > 0 && self.written >= self.queue.len() / 2 {
            self.queue.drain(..self.written);
            self.written = 0;
        }
        self.queue.extend_from_slice(bytes);
    }

    fn waiting(&self) -> usize {
        self.queue.len().saturating_sub(self.written)
    }

    /// Writes what is queued. Ready when nothing is left.
    ///
    /// # Errors
    /// When the connection is over.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.queue.get(self.written..).filter(|rest| !rest.is_empty()) {
            self.flushed = false;
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = self.written.saturating_add(written);
        }
        self.queue.clear();
        self.queue.shrink_to(KEPT);
        self.written = 0;
        if !self.flushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is queued, then ends the stream: TLS close_notify, TCP FIN.
    ///
    /// # Errors
    /// When the connection is over already.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
