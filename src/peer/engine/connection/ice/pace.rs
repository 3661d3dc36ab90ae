//! How often pairs are checked: fast while there is no path, slower for better ones, at the pace of probes for good.
//!
//! Floor 1, engine, part of `ice`.
//!
//! # Invariant
//! Pairs come to rest: nothing is checked faster than probes for longer than [`timing::SETTLING`] after the last time
//! that there was a reason to look.

use std::time::Instant;

use super::{Ice, timing};

/// The pace of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Looking,
    /// A path was found; the others have until then.
    Settling(Instant),
    Settled,
}

impl Pace {
    /// When it ends by itself.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Settling(until) => Some(until),
            Self::Looking | Self::Settled => None,
        }
    }
}

impl Ice {
    /// There is no path.
    pub(super) fn look(&mut self) {
        self.pace = Pace::Looking;
        self.hurry();
    }

    /// There is one that may not work any more.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.pace = Pace::Settling(now + timing::SETTLING);
        self.hurry();
    }

    /// There is one that works; if it was looked for, others may show themselves for a while.
    pub(super) fn slow_down(&mut self, now: Instant) {
        match self.pace {
            Pace::Looking => self.pace = Pace::Settling(now + timing::SETTLING),
            Pace::Settling(_) => {}
            Pace::Settled => return,
        }
        self.agent.set_max_stun_rto(timing::CHECK_LATER.min(timing::probe(self.patience)));
    }

    /// Pairs that never worked have had their checks and go; those that work live through the silence that
    /// the connection lives through. The first repeats of a probe come quicker than the rest.
    pub(super) fn settle(&mut self) {
        self.pace = Pace::Settled;
        let probe = timing::probe(self.patience);
        let probes = self.patience.as_millis() / probe.as_millis() + 8;
        self.agent.set_max_stun_rto(probe);
        self.agent.set_max_stun_retransmits(usize::try_from(probes).unwrap_or(timing::CHECKS).max(12));
    }

    fn hurry(&mut self) {
        self.agent.set_max_stun_rto(timing::CHECK_AT_LEAST);
        self.agent.set_max_stun_retransmits(timing::CHECKS);
    }
}
