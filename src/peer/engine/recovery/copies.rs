//! Early copies: a small flight is sent again a quarter of a round trip later, before its loss can be known.
//!
//! Floor 1, engine, part of `recovery`. A call's request is one packet, and its loss costs a time-out; the
//! copy makes it cost a quarter of a round trip. Bulk never pays: its losses are known from what follows.
//!
//! # Invariant
//! A chunk has at most one early copy, and none while more than two packets are under way.

use std::time::{Duration, Instant};

use super::tsn::Tsn;

/// When a packet that has the path nearly to itself is sent twice, a quarter of a round trip apart, so that a lost
/// one costs that quarter rather than one and a half. Bulk is never sent twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EarlyCopies {
    /// While loss was seen lately (30 s), and for what is urgent.
    #[default]
    Adaptive,
    /// Always: twice the packets of sparse traffic.
    Always,
    /// Never.
    Never,
}

/// A flight of at most so many packets is small.
pub(super) const SMALL_FLIGHT: usize = 2;
/// How long a loss is "lately".
const LATELY: Duration = Duration::from_secs(30);
/// Of the smoothed round-trip time.
const DIVISOR: u32 = 4;
/// The peer answers within so much; a copy before would be in vain.
const LEAST_WAIT: Duration = Duration::from_millis(2);

/// Whether and when copies are made.
#[derive(Debug)]
pub(super) struct Copies {
    policy: EarlyCopies,
    last_loss: Option<Instant>,
    /// The chunk whose copy seems to have been needed, and the last loss before: both may still arrive.
    suspicion: Option<(Tsn, Option<Instant>)>,
}

impl Copies {
    pub(super) fn new(policy: EarlyCopies) -> Self {
        Self { policy, last_loss: None, suspicion: None }
    }

    /// Something was lost.
    pub(super) fn on_loss(&mut self, now: Instant) {
        (self.last_loss, self.suspicion) = (Some(now), None);
    }

    /// This chunk, sent twice, was acknowledged as late as if only the second had arrived. Of several the last is
    /// remembered, of several at once the first: what was in a packet with it arrives twice as well.
    pub(super) fn on_suspicion(&mut self, now: Instant, tsn: Tsn) {
        if self.last_loss != Some(now) {
            self.suspicion = Some((tsn, self.last_loss));
            self.last_loss = Some(now);
        }
    }

    /// This chunk arrived twice: no loss, only a round trip that was longer than others.
    pub(super) fn on_duplicate(&mut self, tsn: Tsn) {
        if let Some((_, before)) = self.suspicion.take_if(|(suspect, _)| *suspect == tsn) {
            self.last_loss = before;
        }
    }

    /// Whether a chunk gets a copy.
    pub(super) fn wants(&self, now: Instant, urgent: bool) -> bool {
        match self.policy {
            EarlyCopies::Always => true,
            EarlyCopies::Never => false,
            EarlyCopies::Adaptive => {
                urgent || self.last_loss.is_some_and(|at| now.saturating_duration_since(at) < LATELY)
            }
        }
    }

    /// How long after the original.
    pub(super) fn wait(smoothed: Duration) -> Duration {
        (smoothed / DIVISOR).max(LEAST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspicion_makes_copies_until_a_duplicate_takes_it_back() {
        let now = Instant::now();
        let mut copies = Copies::new(EarlyCopies::Adaptive);
        copies.on_suspicion(now, Tsn(7));
        copies.on_suspicion(now, Tsn(8));
        copies.on_duplicate(Tsn(9));
        assert!(copies.wants(now, false));
        copies.on_duplicate(Tsn(7));
        assert!(!copies.wants(now, false));
        copies.on_suspicion(now, Tsn(10));
        copies.on_loss(now);
        copies.on_duplicate(Tsn(10));
        assert!(copies.wants(now, false), "what was lost stays lost");
    }
}
