//! One peer connection and its data channel, whoever implements them: the seam to the WebRTC stack.
//!
//! Floor 1. Above sits `transport::webrtc`, which turns the data channel into RPCs, and `signaling`, which
//! carries descriptions and candidates. Below sits a stack: [`engine`], our own, [`webrtc_rs`] over the
//! `webrtc` crate, [`memory`] in process. Nothing of a stack's types, callbacks or timing passes this file;
//! `tests/every_stack_behaves.rs` is what each must pass.
//!
//! ```text
//!  Stack::open ─▶ Peer ┬ connection: PeerConnection   descriptions and candidates in, stats, close
//!                      ├ candidates: Receiver         candidates out; its end is the end of candidates
//!                      ├ state:      watch            connecting, connected, failed ...; the selected path
//!                      └ channel:    DataChannel      polled for one task
//! ```
//!
//! # Invariant
//! Dropping the [`Peer`]'s parts closes everything that the stack opened for it: sockets, tasks, timers.
//! Dropping the channel is enough, as is [`PeerConnection::close`]; dropping only the others is not, so
//! that the owner of the channel need not keep them.
//!
//! The data channel is polled rather than called back so that a stack which owns no socket and runs no task
//! (one that is driven by its owner's polls) fits as well as one that has a task of its own.

#[cfg(feature = "engine")]
pub mod engine;
#[cfg(any(feature = "engine", feature = "webrtc"))]
mod fingerprint;
mod ice;
pub mod memory;
mod session;
#[cfg(feature = "webrtc")]
pub mod webrtc_rs;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

pub use self::ice::{IceServer, IceServerError, IceUrl, Scheme, TransportProtocol, TurnFilter};
pub use crate::wire::sdp::{Candidate, Description, DescriptionKind};

/// The largest message a data channel carries, in bytes. The wire's hard limit: Go peers read into a
/// buffer of this size (goutils `rpc/wrtc_base_channel.go`).
pub const MAX_CHANNEL_MESSAGE: usize = crate::wire::frame::MAX_FRAME;

/// A WebRTC implementation. Object safe, shared by all dials and answers of a process.
pub trait Stack: fmt::Debug + Send + Sync + 'static {
    /// Opens a peer connection with both pre-negotiated channels (`data` 0 and `negotiation` 1).
    ///
    /// Dropping the future closes what was opened so far. Must be called inside a tokio runtime.
    fn open(&self, config: PeerConfig) -> BoxFuture<'static, Result<Peer, PeerError>>;
}

/// The stack that this build of farlink comes with, made once and shared by all who name none: with the feature
/// `engine` our own, else with `webrtc` the `webrtc` crate, else none.
pub fn default_stack() -> Option<Arc<dyn Stack>> {
    #[cfg(feature = "engine")]
    {
        static DEFAULT: std::sync::OnceLock<Arc<engine::Engine>> = std::sync::OnceLock::new();
        Some(Arc::clone(DEFAULT.get_or_init(Arc::default)) as _)
    }
    #[cfg(all(feature = "webrtc", not(feature = "engine")))]
    {
        static DEFAULT: std::sync::OnceLock<Arc<webrtc_rs::WebRtcRs>> = std::sync::OnceLock::new();
        Some(Arc::clone(DEFAULT.get_or_init(Arc::default)) as _)
    }
    #[cfg(not(any(feature = "engine", feature = "webrtc")))]
    None
}

/// What a peer connection needs to know before it starts.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PeerConfig {
    /// Caller or answerer.
    pub role: Role,
    /// STUN and TURN servers to gather candidates from.
    pub ice_servers: Vec<IceServer>,
    /// Use relay candidates only, both for gathering and for checks.
    pub relay_only: bool,
}

impl PeerConfig {
    /// For this role, without ICE servers: host candidates only.
    pub fn new(role: Role) -> Self {
        Self { role, ..Self::default() }
    }
}

/// Who makes the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Role {
    /// Makes the offer; controls ICE; offers both DTLS roles.
    #[default]
    Caller,
    /// Answers it.
    Answerer,
}

/// An open peer connection, in its parts. Each part has one owner; see the picture above.
#[derive(Debug)]
#[non_exhaustive]
pub struct Peer {
    /// Descriptions and candidates in, stats, close.
    pub connection: Arc<dyn PeerConnection>,
    /// Local candidates as they are found, those in the description included. Closed after the last one.
    pub candidates: mpsc::Receiver<Candidate>,
    /// Where the connection stands. The sender is dropped with the stack's last part.
    pub state: watch::Receiver<PeerState>,
    /// The `data` channel.
    pub channel: Box<dyn DataChannel>,
}

impl Peer {
    /// Puts a peer together; for implementors of [`Stack`].
    pub fn new(
        connection: Arc<dyn PeerConnection>,
        candidates: mpsc::Receiver<Candidate>,
        state: watch::Receiver<PeerState>,
        channel: Box<dyn DataChannel>,
    ) -> Self {
        Self { connection, candidates, state, channel }
    }
}

/// The negotiating side of a peer connection. Object safe; all methods may be called from any task.
pub trait PeerConnection: fmt::Debug + Send + Sync {
    /// Makes the offer and starts gathering. Caller only, once.
    fn create_offer(&self) -> BoxFuture<'_, Result<Description, PeerError>>;

    /// Takes the caller's offer, makes the answer and starts gathering. Answerer only, once.
    fn accept_offer(&self, offer: Description) -> BoxFuture<'_, Result<Description, PeerError>>;

    /// Takes the answer. Caller only, once.
    fn set_answer(&self, answer: Description) -> BoxFuture<'_, Result<(), PeerError>>;

    /// The offer or answer with all candidates found so far; `None` before there is one.
    fn local_description(&self) -> BoxFuture<'_, Option<Description>>;

    /// Adds a candidate of the other side. May come before the description: it is kept until then.
    ///
    /// # Errors
    /// One that cannot be used (a bad spelling, an unsupported protocol) is an error that the caller logs
    /// and forgets; it never harms the connection.
    fn add_remote_candidate(&self, candidate: Candidate) -> BoxFuture<'_, Result<(), PeerError>>;

    /// The selected path and its counters, as the stack knows them now.
    fn stats(&self) -> BoxFuture<'_, PeerStats>;

    /// Closes the connection and its channels, telling the peer where the stack can. Returns at once; the
    /// work goes on in the background. Idempotent. Messages accepted by [`DataChannel::send`] and not yet
    /// sent may be lost: wait for [`DataChannel::poll_flush`] first.
    fn close(&self);
}

/// An ordered, reliable channel of messages, polled for one task. Object safe.
///
/// Nothing here waits: each `poll_` method registers the task's waker and returns. One caller at a time, but not always
/// from within that task: whoever has something to send may call with its waker, on any thread of the runtime that the
/// channel was made in. An error of a method that sends is final: who meets it sends no more.
pub trait DataChannel: fmt::Debug + Send {
    /// Ready once both sides may send.
    ///
    /// # Errors
    /// [`ChannelClosed`] when it never will.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>>;

    /// Ready when fewer than `limit` bytes of earlier messages wait to be sent or acknowledged. A limit
    /// of 0 counts as 1: an idle channel is always ready.
    ///
    /// # Errors
    /// [`ChannelClosed`] when nothing can be sent any more.
    fn poll_ready(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<(), ChannelClosed>>;

    /// Hands over one message of at most [`MAX_CHANNEL_MESSAGE`] bytes. Only after
    /// [`poll_ready`](Self::poll_ready) was ready. The stack may need a further poll of the channel, of any
    /// method, to get the message out; if so, it wakes the task that polled last.
    ///
    /// # Errors
    /// [`ChannelClosed`] when nothing can be sent any more. A peer may take less than that (`max-message-size` of its
    /// description): a longer message ends the connection, whose state then has the reason.
    fn send(&mut self, message: Bytes) -> Result<(), ChannelClosed>;

    /// The same for a message that is not the last of a burst: it may wait for the next [`send`](Self::send),
    /// for [`push`](Self::push), or for a poll that is pending, so that several messages share a packet. Whoever
    /// calls this calls one of them.
    ///
    /// # Errors
    /// [`ChannelClosed`] when nothing can be sent any more.
    fn send_more(&mut self, message: Bytes) -> Result<(), ChannelClosed> {
        self.send(message)
    }

    /// Lets out what waits after [`send_more`](Self::send_more).
    fn push(&mut self) {}

    /// Ready when the peer has acknowledged all that was sent.
    ///
    /// # Errors
    /// [`ChannelClosed`] when that will not happen.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>>;

    /// The next message of the peer; `None` once the channel is closed and drained. While nobody polls,
    /// the stack holds a bounded number of bytes and then slows the peer down.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// Bytes sent and not yet acknowledged.
    fn buffered(&self) -> usize;
}

/// The channel is gone: closed by either side, or lost with its connection. Why is in [`PeerState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("data channel is closed")]
pub struct ChannelClosed;

/// Where a peer connection stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerState {
    /// Its phase of life.
    pub phase: Phase,
    /// The pair of candidates in use, once there is one.
    pub path: Option<Path>,
}

/// The phases of a peer connection's life. `Failed` and `Closed` are final.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Phase {
    /// Nothing has been negotiated yet.
    #[default]
    New,
    /// Looking for a path.
    Connecting,
    /// A path works. The channel opens once hands were shaken on it.
    Connected,
    /// Nothing has come over the path for a while (5 s unless the stack says otherwise). May recover.
    Disconnected,
    /// No path works, or the handshake failed. The text is for people.
    Failed(String),
    /// Closed by this side.
    Closed,
    /// Closed by the peer.
    ClosedByPeer,
}

impl Phase {
    /// Whether nothing more will come.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Closed | Self::ClosedByPeer)
    }
}

/// The pair of candidates that packets take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Path {
    /// What kind of candidate this side uses.
    pub local: CandidateKind,
    /// What kind the peer uses.
    pub remote: CandidateKind,
    /// This side's address, `ip:port`, as the stack knows it.
    pub local_address: String,
    /// The peer's address, `ip:port`.
    pub remote_address: String,
}

impl Path {
    /// Puts a path together; for implementors of [`Stack`].
    pub fn new(
        local: (CandidateKind, impl Into<String>),
        remote: (CandidateKind, impl Into<String>),
    ) -> Self {
        Self {
            local: local.0,
            remote: remote.0,
            local_address: local.1.into(),
            remote_address: remote.1.into(),
        }
    }

    /// Whether packets go through a TURN server.
    pub fn is_relayed(&self) -> bool {
        self.local == CandidateKind::Relay || self.remote == CandidateKind::Relay
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, remote, local_address, remote_address } = self;
        write!(f, "{local} {local_address} to {remote} {remote_address}")
    }
}

/// Kinds of candidates, RFC 8445.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CandidateKind {
    /// An address of the machine itself.
    Host,
    /// The address that a STUN server saw.
    Srflx,
    /// The address that the peer saw.
    Prflx,
    /// An address on a TURN server.
    Relay,
}

impl fmt::Display for CandidateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Srflx => "srflx",
            Self::Prflx => "prflx",
            Self::Relay => "relay",
        })
    }
}

/// Counters of a peer connection.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct PeerStats {
    /// The pair of candidates in use.
    pub path: Option<Path>,
    /// The newest round trip time that the stack measured on it.
    pub rtt: Option<Duration>,
    /// Bytes of datagrams sent on the path, headers of UDP and IP not counted.
    pub bytes_sent: u64,
    /// Bytes of datagrams received on the path.
    pub bytes_received: u64,
}

/// What went wrong in the stack: what farlink was doing, and the stack's own words as the source.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{context}")]
pub struct PeerError {
    context: &'static str,
    #[source]
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl PeerError {
    /// An error without a cause below it. `context` reads like "cannot create the offer".
    pub fn new(context: &'static str) -> Self {
        Self { context, source: None }
    }

    /// An error of the stack below. `context` reads like "cannot create the offer".
    pub fn because(context: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { context, source: Some(Arc::from(source.into())) }
    }
}
