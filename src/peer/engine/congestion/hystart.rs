//! Leaves slow start before the queue overflows: HyStart++, RFC 9406.
//!
//! Floor 1, engine, part of `congestion`; used by CUBIC.
//!
//! # Invariant
//! `growth_divisor` is 1 in slow start, 4 in conservative slow start.

use std::time::Duration;

const LEAST_RISE: Duration = Duration::from_millis(4);
const MOST_RISE: Duration = Duration::from_millis(16);
const RISE_DIVISOR: u32 = 8;
const SAMPLES: u32 = 8;
const CONSERVATIVE_DIVISOR: usize = 4;
const CONSERVATIVE_ROUNDS: u32 = 5;

/// The state of RFC 9406 4.2 across rounds.
#[derive(Debug, Default)]
pub(super) struct HyStart {
    last_round_min: Option<Duration>,
    round_min: Option<Duration>,
    samples: u32,
    /// In conservative slow start: the round-trip time that began it, and rounds since.
    conservative: Option<(Duration, u32)>,
}

impl HyStart {
    /// By how much the growth of slow start is divided.
    pub(super) fn growth_divisor(&self) -> usize {
        if self.conservative.is_some() { CONSERVATIVE_DIVISOR } else { 1 }
    }

    /// A new round begins. True: slow start is over.
    pub(super) fn on_round(&mut self) -> bool {
        self.last_round_min = self.round_min.take();
        self.samples = 0;
        match &mut self.conservative {
            Some((_, rounds)) => {
                *rounds += 1;
                *rounds >= CONSERVATIVE_ROUNDS
            }
            None => false,
        }
    }

    /// A round-trip time of this round.
    pub(super) fn on_rtt(&mut self, rtt: Duration) {
        let round_min = self.round_min.map_or(rtt, |least| least.min(rtt));
        self.round_min = Some(round_min);
        self.samples = self.samples.saturating_add(1);
        if self.samples < SAMPLES {
            return;
        }
        match self.conservative {
            None => {
                let Some(last) = self.last_round_min else { return };
                let rise = (last / RISE_DIVISOR).clamp(LEAST_RISE, MOST_RISE);
                if round_min >= last + rise {
                    self.conservative = Some((round_min, 0));
                }
            }
            Some((began_with, _)) => {
                if round_min < began_with {
                    self.conservative = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(hystart: &mut HyStart, millis: u64) -> bool {
        for _ in 0..SAMPLES {
            hystart.on_rtt(Duration::from_millis(millis));
        }
        hystart.on_round()
    }

    #[test]
    fn a_rising_round_trip_time_slows_growth_and_ends_it_after_five_rounds() {
        let mut hystart = HyStart::default();
        assert!(!round(&mut hystart, 40));
        assert!(!round(&mut hystart, 44));
        assert_eq!(hystart.growth_divisor(), 1);
        assert!(!round(&mut hystart, 50));
        assert_eq!(hystart.growth_divisor(), 4);
        assert!((0..3).all(|_| !round(&mut hystart, 55)));
        assert!(round(&mut hystart, 55));
    }

    #[test]
    fn a_rise_that_goes_away_was_none() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 40);
        round(&mut hystart, 50);
        assert_eq!(hystart.growth_divisor(), 4);
        round(&mut hystart, 41);
        assert_eq!(hystart.growth_divisor(), 1);
    }
}
