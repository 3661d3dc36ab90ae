//! gRPC over HTTP/2: one connection to the robot itself, or to a signaling server.
//!
//! Floor 2. `connect` opens the byte stream, `tls` secures it, and [`DirectTransport`] speaks HTTP/2 on
//! it with hyper. It is one connection and stays one: when it is lost, its calls fail and it is closed.
//! Dialing again is somebody else's decision.
//!
//! # Invariant
//! A plaintext connection exists only where the caller of [`DirectTransport::connect`] said
//! [`Security::Plaintext`].

mod connect;
mod cut;
mod failure;
mod preface;
pub(crate) mod tcp;
mod tls;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Response, Uri};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

pub use self::connect::{ConnectError, Endpoint, Resolved};
use self::cut::Cuttable;
use self::preface::Watched;
pub use self::tls::{Roots, RootsError, Security, TlsConfig};
use super::link::Link;
use super::{CloseReason, LinkWatch, Stats, Transport, TransportError, TransportKind, deadline};
use crate::wire::timeout::from_headers as time_left;

/// How often an HTTP/2 ping asks whether the other side lives, and how long it may take to answer.
/// goutils' servers allow one every 5 s and its clients send one every 20 s (`rpc/dialer.go`).
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How long a response that came just before the end may take from HTTP/2 to the call.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Bytes of a request's or a response's headers or trailers, as HTTP/2 counts them: as much as a frame carries on the other transport.
const MAX_HEADERS: u32 = 64 * 1024;

/// gRPC over one HTTP/2 connection. Clones share it; it closes when the last clone and the last open call
/// are dropped, or by [`close`](Transport::close).
#[derive(Clone)]
pub struct DirectTransport {
    shared: Arc<Shared>,
}

struct Shared {
    /// Here, so that it outlives every call: HTTP/2 ends when the last sender is gone.
    sender: http2::SendRequest<Body>,
    link: Arc<Link>,
    cut: CancellationToken,
    /// Cancelled when nothing more comes or goes. A server that shuts down closes the link before: no call may
    /// begin, those in flight may end.
    gone: CancellationToken,
    authority: Authority,
    scheme: Scheme,
    open: AtomicUsize,
    opened: AtomicU64,
}

impl DirectTransport {
    /// Connects: TCP or a unix socket, TLS unless plaintext was asked for, HTTP/2. Spawns one task.
    /// Cancel safe: dropping the future closes what was opened. It has no deadline of its own.
    ///
    /// # Errors
    /// [`ConnectError`] says how far it came.
    pub async fn connect(target: &Resolved, security: &Security) -> Result<Self, ConnectError> {
        let (cut, gone) = (CancellationToken::new(), CancellationToken::new());
        let stream = Cuttable::new(connect::open(target, security).await?, cut.clone(), gone.clone());
        let (stream, preface) = Watched::new(stream);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .max_header_list_size(MAX_HEADERS)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Http(Arc::new(error)))?;
        let link = Arc::new(Link::new());
        let ended = Arc::clone(&link);
        tokio::spawn(async move {
            let reason = match connection.await {
                Ok(()) => CloseReason::Peer,
                Err(error) => CloseReason::Lost(failure::describe(&error)),
            };
            ended.close(reason);
        });
        let scheme = if security.is_plaintext() { Scheme::HTTP } else { Scheme::HTTPS };
        let shared = Shared {
            sender,
            link,
            cut,
            gone,
            authority: target.endpoint.authority(),
            scheme,
            open: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
        };
        // Made before the wait, so that who gives up waiting leaves no task.
        let transport = Self { shared: Arc::new(shared) };
        preface.wait(&target.endpoint, security.is_plaintext()).await?;
        Ok(transport)
    }

    async fn send(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        if let Some(reason) = self.shared.link.closed() {
            return Err(reason.status());
        }
        check_size(request.headers())?;
        let mut sender = self.shared.sender.clone();
        let request = self.shared.addressed(request)?;
        self.shared.opened.fetch_add(1, Ordering::Relaxed);
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        let guard = OpenCall(Arc::clone(&self.shared));
        let sending = pin!(async {
            std::future::poll_fn(|cx| sender.poll_ready(cx)).await?;
            sender.send_request(request).await
        });
        // hyper loses a request that it takes at the instant at which its connection ends, and never answers.
        let sent = match select(sending, pin!(self.shared.gone.cancelled())).await {
            Either::Left((sent, _)) => sent,
            Either::Right(((), sending)) => {
                // Outside a runtime there are no timers, and nobody waits.
                let last = Handle::try_current().map(|_| timeout(LAST_WORDS, sending));
                let last = match last {
                    Ok(last) => last.await.ok(),
                    Err(_) => None,
                };
                match last {
                    Some(sent) => sent,
                    None => return Err(self.shared.link.closed().unwrap_or(CloseReason::Peer).status()),
                }
            }
        };
        match sent {
            Ok(response) => Ok(response.map(|body| Body::new(ResponseBody { body, guard }))),
            Err(error) => Err(guard.status(&error)),
        }
    }
}

impl Service<Request<Body>> for DirectTransport {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        let left = time_left(request.headers());
        Box::pin(
            async move { deadline::enforce(left, this.send(request)).await.map_err(TransportError::from) },
        )
    }
}

impl Transport for DirectTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::Direct
    }

    async fn stats(&self) -> Stats {
        Stats {
            open_streams: self.shared.open.load(Ordering::Relaxed),
            streams_opened: self.shared.opened.load(Ordering::Relaxed),
            ..Stats::new(TransportKind::Direct)
        }
    }

    fn watch(&self) -> LinkWatch {
        self.shared.link.watch()
    }

    fn close(&self) {
        self.shared.close();
    }
}

impl fmt::Debug for DirectTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectTransport").field("authority", &self.shared.authority).finish_non_exhaustive()
    }
}

impl Shared {
    /// The request with the connection's scheme and authority, which tonic's clients leave out.
    fn addressed(&self, mut request: Request<Body>) -> Result<Request<Body>, Status> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| Status::internal(error.to_string()))?;
        Ok(request)
    }

    fn close(&self) {
        // Cutting the stream ends the connection, and all calls on it.
        self.link.close(CloseReason::Local);
        self.cut.cancel();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

/// Refuses headers that a server might answer with the end of the whole connection.
fn check_size(headers: &HeaderMap) -> Result<(), Status> {
    // As HTTP/2 counts them (RFC 9113, 6.5.2): 32 bytes for each beside name and value.
    let length: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    if length > MAX_HEADERS as usize {
        let text = format!("headers of {length} bytes are more than {MAX_HEADERS}: send less metadata");
        return Err(Status::resource_exhausted(text));
    }
    Ok(())
}

/// One open call; keeps the connection open.
struct OpenCall(Arc<Shared>);

impl OpenCall {
    /// What an HTTP/2 error means for this call.
    fn status(&self, error: &hyper::Error) -> Status {
        failure::status(error, self.0.link.closed())
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The response's body; it ends as gRPC, not as HTTP/2.
struct ResponseBody {
    body: Incoming,
    guard: OpenCall,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        frame.map_err(|error| self.guard.status(&error))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
