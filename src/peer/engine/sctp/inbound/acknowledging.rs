//! When to send a SACK (RFC 9260 6.2, RFC 7053).

use std::time::{Duration, Instant};

/// How long a SACK waits when the sender asks for haste by the I bit: long enough for an answer of the
/// application to carry it, which saves a packet on each side.
const HASTE: Duration = Duration::from_millis(1);

/// Packets with data after which one is due at once.
const PACKETS: u32 = 2;

/// What is known about the next SACK.
#[derive(Debug)]
pub(super) struct Acknowledging {
    /// How long it waits for a second packet.
    delay: Duration,
    packets: u32,
    at_once: bool,
    due: Option<Instant>,
}

impl Acknowledging {
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, packets: 0, at_once: false, due: None }
    }

    /// A packet with data has come. `asks` is its I bit; `is_odd`: it left or filled a gap, came twice, or
    /// was not taken.
    pub(super) fn on_packet(&mut self, now: Instant, asks: bool, is_odd: bool) {
        self.packets += 1;
        self.at_once |= is_odd || self.packets >= PACKETS;
        let due = now + if asks { self.delay.min(HASTE) } else { self.delay };
        self.due = Some(self.due.map_or(due, |already| already.min(due)));
    }

    /// One has to be sent now: the window has opened, or the peer shuts down.
    pub(super) fn at_once(&mut self) {
        self.at_once = true;
    }

    /// Whether one has to be sent now, alone if need be.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at_once || self.due.is_some_and(|due| due <= now)
    }

    /// Whether one may travel with data that is sent anyway.
    pub(super) fn is_wanted(&self) -> bool {
        self.at_once || self.due.is_some()
    }

    /// When one becomes due; `None` also while one is due at once.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| !self.at_once)
    }

    /// One was sent.
    pub(super) fn on_sent(&mut self) {
        *self = Self::new(self.delay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(10);

    #[test]
    fn one_packet_waits_and_two_do_not() {
        let now = Instant::now();
        let mut sacks = Acknowledging::new(DELAY);
        assert!(!sacks.is_wanted());
        sacks.on_packet(now, false, false);
        assert!(sacks.is_wanted() && !sacks.is_due(now));
        assert_eq!(sacks.deadline(), Some(now + DELAY));
        sacks.on_packet(now, false, false);
        assert!(sacks.is_due(now));
        sacks.on_sent();
        assert!(!sacks.is_wanted());
    }

    #[test]
    fn the_i_bit_is_answered_after_a_millisecond_even_if_it_comes_late() {
        let now = Instant::now();
        let mut sacks = Acknowledging::new(DELAY);
        sacks.on_packet(now, true, false);
        assert_eq!(sacks.deadline(), Some(now + HASTE));
        assert!(!sacks.is_due(now) && sacks.is_due(now + HASTE));
    }

    #[test]
    fn gaps_and_duplicates_are_told_of_at_once() {
        let now = Instant::now();
        let mut sacks = Acknowledging::new(DELAY);
        sacks.on_packet(now, false, true);
        assert!(sacks.is_due(now));
    }
}
