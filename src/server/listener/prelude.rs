//! What happens to a connection before HTTP: the TLS handshake, or a look at the first byte.
//!
//! Floor 4. Each connection goes through it in a task of its own, with a deadline. Invariant: at most
//! [`MAX_PRELUDES`] are on their way; one more pushes out the oldest, so that silent peers cannot lock others out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::tls::TlsIdentity;

/// How long a prelude may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Preludes at a time.
const MAX_PRELUDES: usize = 1024;

/// How long to wait when the system has no socket left, before trying to accept again.
const PAUSE: Duration = Duration::from_millis(50);

/// The first byte of a TLS record with a handshake in it.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client that speaks TLS to a plaintext port is told: surely not TLS.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\ncontent-length: 24\r\nconnection: close\r\n\r\n\
    this port speaks no TLS\n";

/// Connections that are ready for HTTP, without end. Dropping it stops listening and drops those under way.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<TlsIdentity>,
    cut: CancellationToken,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    stream::unfold(Accepting::new(listener, tls, cut, MAX_PRELUDES), |mut accepting| async move {
        let connection = accepting.next().await;
        Some((Ok(connection), accepting))
    })
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
}

impl Accepting {
    fn new(listener: TcpListener, tls: Option<TlsIdentity>, cut: CancellationToken, most: usize) -> Self {
        Self { listener, tls, cut, preludes: JoinSet::new(), oldest: VecDeque::new(), most }
    }

    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                Some(done) = self.preludes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
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
    tcp.set_nodelay(true)?;
    if let Some(identity) = tls {
        return Connection::tls(identity.accept(tcp).await?, cut).map(Some);
    }
    let mut first = [0];
    match tcp.peek(&mut first).await? {
        0 => Ok(None),
        _ if first == [TLS_HANDSHAKE] => refuse_tls(tcp).await.map(|()| None),
        _ => Connection::plain(tcp, cut).map(Some),
    }
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
        let mut accepting = Accepting::new(listener, None, CancellationToken::new(), 2);
        let mut oldest = TcpStream::connect(addr).await.unwrap();
        let mut second = TcpStream::connect(addr).await.unwrap();
        let mut speaks = TcpStream::connect(addr).await.unwrap();
        speaks.write_all(b"P").await.unwrap();
        timeout(Duration::from_secs(5), accepting.next()).await.expect("locked out");
        assert_eq!(timeout(Duration::from_secs(5), oldest.read(&mut [0])).await.unwrap().unwrap(), 0);
        // The one after it has not been touched.
        second.write_all(b"P").await.unwrap();
        timeout(Duration::from_secs(5), accepting.next()).await.expect("pushed out as well");
    }
}
