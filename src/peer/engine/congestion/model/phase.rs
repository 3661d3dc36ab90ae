//! What the model does with time: find the rate, empty the queue, keep the rate, ask for more.
//!
//! Floor 1, engine, part of `congestion`'s model.
//!
//! # Invariant
//! From every phase but `Cruise` a bounded number of rounds leads on, and `Cruise` ends by time.

use std::time::{Duration, Instant};

use super::Model;
use super::losses::Verdict;
use crate::peer::engine::congestion::Ack;

/// Growth of the rate in a round that is growth, draft-ietf-ccwg-bbr 5.3.1.2.
const GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;
/// How far above the rate `Up` goes.
const UP: f64 = 1.25;
/// Growth in `Up` that is worth more rounds, and how many: what is sent in one is seen in the next.
const UP_GROWTH: f64 = 1.1;
const UP_ROUNDS: u32 = 2;
/// `Down` ends after so many rounds even if others keep the queue full.
const DOWN_ROUNDS: u32 = 3;
/// Between two probes for more, in round trips, and at least as time.
const CRUISE_ROUNDS: u32 = 8;
const CRUISE_TIME: Duration = Duration::from_millis(500);
/// How long the path is kept empty, beside a round trip.
const EMPTY_TIME: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// Doubles the rate in each round until it no longer grows or a queue does.
    Startup,
    /// Lets the queue go that startup made.
    Drain,
    /// Keeps the rate.
    Cruise { until: Instant, clear: bool },
    /// Asks for a quarter more.
    Up { rounds: u32, from: u64 },
    /// Lets the queue go that `Up` made.
    Down { rounds: u32 },
    /// Half of the path, to see its least round-trip time.
    Empty { until: Option<Instant>, least: Option<Duration> },
}

impl Phase {
    pub(super) fn pacing_gain(self) -> f64 {
        match self {
            // 4 ln 2, draft-ietf-ccwg-bbr 2.4.
            Self::Startup => 2.77,
            Self::Drain => 0.5,
            // A little less than the highest rate seen, so that no queue creeps up.
            Self::Cruise { .. } | Self::Empty { .. } => 0.98,
            Self::Up { .. } => UP,
            Self::Down { .. } => 0.75,
        }
    }
}

impl Model {
    pub(super) fn enter_startup(&mut self) {
        (self.phase, self.full_rate, self.full_rounds) = (Phase::Startup, 0, 0);
    }

    /// A round ends.
    pub(super) fn on_phase_round(&mut self, ack: &Ack, verdict: Verdict) {
        let rate = self.bandwidth.estimate();
        let queued = self.is_queued();
        match &mut self.phase {
            Phase::Startup => {
                if self.round_limited {
                    return;
                }
                let grew = rate as f64 >= self.full_rate as f64 * GROWTH;
                if grew {
                    (self.full_rate, self.full_rounds) = (rate, 0);
                } else {
                    self.full_rounds += 1;
                }
                let is_congested = !grew && verdict == Verdict::Congested;
                if is_congested {
                    self.on_congestion(ack.now, true);
                }
                if self.full_rounds >= FULL_ROUNDS || is_congested {
                    self.phase = Phase::Drain;
                }
            }
            Phase::Up { rounds, from } => {
                *rounds += 1;
                if rate as f64 >= *from as f64 * UP_GROWTH {
                    (*rounds, *from) = (0, rate);
                }
                let grew = *rounds < UP_ROUNDS;
                let is_full = ack.before as f64 >= UP * self.pipe() || (queued && !self.contested);
                if verdict == Verdict::Congested || (!grew && is_full) || self.round_limited {
                    self.leave_up();
                } else if self.round_in_flight as f64 >= 0.8 * self.bound {
                    self.bound *= UP;
                } else if self.bound > 4.0 * self.pipe() {
                    self.bound = f64::INFINITY;
                }
            }
            Phase::Cruise { clear, .. } => *clear |= !queued,
            Phase::Down { rounds } => *rounds += 1,
            Phase::Drain | Phase::Empty { .. } => {}
        }
    }

    /// Something was acknowledged.
    pub(super) fn on_phase_ack(&mut self, ack: &Ack) {
        let now = ack.now;
        let pipe =
            self.pipe().min(self.bound).max(super::super::LEAST_PACKETS as f64 * self.max_packet as f64);
        match self.phase {
            Phase::Startup => {
                if self.bandwidth.estimate() > 0 && self.is_queued() && !ack.limited {
                    self.phase = Phase::Drain;
                }
            }
            Phase::Drain => {
                if ack.in_flight as f64 <= pipe {
                    self.enter_cruise(now);
                }
            }
            Phase::Cruise { until, clear } => {
                if self.delay.is_stale(now) || self.is_another_path() {
                    self.enter_empty();
                } else if now >= until && !ack.limited {
                    self.phase = Phase::Up { rounds: 0, from: self.bandwidth.estimate() };
                    self.bound_before = None;
                    self.contested = !clear;
                }
            }
            Phase::Up { .. } => {}
            Phase::Down { rounds } => {
                if ack.in_flight as f64 <= pipe || rounds >= DOWN_ROUNDS {
                    self.enter_cruise(now);
                }
            }
            Phase::Empty { until, least } => self.on_empty_ack(ack, until, least),
        }
    }

    fn leave_up(&mut self) {
        self.bandwidth.on_cycle();
        self.phase = Phase::Down { rounds: 0 };
    }

    fn enter_cruise(&mut self, now: Instant) {
        let wait = (CRUISE_ROUNDS * self.least_rtt()).max(CRUISE_TIME);
        self.phase =
            Phase::Cruise { until: now + wait.mul_f64(0.75 + 0.5 * self.random.f64()), clear: false };
    }

    fn enter_empty(&mut self) {
        self.phase = Phase::Empty { until: None, least: None };
    }

    /// Whether the queue is longer than this flow could have made it at the rate that it believes in.
    fn is_another_path(&mut self) -> bool {
        let is_so = self.delay.queue() > 2 * self.slack() + Duration::from_millis(20);
        if is_so && self.round_rate > 0 {
            self.bandwidth.replace(self.round_rate);
        }
        is_so
    }

    fn on_empty_ack(&mut self, ack: &Ack, until: Option<Instant>, least: Option<Duration>) {
        let target = (self.pipe() / 2.0).max(self.packets(1)) + self.packets(1);
        match until {
            None => {
                let is_empty = ack.in_flight as f64 <= target;
                let until = is_empty.then(|| ack.now + self.least_rtt() + EMPTY_TIME);
                self.phase = Phase::Empty { until, least };
            }
            Some(at) => {
                let least = least.into_iter().chain(ack.rtt).min();
                self.phase = Phase::Empty { until, least };
                if ack.now >= at {
                    if let Some(least) = least {
                        self.delay.replace(ack.now, least);
                    }
                    self.enter_cruise(ack.now);
                }
            }
        }
    }
}
