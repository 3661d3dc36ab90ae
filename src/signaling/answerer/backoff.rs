//! How fast streams may be opened: never in a hot loop, and not all robots at once.
//!
//! Floor 3, pure.

use std::time::Duration;

use tokio::time::Instant;

/// The first delay after a failure; each further failure doubles it.
const FIRST: Duration = Duration::from_millis(50);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(10);
/// One more stream may be opened this often, whatever the reason.
const REFILL: Duration = Duration::from_millis(100);

/// The delay after this many failures in a row: doubles from 50 ms to 10 s, of which a random half to whole
/// is taken so that robots which lost the same server do not return together.
pub(super) fn delay(failures: u32, rng: &mut fastrand::Rng) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    full.mul_f64(0.5 + rng.f64() / 2.0)
}

/// Permits to open a stream: a burst, then ten a second. Holds even where no failure is counted, as when
/// a server hands out calls that end at once.
#[derive(Debug)]
pub(super) struct Bucket {
    permits: u32,
    capacity: u32,
    refilled: Instant,
}

impl Bucket {
    pub(super) fn new(capacity: u32, now: Instant) -> Self {
        Self { permits: capacity, capacity, refilled: now }
    }

    /// Takes a permit if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.permits == 0 {
            return false;
        }
        self.permits -= 1;
        true
    }

    /// Gives a permit back: the stream was worth it.
    pub(super) fn give_back(&mut self) {
        self.permits = self.capacity.min(self.permits.saturating_add(1));
    }

    /// When there is a permit again.
    pub(super) fn next(&self) -> Instant {
        if self.permits > 0 { self.refilled } else { self.refilled + REFILL }
    }

    fn refill(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.refilled).as_millis() / REFILL.as_millis();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        if self.permits.saturating_add(periods) >= self.capacity {
            (self.permits, self.refilled) = (self.capacity, now);
        } else {
            self.permits += periods;
            self.refilled += REFILL * periods;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_ten_seconds_and_vary() {
        let mut rng = fastrand::Rng::with_seed(7);
        for (failures, low, high) in [(1, 25, 50), (2, 50, 100), (5, 400, 800), (20, 5_000, 10_000)] {
            for _ in 0..50 {
                let delay = delay(failures, &mut rng).as_millis();
                assert!((low..=high).contains(&delay), "{failures}: {delay}");
            }
        }
        assert_ne!(delay(9, &mut rng), delay(9, &mut rng));
    }

    #[test]
    fn after_the_burst_permits_come_ten_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, start);
        assert_eq!((0..9).filter(|_| bucket.take(start)).count(), 3);
        assert_eq!(bucket.next(), start + Duration::from_millis(100));
        let later = start + Duration::from_millis(250);
        assert_eq!((0..9).filter(|_| bucket.take(later)).count(), 2);
        assert_eq!(bucket.next(), start + Duration::from_millis(300));
        assert_eq!((0..9).filter(|_| bucket.take(start + Duration::from_secs(60))).count(), 3);
    }
}
