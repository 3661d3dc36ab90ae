//! The model, acknowledgement by acknowledgement.

use super::*;
use crate::peer::engine::congestion::RateSample;

const MS: Duration = Duration::from_millis(1);
const PACKET: usize = 1200;
const RTT: Duration = Duration::from_millis(40);

/// A model and what it is told.
struct Bench {
    model: Model,
    now: Instant,
    delivered: u64,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now() + Duration::from_secs(1);
        Self { model: Model::new(PACKET, Some(RTT), now, 1), now, delivered: 0 }
    }

    /// A round trip that took `rtt` and delivered at `rate` bytes a second.
    fn round(&mut self, rate: u64, rtt: Duration, limited: bool) {
        let bytes = (rate as f64 * RTT.as_secs_f64()) as u64;
        let prior_delivered = self.delivered;
        for _ in 0..10 {
            self.now += rtt / 10;
            self.delivered += bytes / 10;
            self.model.on_ack(&Ack {
                now: self.now,
                bytes: bytes as usize / 10,
                before: bytes as usize,
                in_flight: bytes as usize,
                sent_at: self.now - rtt,
                rtt: Some(rtt),
                smoothed: rtt,
                sample: Some(RateSample { bytes, interval: RTT, lost: 0, in_flight: 0 }),
                delivered: self.delivered,
                prior_delivered,
                limited,
            });
        }
    }
}

#[test]
fn a_rate_that_the_application_limited_never_replaces_the_estimate() {
    for limited in [true, false] {
        let mut bench = Bench::new();
        for _ in 0..10 {
            bench.round(1_000_000, RTT, false);
        }
        // A queue that this flow cannot have made.
        for _ in 0..5 {
            bench.round(10_000, RTT + 300 * MS, limited);
        }
        let estimate = bench.model.bandwidth.estimate();
        assert_eq!(estimate >= 1_000_000, limited, "{limited}: {estimate}");
    }
}

#[test]
fn loss_is_learnt_as_the_paths_only_while_no_more_is_asked_for_than_it_gives() {
    let cruise = Phase::Cruise { until: Instant::now() + Duration::from_secs(3600), clear: true };
    let phases = [Phase::Drain, Phase::Down { rounds: 0 }, Phase::Up { rounds: 0, from: 1_000_000 }, cruise];
    for (phase, limited, is_learnt) in
        phases.map(|phase| (phase, false, phase == cruise)).into_iter().chain([(Phase::Startup, true, true)])
    {
        let mut bench = Bench::new();
        for _ in 0..10 {
            bench.round(1_000_000, RTT, limited);
        }
        bench.model.phase = phase;
        bench.model.losses = Losses::new(PACKET);
        bench.model.losses.on_loss(10 * PACKET);
        for _ in 0..2 {
            bench.model.losses.on_ack(100 * PACKET);
            bench.round(1_000_000, RTT, limited);
            bench.model.phase = phase;
        }
        assert_eq!(bench.model.losses.share() > 0.0, is_learnt, "{phase:?}");
    }
}
