//! What happens to a session, as a stream, and how it stands now.
//!
//! # Invariant
//! Memory is bounded: who reads too slowly gets [`SessionEvent::Lagged`].

use std::fmt;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::{LeaseState, SessionError, SessionId};

/// Events that a slow reader may be behind.
const BACKLOG: usize = 64;

/// Something that happened to a caller's session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SessionEvent {
    /// A session was started. Nothing was moved before under another one.
    Started {
        /// The new session.
        session: SessionId,
        /// How long the robot waits for a sign of life.
        window: Duration,
    },
    /// The session goes on after the robot was asked for it: on another connection, or after a silence. The
    /// robot has not stopped anything.
    Resumed {
        /// The session.
        session: SessionId,
    },
    /// A new session has taken the place of one that is gone. **The robot stopped what the old one moved**, or was
    /// started anew itself.
    Replaced {
        /// The session that is gone.
        old: SessionId,
        /// The one that calls carry now.
        new: SessionId,
        /// How the old one was found to be gone.
        reason: ReplaceReason,
        /// From the old session's last acknowledged sign of life to the new one's start.
        gap: Duration,
    },
    /// The lease is in another state. [`LeaseState::AtRisk`] comes before the robot can stop anything.
    Lease {
        /// The session.
        session: SessionId,
        /// The state that it is in now.
        state: LeaseState,
    },
    /// The session is over and its heartbeats have ended. The next monitored call begins one.
    Ended {
        /// The session.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// The robot knows no sessions: calls are made without, and nothing stops it when this caller dies. It is
    /// asked again on the next connection.
    Unsupported,
    /// No session could be started; calls fail with this.
    StartFailed {
        /// Why.
        error: SessionError,
    },
    /// No session could be started, and calls are made without one, as the options say.
    Degraded {
        /// Why.
        error: SessionError,
    },
    /// Events came faster than they were read.
    Lagged {
        /// How many were missed.
        missed: u64,
    },
}

/// How a session was found to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplaceReason {
    /// The robot said that it has expired.
    Expired,
    /// Its lease had run out.
    LeaseRanOut,
    /// The connection was lost, and the robot did not know the session on the next one.
    Reconnected,
    /// It had been reset.
    Reset,
}

/// Why a session's heartbeats ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The robot said that it has expired.
    Expired,
    /// Nothing was acknowledged for longer than the window.
    LeaseRanOut,
    /// The connection is gone and not dialed again.
    Disconnected,
    /// The robot refuses to know who is beating.
    Unauthenticated,
    /// The user reset it.
    Reset,
    /// The client was closed or dropped.
    Closed,
    /// The task of its heartbeats ended: its runtime is gone.
    Abandoned,
}

impl fmt::Display for SessionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { session, window } => write!(f, "session {session} started, window {window:?}"),
            Self::Resumed { session } => write!(f, "session {session} goes on"),
            Self::Replaced { old, new, reason, gap } => {
                let (gap, reason) = (gap.as_millis(), reason.text());
                write!(
                    f,
                    "session {new} replaces {old}, which {reason}: the robot had stopped or restarted (gap {gap} ms)"
                )
            }
            Self::Lease { session, state } => write!(f, "session {session} is {state}"),
            Self::Ended { session, reason } => write!(f, "session {session} ended: {}", reason.text()),
            Self::Unsupported => {
                f.write_str("the robot knows no sessions: nothing stops it if this caller dies")
            }
            Self::StartFailed { error } => write!(f, "{error}"),
            Self::Degraded { error } => write!(f, "going on without a session: {error}"),
            Self::Lagged { missed } => write!(f, "{missed} events were missed"),
        }
    }
}

impl ReplaceReason {
    fn text(self) -> &'static str {
        match self {
            Self::Expired => "has expired",
            Self::LeaseRanOut => "ran out",
            Self::Reconnected => "did not outlive its connection",
            Self::Reset => "was reset",
        }
    }
}

impl EndReason {
    fn text(self) -> &'static str {
        match self {
            Self::Expired => "the robot says that it has expired",
            Self::LeaseRanOut => "nothing was acknowledged for longer than its window",
            Self::Disconnected => "the connection is gone",
            Self::Unauthenticated => "the robot does not know who is beating",
            Self::Reset => "it was reset",
            Self::Closed => "its client was closed",
            Self::Abandoned => "its runtime is gone",
        }
    }
}

/// How a caller's session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionState {
    /// There are no sessions, by policy.
    Disabled,
    /// There is none now; the next monitored call begins one.
    Idle,
    /// One is being started.
    Starting,
    /// One is alive as far as known: its heartbeats are being sent, but for while the connection is being made
    /// again.
    Active {
        /// The session.
        session: SessionId,
        /// How sure that is.
        lease: LeaseState,
        /// How long the robot waits for a sign of life.
        window: Duration,
    },
    /// The robot of this connection knows no sessions.
    Unsupported,
}

/// The events of one client, from when it was asked for. Does not keep the session alive.
#[derive(Debug)]
pub struct SessionEvents {
    stream: BroadcastStream<SessionEvent>,
}

impl SessionEvents {
    /// The next event; `None` when the client is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for SessionEvents {
    type Item = SessionEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SessionEvent>> {
        let next = Pin::new(&mut self.stream).poll_next(cx);
        next.map(|event| {
            event.map(|event| {
                event.unwrap_or_else(|BroadcastStreamRecvError::Lagged(missed)| SessionEvent::Lagged {
                    missed,
                })
            })
        })
    }
}

/// The writing end. The backlog is made for the first who listens: it is most of what an idle session would take.
#[derive(Debug, Default)]
pub(super) struct Announcer(OnceLock<broadcast::Sender<SessionEvent>>);

impl Announcer {
    pub(super) fn events(&self) -> SessionEvents {
        let sender = self.0.get_or_init(|| broadcast::Sender::new(BACKLOG));
        SessionEvents { stream: BroadcastStream::new(sender.subscribe()) }
    }

    /// Tells whoever listens. Does not wait.
    pub(super) fn announce(&self, event: SessionEvent) {
        tracing::debug!(target: super::LOGGER, %event);
        let _ = self.0.get().map(|sender| sender.send(event));
    }
}
