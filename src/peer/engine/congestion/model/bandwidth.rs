//! The most that the path delivered lately.
//!
//! Floor 1, engine, part of `congestion`'s model.
//!
//! # Invariant
//! What the sender itself limited never lowers the estimate, and never ages it.

use crate::peer::engine::congestion::RateSample;

/// A maximum over this cycle of probing and the one before, draft-ietf-ccwg-bbr 5.5.5.
#[derive(Debug, Default)]
pub(super) struct Bandwidth {
    before: u64,
    current: u64,
}

impl Bandwidth {
    /// Bytes a second; 0 before there is any sample.
    pub(super) fn estimate(&self) -> u64 {
        self.before.max(self.current)
    }

    /// A measurement. `limited`: the path could have done more.
    pub(super) fn on_sample(&mut self, sample: &RateSample, limited: bool) {
        let rate = sample.rate();
        if !limited || rate > self.estimate() {
            self.current = self.current.max(rate);
        }
    }

    /// A cycle of probing ends.
    pub(super) fn on_cycle(&mut self) {
        if self.current > 0 {
            (self.before, self.current) = (self.current, 0);
        }
    }

    /// The path is not what it was.
    pub(super) fn replace(&mut self, rate: u64) {
        (self.before, self.current) = (0, rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sample(bytes: u64) -> RateSample {
        RateSample { bytes, interval: Duration::from_secs(1), lost: 0, in_flight: 0 }
    }

    #[test]
    fn an_old_rate_is_forgotten_after_two_cycles_but_not_for_limited_ones() {
        let mut bandwidth = Bandwidth::default();
        bandwidth.on_sample(&sample(100), false);
        bandwidth.on_cycle();
        bandwidth.on_sample(&sample(50), true);
        bandwidth.on_cycle();
        bandwidth.on_cycle();
        assert_eq!(bandwidth.estimate(), 100);
        bandwidth.on_sample(&sample(60), false);
        assert_eq!(bandwidth.estimate(), 100);
        bandwidth.on_cycle();
        assert_eq!(bandwidth.estimate(), 60);
        bandwidth.on_sample(&sample(70), true);
        assert_eq!(bandwidth.estimate(), 70);
    }
}
