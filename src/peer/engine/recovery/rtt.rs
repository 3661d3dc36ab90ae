//! Round-trip times, RFC 6298 with finer clocks.
//!
//! Floor 1, engine, part of `recovery`.
//!
//! # Invariant
//! `smoothed` is between the least and the greatest of all samples, once there was one.

use std::time::{Duration, Instant};

/// Before there is any sample and without a hint, RFC 9002 6.2.2.
const INITIAL: Duration = Duration::from_millis(333);
/// The least spread that is allowed for: timers and schedulers are not finer.
const LEAST_SPREAD: Duration = Duration::from_millis(5);
/// The most that a time-out is, RFC 9260 16.
const GREATEST_RTO: Duration = Duration::from_secs(60);
/// How long a least round-trip time is believed.
const LEAST_FOR: Duration = Duration::from_secs(30);

/// The round-trip time of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    smoothed: Duration,
    variance: Duration,
    least: Option<(Duration, Instant)>,
    is_measured: bool,
    /// Whether the last of them was certain.
    is_sure: bool,
    /// What something else has measured, and when.
    hint: Option<(Duration, Instant)>,
}

impl Rtt {
    /// A path that was not measured yet, or by ICE only.
    pub(crate) fn new(hint: Option<Duration>, now: Instant) -> Self {
        let smoothed = hint.unwrap_or(INITIAL);
        let hint = hint.map(|hint| (hint, now));
        Self { smoothed, variance: smoothed / 2, least: None, is_measured: false, is_sure: true, hint }
    }

    /// A round trip took so long. `at` is now.
    pub(super) fn on_sample(&mut self, at: Instant, sample: Duration) {
        if self.least.is_none_or(|(least, since)| sample <= least || at > since + LEAST_FOR) {
            self.least = Some((sample, at));
        }
        self.smooth(sample);
        self.is_sure = true;
    }

    /// Something arrived that had left twice or more: a round trip took at least or at most so long, whichever it was.
    pub(super) fn on_bounds(&mut self, least: Duration, most: Duration) {
        self.is_sure = false;
        if self.smoothed < least {
            self.smooth(least);
        } else if self.smoothed > most {
            // However long others took, that is no longer so.
            (self.smoothed, self.variance, self.is_measured) = (most, self.variance.min(most / 2), true);
        }
    }

    fn smooth(&mut self, sample: Duration) {
        if !self.is_measured {
            (self.smoothed, self.variance, self.is_measured) = (sample, sample / 2, true);
            return;
        }
        self.variance = self.variance * 3 / 4 + self.smoothed.abs_diff(sample) / 4;
        self.smoothed = self.smoothed * 7 / 8 + sample / 8;
    }

    /// SRTT, RFC 6298 2.
    pub(crate) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The least sample of the last half minute; before the first, the smoothed one.
    pub(crate) fn least(&self) -> Duration {
        self.least.map_or(self.smoothed, |(least, _)| least)
    }

    /// Whether there was a sample.
    pub(crate) fn is_measured(&self) -> bool {
        self.is_measured
    }

    /// Whether a round trip may take so little; yes, if nothing is known.
    pub(super) fn may_be(&self, took: Duration) -> bool {
        let least = self.least();
        !(self.is_measured || self.hint.is_some()) || took >= least - least / 8
    }

    /// The best that was seen of this path in the half minute before `at`, by whoever measured it. None while it is
    /// not sure that round trips are what they were: whoever asked too soon waits for as long as they seem to take.
    pub(super) fn best(&self, at: Instant) -> Option<Duration> {
        if !self.is_sure {
            return None;
        }
        let young = |(took, since): (Duration, Instant)| (at <= since + LEAST_FOR).then_some(took);
        [self.least, self.hint].into_iter().flatten().filter_map(young).min()
    }

    /// How long to wait for an acknowledgement that is not held back, RFC 9002 6.2.1.
    pub(crate) fn probe_after(&self) -> Duration {
        (self.smoothed + (4 * self.variance).max(LEAST_SPREAD)).min(GREATEST_RTO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_sample_replaces_the_hint_and_later_ones_are_smoothed() {
        let now = Instant::now();
        let mut rtt = Rtt::new(Some(100 * MS), now);
        assert_eq!((rtt.smoothed(), rtt.least()), (100 * MS, 100 * MS));
        rtt.on_sample(now, 40 * MS);
        assert_eq!((rtt.smoothed(), rtt.probe_after()), (40 * MS, 120 * MS));
        rtt.on_sample(now, 48 * MS);
        assert_eq!((rtt.smoothed(), rtt.least()), (41 * MS, 40 * MS));
        for _ in 0..100 {
            rtt.on_sample(now, 40 * MS);
        }
        assert!(rtt.probe_after() < 46 * MS);
    }

    #[test]
    fn a_least_time_is_forgotten_after_half_a_minute() {
        let now = Instant::now();
        let mut rtt = Rtt::new(None, now);
        rtt.on_sample(now, 10 * MS);
        rtt.on_sample(now + Duration::from_secs(29), 90 * MS);
        assert_eq!(rtt.least(), 10 * MS);
        rtt.on_sample(now + Duration::from_secs(31), 90 * MS);
        assert_eq!(rtt.least(), 90 * MS);
    }
}
