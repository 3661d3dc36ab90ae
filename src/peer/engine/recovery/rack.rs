//! Finds losses by time: what left well before something that has arrived is lost. RACK, RFC 8985.
//!
//! Floor 1, engine, part of `recovery`.
//!
//! # Invariant
//! Nothing is lost before something that left later was acknowledged and the reordering window has passed. The
//! window is never zero: three reports are no proof on paths with jitter, and a quarter of a round trip costs
//! bulk nothing (a departure from RFC 8985 6.2, which closes it until reordering was seen).

use std::time::{Duration, Instant};

use super::rtt::Rtt;

/// Of the least round-trip time, RFC 8985 6.2.
const DIVISOR: u32 = 4;
/// Of jitter that schedulers make where the round-trip time is next to nothing.
const LEAST_WINDOW: Duration = Duration::from_millis(1);
/// How long a widened window stays, in recoveries, RFC 8985 6.2.
const KEPT: u32 = 16;

/// The newest arrival, and how much reordering is allowed for.
#[derive(Debug, Default)]
pub(super) struct Rack {
    /// When the newest packet that has arrived left, its place in the order of sending, its round-trip time.
    newest: Option<(Instant, u64, Duration)>,
    /// Quarters of the least round-trip time in the window, less one.
    widened: u32,
    /// Recoveries until it is narrowed again.
    kept: u32,
    widened_at: Option<Instant>,
}

impl Rack {
    /// A chunk was acknowledged by its transmission number `serial` that left at `sent_at`.
    pub(super) fn on_delivered(&mut self, now: Instant, sent_at: Instant, serial: u64) {
        if self.newest.is_none_or(|(_, newest, _)| serial > newest) {
            self.newest = Some((sent_at, serial, now.saturating_duration_since(sent_at)));
        }
    }

    /// When a transmission counts as lost; never, if nothing that left later has arrived.
    pub(super) fn lost_at(&self, sent_at: Instant, serial: u64, rtt: &Rtt) -> Option<Instant> {
        let (_, newest, took) = self.newest?;
        (serial < newest).then(|| sent_at + took + self.window(rtt))
    }

    /// A retransmission was not needed: more reordering has to be allowed for.
    pub(super) fn on_spurious(&mut self, now: Instant, rtt: &Rtt) {
        self.kept = KEPT;
        // Once a round trip.
        if self.widened_at.is_none_or(|at| now.saturating_duration_since(at) >= rtt.smoothed()) {
            self.widened_at = Some(now);
            self.widened = self.widened.saturating_add(1);
        }
    }

    /// A recovery ended without one.
    pub(super) fn on_recovered(&mut self) {
        self.kept = self.kept.saturating_sub(1);
        if self.kept == 0 {
            self.widened = 0;
        }
    }

    fn window(&self, rtt: &Rtt) -> Duration {
        let quarter = (rtt.least() / DIVISOR).max(LEAST_WINDOW);
        quarter.saturating_mul(self.widened.saturating_add(1)).min(rtt.smoothed().max(LEAST_WINDOW))
    }
}
