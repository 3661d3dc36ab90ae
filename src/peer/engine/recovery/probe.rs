//! Asks again when no acknowledgement comes: like QUIC's probe time-out, RFC 9002 6.2.
//!
//! Floor 1, engine, part of `recovery`.
//!
//! # Invariant
//! A probe declares nothing lost and shrinks no window. Each unanswered one doubles the wait.

use std::time::{Duration, Instant};

use super::rtt::Rtt;

/// Doublings of the wait, so that a path that comes back is noticed.
const MOST_DOUBLINGS: u32 = 6;
/// However often it was doubled, the wait is not longer, except where round trips are even at their best. A peer
/// that was busy for seconds, or a queue that was long, says nothing about the next round trip, and would make
/// the time-out of RFC 6298 half a minute; a packet a second too many costs next to nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How many of the best round trips the longest wait is at least.
const BEST_ROUND_TRIPS: u32 = 2;
/// How long between probes of a closed window: a reader that goes on is noticed so soon, even if the peer
/// tells of its room only when asked.
const WINDOW_INTERVAL: Duration = Duration::from_millis(200);
/// Unanswered probes that mean persistent congestion: those at 1, 3 and 7 times the time-out, RFC 9002 7.6.
const PERSISTENT: u32 = 3;

/// When to probe.
#[derive(Debug)]
pub(super) struct Probe {
    unanswered: u32,
    /// Packets that may leave now, whatever the windows say.
    credit: u32,
    /// When something last left, or a probe was due.
    since: Instant,
}

impl Probe {
    pub(super) fn new(now: Instant) -> Self {
        Self { unanswered: 0, credit: 0, since: now }
    }

    pub(super) fn deadline(&self, rtt: &Rtt, sack_delay: Duration, window_closed: bool) -> Instant {
        let single = rtt.probe_after() + sack_delay;
        let wait = single * 2u32.pow(self.unanswered.min(MOST_DOUBLINGS));
        let longest = if window_closed { WINDOW_INTERVAL } else { LONGEST_WAIT };
        self.since + wait.min(longest.max(BEST_ROUND_TRIPS * rtt.least()))
    }

    /// The deadline has passed.
    pub(super) fn on_deadline(&mut self, now: Instant) {
        self.unanswered = self.unanswered.saturating_add(1);
        // The second and later ones are two packets: their loss would be expensive, RFC 9002 6.2.4.
        self.credit = if self.unanswered > 1 { 2 } else { 1 };
        self.since = now;
    }

    pub(super) fn is_due(&self) -> bool {
        self.credit > 0
    }

    pub(super) fn on_sent(&mut self, now: Instant, is_probe: bool) {
        self.since = now;
        if is_probe {
            self.credit = self.credit.saturating_sub(1);
        }
    }

    /// The path is another: what was not answered was not asked there. It is asked at once.
    pub(super) fn restart(&mut self, now: Instant) {
        (self.unanswered, self.credit, self.since) = (0, 1, now);
    }

    /// There is nothing to probe with.
    pub(super) fn withdraw(&mut self) {
        self.credit = 0;
    }

    /// Something was newly acknowledged. Returns whether so many probes were lost before that the path as it
    /// was known is gone.
    pub(super) fn on_progress(&mut self) -> bool {
        let was_persistent = self.unanswered >= PERSISTENT;
        (self.unanswered, self.credit) = (0, 0);
        was_persistent
    }
}
