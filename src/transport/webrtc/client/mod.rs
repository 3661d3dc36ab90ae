//! The caller's end: any tonic client over a data channel.
//!
//! ```text
//!  WebRtcTransport::call ─▶ call ─▶ table (new stream) ─▶ outbox ─▶ driver ─▶ data channel
//!                            ▲                                        │
//!                            └── inbox ◀── table (frame by stream) ◀──┘
//! ```
//!
//! Contract: goutils `rpc/wrtc_client_channel.go`, `rpc/wrtc_client_stream.go`.

mod call;
mod table;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tower_service::Service;
use tracing::Instrument as _;

use self::table::Table;
use super::driver::Driver;
use super::limits::Limits;
use super::line::{Line, Traffic};
use super::outbox::Outbox;
use crate::peer::{Peer, PeerConnection};
use crate::transport::link::Link;
use crate::transport::{CloseReason, LinkWatch, Stats, Transport, TransportError, TransportKind, deadline};
use crate::wire::{frame, timeout};

/// gRPC over the data channel of a connected peer. Clones share the connection; it closes when the last
/// clone and the last open call are dropped, or by [`close`](Transport::close).
#[derive(Clone)]
pub struct WebRtcTransport {
    handle: Handle,
}

impl WebRtcTransport {
    /// Takes over a peer whose data channel is open. Spawns one task; must be called inside a tokio
    /// runtime.
    pub fn new(peer: Peer, limits: Limits) -> Self {
        let outbox = Arc::new(Outbox::new(frame::request_packet));
        let table = Arc::new(Table::new(limits, Arc::clone(&outbox)));
        let traffic = Arc::new(Traffic::default());
        let Peer { connection, candidates, state, channel } = peer;
        let link = Arc::new(Link::over(state.borrow().path.clone()));
        // Nobody wants late candidates any more.
        drop(candidates);
        let driver = Driver::new(
            Line::new(channel, Arc::clone(&traffic)),
            Arc::clone(&connection),
            state,
            Arc::clone(&outbox),
            Arc::clone(&link),
            Arc::clone(&table),
        );
        tokio::spawn(driver.instrument(tracing::info_span!("channel", end = "caller")));
        let handle = Handle(Arc::new(Shared { table, link, traffic, connection, limits }));
        Self { handle }
    }
}

impl fmt::Debug for WebRtcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebRtcTransport")
            .field("closed", &self.handle.0.link.closed())
            .finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for WebRtcTransport {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let handle = self.handle.clone();
        let left = timeout::from_headers(request.headers());
        let span = tracing::debug_span!("rpc", method = request.uri().path());
        let call = async move {
            let call = call::run(handle, request, left);
            deadline::enforce(left, call).await.map_err(TransportError::from)
        };
        Box::pin(call.instrument(span))
    }
}

impl Transport for WebRtcTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::WebRtc
    }

    async fn stats(&self) -> Stats {
        let shared = &self.handle.0;
        let peer = shared.connection.stats().await;
        let (open_streams, streams_opened) = shared.table.counts();
        Stats {
            path: peer.path,
            rtt: peer.rtt.or_else(|| shared.traffic.rtt()),
            bytes_sent: shared.traffic.sent(),
            bytes_received: shared.traffic.received(),
            open_streams,
            streams_opened,
            frames_dropped: shared.table.dropped(),
            ..Stats::new(TransportKind::WebRtc)
        }
    }

    fn watch(&self) -> LinkWatch {
        self.handle.0.link.watch()
    }

    fn close(&self) {
        self.handle.0.close();
    }
}

/// Keeps the connection open: held by clones of the transport and by open calls.
#[derive(Clone)]
struct Handle(Arc<Shared>);

impl Handle {
    fn table(&self) -> &Arc<Table> {
        &self.0.table
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

struct Shared {
    table: Arc<Table>,
    link: Arc<Link>,
    traffic: Arc<Traffic>,
    connection: Arc<dyn PeerConnection>,
    limits: Limits,
}

impl Shared {
    fn close(&self) {
        self.link.close(CloseReason::Local);
        self.table.close(&CloseReason::Local);
        self.table.outbox.wake_driver();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}
