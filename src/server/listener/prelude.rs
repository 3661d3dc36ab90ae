//! What happens to a connection before HTTP: the TLS handshake, or a look at the first byte, and then enough
//! bytes to tell HTTP/2 from HTTP/1, for which HTTP itself would wait forever.
//!
//! Floor 4. Each connection goes through it in a task of its own, with a deadline. Invariant: at most
//! [`MAX_PRELUDES`] are on their way; one more pushes out the oldest, so that silent peers cannot lock others out.
//! Of those that are through there are as many as the listener has room for; one more is closed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::tls::TlsIdentity;
use crate::transport::direct::tcp;

/// How long a prelude may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Preludes at a time.
const MAX_PRELUDES: usize = 1024;

/// How long to wait when the system has no socket left, before trying to accept again.
const PAUSE: Duration = Duration::from_millis(50);

/// The first byte of a TLS record with a handshake in it.
const TLS_HANDSHAKE: u8 = 0x16;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client that speaks TLS to a plaintext port is told: surely not TLS.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\ncontent-length: 24\r\nconnection: close\r\n\r\n\
    this port speaks no TLS\n";

/// Connections that are ready for HTTP, without end. Dropping it stops listening and drops those under way.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<TlsIdentity>,
    cut: CancellationToken,
    max_connections: usize,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    stream::unfold(
        Accepting::new(listener, tls, cut, MAX_PRELUDES, max_connections),
        |mut accepting| async move {
            let connection = accepting.next().await;
            Some((Ok(connection), accepting))
        },
    )
}

struct Accepting {
    listener: TcpListener,
    tls: Option<TlsIdentity>,
    cut: CancellationToken,
    preludes: JoinSet<Option<Connection>>,
    /// The tasks in `preludes` and some that are over, the oldest first.
    oldest: VecDeque<AbortHandle>,
    /// Preludes at a time.
    most: usize,
    /// Room for those that are through.
    room: Arc<Semaphore>,
}

impl Accepting {
    fn new(
        listener: TcpListener,
        tls: Option<TlsIdentity>,
        cut: CancellationToken,
        most: usize,
        max_connections: usize,
    ) -> Self {
        let room = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Self { listener, tls, cut, preludes: JoinSet::new(), oldest: VecDeque::new(), most, room }
    }

    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                Some(done) = self.preludes.join_next() => {
                    let Ok(Some(mut connection)) = done else { continue };
                    match Arc::clone(&self.room).try_acquire_owned() {
                        Ok(place) => {
                            connection.keep(place);
                            return connection;
                        }
                        Err(_) => tracing::debug!("no room for another connection"),
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, _)) => self.begin(tcp),
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a connection");
                        // Those of a single connection pass at once; being out of sockets lasts.
                        sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    fn begin(&mut self, tcp: TcpStream) {
        while self.oldest.front().is_some_and(AbortHandle::is_finished) {
            self.oldest.pop_front();
        }
        if self.oldest.len() >= self.most {
            self.oldest.retain(|task| !task.is_finished());
        }
        if self.oldest.len() >= self.most
            && let Some(task) = self.oldest.pop_front()
        {
            task.abort();
        }
        let (tls, cut) = (self.tls.clone(), self.cut.clone());
        let task = self.preludes.spawn(async move {
            match timeout(DEADLINE, prelude(tcp, tls, cut)).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "connection failed before its first request");
                    None
                }
                Err(_) => None,
            }
        });
        self.oldest.push_back(task);
    }
}

/// `None` for a connection that is finished already.
async fn prelude(
    tcp: TcpStream,
    tls: Option<TlsIdentity>,
    cut: CancellationToken,
) -> io::Result<Option<Connection>> {
    tcp::tune(&tcp);
    if let Some(identity) = tls {
        return through(Connection::tls(identity.accept(tcp).await?, cut)?).await;
    }
    let mut first = [0];
    match tcp.peek(&mut first).await? {
        0 => Ok(None),
        _ if first == [TLS_HANDSHAKE] => refuse_tls(tcp).await.map(|()| None),
        _ => through(Connection::plain(tcp, cut)?).await,
    }
}

/// The connection once it is clear which HTTP it speaks; `None` when it ended before.
async fn through(mut connection: Connection) -> io::Result<Option<Connection>> {
    let Some(ahead) = until_version(&mut connection).await? else { return Ok(None) };
    connection.unread(ahead);
    Ok(Some(connection))
}

/// Reads until the bytes are the preface of HTTP/2 or cannot become it. Exactly what HTTP waits for without a
/// deadline: from there on it has its own.
async fn until_version(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let mut ahead = Vec::with_capacity(HTTP2_PREFACE.len());
    while ahead.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(&ahead) {
        let left = HTTP2_PREFACE.len() - ahead.len();
        if (&mut *io).take(left as u64).read_buf(&mut ahead).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Bytes::from(ahead)))
}

/// Answers and closes. What the client sent is read first and waited for after: closing a socket with
/// unread bytes resets it, and a reset may overtake the answer.
async fn refuse_tls(mut tcp: TcpStream) -> io::Result<()> {
    let mut hello = [0; 4096];
    let _ = tcp.read(&mut hello).await?;
    tcp.write_all(NOT_TLS).await?;
    tcp.shutdown().await?;
    let drain = async {
        while tcp.read(&mut hello).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that does not close has had its answer.
    timeout(Duration::from_secs(1), drain).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_silent_peer_too_many_pushes_out_the_oldest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut accepting = Accepting::new(listener, None, CancellationToken::new(), 2, 10);
        let mut oldest = TcpStream::connect(addr).await.unwrap();
        let mut second = TcpStream::connect(addr).await.unwrap();
        let mut speaks = TcpStream::connect(addr).await.unwrap();
        speaks.write_all(b"POST").await.unwrap();
        timeout(Duration::from_secs(5), accepting.next()).await.expect("locked out");
        assert_eq!(timeout(Duration::from_secs(5), oldest.read(&mut [0])).await.unwrap().unwrap(), 0);
        // The one after it has not been touched.
        second.write_all(b"POST").await.unwrap();
        timeout(Duration::from_secs(5), accepting.next()).await.expect("pushed out as well");
    }

    async fn closed(client: &mut (impl AsyncRead + Unpin)) {
        // A reset is as good as an end.
        let read = timeout(DEADLINE * 3, client.read(&mut [0])).await.expect("still open");
        assert!(!matches!(read, Ok(1..)), "{read:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_says_which_http_it_speaks_is_closed_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut accepting = Accepting::new(listener, None, CancellationToken::new(), 10, 10);
        for stalls in [&b""[..], b"P", &HTTP2_PREFACE[..23]] {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(stalls).await.unwrap();
            tokio::select! {
                _ = accepting.next() => panic!("let through after {} bytes", stalls.len()),
                () = closed(&mut client) => {}
            }
        }
    }

    #[tokio::test]
    async fn the_version_is_known_as_soon_as_it_can_be_and_nothing_is_lost() {
        for (said, read) in [(&b"POST / HTTP/1.1"[..], 2), (b"GET /", 1), (b"PRI * HTTP/1.0", 14)] {
            let (mut client, mut server) = tokio::io::duplex(1024);
            for byte in said {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            let ahead = until_version(&mut server).await.unwrap().unwrap();
            assert!(ahead.len() >= read && said.starts_with(&ahead), "{ahead:?}");
        }
        let (mut client, mut server) = tokio::io::duplex(1024);
        client.write_all(&[HTTP2_PREFACE, &b"settings"[..]].concat()).await.unwrap();
        assert_eq!(until_version(&mut server).await.unwrap().unwrap(), &HTTP2_PREFACE[..]);
        drop(client);
        let mut rest = String::new();
        server.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "settings");
        assert!(until_version(&mut server).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_the_others_stay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut accepting = Accepting::new(listener, None, CancellationToken::new(), 10, 1);
        let connect = || async {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(b"GET / HTTP/1.1").await.unwrap();
            client
        };
        let _first = connect().await;
        let mut connection = timeout(DEADLINE, accepting.next()).await.unwrap();
        let mut second = connect().await;
        tokio::select! {
            _ = accepting.next() => panic!("there was no room"),
            () = closed(&mut second) => {}
        }
        let mut said = [0; 14];
        connection.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"GET / HTTP/1.1");
        drop(connection);
        let _third = connect().await;
        timeout(DEADLINE, accepting.next()).await.expect("the place is free again");
    }
}
