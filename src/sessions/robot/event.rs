//! What happens to the sessions of a robot, as a stream.
//!
//! Floor 4. Invariant: bounded; who reads too slowly gets [`SessionEvent::Lagged`], and nobody waits for it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use uuid::Uuid;

/// Events that are kept for slow readers.
pub(super) const KEPT: usize = 1024;

/// A session's id. Whoever knows it can pose as its owner where callers have proven nothing, so it is never
/// printed whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Uuid);

impl SessionId {
    pub(super) fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The id itself: a secret.
    pub fn expose(&self) -> Uuid {
        self.0
    }

    /// An id that tells sessions apart and is good for nothing: the first eight digits, then zeros.
    pub(super) fn masked(&self) -> Uuid {
        Uuid::from_u128(self.0.as_u128() >> 96 << 96)
    }
}

/// The first eight digits.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}…", self.0.as_u128() >> 96)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// A caller has started a session.
    Started {
        /// Which.
        session: SessionId,
    },
    /// A caller goes on with a session, maybe over another connection than before.
    Resumed {
        /// Which.
        session: SessionId,
    },
    /// A session took a resource over from another one, which does not hold it any more.
    TakenOver {
        /// The resource's full name.
        resource: String,
        /// Who held it.
        from: SessionId,
        /// Who holds it now; `None` if it was a caller without a session.
        by: Option<SessionId>,
    },
    /// A monitored call could not be told to move anything: what it moves **will not be stopped** by a session.
    NotAssociated {
        /// Its path, cut short if it is long.
        method: String,
        /// Why.
        why: NotAssociated,
    },
    /// A monitored call that went on for a window or longer, a stream mostly, is over.
    LongCallEnded {
        /// Under which session, if any.
        session: Option<SessionId>,
        /// Its path, cut short if it is long.
        method: String,
        /// How long it went on.
        after: Duration,
    },
    /// The connection of a session is gone. It can still be resumed.
    Disconnected {
        /// Which.
        session: SessionId,
    },
    /// A session's heartbeats stayed away, or the manager was closed. Its calls are cancelled, and what it
    /// held is being stopped.
    Expired {
        /// Which.
        session: SessionId,
        /// What is being stopped: full names.
        resources: Vec<String>,
    },
    /// A resource was stopped, for a session that has expired.
    Stopped {
        /// The resource's full name.
        resource: String,
        /// Which session.
        session: SessionId,
    },
    /// A resource could not be stopped. **It may still move**: see to it.
    StopFailed {
        /// The resource's full name.
        resource: String,
        /// For which session.
        session: SessionId,
        /// What went wrong.
        why: String,
        /// Which try it was, from 1. There will be more unless somebody takes the resource or the manager is closed.
        attempt: u32,
    },
    /// A resource was not stopped, because somebody else has taken it in the meantime, or stops it for another
    /// session that has ended.
    StopNotNeeded {
        /// The resource's full name.
        resource: String,
        /// For which session.
        session: SessionId,
    },
    /// So many events were missed, because they came faster than they were read.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// Why nobody knows what a call moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotAssociated {
    /// It names no resource that the robot has.
    NoResource,
    /// Its first message is compressed, and it has no session: under one it is refused.
    Compressed,
}

/// The events from now on. Ends when the manager and all that it has to stop are gone. Does not keep the
/// manager alive.
pub struct SessionEvents {
    inner: BroadcastStream<SessionEvent>,
}

impl SessionEvents {
    pub(super) fn new(receiver: broadcast::Receiver<SessionEvent>) -> Self {
        Self { inner: BroadcastStream::new(receiver) }
    }

    /// The next event; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for SessionEvents {
    type Item = SessionEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SessionEvent>> {
        let next = ready!(Pin::new(&mut self.inner).poll_next(cx));
        Poll::Ready(next.map(|event| {
            event.unwrap_or_else(|BroadcastStreamRecvError::Lagged(missed)| SessionEvent::Lagged { missed })
        }))
    }
}

impl fmt::Debug for SessionEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEvents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_printed_whole() {
        let id = SessionId::new(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(format!("{id} {id:?}"), "01234567… 01234567…");
        assert_eq!(id.masked().to_string(), "01234567-0000-0000-0000-000000000000");
    }
}
