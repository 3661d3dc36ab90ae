//! Early copies: a small flight is sent again a quarter of a round trip later, before its loss can be known.
//!
//! Floor 1, engine, part of `recovery`. A call's request is one packet, and its loss costs a time-out; the
//! copy makes it cost a quarter of a round trip. Bulk never pays: its losses are known from what follows.
//!
//! # Invariant
//! A chunk has at most one early copy, and none while more than two packets are under way.

use std::time::{Duration, Instant};

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
}

impl Copies {
    pub(super) fn new(policy: EarlyCopies) -> Self {
        Self { policy, last_loss: None }
    }

    /// Something was lost.
    pub(super) fn on_loss(&mut self, now: Instant) {
        self.last_loss = Some(now);
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
