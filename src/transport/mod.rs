//! What carries RPCs: one trait, and the two transports that farlink has.
//!
//! Floor 2. Below are peers and sockets; above, `dial` chooses a transport and `Channel` hides which one it
//! is. [`webrtc`] speaks gRPC over a data channel, [`direct`] over HTTP/2.
//!
//! # Invariant
//! A transport that is lost fails every call in flight at once with UNAVAILABLE, and every later call too.

pub(crate) mod deadline;
pub mod direct;
mod error;
mod link;
pub mod webrtc;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use tonic::body::Body;
use tower_service::Service;

pub use self::error::{CloseReason, TransportError};
pub(crate) use self::link::Link;
pub use self::link::{LinkState, LinkWatch, Reconnected, Reconnecting};
pub use crate::peer::Path;

/// A live carrier of RPCs. Users may bring their own; any tonic client takes it as it is.
///
/// `poll_ready` is always ready. A call over the transport's limit waits in its own future, where its
/// deadline counts and where a heartbeat can pass by; on a transport that is gone, the call itself fails
/// with UNAVAILABLE, because tonic's generated clients turn an error of `poll_ready` into UNKNOWN.
/// [`closed`](Self::closed) tells when it is gone.
///
/// Dropping a call's future or its response body cancels the call.
pub trait Transport:
    Clone
    + fmt::Debug
    + Send
    + Sync
    + 'static
    + Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error = TransportError,
        Future: Send + 'static,
    >
{
    /// Which kind it is.
    fn kind(&self) -> TransportKind;

    /// Its counters and, over WebRTC, the path. Cancel safe.
    fn stats(&self) -> impl Future<Output = Stats> + Send;

    /// Where it stands, and every change of that.
    fn watch(&self) -> LinkWatch;

    /// Waits until it is gone and says why. Cancel safe; does not keep the transport alive.
    fn closed(&self) -> impl Future<Output = CloseReason> + Send + 'static {
        let mut watch = self.watch();
        async move { watch.closed().await }
    }

    /// Closes it for all its clones. Calls in flight fail with UNAVAILABLE. Idempotent, does not wait.
    fn close(&self);
}

/// The kinds of transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TransportKind {
    /// gRPC over a WebRTC data channel.
    WebRtc,
    /// gRPC over HTTP/2, on TCP or a unix socket.
    Direct,
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebRtc => "webrtc",
            Self::Direct => "direct",
        })
    }
}

/// What a transport has done so far.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Which kind of transport.
    pub transport: TransportKind,
    /// The pair of candidates in use. WebRTC only.
    pub path: Option<Path>,
    /// The round trip time of the path: the stack's own measurement, or the shortest time of the last
    /// seconds from sending a frame to its acknowledgement. WebRTC only, and only once something was sent.
    pub rtt: Option<Duration>,
    /// Bytes of messages and headers sent. WebRTC only: frames, before encryption.
    pub bytes_sent: u64,
    /// Bytes of messages and headers received. WebRTC only: frames, after decryption.
    pub bytes_received: u64,
    /// Calls open now.
    pub open_streams: usize,
    /// Calls begun so far; those that ended are the difference to `open_streams`.
    pub streams_opened: u64,
    /// Frames dropped because they could not be decoded or belonged to no open call. WebRTC only.
    pub frames_dropped: u64,
}

impl Stats {
    /// A transport's counters, all zero; for implementors of [`Transport`].
    pub fn new(transport: TransportKind) -> Self {
        Self {
            transport,
            path: None,
            rtt: None,
            bytes_sent: 0,
            bytes_received: 0,
            open_streams: 0,
            streams_opened: 0,
            frames_dropped: 0,
        }
    }

    /// Whether packets go through a TURN server.
    pub fn is_relayed(&self) -> bool {
        self.path.as_ref().is_some_and(Path::is_relayed)
    }
}

/// Marks a request as urgent: its frames go ahead of everybody's data. Put it into the request's
/// extensions. For heartbeats and stops, a few hundred bytes at most: urgent calls do not take turns.
///
/// Session starts, heartbeats and `StopAll` are urgent by themselves. Direct transports ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Urgent;

/// Binds a request to one connection, by its number in [`LinkState::connection`]. Put it into the request's
/// extensions. A transport that has another connection by now refuses the call as not sent
/// ([`TransportError::is_not_sent`]); one that is a single connection ignores it.
///
/// For what has a meaning on one connection only, such as a session's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnConnection(pub u64);
