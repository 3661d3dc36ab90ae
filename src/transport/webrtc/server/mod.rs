//! The robot's end: a tonic server over a data channel.
//!
//! ```text
//!  data channel ─▶ driver ─▶ table ─▶ headers: a task per call ─▶ service ─▶ reply ─▶ outbox ─▶ driver
//!                              └────▶ messages: inbox ─▶ request body ─▶┘
//! ```
//!
//! # Invariant
//! Every call that was opened gets exactly one set of trailers, whatever its handler does: answers, fails,
//! panics, or is cut by a deadline, a reset or a shutdown. Headers always come before them.
//!
//! Contract: goutils `rpc/wrtc_server_channel.go`, `rpc/wrtc_server_stream.go`.

mod call;
mod methods;
mod table;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tracing::Instrument as _;

pub use self::methods::Methods;
use self::table::Table;
use super::driver::Driver;
use super::limits::Limits;
use super::line::{Line, Traffic};
use super::outbox::Outbox;
use crate::peer::{Peer, PeerConnection};
use crate::transport::link::Link;
use crate::transport::{CloseReason, LinkWatch, Stats, TransportKind};
use crate::wire::frame;

/// What answers the calls: tonic's `Routes`, boxed, with whatever layers the robot puts around them.
pub type RobotService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Serves a connected peer. Dropping it closes the connection and cancels its handlers.
pub struct RobotConnection {
    table: Arc<Table>,
    link: Arc<Link>,
    traffic: Arc<Traffic>,
    connection: Arc<dyn PeerConnection>,
    /// Cancelled when the driver is gone.
    done: CancellationToken,
}

impl RobotConnection {
    /// Takes over a peer whose data channel is open. Each request carries a copy of `extensions`, where
    /// handlers find out who is calling. Spawns one task, and one per call; must be called inside a tokio
    /// runtime.
    ///
    /// Callers who never half-close (Viam's TypeScript SDK) are served only if the
    /// [methods](Self::with_methods) are known.
    pub fn new(peer: Peer, service: RobotService, extensions: Extensions, limits: Limits) -> Self {
        Self::with_methods(peer, service, extensions, limits, Methods::new())
    }

    /// The same, for a service of which it is known which methods take one message.
    pub fn with_methods(
        peer: Peer,
        service: RobotService,
        extensions: Extensions,
        limits: Limits,
        methods: Methods,
    ) -> Self {
        let outbox = Arc::new(Outbox::new(|stream, packet, _| frame::response_packet(stream, packet)));
        let table = Arc::new(Table::new(limits, Arc::clone(&outbox), service, extensions, methods));
        let done = CancellationToken::new();
        let traffic = Arc::new(Traffic::default());
        let Peer { connection, candidates, state, channel } = peer;
        let link = Arc::new(Link::over(state.borrow().path.clone()));
        // Nobody wants late candidates any more.
        drop(candidates);
        let driver = Driver::new(
            Line::new(channel, Arc::clone(&traffic)),
            Arc::clone(&connection),
            state,
            outbox,
            Arc::clone(&link),
            Arc::clone(&table),
        );
        let driver = driver.guarding(done.clone().drop_guard());
        tokio::spawn(driver.instrument(tracing::info_span!("channel", end = "robot")));
        Self { table, link, traffic, connection, done }
    }

    /// Where it stands, and every change of that.
    pub fn watch(&self) -> LinkWatch {
        self.link.watch()
    }

    /// Its counters and the path. Cancel safe.
    pub async fn stats(&self) -> Stats {
        let peer = self.connection.stats().await;
        let (open_streams, streams_opened) = self.table.counts();
        Stats {
            path: peer.path,
            rtt: peer.rtt.or_else(|| self.traffic.rtt()),
            bytes_sent: self.traffic.sent(),
            bytes_received: self.traffic.received(),
            open_streams,
            streams_opened,
            frames_dropped: self.table.dropped(),
            ..Stats::new(TransportKind::WebRtc)
        }
    }

    /// Closes it gently: new calls get UNAVAILABLE at once, those in flight have `grace` to end and then get
    /// UNAVAILABLE too; then the connection closes. Returns when the caller has acknowledged all trailers, or
    /// half a second after the last. Cancelling it leaves new calls refused and the rest as it was.
    pub async fn drain(&self, grace: Duration) {
        self.table.refuse_new();
        let _ = tokio::time::timeout(grace, self.table.idle()).await;
        self.table.end_all(&Status::unavailable("the robot is shutting down"));
        self.close();
        self.done.cancelled().await;
    }

    /// Closes it at once: handlers are cancelled. Idempotent, does not wait.
    pub fn close(&self) {
        self.link.close(CloseReason::Local);
        self.table.outbox.wake_driver();
    }
}

impl fmt::Debug for RobotConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobotConnection").field("closed", &self.link.closed()).finish_non_exhaustive()
    }
}

impl Drop for RobotConnection {
    fn drop(&mut self) {
        self.close();
    }
}
