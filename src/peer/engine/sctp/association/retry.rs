//! Timers T1 and T2 (RFC 9260 section 15): what was sent is sent again until it is answered.

use std::time::{Duration, Instant};

/// The first interval is at least this. RFC 9260 has 1 s (RTO.Min); a second INIT costs 60 bytes, a second of
/// waiting is felt.
const SHORTEST: Duration = Duration::from_millis(50);

/// The first interval without any hint of the round-trip time: its peer has just gone through ICE and DTLS.
const UNKNOWN: Duration = Duration::from_millis(250);

/// Intervals do not grow beyond.
const LONGEST: Duration = Duration::from_secs(2);

/// A timer that rings at growing intervals until it is stopped or has had its time.
#[derive(Debug, Default)]
pub(super) struct Retry {
    interval: Duration,
    next: Option<Instant>,
    end: Option<Instant>,
}

/// What to do when the timer rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ring {
    /// Not yet.
    Quiet,
    /// Send it again.
    Again,
    /// Give up.
    GiveUp,
}

impl Retry {
    /// Something was sent that wants an answer, and `patience` is how long to try at all. `rtt` sets the
    /// first interval, at twice its value.
    pub(super) fn start(&mut self, now: Instant, rtt: Option<Duration>, patience: Duration) {
        self.interval = rtt.map_or(UNKNOWN, |rtt| rtt.saturating_mul(2)).clamp(SHORTEST, LONGEST);
        self.next = Some(now + self.interval);
        self.end = now.checked_add(patience);
    }

    /// Something else is sent now, within the same patience.
    pub(super) fn next_step(&mut self, now: Instant, rtt: Option<Duration>) {
        let end = self.end;
        self.start(now, rtt, Duration::ZERO);
        self.end = end;
    }

    /// The answer has come.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// When it rings.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.next, self.end].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(super) fn ring(&mut self, now: Instant) -> Ring {
        if self.end.is_some_and(|end| end <= now) {
            self.stop();
            return Ring::GiveUp;
        }
        if self.next.is_none_or(|next| next > now) {
            return Ring::Quiet;
        }
        self.interval = self.interval.saturating_mul(2).min(LONGEST);
        self.next = Some(now + self.interval);
        Ring::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_to_two_seconds_and_end_with_the_patience() {
        let began = Instant::now();
        let mut retry = Retry::default();
        retry.start(began, Some(Duration::from_millis(150)), Duration::from_secs(8));
        let mut rung = Vec::new();
        while let Some(at) = retry.deadline() {
            match retry.ring(at) {
                Ring::Quiet => panic!("its deadline was {at:?}"),
                Ring::Again => rung.push((at - began).as_millis()),
                Ring::GiveUp => assert_eq!(at - began, Duration::from_secs(8)),
            }
        }
        assert_eq!(rung, [300, 900, 2100, 4100, 6100]);
    }
}
