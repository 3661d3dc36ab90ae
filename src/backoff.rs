//! How long to stay away from what has failed: never a hot loop, and not everybody back at once.
//!
//! Floor 0, pure.

use std::time::Duration;

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(10);

/// The delay after this many failures in a row: doubles from `first` to 10 s, of which a random half to whole
/// is taken so that peers which lost the same server do not return together.
pub(crate) fn delay(first: Duration, failures: u32, rng: &mut fastrand::Rng) -> Duration {
    let full = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    full.mul_f64(0.5 + rng.f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(50);

    #[test]
    fn delays_double_up_to_ten_seconds_and_vary() {
        let mut rng = fastrand::Rng::with_seed(7);
        for (failures, low, high) in [(1, 25, 50), (2, 50, 100), (5, 400, 800), (20, 5_000, 10_000)] {
            for _ in 0..50 {
                let delay = delay(FIRST, failures, &mut rng).as_millis();
                assert!((low..=high).contains(&delay), "{failures}: {delay}");
            }
        }
        assert_ne!(delay(FIRST, 9, &mut rng), delay(FIRST, 9, &mut rng));
    }
}
