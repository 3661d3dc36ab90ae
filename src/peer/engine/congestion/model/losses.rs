//! Tells losses of a full queue from those of a bad path.
//!
//! Floor 1, engine, part of `congestion`'s model. A radio loses its share at any rate; a full queue loses more
//! than the path did before. So the share of the path is learnt while there is no queue and no more is asked for than
//! it gives, as the median of some epochs, and only what exceeds it is congestion.
//!
//! # Invariant
//! Loss that may be our own doing is never learnt as the path's. A queue of a few milliseconds that others fill is
//! not seen: what it loses is.

use std::collections::VecDeque;

/// An epoch has at least so many packets: fewer say nothing about a share.
const EPOCH_PACKETS: usize = 40;
/// Epochs whose median is the path's share.
const EPOCHS: usize = 7;
/// Loss beyond the path's that is borne, draft-ietf-ccwg-bbr's BBRLossThresh.
const THRESHOLD: f64 = 0.02;
/// However much a path loses, a half is not believed to be its own.
const MOST: f64 = 0.4;

/// Counts losses by epochs of at least a round trip.
#[derive(Debug)]
pub(super) struct Losses {
    max_packet: usize,
    delivered: usize,
    lost: usize,
    shares: VecDeque<f64>,
}

/// What an epoch showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Too few packets yet.
    Open,
    /// No more was lost than the path loses.
    Clear,
    /// More than the path loses.
    Congested,
}

impl Losses {
    pub(super) fn new(max_packet: usize) -> Self {
        Self { max_packet, delivered: 0, lost: 0, shares: VecDeque::new() }
    }

    pub(super) fn on_ack(&mut self, bytes: usize) {
        self.delivered += bytes;
    }

    pub(super) fn on_loss(&mut self, bytes: usize) {
        self.lost += bytes;
    }

    /// What was taken for lost was not.
    pub(super) fn forgive(&mut self) {
        self.lost = 0;
    }

    /// A round trip ends. `own`: its losses may be our own doing.
    pub(super) fn on_round(&mut self, own: bool) -> Verdict {
        let all = (self.delivered + self.lost) as f64 / self.max_packet as f64;
        let lost = self.lost as f64 / self.max_packet as f64;
        let expected = self.share() * 1.25 + THRESHOLD;
        // Two standard deviations of chance, and one packet.
        let most = all * expected + 2.0 * (all * expected).sqrt() + 1.0;
        let is_congested = lost > most;
        if all < EPOCH_PACKETS as f64 && !is_congested {
            return Verdict::Open;
        }
        if !own {
            self.shares.push_back((lost / all).min(MOST));
            if self.shares.len() > EPOCHS {
                self.shares.pop_front();
            }
        }
        (self.delivered, self.lost) = (0, 0);
        if is_congested { Verdict::Congested } else { Verdict::Clear }
    }

    /// The share that the path itself loses.
    pub(super) fn share(&self) -> f64 {
        let mut sorted: Vec<f64> = self.shares.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(losses: &mut Losses, lost: usize, own: bool) -> Verdict {
        losses.on_ack((1000 - lost) * 1200);
        losses.on_loss(lost * 1200);
        losses.on_round(own)
    }

    #[test]
    fn what_a_path_always_loses_is_borne_and_more_is_not() {
        let mut losses = Losses::new(1200);
        assert_eq!(epoch(&mut losses, 10, false), Verdict::Clear);
        assert_eq!(epoch(&mut losses, 50, false), Verdict::Congested);
        for _ in 0..6 {
            epoch(&mut losses, 50, false);
        }
        assert_eq!(epoch(&mut losses, 60, false), Verdict::Clear);
        assert_eq!(epoch(&mut losses, 150, false), Verdict::Congested);
    }

    #[test]
    fn what_a_full_queue_loses_is_not_taken_for_the_paths() {
        let mut losses = Losses::new(1200);
        for _ in 0..50 {
            assert_eq!(epoch(&mut losses, 50, true), Verdict::Congested);
        }
        assert_eq!(losses.share(), 0.0);
    }

    #[test]
    fn few_packets_say_nothing() {
        let mut losses = Losses::new(1200);
        losses.on_ack(10 * 1200);
        losses.on_loss(1200);
        assert_eq!(losses.on_round(false), Verdict::Open);
    }
}
