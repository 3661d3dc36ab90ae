//! Counts of what happened to a robot's sessions.
//!
//! Floor 4. Invariant: counting never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sessions::shares::{SHARES, Shares};

/// How a robot's sessions fare. All but `live` only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SessionStats {
    /// Sessions now.
    pub live: u64,
    /// Sessions started, those that were resumed not counted.
    pub started: u64,
    /// Times that a session was resumed.
    pub resumed: u64,
    /// Sessions that have ended.
    pub expired: u64,
    /// Heartbeats that were acknowledged.
    pub heartbeats: u64,
    /// Heartbeats that should have come by the rule of one in a fifth of the window, and did not, or late.
    pub missed: u64,
    /// Session ids, starts and resumes that were refused.
    pub refused: u64,
    /// Monitored calls of which nobody knows what they move.
    pub not_associated: u64,
    /// Stops that were carried out, failed ones included.
    pub stops: u64,
    /// Stops that failed, took too long or panicked.
    pub failed_stops: u64,
    /// Heartbeats by how long after the sign of life before them they arrived, in parts of the window: less
    /// than 1/32, 1/16, 1/8, 1/4, 1/2, and up to all of it. Callers beat every 1/5: the fourth is where they
    /// should be, and those in the last were close to losing their session.
    pub gaps: [u64; SHARES],
}

/// The counters behind it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) started: AtomicU64,
    pub(super) resumed: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) not_associated: AtomicU64,
    pub(super) stops: AtomicU64,
    pub(super) failed_stops: AtomicU64,
    missed: AtomicU64,
    gaps: Shares,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// A heartbeat, this long after the sign of life before it.
    pub(super) fn heartbeat(&self, gap: Duration, window: Duration) {
        self.gaps.count(gap, window);
        self.missed.fetch_add(missed(gap, window), Ordering::Relaxed);
    }

    pub(super) fn read(&self, live: usize) -> SessionStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gaps = self.gaps.read();
        SessionStats {
            live: live as u64,
            started: read(&self.started),
            resumed: read(&self.resumed),
            expired: read(&self.expired),
            heartbeats: gaps.iter().sum(),
            missed: read(&self.missed),
            refused: read(&self.refused),
            not_associated: read(&self.not_associated),
            stops: read(&self.stops),
            failed_stops: read(&self.failed_stops),
            gaps,
        }
    }
}

/// How many beats are missing in a gap: none up to one and a half times the interval.
fn missed(gap: Duration, window: Duration) -> u64 {
    let halves = (gap.as_nanos() * 10).checked_div(window.as_nanos()).unwrap_or(0);
    u64::try_from(halves.saturating_sub(1) / 2).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_that_did_not_come_are_counted() {
        let window = Duration::from_secs(2);
        let missed = |ms| missed(Duration::from_millis(ms), window);
        assert_eq!([0, 320, 400, 599, 600, 800, 1200, 1999].map(missed), [0, 0, 0, 0, 1, 1, 2, 4]);
    }
}
