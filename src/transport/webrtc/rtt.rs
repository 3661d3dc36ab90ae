//! The round trip time, as far as acknowledgements show it.
//!
//! Pure; the clock is an argument. One frame at a time is watched from the moment it is handed to the stack
//! until the stack knows that the peer has it. Delayed acknowledgements and busy tasks only make a sample
//! longer, so the shortest one of late is the best.
//!
//! # Invariant
//! Every sample is at least the round trip time of the path. Nothing older than two windows is kept.

use std::time::Duration;

use tokio::time::Instant;

/// How long the shortest sample is believed, at least.
const WINDOW: Duration = Duration::from_secs(5);

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Rtt {
    watched: Option<(u64, Instant)>,
    window: Option<(Instant, Duration)>,
    before: Option<Duration>,
    shortest: Option<Duration>,
}

impl Rtt {
    /// A frame was handed over; `sent` counts all bytes so far, it included.
    pub(super) fn sent(&mut self, now: Instant, sent: u64) {
        if self.watched.is_none() {
            self.watched = Some((sent, now));
        }
    }

    /// The shortest time that was ever measured.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.shortest
    }

    /// The peer has acknowledged this many bytes in all. Returns the time to show when there is news.
    pub(super) fn acknowledged(&mut self, now: Instant, acknowledged: u64) -> Option<Duration> {
        let (_, began) = self.watched.take_if(|(frame, _)| acknowledged >= *frame)?;
        let sample = now.duration_since(began);
        self.shortest = Some(self.shortest.map_or(sample, |shortest| shortest.min(sample)));
        let best = match self.window {
            Some((since, best)) if now.duration_since(since) < WINDOW => {
                let best = best.min(sample);
                self.window = Some((since, best));
                best
            }
            over => {
                let fresh = over.filter(|(since, _)| now.duration_since(*since) < 2 * WINDOW);
                self.before = fresh.map(|(_, best)| best);
                self.window = Some((now, sample));
                sample
            }
        };
        Some(self.before.map_or(best, |before| before.min(best)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_shortest_sample_of_late_counts() {
        let mut rtt = Rtt::default();
        let start = Instant::now();
        let mut echo = |at: u32, took: u32, sent: u64| {
            rtt.sent(start + MS * at, sent);
            rtt.acknowledged(start + MS * (at + took), sent)
        };
        assert_eq!(echo(0, 40, 1), Some(40 * MS));
        assert_eq!(echo(100, 20, 2), Some(20 * MS));
        assert_eq!(echo(200, 90, 3), Some(20 * MS));
        // The path has become longer; the old best is believed for one window more.
        assert_eq!(echo(6_000, 60, 4), Some(20 * MS));
        assert_eq!(echo(12_000, 60, 5), Some(60 * MS));
        assert_eq!(echo(60_000, 70, 6), Some(70 * MS));
    }

    #[test]
    fn only_the_watched_frame_s_acknowledgement_is_a_sample() {
        let mut rtt = Rtt::default();
        let start = Instant::now();
        rtt.sent(start, 100);
        rtt.sent(start + 5 * MS, 200);
        assert_eq!(rtt.acknowledged(start + 6 * MS, 99), None);
        assert_eq!(rtt.acknowledged(start + 7 * MS, 100), Some(7 * MS));
        assert_eq!(rtt.acknowledged(start + 8 * MS, 200), None);
    }
}
