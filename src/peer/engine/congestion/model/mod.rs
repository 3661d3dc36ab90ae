//! The default: a model of the path instead of a reaction to each loss.
//!
//! Floor 1, engine, part of `congestion`. After BBR (draft-ietf-ccwg-bbr): the rate that the path delivers and
//! its least round-trip time say how much belongs under way, and packets leave at that rate. Now and then it
//! asks for a quarter more, for a round trip. Differences, and why:
//! - Only loss beyond what the path always loses counts ([`losses`]): a radio with 5 % loss is not congested.
//! - A queue of its own is bounded by time, [`SLACK`], not by a second round trip: a call beside an upload
//!   waits for it. Startup ends when a queue grows, as in HyStart++, not only when the rate does not.
//! - A queue that cannot be its own says that the path has changed: the rate is taken anew and the path emptied.
//! - A queue that stands though it asks for no more than it gets is kept by others: it takes part in it, or it
//!   would be pushed out.
//!
//! Measured in `recovery::simulation` (virtual time, one seed): 60 MB/s, 40 ms, an eighth of a round trip of
//! buffer: 47, 46, 42 and 19 MB/s with 0, 1, 5 and 20 % loss, where CUBIC has 0.52 at 1 %. 10 Mbit/s, one product of
//! buffer, beside one CUBIC flow: 0.50 to 1.60 times its rate for round trips of 20 to 200 ms; at 300 ms a seventh.
//! 100 Mbit/s with 2 ms of buffer: CUBIC gets a thirtieth beside it, because what is asked for above the rate twice a
//! second is CUBIC's loss, and ours is too little to count.
//! A call beside an upload, p99 above the round trip: 41, 69, 66 ms at 1 Mbit/s and 10, 40, 300 ms; less than 50 ms
//! from 10 Mbit/s on. With long pipes and much loss the 280 blocks that fit into a SACK are the limit.
//!
//! # Invariant
//! The window is at least [`LEAST`] packets, while the path is emptied at least one, and beyond startup at most what
//! the path delivers in its least round-trip time and the slack.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::{Ack, Controller, INITIAL_PACKETS, Loss};

mod bandwidth;
mod delay;
mod losses;
mod phase;

use bandwidth::Bandwidth;
use delay::Delay;
use losses::{Losses, Verdict};
use phase::Phase;

/// Packets that may always be under way: SACKs come for every second.
const LEAST: usize = 4;
/// Queue that is allowed for, as time at the estimated rate: jitter, late SACKs, and a foothold beside flows
/// that fill the queue.
const SLACK: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(40);
/// The same where a round trip is shorter than a millisecond: the queue is a socket's buffer there.
const LOCAL_SLACK: Duration = Duration::from_millis(5);
/// The same beside flows that keep a queue anyway: with less we would be pushed out.
const CONTESTED_SLACK: Duration = Duration::from_millis(200);
/// What is left after loss while a queue stands, and without one.
const BETA: f64 = 0.7;
const BETA_UNQUEUED: f64 = 0.85;
/// Room left for others below a bound that loss has shown.
const HEADROOM: f64 = 0.85;

/// Rate and delay of a path, and what follows from them.
#[derive(Debug)]
pub(crate) struct Model {
    max_packet: usize,
    bandwidth: Bandwidth,
    delay: Delay,
    losses: Losses,
    phase: Phase,
    /// Rounds: ends when so much is delivered.
    round_ends_at: u64,
    /// Most under way in this round, and the highest rate of it that the sender did not limit.
    round_in_flight: usize,
    round_rate: u64,
    round_limited: bool,
    /// Startup: rounds without growth, and the rate to grow from.
    full_rate: u64,
    full_rounds: u32,
    /// Beyond this many bytes under way there was loss.
    bound: f64,
    bound_before: Option<f64>,
    cut_at: Option<Instant>,
    /// Others keep a queue: one stands even when we ask for no more than we get.
    contested: bool,
    hint: Duration,
    /// Only spreads the probes of flows that share a path.
    random: fastrand::Rng,
}

impl Model {
    /// A path of which nothing is known but perhaps its round-trip time. `seed` is the flow's own.
    pub(crate) fn new(max_packet: usize, hint: Option<Duration>, now: Instant, seed: u64) -> Self {
        Self {
            max_packet,
            bandwidth: Bandwidth::default(),
            delay: Delay::new(now),
            losses: Losses::new(max_packet),
            phase: Phase::Startup,
            round_ends_at: 0,
            round_in_flight: 0,
            round_rate: 0,
            round_limited: false,
            full_rate: 0,
            full_rounds: 0,
            bound: f64::INFINITY,
            bound_before: None,
            cut_at: None,
            contested: false,
            hint: hint.unwrap_or(Duration::from_millis(20)).max(Duration::from_millis(1)),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn packets(&self, count: usize) -> f64 {
        (count * self.max_packet) as f64
    }

    fn least_rtt(&self) -> Duration {
        self.delay.least().unwrap_or(self.hint)
    }

    fn slack(&self) -> Duration {
        let least = self.least_rtt();
        if self.contested {
            return (least * 2 / 3).clamp(*SLACK.start(), CONTESTED_SLACK);
        }
        if least < Duration::from_millis(1) { LOCAL_SLACK } else { least.clamp(*SLACK.start(), *SLACK.end()) }
    }

    /// What the path holds without a queue.
    fn pipe(&self) -> f64 {
        self.bandwidth.estimate() as f64 * self.least_rtt().as_secs_f64()
    }

    fn on_round(&mut self, ack: &Ack) {
        let queued = self.is_queued();
        // Who asks for more than the path gives fills its queue, which may be too short to be seen.
        let is_own = queued || !(self.round_limited || matches!(self.phase, Phase::Cruise { .. }));
        let verdict = if self.round_limited && self.phase != Phase::Startup {
            self.losses.on_round(is_own);
            Verdict::Open
        } else {
            self.losses.on_round(is_own)
        };
        // In startup the path's own share is not known yet; growth tells more.
        if verdict == Verdict::Congested && self.phase != Phase::Startup {
            self.on_congestion(ack.now, queued);
        }
        self.on_phase_round(ack, verdict);
        self.delay.on_round();
        (self.round_in_flight, self.round_rate, self.round_limited) = (ack.in_flight, 0, false);
        self.round_ends_at = ack.delivered;
    }

    /// More is lost than the path loses. What left before does not count again.
    pub(super) fn on_congestion(&mut self, now: Instant, queued: bool) {
        self.bound_before.get_or_insert(self.bound);
        self.cut_at = Some(now);
        let reached = (self.round_in_flight as f64).max(self.pipe()).min(self.bound);
        let beta = if queued { BETA } else { BETA_UNQUEUED };
        self.bound = (beta * reached).max(self.packets(LEAST));
    }

    /// Whether what left then says something about the present bound.
    fn counts(&self, sent_at: Instant) -> bool {
        self.cut_at.is_none_or(|at| sent_at > at)
    }

    /// Whether a queue stands that is more than what a few packets make of themselves.
    pub(super) fn is_queued(&self) -> bool {
        let own = self.packets(3) / (self.bandwidth.estimate() as f64).max(1.0);
        self.delay.is_queued(Duration::from_secs_f64(own.min(1.0)))
    }
}

impl Controller for Model {
    fn on_sent(&mut self, _: Instant, _: usize, in_flight: usize) {
        self.round_in_flight = self.round_in_flight.max(in_flight);
    }

    fn on_ack(&mut self, ack: &Ack) {
        if self.counts(ack.sent_at) {
            self.losses.on_ack(ack.bytes);
        }
        if let Some(rtt) = ack.rtt {
            self.delay.on_sample(ack.now, rtt);
        }
        self.round_limited |= ack.limited;
        if let Some(sample) = &ack.sample {
            self.bandwidth.on_sample(sample, ack.limited);
            if !ack.limited {
                self.round_rate = self.round_rate.max(sample.rate());
            }
        }
        if ack.prior_delivered >= self.round_ends_at {
            self.on_round(ack);
        }
        self.on_phase_ack(ack);
    }

    fn on_loss(&mut self, loss: &Loss) {
        if self.counts(loss.sent_at) {
            self.losses.on_loss(loss.bytes);
        }
        if loss.persistent {
            self.bandwidth.replace(self.bandwidth.estimate() / 2);
            self.bound_before.get_or_insert(self.bound);
            self.bound = self.packets(LEAST);
            self.enter_startup();
        }
    }

    fn on_spurious(&mut self, _: Instant) {
        self.losses.forgive();
        if let Some(before) = self.bound_before.take() {
            self.bound = self.bound.max(before);
        }
    }

    fn window(&self) -> usize {
        let least = self.packets(LEAST);
        let rate = self.bandwidth.estimate() as f64;
        let window = match self.phase {
            Phase::Startup => (2.0 * self.pipe()).max(self.packets(INITIAL_PACKETS)),
            Phase::Empty { .. } => return (self.pipe() / 2.0).min(self.bound).max(self.packets(1)) as usize,
            Phase::Cruise { .. } | Phase::Drain | Phase::Down { .. } | Phase::Up { .. } => {
                let slack = (rate * self.slack().as_secs_f64()).max(self.packets(3));
                let most = self.pipe() + slack;
                let headroom = if matches!(self.phase, Phase::Up { .. }) { 1.0 } else { HEADROOM };
                most.min(self.bound * headroom)
            }
        };
        window.min(self.bound).max(least) as usize
    }

    fn pacing_rate(&self) -> Option<u64> {
        let mut rate = self.bandwidth.estimate() as f64;
        if self.phase == Phase::Startup {
            // Small messages so far say nothing of the path.
            rate = rate.max(self.packets(INITIAL_PACKETS) / self.least_rtt().as_secs_f64());
        }
        Some((self.phase.pacing_gain() * rate) as u64)
    }
}

#[cfg(test)]
mod tests;
