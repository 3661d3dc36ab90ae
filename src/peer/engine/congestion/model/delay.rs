//! The least round-trip time, and the queue above it.
//!
//! Floor 1, engine, part of `congestion`'s model.
//!
//! # Invariant
//! The least time is at most [`BELIEVED`] old, or [`Delay::is_stale`].

use std::time::{Duration, Instant};

/// How long a least time is believed without having been seen again, draft-ietf-ccwg-bbr 5.5.7.
const BELIEVED: Duration = Duration::from_secs(10);
/// A rise of a round's least time that is a queue: as HyStart++ has it, RFC 9406 4.3.
const LEAST_RISE: Duration = Duration::from_millis(4);
const MOST_RISE: Duration = Duration::from_millis(16);
/// Samples of a round until its least is one.
const SAMPLES: u32 = 4;

#[derive(Debug)]
pub(super) struct Delay {
    least: Option<Duration>,
    seen_at: Instant,
    round_least: Option<Duration>,
    samples: u32,
    /// Of the last whole round.
    last_round: Option<Duration>,
}

impl Delay {
    pub(super) fn new(now: Instant) -> Self {
        Self { least: None, seen_at: now, round_least: None, samples: 0, last_round: None }
    }

    pub(super) fn on_sample(&mut self, now: Instant, rtt: Duration) {
        let least = self.least.map_or(rtt, |least| least.min(rtt));
        // Seen again, as good as.
        if rtt <= least + least / 32 + Duration::from_micros(200) {
            self.seen_at = now;
        }
        self.least = Some(least);
        self.round_least = Some(self.round_least.map_or(rtt, |least| least.min(rtt)));
        self.samples = self.samples.saturating_add(1);
    }

    pub(super) fn on_round(&mut self) {
        self.last_round = self.round_least.take().or(self.last_round);
        self.samples = 0;
    }

    /// The least round-trip time, if there was any sample.
    pub(super) fn least(&self) -> Option<Duration> {
        self.least
    }

    /// The path was emptied on purpose: what it took then is the truth.
    pub(super) fn replace(&mut self, now: Instant, least: Duration) {
        (self.least, self.seen_at) = (Some(least), now);
    }

    pub(super) fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen_at) > BELIEVED
    }

    /// How long packets of this round queued at least, if there were enough; else of the last round.
    pub(super) fn queue(&self) -> Duration {
        let round = self.round_least.filter(|_| self.samples >= SAMPLES).or(self.last_round);
        round.zip(self.least).map_or(Duration::ZERO, |(round, least)| round.saturating_sub(least))
    }

    /// Whether a queue stands for as long as a round trip, that is more than `own`.
    pub(super) fn is_queued(&self, own: Duration) -> bool {
        let least = self.least.unwrap_or_default();
        self.queue() > (least / 8).clamp(LEAST_RISE, MOST_RISE).max(own)
    }
}
