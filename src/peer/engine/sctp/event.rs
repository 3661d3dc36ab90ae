//! What an association tells its owner.

use super::inbound::Violation;

/// Something has happened. Events come in the order in which it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The handshake is done. Messages that were taken before are on their way.
    Connected,
    /// A stream has messages. Told again only after `receive` has taken the last one.
    Readable {
        /// Stream identifier.
        stream: u16,
    },
    /// A stream's buffered bytes have fallen to its low-water mark.
    Low {
        /// Stream identifier.
        stream: u16,
    },
    /// A stream starts anew, or will not.
    Reset {
        /// Stream identifier.
        stream: u16,
        /// The peer will send on it as on a new one; messages from before can still be received. If false: our
        /// own reset of it is over. If the peer has agreed, we may send on it as on a new one; if it refuses
        /// or cannot do resets, it goes on as it was; if it has never answered, the stream takes no messages
        /// any more.
        by_peer: bool,
    },
    /// It is over. The last event; messages that came before can still be received.
    Closed(CloseReason),
}

/// Why an association is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CloseReason {
    /// Shut down, by either side: all data of both was acknowledged.
    #[error("shut down")]
    Shutdown,
    /// We ended it at once.
    #[error("aborted by this side")]
    Aborted,
    /// The peer ended it at once. Its cause (RFC 9260 3.3.10; 0 for none) and, of a user's abort, its words.
    #[error("aborted by the peer, cause {code} {reason:?}")]
    AbortedByPeer {
        /// Cause code.
        code: u16,
        /// Words, at most 128 bytes; for people.
        reason: String,
    },
    /// The peer broke the protocol; we told it so.
    #[error("peer violates the protocol: {0}")]
    Violation(&'static str),
    /// The handshake took too long.
    #[error("handshake timed out")]
    HandshakeTimedOut,
    /// The peer was silent for too long while something was outstanding.
    #[error("peer is silent")]
    Silent,
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        Self::Violation(match violation {
            Violation::WrongKind => "data chunk of the kind that was not agreed on",
            Violation::TooLarge => "message is too large",
            Violation::Contradiction => "fragments or messages contradict each other",
            Violation::Stuck => "window is full of unfinished messages",
        })
    }
}
