//! How fast streams may be opened, whatever the reason: a bucket of permits.
//!
//! Floor 3, pure.

use std::time::Duration;

use tokio::time::Instant;

/// One more stream may be opened this often, whatever the reason.
const REFILL: Duration = Duration::from_millis(100);

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
