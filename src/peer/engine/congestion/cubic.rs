//! CUBIC, RFC 9438: what TCP uses, and so the neighbour to measure by.
//!
//! Floor 1, engine, part of `congestion`.
//!
//! # Invariant
//! The window shrinks at most once for the packets of one round trip.

use std::time::{Duration, Instant};

use super::hystart::HyStart;
use super::{Ack, Controller, INITIAL_PACKETS, LEAST_PACKETS, Loss};

/// C of RFC 9438 5, in packets per cubic second.
const C: f64 = 0.4;
/// What is left of the window after a loss.
const BETA: f64 = 0.7;
/// Packets leave this much faster than the window needs, so that pacing is not the limit, RFC 9002 7.7.
const PACING_GAIN: f64 = 1.25;
/// The same in slow start, where the window doubles in a round trip.
const STARTUP_GAIN: f64 = 2.0;

/// RFC 9438 with RFC 9406, paced.
#[derive(Debug)]
pub(crate) struct Cubic {
    max_packet: usize,
    state: State,
    /// Before the last loss, for when it was none.
    before_loss: Option<State>,
    hystart: HyStart,
    /// Losses of packets that left before this are of the round that was answered already.
    recovery_since: Option<Instant>,
    round_ends_at: u64,
    smoothed: Duration,
}

#[derive(Clone, Copy, Debug)]
struct State {
    window: f64,
    slow_start_until: f64,
    /// W_max, in bytes.
    highest: f64,
    /// When the current growth began, the window then, and K in seconds.
    epoch: Option<(Instant, f64, f64)>,
    /// W_est: what Reno would have.
    reno: f64,
}

impl Cubic {
    /// A path of which nothing is known.
    pub(crate) fn new(max_packet: usize) -> Self {
        let window = (INITIAL_PACKETS * max_packet) as f64;
        Self {
            max_packet,
            state: State {
                window,
                slow_start_until: f64::INFINITY,
                highest: window,
                epoch: None,
                reno: window,
            },
            before_loss: None,
            hystart: HyStart::default(),
            recovery_since: None,
            round_ends_at: 0,
            smoothed: Duration::ZERO,
        }
    }

    fn least(&self) -> f64 {
        (LEAST_PACKETS * self.max_packet) as f64
    }

    fn in_slow_start(&self) -> bool {
        self.state.window < self.state.slow_start_until
    }

    fn grow_slowly(&mut self, ack: &Ack) {
        let packet = self.max_packet as f64;
        let state = &mut self.state;
        let (began, from, k) = *state.epoch.get_or_insert_with(|| {
            state.reno = state.window;
            let missing = ((state.highest - state.window) / packet).max(0.0);
            (ack.now, state.window, (missing / C).cbrt())
        });
        let highest = state.highest.max(from);
        let elapsed = (ack.now.saturating_duration_since(began) + ack.smoothed).as_secs_f64();
        let cubic = C * (elapsed - k).powi(3) * packet + highest;
        let target = cubic.clamp(state.window, 1.5 * state.window);
        let alpha = if state.reno < highest { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        let bytes = ack.bytes as f64;
        state.reno += alpha * packet * bytes / state.window;
        state.window += (target - state.window) * bytes / state.window;
        state.window = state.window.max(state.reno.min(1.5 * state.window));
    }
}

impl Controller for Cubic {
    fn on_sent(&mut self, _: Instant, _: usize, _: usize) {}

    fn on_ack(&mut self, ack: &Ack) {
        self.smoothed = ack.smoothed;
        let is_new_round = ack.prior_delivered >= self.round_ends_at;
        if is_new_round {
            self.round_ends_at = ack.delivered;
        }
        // A window that was not used says nothing about the path, RFC 9438 5.8.
        let is_used = ack.before.saturating_add(2 * self.max_packet) >= self.state.window as usize
            || (self.in_slow_start() && ack.before.saturating_mul(2) >= self.state.window as usize);
        let in_recovery = self.recovery_since.is_some_and(|since| ack.sent_at <= since);
        if self.in_slow_start() {
            let is_over = is_new_round && self.hystart.on_round();
            if let Some(rtt) = ack.rtt {
                self.hystart.on_rtt(rtt);
            }
            if is_over {
                self.state.slow_start_until = self.state.window;
                self.state.highest = self.state.window;
            }
        }
        if !is_used || in_recovery {
            // The time that the application took is not the path's.
            self.state.epoch = self.state.epoch.filter(|_| in_recovery);
            return;
        }
        if self.in_slow_start() {
            self.state.window += (ack.bytes / self.hystart.growth_divisor()) as f64;
        } else {
            self.grow_slowly(ack);
        }
    }

    fn on_loss(&mut self, loss: &Loss) {
        if self.recovery_since.is_some_and(|since| loss.sent_at <= since) && !loss.persistent {
            return;
        }
        self.before_loss = Some(self.state);
        self.recovery_since = Some(loss.now);
        let least = self.least();
        let state = &mut self.state;
        // Fast convergence, RFC 9438 4.7.
        state.highest =
            if state.window < state.highest { state.window * (1.0 + BETA) / 2.0 } else { state.window };
        state.window = (state.window * BETA).max(least);
        state.slow_start_until = state.window;
        state.epoch = None;
        if loss.persistent {
            state.window = least;
            // What it knew of queues is of the path as it was; it would end the slow start that follows.
            self.hystart = HyStart::default();
        }
    }

    fn on_spurious(&mut self, _: Instant) {
        if let Some(before) = self.before_loss.take()
            && before.window > self.state.window
        {
            self.state = before;
        }
    }

    fn window(&self) -> usize {
        self.state.window as usize
    }

    fn pacing_rate(&self) -> Option<u64> {
        if self.smoothed.is_zero() {
            return None;
        }
        let gain = if self.in_slow_start() { STARTUP_GAIN } else { PACING_GAIN };
        Some((gain * self.state.window / self.smoothed.as_secs_f64()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PACKET: usize = 1200;

    /// A window's worth is acknowledged, and a round ends.
    fn round(cubic: &mut Cubic, now: Instant, delivered: &mut u64, rtt: Duration) {
        let window = cubic.window();
        let prior_delivered = *delivered;
        for _ in 0..window / PACKET {
            *delivered += PACKET as u64;
            cubic.on_ack(&Ack {
                now,
                bytes: PACKET,
                before: window,
                in_flight: window - PACKET,
                sent_at: now - rtt,
                rtt: Some(rtt),
                smoothed: rtt,
                sample: None,
                delivered: *delivered,
                prior_delivered,
                limited: false,
            });
        }
    }

    fn loss(now: Instant, sent_at: Instant, persistent: bool) -> Loss {
        Loss { now, bytes: PACKET, sent_at, persistent }
    }

    #[test]
    fn the_window_doubles_until_a_loss_and_shrinks_once_for_a_round() {
        let mut now = Instant::now() + Duration::from_secs(1);
        let (mut cubic, mut delivered) = (Cubic::new(PACKET), 0);
        let first = cubic.window();
        round(&mut cubic, now, &mut delivered, 40 * MS);
        assert_eq!(cubic.window(), 2 * first);
        now += 40 * MS;
        cubic.on_loss(&loss(now, now - 40 * MS, false));
        cubic.on_loss(&loss(now, now - MS, false));
        assert!(cubic.window().abs_diff(first * 14 / 10) < 2);
        cubic.on_spurious(now);
        assert_eq!(cubic.window(), 2 * first);
        cubic.on_loss(&loss(now, now + MS, true));
        assert_eq!(cubic.window(), LEAST_PACKETS * PACKET);
    }

    #[test]
    fn after_a_loss_it_comes_back_to_where_it_was_in_the_time_that_k_says() {
        let mut now = Instant::now() + Duration::from_secs(1);
        let (mut cubic, mut delivered) = (Cubic::new(PACKET), 0);
        for _ in 0..3 {
            round(&mut cubic, now, &mut delivered, 100 * MS);
            now += 100 * MS;
        }
        let before = cubic.window();
        cubic.on_loss(&loss(now, now - MS, false));
        // K = cbrt(256 * 0.3 / 0.4) = 5.8 s.
        let began = now;
        while cubic.window() < before * 99 / 100 {
            now += 100 * MS;
            round(&mut cubic, now, &mut delivered, 100 * MS);
        }
        let took = now - began;
        assert!((4000 * MS..6500 * MS).contains(&took), "{took:?}");
    }

    #[test]
    fn after_an_outage_it_starts_as_on_a_new_path() {
        let mut now = Instant::now() + Duration::from_secs(1);
        let (mut cubic, mut delivered) = (Cubic::new(PACKET), 0);
        // A queue grows: slow start ends by HyStart++.
        for millis in [40, 40, 60, 80, 80, 80, 80, 80, 80] {
            round(&mut cubic, now, &mut delivered, millis * MS);
            now += millis * MS;
        }
        assert!(!cubic.in_slow_start());
        cubic.on_loss(&loss(now, now, true));
        for _ in 0..5 {
            now += 80 * MS;
            round(&mut cubic, now, &mut delivered, 80 * MS);
        }
        // The packets of the first round left before the loss was known.
        assert_eq!(cubic.window(), 16 * LEAST_PACKETS * PACKET);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let now = Instant::now() + Duration::from_secs(1);
        let mut cubic = Cubic::new(PACKET);
        let window = cubic.window();
        for _ in 0..100 {
            cubic.on_ack(&Ack {
                now,
                bytes: PACKET,
                before: PACKET,
                in_flight: 0,
                sent_at: now,
                rtt: Some(40 * MS),
                smoothed: 40 * MS,
                sample: None,
                delivered: 1,
                prior_delivered: 0,
                limited: true,
            });
        }
        assert_eq!(cubic.window(), window);
    }
}
