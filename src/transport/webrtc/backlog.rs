//! How much may lie below the scheduler: enough to keep the link busy, little enough to stay urgent.
//!
//! Pure; the clock is an argument. Whatever has been handed to the stack cannot be overtaken any more, so
//! the amount is bounded in time rather than bytes: two round trips and a tenth of a second at the rate that
//! the peer acknowledges, a quarter of a second at most. Go peers hold 1 MiB, which is 8 s at 1 Mbit/s.
//!
//! # Invariant
//! The limit stays between [`FLOOR`] and [`CEILING`].

use std::time::Duration;

use tokio::time::Instant;

/// What may always lie there, in bytes: two packets, 0.26 s at 1 Mbit/s.
const FLOOR: usize = 32 * 1024;

/// What may lie there at most, in bytes. It bounds what is under way too, so that it is what a connection carries in one
/// round trip: with goutils' 1 MiB a path of 40 ms carried 13 MB/s of the 35 MB/s that it carries with this.
const CEILING: usize = 4 * 1024 * 1024;

/// What may lie there before anything is known, in bytes: half a second at 1 Mbit/s, so that a session of 2 s is
/// not at risk while the link is being measured.
const START: usize = 64 * 1024;

/// The longest time that the backlog may take to drain. Paths with a longer round trip than this are not
/// filled by one connection.
const MAX_DRAIN: Duration = Duration::from_millis(250);

/// What the backlog may take to drain beside two round trips. Acknowledgements are delayed and tasks take
/// their time: with 20 ms the limit fell to its floor on loopback, and a stream from 10 to 1.3 MB/s.
const SLACK: Duration = Duration::from_millis(100);

/// How long the rate is measured for one adjustment.
const SAMPLE: Duration = Duration::from_millis(25);

/// The limit and how it follows the link.
#[derive(Debug)]
pub(super) struct Backlog {
    limit: usize,
    began: Option<Instant>,
    acknowledged: u64,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self { limit: START, began: None, acknowledged: 0 }
    }

    /// The bytes that may wait below the scheduler.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Tells what the peer has acknowledged in all, and whether there was more to send than the limit let
    /// through: an idle link says nothing about its rate. `rtt` is the shortest round trip time ever seen: one
    /// that our own backlog has stretched would let it grow.
    pub(super) fn observe(&mut self, now: Instant, acknowledged: u64, limited: bool, rtt: Option<Duration>) {
        if !limited {
            self.began = None;
            return;
        }
        let Some(began) = self.began else {
            self.began = Some(now);
            self.acknowledged = acknowledged;
            return;
        };
        let elapsed = now.duration_since(began);
        if elapsed < SAMPLE {
            return;
        }
        let bytes = acknowledged.saturating_sub(self.acknowledged);
        let drain = rtt.map_or(MAX_DRAIN, |rtt| (2 * rtt + SLACK).min(MAX_DRAIN));
        let target = u128::from(bytes) * drain.as_nanos() / elapsed.as_nanos().max(1);
        let target = usize::try_from(target).unwrap_or(CEILING);
        // Halfway at a time: one odd sample must not swing it.
        self.limit = usize::midpoint(self.limit, target).clamp(FLOOR, CEILING);
        self.began = Some(now);
        self.acknowledged = acknowledged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a link of this rate (bytes per second) and round trip for ten seconds.
    fn settle(rate: u64, rtt: Duration) -> usize {
        let mut backlog = Backlog::new();
        let mut now = Instant::now();
        let mut acknowledged = 0;
        for _ in 0..400 {
            backlog.observe(now, acknowledged, true, Some(rtt));
            now += SAMPLE;
            // A window is acknowledged once per round trip, and no faster than the link.
            let by_window = backlog.limit() as u128 * SAMPLE.as_nanos() / rtt.as_nanos();
            let by_link = u128::from(rate) * SAMPLE.as_nanos() / 1_000_000_000;
            acknowledged += u64::try_from(by_window.min(by_link)).unwrap();
        }
        backlog.limit()
    }

    #[test]
    fn a_slow_link_holds_two_round_trips_and_a_little() {
        assert_eq!(settle(125_000, Duration::from_millis(20)), FLOOR);
        let limit = settle(1_250_000, Duration::from_millis(20));
        assert!((170_000..180_000).contains(&limit), "{limit}");
        let limit = settle(625_000, Duration::from_millis(100));
        assert!((150_000..160_000).contains(&limit), "{limit}: a quarter of a second at most");
    }

    #[test]
    fn a_fast_link_is_filled() {
        assert_eq!(settle(100_000_000, Duration::from_millis(40)), CEILING);
        assert_eq!(settle(100_000_000, Duration::from_millis(1)), CEILING);
    }

    #[test]
    fn an_idle_link_changes_nothing() {
        let mut backlog = Backlog::new();
        let now = Instant::now();
        for step in 0..100 {
            backlog.observe(now + SAMPLE * step, 10, false, None);
        }
        assert_eq!(backlog.limit(), START);
    }
}
