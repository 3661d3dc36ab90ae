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
    #[cfg(test)]
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
        #[cfg(test)]
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
        Ok(Self {
            io,
            #[cfg(test)]
            local,
            queue: Vec::new(),
            written: 0,
            flushed: true,
        })
    }

    /// What it is bound to.
    #[cfg(test)]
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::{self, ServerConfig, SupportedProtocolVersion};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Echoes what one client says over TLS of this version. Returns the trust it takes.
    async fn tls_echo(version: &'static SupportedProtocolVersion, name: &str) -> (SocketAddr, Trust) {
        let own = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = own.signing_key.serialize_der().try_into().unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(tls) = TlsAcceptor::from(Arc::new(config.clone())).accept(tcp).await else { continue };
                let (mut read, mut write) = tokio::io::split(tls);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            }
        });
        (address, Trust::pem(own.cert.pem().as_bytes()).unwrap())
    }

    async fn read(stream: &mut Stream, length: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < length {
            poll_fn(|cx| stream.poll_read(cx, |bytes| all.extend_from_slice(bytes))).await?;
        }
        Ok(all)
    }

    #[tokio::test]
    async fn what_goes_in_comes_back_over_tls_of_either_version() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for name in ["relay.test", "127.0.0.1"] {
                let (to, trust) = tls_echo(version, name).await;
                let mut stream = Stream::connect(to, Some(name), &trust, PATIENCE).await.unwrap();
                let said: Vec<u8> = (0..200_000_u32).map(|byte| byte as u8).collect();
                assert!(stream.send_datagram(&[&said[..7], &said[7..]]));
                let (mut heard, mut flushed) = (Vec::new(), false);
                while heard.len() < said.len() {
                    poll_fn(|cx| {
                        flushed = flushed || stream.poll_flush(cx).is_ready();
                        stream.poll_read(cx, |bytes| heard.extend_from_slice(bytes))
                    })
                    .await
                    .unwrap();
                }
                assert!(heard == said && flushed);
                poll_fn(|cx| stream.poll_shutdown(cx)).await.unwrap();
                let end = read(&mut stream, 1).await.unwrap_err();
                assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
            }
        }
    }

    #[tokio::test]
    async fn a_certificate_for_another_name_is_refused() {
        let (to, trust) = tls_echo(&rustls::version::TLS13, "relay.test").await;
        let failed = Stream::connect(to, Some("other.test"), &trust, PATIENCE).await.unwrap_err();
        assert!(matches!(&failed, StreamError::Tls(why) if why.contains("certificate")), "{failed}");
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_ends_with_the_deadline() {
        let (_listener, to) = listen().await;
        let trust = tls_echo(&rustls::version::TLS13, "relay.test").await.1;
        let failed =
            Stream::connect(to, Some("relay.test"), &trust, Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(failed, StreamError::Deadline(_)));
    }

    #[tokio::test]
    async fn a_reader_that_is_slow_costs_datagrams_and_no_memory() {
        let (listener, to) = listen().await;
        let mut stream = Stream::connect(to, None, &Trust::platform(), PATIENCE).await.unwrap();
        let (mut slow, _) = listener.accept().await.unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let (mut queued, mut dropped) = (0_usize, 0_usize);
        while dropped < 1000 {
            match stream.send_datagram(&[&[7; 1000]]) {
                true => queued += 1,
                false => dropped += 1,
            }
            let _ = stream.poll_flush(&mut cx);
            assert!(stream.waiting() <= QUEUE && stream.queue.capacity() <= 4 * QUEUE);
        }
        stream.send(&[8; 100]);
        // Once it reads again, all that was queued comes, and what steers last.
        let reading = async {
            let mut all = vec![0; queued * 1000 + 100];
            slow.read_exact(&mut all).await.unwrap();
            all
        };
        let flushing = poll_fn(|cx| stream.poll_flush(cx));
        let (all, flushed) = tokio::join!(reading, flushing);
        flushed.unwrap();
        assert!(all[..queued * 1000].iter().all(|byte| *byte == 7) && all[queued * 1000..] == [8; 100]);
        assert!(stream.queue.capacity() <= KEPT);
    }
}
