//! A small histogram of times, in shares of a window: less than 1/32, 1/16, 1/8, 1/4, 1/2 of it, and more.
//!
//! Floor 4. Invariant: counting never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many shares are told apart.
pub(super) const SHARES: usize = 6;

#[derive(Debug, Default)]
pub(super) struct Shares([AtomicU64; SHARES]);

impl Shares {
    /// Counts one time.
    pub(super) fn count(&self, time: Duration, window: Duration) {
        self.0[place(time, window)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were of each.
    pub(super) fn read(&self) -> [u64; SHARES] {
        std::array::from_fn(|place| self.0[place].load(Ordering::Relaxed))
    }
}

fn place(time: Duration, window: Duration) -> usize {
    (0..SHARES - 1).find(|place| time.saturating_mul(32 >> place) < window).unwrap_or(SHARES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_shares_of_the_window() {
        let window = Duration::from_secs(2);
        let at = |ms| place(Duration::from_millis(ms), window);
        assert_eq!([0, 62, 63, 400, 499, 500, 999, 1000, 1999].map(at), [0, 0, 1, 3, 3, 4, 4, 5, 5]);
        assert_eq!(place(Duration::MAX, window), 5);
    }
}
