//! What one data channel may cost: the bounds on everything that a peer can make us hold.

use super::inbox::Held;

/// Bounds of one WebRTC connection, at either end. All can be set; the defaults suit a robot's APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message, in bytes, sent or received. Default 32 MiB, as everywhere in the field. A
    /// longer one fails its call with RESOURCE_EXHAUSTED.
    pub max_message: usize,
    /// Calls open at once. A caller's default is 255: robots that still run goutils before v0.6 drop the
    /// 257th without a word. A robot's is 4096. A caller's calls wait, urgent ones do not; a robot refuses with
    /// RESOURCE_EXHAUSTED, and takes 64 urgent ones more.
    pub max_streams: usize,
    /// Bytes of whole messages that one call holds unread, 64 more for each message. Default 32 MiB. One
    /// message always fits.
    pub stream_budget: usize,
    /// Bytes, unread and half received, that all calls of the connection hold. Default 128 MiB. Over it,
    /// the call that holds the most fails.
    pub connection_budget: usize,
    /// What happens to a call whose reader falls behind its budget. Default: it fails.
    pub overflow: Overflow,
}

impl Limits {
    /// The defaults of a robot: as a caller's, but for 4096 calls at once. goutils' robots have no such
    /// limit, and its callers do not expect one.
    pub fn for_robots() -> Self {
        Self { max_streams: 4096, ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: crate::wire::message::MAX_MESSAGE,
            max_streams: 255,
            stream_budget: 32 << 20,
            connection_budget: 128 << 20,
            overflow: Overflow::FailStream,
        }
    }
}

impl Limits {
    /// Whether a call that holds this much must fail.
    pub(super) fn stream_overflows(&self, unread: usize) -> bool {
        self.overflow == Overflow::FailStream && unread > self.stream_budget
    }

    /// Whether some call must fail. Holding the connection back is no help against messages that are not
    /// complete: nothing else would ever end them.
    pub(super) fn connection_overflows(&self, held: &Held) -> bool {
        let bytes = match self.overflow {
            Overflow::FailStream => held.bytes(),
            Overflow::HoldConnection => held.partial(),
        };
        bytes > self.connection_budget
    }

    /// Whether the connection must wait for its readers.
    pub(super) fn connection_holds(&self, held: &Held) -> bool {
        held.unread() > 0 && held.bytes() > self.connection_budget
    }
}

/// What happens when a reader falls behind. The wire has no flow control per call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The slow call fails with RESOURCE_EXHAUSTED; no other call notices.
    #[default]
    FailStream,
    /// Nothing is read from the connection until the slow reader has caught up: nothing is lost, and every
    /// call waits, heartbeats included. goutils always does this.
    HoldConnection,
}
