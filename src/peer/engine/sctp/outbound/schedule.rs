//! Which stream sends next (RFC 8260 section 3).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How much of the path a stream gets beside others that have something to send, in proportion to theirs
/// (RFC 8260 3.6, weighted fair queueing). The numbers of DCEP (RFC 8832 5.1) fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Priority(u16);

impl Priority {
    /// Half of the usual.
    #[cfg_attr(not(test), expect(dead_code, reason = "the seam has one channel"))]
    pub(crate) const LOW: Self = Self(128);
    /// What streams have unless told otherwise.
    pub(crate) const NORMAL: Self = Self(256);
    /// Twice the usual.
    #[cfg_attr(not(test), expect(dead_code, reason = "the seam has one channel"))]
    pub(crate) const HIGH: Self = Self(512);

    /// A weight of one's own. 0 counts as 1.
    #[cfg_attr(
        not(any(test, fuzzing)),
        expect(dead_code, reason = "DCEP has a priority that nobody asks for yet")
    )]
    pub(crate) const fn new(weight: u16) -> Self {
        Self(if weight == 0 { 1 } else { weight })
    }

    /// What `bytes` cost a stream of this priority.
    fn cost(self, bytes: usize) -> u64 {
        (bytes as u64).saturating_mul(1 << 16) / u64::from(self.0)
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// The streams that have something to send, the one whose turn it is first.
///
/// Each stream has a virtual time, which its bytes advance, the faster the lower its priority; the stream that
/// is farthest behind is next. One that had nothing to send begins at the time of the one served last: it
/// is served soon and owes nothing, but has saved nothing up either.
///
/// # Invariant
/// Every stream is in here at most once.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    waiting: BinaryHeap<Reverse<(u64, u16)>>,
    now: u64,
}

impl Schedule {
    /// A stream has something to send. `at` is its virtual time, 0 for a new one. Returns the time it gets.
    pub(super) fn add(&mut self, stream: u16, at: u64) -> u64 {
        let at = at.max(self.now);
        self.waiting.push(Reverse((at, stream)));
        at
    }

    /// Takes out the stream whose turn it is.
    pub(super) fn take(&mut self) -> Option<u16> {
        let Reverse((at, stream)) = self.waiting.pop()?;
        self.now = at;
        Some(stream)
    }

    /// The stream whose turn it is.
    pub(super) fn peek(&self) -> Option<u16> {
        self.waiting.peek().map(|Reverse((_, stream))| *stream)
    }

    /// Where a stream's virtual time is after it has sent so much.
    pub(super) fn after(at: u64, bytes: usize, priority: Priority) -> u64 {
        at.saturating_add(priority.cost(bytes))
    }
}
