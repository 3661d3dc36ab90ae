//! When a stop is tried again.
//!
//! Floor 4, pure. Invariant: tries that fail are 100 ms apart at first, then twice as long each time, up to 5 s; when
//! the manager is closed there are a few more, all begun within a `stop_timeout`.

use std::time::Duration;

use tokio::time::Instant;

const SHORTEST: Duration = Duration::from_millis(100);
pub(super) const LONGEST: Duration = Duration::from_secs(5);

/// Tries that may fail once the manager is closed.
const WHEN_CLOSED: u32 = 5;

/// The tries of one stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Tries {
    /// That failed, one after the other.
    failed: u32,
    /// Those of them that ended after the manager was closed.
    when_closed: u32,
}

impl Tries {
    /// A try has failed; returns when to begin the next one. `closed`: since when the manager is.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        closed: Option<Instant>,
        stop_timeout: Duration,
    ) -> Option<Instant> {
        if closed.is_some() && self.when_closed == 0 {
            self.failed = 0;
        }
        let next = now + SHORTEST.saturating_mul(1 << self.failed.min(10)).min(LONGEST);
        self.failed = self.failed.saturating_add(1);
        if let Some(closed) = closed {
            self.when_closed += 1;
            let last = closed.checked_add(stop_timeout);
            if self.when_closed >= WHEN_CLOSED || last.is_some_and(|last| next >= last) {
                return None;
            }
        }
        Some(next)
    }

    /// A try has succeeded that began at this time, and handlers go on that may move the resource again; returns
    /// when to begin the next one.
    pub(super) fn repeated(&mut self, began: Instant, now: Instant, stop_timeout: Duration) -> Instant {
        self.failed = 0;
        (began + stop_timeout.clamp(SHORTEST, LONGEST)).max(now + SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    /// The pauses after so many failures that take no time.
    fn pauses(tries: &mut Tries, mut now: Instant, closed: Option<Instant>, timeout: Duration) -> Vec<u128> {
        let next = std::iter::from_fn(|| {
            let next = tries.failed(now, closed, timeout)?;
            Some((next - std::mem::replace(&mut now, next)).as_millis())
        });
        next.take(9).collect()
    }

    #[test]
    fn a_stop_that_fails_is_tried_again_for_ever_and_ever_less_often() {
        let pauses = pauses(&mut Tries::default(), Instant::now(), None, S);
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        let mut many = Tries { failed: u32::MAX - 1, when_closed: 0 };
        let now = Instant::now();
        assert_eq!(many.failed(now, None, S), Some(now + LONGEST));
    }

    #[test]
    fn when_the_manager_is_closed_there_are_a_few_more_tries_and_no_more_than_there_is_time_for() {
        let now = Instant::now();
        let mut tries = Tries::default();
        let _long_since = pauses(&mut tries, now, None, S);
        assert_eq!(pauses(&mut tries.clone(), now, Some(now), 60 * S), [100, 200, 400, 800]);
        assert_eq!(pauses(&mut tries.clone(), now, Some(now), Duration::MAX), [100, 200, 400, 800]);
        assert_eq!(pauses(&mut tries.clone(), now, Some(now), S), [100, 200, 400]);
        assert_eq!(pauses(&mut tries, now + S, Some(now), S), [0_u128; 0]);
    }

    #[test]
    fn a_stop_is_repeated_about_as_often_as_it_may_take() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        for (timeout, pause) in [(MS, 100 * MS), (S, S), (60 * S, 5 * S), (Duration::MAX, 5 * S)] {
            assert_eq!(tries.repeated(now, now, timeout), now + pause);
        }
        assert_eq!(tries.repeated(now, now + S, S), now + S + 100 * MS, "others get their turn");
    }
}
