//! What a SACK does to a [`Flight`]: what it acknowledges, what it proves lost, what it proves was not.
//!
//! Floor 1, engine, part of `recovery`.
//!
//! # Invariant
//! A SACK that came late changes nothing but what it newly acknowledges. A chunk's acknowledgement is told once,
//! even if the peer takes it back.

use std::time::Instant;

use super::flight::Flight;
use super::ledger::Delivered;
use super::sack::{Sack, SackError, SackOutcome};
use super::tsn::Tsn;
use crate::peer::engine::congestion::{Ack, Loss};

/// A peer that reports fewer blocks than this has reported them all: some stop at 20.
const SHORT_REPORT: usize = 16;

/// How far behind what was sent an acknowledgement may be. No ledger holds so many chunks; what is added to it
/// stays in the same half of all numbers.
const MOST_BEHIND: i32 = 1 << 30;
/// So often may a peer take back what it had acknowledged. RFC 9260 6.2 allows it, nobody does it for long, and each
/// time costs a walk over everything: one that goes on is no longer believed. If it has thrown the chunks away
/// nonetheless, the path dies of silence.
const MOST_RENEGED: u64 = 8;

/// What one SACK newly acknowledged.
#[derive(Default)]
struct Progress {
    bytes: usize,
    size: usize,
    /// Of what was sent last: for the rate and the round-trip time.
    newest: Option<Delivered>,
    undo: bool,
}

impl<C: Clone> Flight<C> {
    /// A SACK arrived. `acknowledged` is called once for every chunk that it newly acknowledges.
    pub(crate) fn on_sack(
        &mut self,
        now: Instant,
        sack: &Sack<'_>,
        mut acknowledged: impl FnMut(&C),
    ) -> Result<SackOutcome, SackError> {
        let last_sent = self.ledger.next().previous();
        let reach = sack.gaps.iter().map(|&(_, end)| u32::from(end)).max().unwrap_or(0);
        // One from very long ago would seem to come from the future as its blocks are added.
        let is_ancient = sack.cumulative.distance(last_sent) < -MOST_BEHIND;
        if is_ancient || sack.cumulative.add(reach).is_after(last_sent) {
            return Err(SackError::NeverSent);
        }
        self.heard_at = now;
        let before = self.ledger.in_flight;
        let old_cumulative = self.cumulative();
        let mut progress = Progress::default();
        self.pop(now, sack.cumulative, &mut progress, &mut acknowledged);
        let mut covered = 0;
        let mut end_of_last = 0;
        let mut is_sorted = true;
        for &(start, end) in sack.gaps {
            is_sorted &= start > end_of_last && start <= end;
            end_of_last = end;
            let (start, end) = (sack.cumulative.add(start.into()), sack.cumulative.add(end.into()));
            if !end.is_before(self.ledger.first()) {
                let from = if start.is_before(self.ledger.first()) { self.ledger.first() } else { start };
                covered += usize::try_from(end.distance(from) + 1).unwrap_or(0);
            }
            let mut from = start;
            while let Some(tsn) = self.ledger.next_unacknowledged(from, end) {
                let Some((chunk, delivered)) = self.ledger.acknowledge(tsn) else { break };
                if !delivered.told {
                    acknowledged(chunk);
                }
                self.on_delivered(now, &delivered, &mut progress);
                from = tsn.next();
            }
        }
        let is_short = sack.gaps.len() < SHORT_REPORT;
        self.order.set_horizon((!is_short).then(|| sack.cumulative.add(reach)));
        let advanced = self.cumulative() != old_cumulative;
        let is_new = advanced || progress.newest.is_some();
        let is_behind = sack.cumulative.is_before(old_cumulative)
            || (is_sorted && covered < self.ledger.acknowledged && is_short);
        let is_taken_back = is_new && is_behind && sack.cumulative == self.cumulative();
        if is_taken_back && self.stats.reneged < MOST_RENEGED {
            self.on_reneged(sack);
        }
        let stale = is_behind && !is_new;
        self.on_duplicates(now, sack.duplicates, &mut progress);
        let window_opened = !stale && self.on_window(sack.window as usize);
        let persistent = is_new && self.probe.on_progress(now, &self.rtt);
        let mut lost = 0;
        self.rate.on_blocks(sack.gaps.len());
        if let Some(newest) = progress.newest {
            self.on_rtt(now, &newest);
            lost = self.find_lost(now, persistent);
            self.tell_controller(now, before, &progress, &newest);
        }
        if progress.undo {
            self.controller.on_spurious(now);
        }
        if window_opened {
            lost += self.on_window_opened();
        }
        self.arm_copies(now);
        Ok(SackOutcome { acknowledged: progress.bytes, advanced, lost, stale })
    }

    /// The peer has everything up to this number, and says no more: SHUTDOWN, RFC 9260 9.2. What gap blocks told
    /// before stays true, and so does its window. `acknowledged` is called as in [`on_sack`](Self::on_sack).
    pub(crate) fn on_cumulative(
        &mut self,
        now: Instant,
        cumulative: Tsn,
        mut acknowledged: impl FnMut(&C),
    ) -> Result<SackOutcome, SackError> {
        let last_sent = self.ledger.next().previous();
        if cumulative.is_after(last_sent) || cumulative.distance(last_sent) < -(1 << 30) {
            return Err(SackError::NeverSent);
        }
        self.heard_at = now;
        let before = self.ledger.in_flight;
        let old_cumulative = self.cumulative();
        let mut progress = Progress::default();
        self.pop(now, cumulative, &mut progress, &mut acknowledged);
        let advanced = self.cumulative() != old_cumulative;
        let persistent = advanced && self.probe.on_progress(now, &self.rtt);
        let mut lost = 0;
        if let Some(newest) = progress.newest {
            self.on_rtt(now, &newest);
            lost = self.find_lost(now, persistent);
            self.tell_controller(now, before, &progress, &newest);
        }
        if progress.undo {
            self.controller.on_spurious(now);
        }
        self.arm_copies(now);
        Ok(SackOutcome { acknowledged: progress.bytes, advanced, lost, stale: !advanced })
    }

    /// Takes everything up to `cumulative` out of the ledger.
    fn pop(
        &mut self,
        now: Instant,
        cumulative: Tsn,
        progress: &mut Progress,
        acknowledged: &mut impl FnMut(&C),
    ) {
        while let Some((chunk, delivered)) = self.ledger.pop(cumulative) {
            if let Some(delivered) = delivered {
                if !delivered.told {
                    acknowledged(&chunk);
                }
                self.on_delivered(now, &delivered, progress);
            }
        }
    }

    fn on_delivered(&mut self, now: Instant, delivered: &Delivered, progress: &mut Progress) {
        progress.bytes += delivered.bytes;
        progress.size += delivered.size;
        self.rate.on_delivered(now, delivered.size);
        if delivered.times > 1 {
            let since_first = now.saturating_duration_since(delivered.first_at);
            if !self.is_of_this_path(delivered.first_at) {
                // Either path may have brought it.
            } else if self.is_too_soon(now, delivered.sent_at) {
                // It was the original, not the copy, RFC 4015.
                if delivered.was_lost {
                    self.on_not_lost(now, delivered.tsn, progress);
                }
                if delivered.times > 2 {
                    return;
                }
            } else if since_first > self.rtt.probe_after() {
                self.copies.on_suspicion(now, delivered.tsn);
            }
        }
        if progress.newest.is_none_or(|newest| delivered.serial > newest.serial) {
            progress.newest = Some(*delivered);
        }
    }

    /// Whether an acknowledgement cannot be for what left at `sent_at`.
    fn is_too_soon(&self, now: Instant, sent_at: Instant) -> bool {
        let least = self.rtt.least();
        self.rtt.is_measured() && now.saturating_duration_since(sent_at) < least - least / 8
    }

    /// A round-trip time, if it is known which transmission was acknowledged (Karn); otherwise the bounds that
    /// it lies in: without them a flight that is always sent twice would never be measured.
    fn on_rtt(&mut self, now: Instant, newest: &Delivered) {
        if !self.is_of_this_path(newest.sent_at) {
            return;
        }
        let since_last = now.saturating_duration_since(newest.sent_at);
        let since_first = now.saturating_duration_since(newest.first_at);
        if !self.is_of_this_path(newest.first_at) {
            // The original may have come by the path before, which says nothing about what left after it.
            if self.rtt.may_be(since_last) {
                self.rack.on_delivered(now, newest.sent_at, newest.serial);
            }
        } else if newest.times == 1 {
            self.rtt.on_sample(now, since_last);
            self.rack.on_delivered(now, newest.sent_at, newest.serial);
        } else if self.is_too_soon(now, newest.sent_at) {
            if newest.times == 2 {
                self.rtt.on_sample(now, since_first);
            }
        } else {
            self.rtt.on_bounds(since_last, since_first);
            // Behind a long queue the original may take so long: what left before the copy is not lost by it.
            if since_first > self.rtt.probe_after() {
                self.rack.on_delivered(now, newest.sent_at, newest.serial);
            }
        }
        if self.recovery.on_delivered(newest.serial) {
            self.rack.on_recovered();
        }
    }

    fn tell_controller(&mut self, now: Instant, before: usize, progress: &Progress, newest: &Delivered) {
        let is_original = newest.times == 1;
        let is_known = is_original || !self.is_too_soon(now, newest.sent_at);
        let least = self.rtt.least();
        let sample = self.rate.sample(newest.sent_at, &newest.snapshot, least).filter(|_| is_known);
        self.controller.on_ack(&Ack {
            now,
            bytes: progress.size,
            before,
            in_flight: self.ledger.in_flight,
            sent_at: newest.sent_at,
            rtt: (is_original && self.is_of_this_path(newest.sent_at))
                .then(|| now.saturating_duration_since(newest.sent_at)),
            smoothed: self.rtt.smoothed(),
            sample,
            delivered: self.rate.delivered,
            prior_delivered: newest.snapshot.delivered,
            limited: newest.snapshot.limited,
        });
    }

    /// Takes for lost what RACK says, and sets its timer for the next. Returns how many.
    pub(super) fn find_lost(&mut self, now: Instant, persistent: bool) -> usize {
        self.reorder_at = None;
        let (mut count, mut bytes, mut newest_at) = (0, 0, None);
        let mut lose = |flight: &mut Self, tsn, sent_at: Instant| {
            let size = flight.take_for_lost(tsn);
            count += 1;
            if flight.is_of_this_path(sent_at) {
                newest_at = newest_at.max(Some(sent_at));
                bytes += size;
            }
        };
        while let Some((_, tsn)) = self.order.oldest_unknown(&self.ledger)
            && self.order.is_known(tsn)
            && let Some(sent) = self.ledger.get(tsn)
        {
            let sent_at = sent.sent_at;
            lose(self, tsn, sent_at);
        }
        while let Some((serial, tsn)) = self.order.oldest(&self.ledger)
            && let Some(sent) = self.ledger.get(tsn)
            && let Some(lost_at) = self.rack.lost_at(sent.sent_at, serial, &self.rtt)
        {
            if lost_at > now {
                self.reorder_at = Some(lost_at);
                break;
            }
            if self.order.is_known(tsn) {
                let sent_at = sent.sent_at;
                lose(self, tsn, sent_at);
            } else {
                self.ledger.mark_unknown(tsn);
                self.order.set_aside();
            }
        }
        let Some(sent_at) = newest_at else { return count };
        self.rate.lost += bytes as u64;
        self.copies.on_loss(now);
        self.controller.on_loss(&Loss { now, bytes, sent_at, persistent });
        count
    }

    fn take_for_lost(&mut self, tsn: Tsn) -> usize {
        let size = self.ledger.mark_lost(tsn).unwrap_or(0);
        self.recovery.on_lost(tsn, self.next_serial);
        self.queue_lost(tsn);
        size
    }

    fn queue_lost(&mut self, tsn: Tsn) {
        // A chunk that is lost again holds up all others: it goes first.
        if self.lost.front().is_some_and(|first| tsn.is_before(*first)) {
            self.lost.push_front(tsn);
        } else {
            self.lost.push_back(tsn);
        }
    }

    fn on_duplicates(&mut self, now: Instant, duplicates: &[Tsn], progress: &mut Progress) {
        for tsn in duplicates {
            self.copies.on_duplicate(*tsn);
            self.on_not_lost(now, *tsn, progress);
        }
    }

    fn on_not_lost(&mut self, now: Instant, tsn: Tsn, progress: &mut Progress) {
        if let Some(undo) = self.recovery.on_not_lost(tsn) {
            self.stats.spurious += 1;
            self.rack.on_spurious(now, &self.rtt);
            progress.undo |= undo;
        }
    }

    /// Returns whether the peer has room again after it had none.
    fn on_window(&mut self, window: usize) -> bool {
        let had_room = self.peer_window >= self.ledger.unacknowledged.max(1);
        self.peer_window = window;
        !had_room && window >= self.ledger.unacknowledged.max(1)
    }

    /// What asked for a closed window was thrown away by the peer, not lost on the path.
    fn on_window_opened(&mut self) -> usize {
        if !self.is_small() {
            return 0;
        }
        let mut tsn = self.ledger.first();
        let mut count = 0;
        while self.ledger.get(tsn).is_some() {
            if self.ledger.mark_lost(tsn).is_some() {
                self.queue_lost(tsn);
                count += 1;
            }
            tsn = tsn.next();
        }
        count
    }

    fn on_reneged(&mut self, sack: &Sack<'_>) {
        let mut gaps = sack.gaps.iter().peekable();
        let is_kept = |tsn: Tsn| {
            let offset = tsn.distance(sack.cumulative);
            while gaps.next_if(|&&(_, end)| i32::from(end) < offset).is_some() {}
            gaps.peek().is_some_and(|&&(start, _)| i32::from(start) <= offset)
        };
        let last = self.ledger.next().previous();
        for tsn in self.ledger.renege(last, is_kept) {
            self.queue_lost(tsn);
        }
        self.stats.reneged += 1;
    }
}
