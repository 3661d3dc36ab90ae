//! The rate at which a path delivers, draft-ietf-ccwg-bbr 4.1.
//!
//! Floor 1, engine, part of `recovery`.
//!
//! # Invariant
//! A sample never exceeds the rate at which its packets left, nor that at which they were acknowledged.

use std::time::{Duration, Instant};

use crate::peer::engine::congestion::RateSample;

/// Gap blocks that nearly fill a packet.
const LONG_REPORT: usize = 250;

/// What had been delivered when a chunk left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    pub(super) delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    lost: u64,
    in_flight: usize,
    pub(super) limited: bool,
}

/// Counts what is delivered.
#[derive(Debug)]
pub(super) struct Rate {
    pub(super) delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    pub(super) lost: u64,
    /// What is sent until so much is delivered was limited by the sender; 0: by the path.
    limited_until: u64,
    /// Snapshots from before that much was delivered say nothing.
    trusted_from: u64,
    was_long: bool,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            lost: 0,
            limited_until: 0,
            trusted_from: 0,
            was_long: false,
        }
    }

    /// The path is another: what left before says nothing about its rate.
    pub(super) fn forget(&mut self, now: Instant) {
        (self.delivered_at, self.first_sent_at) = (now, now);
        // No snapshot so far has that much.
        self.delivered += 1;
        (self.trusted_from, self.limited_until) = (self.delivered, 0);
    }

    /// For a chunk that leaves now, with so much under way before it.
    pub(super) fn snapshot(&mut self, now: Instant, in_flight: usize) -> Snapshot {
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            in_flight,
            limited: self.limited_until > 0,
        }
    }

    /// The sender could have sent more than `in_flight`, and did not.
    pub(super) fn on_limited(&mut self, in_flight: usize) {
        self.limited_until = (self.delivered + in_flight as u64).max(1);
    }

    pub(super) fn on_delivered(&mut self, now: Instant, bytes: usize) {
        self.delivered += bytes as u64;
        self.delivered_at = now;
        if self.limited_until > 0 && self.delivered > self.limited_until {
            self.limited_until = 0;
        }
    }

    /// After `on_delivered`: the SACK had so many gap blocks. A long list may have been cut off; what it did not
    /// tell is told later, all at once, and looks like a burst.
    pub(super) fn on_blocks(&mut self, blocks: usize) {
        let is_long = blocks >= LONG_REPORT;
        if is_long || self.was_long {
            self.trusted_from = self.delivered;
        }
        self.was_long = is_long;
    }

    /// After `on_delivered`: the sample of a chunk that left at `sent_at` with this snapshot.
    pub(super) fn sample(
        &mut self,
        sent_at: Instant,
        snapshot: &Snapshot,
        least: Duration,
    ) -> Option<RateSample> {
        self.first_sent_at = sent_at;
        let sending = sent_at.saturating_duration_since(snapshot.first_sent_at);
        let acknowledging = self.delivered_at.saturating_duration_since(snapshot.delivered_at);
        let interval = sending.max(acknowledging);
        if interval.is_zero() || interval < least || snapshot.delivered < self.trusted_from {
            return None;
        }
        Some(RateSample {
            bytes: self.delivered - snapshot.delivered,
            interval,
            lost: self.lost - snapshot.lost,
            in_flight: snapshot.in_flight,
        })
    }
}
