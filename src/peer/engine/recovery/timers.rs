//! What time brings to a [`Flight`]: probes, losses, early copies, and the end of a path that is silent.
//!
//! Floor 1, engine, part of `recovery`.
//!
//! # Invariant
//! While something is under way there is a deadline.

use std::time::{Duration, Instant};

use super::copies::Copies;
use super::flight::{Flight, PathDead};
use super::ledger::State;

/// How long a peer takes that was asked to acknowledge at once: it may wait for data to go with it.
const ASKED_DELAY: Duration = Duration::from_millis(1);

/// How many transmissions are looked at for one that gets an early copy: behind a chunk that is still under way there
/// may be thousands of void ones, and a copy is not worth a walk.
const MOST_LOOKED_AT: usize = 64;

impl<C: Clone> Flight<C> {
    /// When `on_deadline` wants to be called, or a packet may leave that was held back. None while nothing is
    /// under way.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let waits = !self.lost.is_empty() || self.has_more;
        let paced = (waits && self.has_room()).then(|| self.pacer.next()).filter(|at| *at > now);
        if self.ledger.is_empty() {
            return paced;
        }
        let probe_at = self.awaits().then(|| self.probe_at());
        let dead_at = Some(self.heard_at + self.max_silence);
        [paced, probe_at, dead_at, self.reorder_at, self.copy_at].into_iter().flatten().min()
    }

    /// Time has passed. Afterwards there may be something to send. An error when the peer was silent for
    /// `max_silence` with something under way.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Result<(), PathDead> {
        if self.ledger.is_empty() {
            return Ok(());
        }
        let silence = now.saturating_duration_since(self.heard_at);
        if silence >= self.max_silence {
            return Err(PathDead(silence));
        }
        if self.reorder_at.is_some_and(|at| at <= now) {
            self.find_lost(now, false);
        }
        if self.copy_at.is_some_and(|at| at <= now) {
            (self.copies_due, self.copy_at) = (true, None);
        }
        if self.awaits() && self.probe_at() <= now {
            self.probe.on_deadline(now, self.is_window_closed());
            self.stats.probes += 1;
        }
        Ok(())
    }

    /// Whether only a probe can tell what became of what is under way: the reordering window tells sooner.
    fn awaits(&self) -> bool {
        self.reorder_at.is_none() && (self.ledger.in_flight > 0 || self.ledger.unknown > 0)
    }

    fn probe_at(&self) -> Instant {
        let held_back = if self.asked { ASKED_DELAY } else { self.sack_delay };
        self.probe.deadline(&self.rtt, held_back, self.is_window_closed())
    }

    fn is_window_closed(&self) -> bool {
        self.peer_room() < self.max_packet && self.is_small()
    }

    /// Sets the time of the next early copy.
    pub(super) fn arm_copies(&mut self, now: Instant) {
        self.copy_at = None;
        let is_sparse = self.ledger.in_flight > 0 && self.is_small() && !self.has_more;
        self.copies_due &= is_sparse;
        if self.copies_due || !is_sparse {
            return;
        }
        let has_urgent = self.last_urgent.is_some_and(|tsn| !tsn.is_before(self.ledger.first()));
        if !self.copies.wants(now, has_urgent) {
            return;
        }
        self.order.oldest(&self.ledger);
        for (serial, tsn) in self.order.iter().take(MOST_LOOKED_AT) {
            let Some(sent) = self.ledger.get(tsn) else { continue };
            let is_original = sent.serial == serial && sent.times == 1 && sent.state == State::UnderWay;
            if is_original && self.copies.wants(now, sent.urgent) {
                self.copy_at = Some(sent.sent_at + Copies::wait(self.rtt.smoothed()));
                return;
            }
        }
    }
}
