//! The call queue: where an offer for a host meets one answerer of that host.
//!
//! Floor 3, below [`service`](super::service). [`CallQueue`] is the seam; [`MemoryQueue`] keeps the calls of one
//! process. Requirements: `R1` to `R13`, named where they are met.
//!
//! ```text
//!  caller    CallQueue::call ──▶ Call      next: answer, candidates, done or error   drop: gives up
//!            CallQueue::update             candidates, done or error of the caller
//!  answerer  CallQueue::answer ─▶ Waiting ──▶ Exchange   next: what the caller says
//!                                                        send: what the answerer says; drop: gone
//! ```
//!
//! # Invariant
//! Every end cleans up by being dropped, and nothing outlives the lifetime of its offer by more than
//! seconds: no call, no host, no timer.

mod error;
mod log;
mod memory;
mod rules;

use std::fmt;
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::time::Instant;

pub use self::error::{QueueError, Waited};
pub use self::memory::{Counts, MemoryQueue};
pub use self::rules::QueueLimits;
use crate::proto::google_rpc::Status;
use crate::proto::webrtc::IceCandidate;

/// How long an offer waits for its answer, and a call for its end, unless its [`Offer`] says otherwise: 10 s.
/// Contract: goutils `rpc/wrtc_call_queue.go`.
pub const OFFER_LIFETIME: Duration = Duration::from_secs(10);

/// The longest host, in bytes: a DNS name (253), a colon and a port.
pub const MAX_HOST: usize = 253 + 6;

/// Where calls wait for their answerers. Object safe; one is shared by all RPCs of a server.
///
/// An engine may keep its calls in this process or share them with other instances: each method may wait
/// for the engine, and no method waits for the other side of the call. All futures may be dropped at any time; what
/// they had begun is then undone.
pub trait CallQueue: fmt::Debug + Send + Sync + 'static {
    /// Puts an offer in the queue. It goes to at most one of the host's waiting answerers, at once or to
    /// the next that comes (R1, R2); if that one dies before it answered, to another (R3).
    ///
    /// # Errors
    /// [`QueueError::Offline`] when no answerer of the host is there, nor was seconds ago;
    /// [`QueueError::TooManyCalls`]; [`QueueError::HostTooLong`]; [`QueueError::Closed`].
    fn call(&self, offer: Offer) -> BoxFuture<'_, Result<Box<dyn Call>, QueueError>>;

    /// Adds what the caller says to its call. Ignored once the call has ended or the caller was done.
    ///
    /// # Errors
    /// [`QueueError::NoActiveOffer`] when no call of this host has this uuid, or it ended long ago;
    /// [`QueueError::TooManyCandidates`], and [`QueueError::TooManyCalls`] when the queue holds all the bytes
    /// it may, which leave the call as it is; [`QueueError::Closed`].
    fn update<'a>(
        &'a self,
        host: &'a str,
        uuid: &'a str,
        item: CallerItem,
    ) -> BoxFuture<'a, Result<(), QueueError>>;

    /// Lets an answerer wait for one call to any of these hosts. They count as present from when this
    /// returns until what it returned is dropped, and a few seconds more (R7).
    ///
    /// # Errors
    /// [`QueueError::TooManyAnswerers`]; [`QueueError::HostTooLong`]; [`QueueError::Closed`].
    fn answer(&self, hosts: Vec<String>) -> BoxFuture<'_, Result<Box<dyn Waiting>, QueueError>>;

    /// Ends every call and every wait with [`QueueError::Closed`] and refuses what comes later (R10).
    /// Returns at once. Idempotent.
    fn close(&self);
}

/// The caller's end of a call. Dropping it gives the call up: an answerer that still negotiates is told.
pub trait Call: fmt::Debug + Send {
    /// The call's name, which entitles to [`CallQueue::update`].
    fn uuid(&self) -> &str;

    /// What the answerer says next, from the beginning and in order; `None` once it is done.
    /// Cancel safe: what a dropped future did not return comes again.
    ///
    /// # Errors
    /// [`QueueError::Deadline`] when the offer's lifetime is over; [`QueueError::Offline`] when nobody
    /// came back in time; [`QueueError::CallerFailed`] when the caller reported an error itself;
    /// [`QueueError::Closed`]. None of them overtakes what the answerer said before.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<AnswererItem>, QueueError>>;
}

/// An answerer that waits for a call. Dropping it takes it out of the queue.
pub trait Waiting: fmt::Debug + Send {
    /// Waits for an offer, as long as it takes. Dropping the future takes the answerer out of the queue;
    /// an offer that it had got meanwhile goes to the next.
    ///
    /// # Errors
    /// [`QueueError::Closed`].
    fn offer(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Exchange>, QueueError>>;
}

/// The answerer's end of a call. Dropping it before an answer or an error was sent lets another answerer
/// take the offer; later, it counts as done.
pub trait Exchange: fmt::Debug + Send {
    /// The call's name.
    fn uuid(&self) -> &str;

    /// The offer.
    fn offer(&self) -> &Offer;

    /// When the caller gives up, on this process's clock (R13).
    fn deadline(&self) -> Instant;

    /// What the caller says next, from the beginning and in order; `None` once the call is over: both
    /// sides done, the answerer failed, the deadline passed, or the caller gone. Cancel safe.
    ///
    /// After [`CallerItem::Done`] and [`CallerItem::Error`] only `None` comes.
    ///
    /// # Errors
    /// [`QueueError::Closed`].
    fn next(&mut self) -> BoxFuture<'_, Result<Option<CallerItem>, QueueError>>;

    /// Says something to the caller. Ignored once the call has ended or this side was done.
    ///
    /// # Errors
    /// [`QueueError::TooManyCandidates`], which leaves the call as it is; [`QueueError::TooManyCalls`] when
    /// the queue holds all the bytes it may, which ends it, and the caller is told;
    /// [`QueueError::Closed`].
    fn send(&self, item: AnswererItem) -> BoxFuture<'_, Result<(), QueueError>>;
}

/// A caller's offer.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// Whom it is for. Compared byte by byte.
    pub host: String,
    /// The offer as it travels: base64 of JSON. Opaque to the queue.
    pub sdp: String,
    /// All candidates are in the descriptions.
    pub disable_trickle: bool,
    /// How long it may take from offer to end. In the last fifth of it nobody is given the offer any more.
    pub lifetime: Duration,
}

impl Offer {
    /// An offer that lives for [`OFFER_LIFETIME`], with trickle.
    pub fn new(host: impl Into<String>, sdp: impl Into<String>) -> Self {
        Self { host: host.into(), sdp: sdp.into(), disable_trickle: false, lifetime: OFFER_LIFETIME }
    }
}

impl fmt::Debug for Offer {
    /// Without the SDP, which tells addresses and the secrets of ICE.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("host", &self.host)
            .field("disable_trickle", &self.disable_trickle)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// What a caller says after its offer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum CallerItem {
    /// A candidate.
    Candidate(IceCandidate),
    /// No more candidates. Says nothing about success.
    Done,
    /// The caller gave up. Code, message and details are kept (R11).
    Error(Status),
}

/// What an answerer says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AnswererItem {
    /// The answer, as it travels. Comes before candidates and done.
    Answer(String),
    /// A candidate.
    Candidate(IceCandidate),
    /// No more candidates. Says nothing about success.
    Done,
    /// The answerer gave up. Code, message and details are kept (R11).
    Error(Status),
}
