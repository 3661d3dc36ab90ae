//! Where a client stands with its session: the transitions, each under one short lock.
//!
//! Pure but for the announcements. The keeper's task drives it, calls look at it.
//!
//! ```text
//!            first call              answered
//!  Idle ────────────────▶ Starting ───────────▶ Live ◀──┐ resumed, or replaced
//!   ▲                        │ failed            │  └───┘
//!   └────────────────────────┴───────────────────┘ expired, lost, disconnected, reset
//! ```
//!
//! # Invariant
//! A phase of [`Phase::Starting`] or [`Phase::Live`] has a task: whatever ends the task moves the phase
//! first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::lease::Lease;
use super::{LeaseState, ReplaceReason, SessionError, SessionId};

/// A session that the robot has given us: all that calls and heartbeats need, ready made.
pub(super) struct Session {
    pub(super) id: SessionId,
    /// The id as calls carry it.
    pub(super) header: HeaderValue,
    /// The body of a heartbeat.
    pub(super) heartbeat: Bytes,
    pub(super) window: Duration,
}

/// What those who need a session wait for.
pub(super) type Outcome = Result<Ready, SessionError>;
/// One start or resumption, followed.
pub(super) type Attempt = watch::Receiver<Option<Outcome>>;
/// One start or resumption, to be concluded.
pub(super) type Conclusion = watch::Sender<Option<Outcome>>;

/// Calls may go.
#[derive(Clone)]
pub(super) struct Ready {
    /// The session they carry; none where the robot knows no sessions.
    pub(super) session: Option<Arc<Session>>,
    /// The session that it replaces, if a call must fail for its end and none has yet.
    pub(super) replaces: Option<SessionId>,
}

/// The session before this one, with which the robot is asked to go on.
pub(super) struct Last {
    pub(super) id: SessionId,
    pub(super) reason: ReplaceReason,
    /// When its newest acknowledged sign of life was sent.
    pub(super) seen: Instant,
    /// A call has failed for its end.
    pub(super) surfaced: bool,
}

pub(super) enum Phase {
    Idle,
    Unsupported {
        /// The connection of the robot that said so.
        connection: u64,
    },
    Starting(Attempt),
    Live(Live),
    Closed,
}

/// A session with heartbeats.
pub(super) struct Live {
    pub(super) session: Arc<Session>,
    pub(super) lease: Lease,
    /// The state that was announced last.
    pub(super) state: LeaseState,
    /// The robot knows it on the connection that is up now.
    pub(super) bound: bool,
    /// A call was told that it has expired, and the robot has not been asked yet.
    pub(super) doubted: bool,
    /// A resumption that calls wait for.
    pub(super) resuming: Option<Attempt>,
    /// The same, until the keeper takes it.
    pub(super) wanted: Option<Conclusion>,
}

impl Live {
    /// Whether calls may carry it without asking.
    pub(super) fn is_usable(&self) -> bool {
        self.bound && !self.doubted && self.state < LeaseState::Suspect
    }

    /// What the robot will be asked to go on with, should it end now.
    pub(super) fn last(&self, reason: ReplaceReason, now: Instant) -> Last {
        let seen = now.checked_sub(self.lease.gap(now)).unwrap_or(now);
        Last { id: self.session.id.clone(), reason, seen, surfaced: false }
    }
}

pub(super) struct State {
    /// Which task is in charge; whoever has another number has been replaced.
    pub(super) generation: u64,
    pub(super) phase: Phase,
    pub(super) last: Option<Last>,
    /// A session that was replaced, where expiries are surfaced: no call goes before one has failed for it.
    pub(super) unsurfaced: Option<SessionId>,
    pub(super) task: Option<AbortHandle>,
    /// The task was dropped before its work was done: its runtime is gone.
    pub(super) abandoned: bool,
}

impl State {
    pub(super) fn new() -> Self {
        Self { generation: 0, phase: Phase::Idle, last: None, unsurfaced: None, task: None, abandoned: false }
    }

    /// The live session, if this task is still in charge.
    pub(super) fn live(&mut self, generation: u64) -> Option<&mut Live> {
        match &mut self.phase {
            Phase::Live(live) if self.generation == generation => Some(live),
            _ => None,
        }
    }
}

/// The same as [`Live::is_usable`], for the model.
#[cfg(test)]
pub(in crate::sessions) fn is_usable(lease: Lease, state: LeaseState, bound: bool, doubted: bool) -> bool {
    static SESSION: std::sync::LazyLock<Arc<Session>> = std::sync::LazyLock::new(|| {
        let (header, heartbeat) = (HeaderValue::from_static("id"), Bytes::new());
        Arc::new(Session { id: SessionId::new("id"), header, heartbeat, window: Duration::ZERO })
    });
    let session = Arc::clone(&SESSION);
    Live { session, lease, state, bound, doubted, resuming: None, wanted: None }.is_usable()
}
