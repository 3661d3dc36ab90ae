//! Spreads packets over time.
//!
//! Floor 1, engine, part of `congestion`.
//!
//! # Invariant
//! Over any interval no more leaves than the rate allows plus one burst.

use std::time::{Duration, Instant};

/// What may leave at once after a pause, in packets, RFC 9002 7.7.
const BURST_PACKETS: usize = 10;

/// And what may leave at once in any case, as time at the rate: timers are not finer.
const BURST_TIME: Duration = Duration::from_millis(2);

/// Round trips shorter than this are not paced: a wait would be longer than the path.
const UNPACED_RTT: Duration = Duration::from_millis(1);

/// When the next packet may leave.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// All that has left would have left by then at the rate.
    paid_until: Instant,
    max_packet: usize,
}

impl Pacer {
    /// A pacer that has a burst to give.
    pub(crate) fn new(max_packet: usize, now: Instant) -> Self {
        Self { paid_until: now, max_packet }
    }

    /// Whether a packet may leave now.
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        self.paid_until <= now
    }

    /// When a packet may leave.
    pub(crate) fn next(&self) -> Instant {
        self.paid_until
    }

    /// A packet left at this rate in bytes a second, on a path with this round-trip time.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: usize, rate: Option<u64>, rtt: Duration) {
        let Some(rate) = rate.filter(|_| rtt >= UNPACED_RTT) else {
            self.paid_until = now.checked_sub(BURST_TIME).unwrap_or(now);
            return;
        };
        let burst = time_of(BURST_PACKETS.saturating_mul(self.max_packet), rate).max(BURST_TIME);
        let oldest = now.checked_sub(burst).unwrap_or(now);
        self.paid_until = self.paid_until.max(oldest) + time_of(bytes, rate);
    }
}

/// How long so many bytes take at a rate; at most ten seconds.
fn time_of(bytes: usize, rate: u64) -> Duration {
    let nanos = (bytes as u64).saturating_mul(1_000_000_000) / rate.max(1);
    Duration::from_nanos(nanos.min(10_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn after_a_burst_packets_leave_at_the_rate() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut pacer = Pacer::new(1000, start - 100 * MS);
        let mut sent_at_once = 0;
        while pacer.may_send(start) {
            pacer.on_sent(start, 1000, Some(1_000_000), 40 * MS);
            sent_at_once += 1;
        }
        assert_eq!(sent_at_once, BURST_PACKETS + 1);
        let mut now = start;
        for _ in 0..100 {
            now = now.max(pacer.next());
            pacer.on_sent(now, 1000, Some(1_000_000), 40 * MS);
        }
        assert_eq!(now - start, 100 * MS);
    }

    #[test]
    fn short_paths_are_not_paced() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut pacer = Pacer::new(1000, now);
        for _ in 0..1000 {
            assert!(pacer.may_send(now));
            pacer.on_sent(now, 1000, Some(1), MS / 2);
        }
    }
}
