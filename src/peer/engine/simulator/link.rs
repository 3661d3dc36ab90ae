//! One direction of a path: a queue, a rate, a delay, and what goes wrong on the way.
//!
//! # Invariant
//! The same seed and the same packets at the same times make the same arrivals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::time::{Duration, Instant};

/// What a direction of a path is like. The default has 20 ms, no loss and no end of room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkConfig {
    /// One way, without queue.
    pub(crate) delay: Duration,
    /// Up to so much is added to the delay of each packet, so that packets overtake each other.
    pub(crate) jitter: Duration,
    /// Share of packets lost at random, after the queue.
    pub(crate) loss: f64,
    /// Share of packets that are held back by half of the delay.
    pub(crate) reorder: f64,
    /// Share of packets that arrive twice.
    pub(crate) duplicate: f64,
    /// Bytes a second; none: no limit.
    pub(crate) rate: Option<u64>,
    /// Bytes that wait before the rate; what does not fit is dropped.
    pub(crate) queue: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(20),
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            duplicate: 0.0,
            rate: None,
            queue: usize::MAX,
        }
    }
}

/// A direction of a path, with packets of type P under way.
pub(crate) struct Link<P> {
    pub(crate) config: LinkConfig,
    random: fastrand::Rng,
    busy_until: Option<Instant>,
    arrivals: BinaryHeap<Reverse<Arrival<P>>>,
    count: u64,
    /// Packets sent, lost at random, dropped by the queue.
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) dropped: u64,
    /// The longest that a packet waited in the queue.
    pub(crate) longest_wait: Duration,
}

struct Arrival<P> {
    at: Instant,
    order: u64,
    packet: P,
}

impl<P: Clone> Link<P> {
    /// An empty link. Print the seed, so that a failure can be had again.
    pub(crate) fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config,
            random: fastrand::Rng::with_seed(seed),
            busy_until: None,
            arrivals: BinaryHeap::new(),
            count: 0,
            sent: 0,
            lost: 0,
            dropped: 0,
            longest_wait: Duration::ZERO,
        }
    }

    /// A packet of so many bytes enters.
    pub(crate) fn send(&mut self, now: Instant, packet: P, bytes: usize) {
        self.sent += 1;
        let mut leaves = now;
        if let Some(rate) = self.config.rate {
            let begins = self.busy_until.unwrap_or(now).max(now);
            let waits = begins - now;
            let backlog = waits.as_secs_f64() * rate as f64;
            if backlog as usize + bytes > self.config.queue.max(bytes) {
                self.dropped += 1;
                return;
            }
            self.longest_wait = self.longest_wait.max(waits);
            leaves = begins + Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.busy_until = Some(leaves);
        }
        if self.random.f64() < self.config.loss {
            self.lost += 1;
            return;
        }
        let copies = if self.random.f64() < self.config.duplicate { 2 } else { 1 };
        for _ in 0..copies {
            let mut at = leaves + self.config.delay + self.config.jitter.mul_f64(self.random.f64());
            if self.random.f64() < self.config.reorder {
                at += self.config.delay / 2;
            }
            self.count += 1;
            self.arrivals.push(Reverse(Arrival { at, order: self.count, packet: packet.clone() }));
        }
    }

    /// When the next packet arrives.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.arrivals.peek().map(|Reverse(arrival)| arrival.at)
    }

    /// A packet that has arrived by now.
    pub(crate) fn receive(&mut self, now: Instant) -> Option<P> {
        if self.next_arrival()? > now {
            return None;
        }
        self.arrivals.pop().map(|Reverse(arrival)| arrival.packet)
    }
}

impl<P> fmt::Debug for Link<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, sent, lost, dropped, longest_wait, .. } = self;
        write!(f, "{config:?}: {sent} sent, {lost} lost, {dropped} dropped, longest wait {longest_wait:?}")
    }
}

impl<P> PartialEq for Arrival<P> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<P> Eq for Arrival<P> {}

impl<P> PartialOrd for Arrival<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> Ord for Arrival<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn packets_wait_for_the_rate_and_are_dropped_by_a_full_queue() {
        let now = Instant::now();
        let config = LinkConfig { rate: Some(1_000_000), queue: 3000, ..LinkConfig::default() };
        let mut link = Link::new(config, 1);
        for number in 0..5 {
            link.send(now, number, 1000);
        }
        assert_eq!((link.sent, link.dropped), (5, 2));
        assert_eq!(link.receive(now + 20 * MS), None);
        let arrived: Vec<_> = (21..30).map(|at| link.receive(now + at * MS)).collect();
        assert_eq!(arrived[..4], [Some(0), Some(1), Some(2), None]);
    }

    #[test]
    fn jitter_lets_packets_overtake_and_loss_takes_its_share() {
        let now = Instant::now();
        let config = LinkConfig { jitter: 5 * MS, loss: 0.1, ..LinkConfig::default() };
        let mut link = Link::new(config, 7);
        for number in 0..10_000 {
            link.send(now + number * MS, number, 100);
        }
        let arrived: Vec<_> = std::iter::from_fn(|| link.receive(now + 20_000 * MS)).collect();
        assert!((8_900..9_100).contains(&arrived.len()), "{link:?}");
        assert!(arrived.windows(2).any(|pair| pair[0] > pair[1]));
    }
}
