//! Asks again when no acknowledgement comes: like QUIC's probe time-out, RFC 9002 6.2.
//!
//! Floor 1, engine, part of `recovery`.
//!
//! # Invariant
//! A probe declares nothing lost and shrinks no window. Each unanswered one doubles the wait.

use std::time::{Duration, Instant};

use super::rtt::Rtt;

/// Doublings of the wait, so that a path that comes back is noticed.
const MOST_DOUBLINGS: u32 = 6;
/// However often it was doubled, the wait is not longer, except where a round trip is, and was lately at its best. A
/// peer that was busy for seconds, or a queue that was long, says nothing about the next round trip, and would make
/// the time-out of RFC 6298 half a minute; a packet a second too many costs next to nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How many of the best round trips the longest wait may be.
const BEST_ROUND_TRIPS: u32 = 2;
/// How long between probes of a closed window: a reader that goes on is noticed so soon, even if the peer
/// tells of its room only when asked.
const WINDOW_INTERVAL: Duration = Duration::from_millis(200);
/// Unanswered probes, and time-outs, that mean persistent congestion, RFC 9002 7.6.1.
const PERSISTENT: u32 = 3;

/// When to probe.
#[derive(Debug)]
pub(super) struct Probe {
    unanswered: u32,
    /// When what the first of them asked for had left; none while the peer takes nothing, which loses nothing.
    silent_from: Option<Instant>,
    /// Packets that may leave now, whatever the windows say.
    credit: u32,
    /// When something last left, or a probe was due.
    since: Instant,
}

impl Probe {
    pub(super) fn new(now: Instant) -> Self {
        Self { unanswered: 0, silent_from: None, credit: 0, since: now }
    }

    pub(super) fn deadline(&self, rtt: &Rtt, sack_delay: Duration, window_closed: bool) -> Instant {
        let single = rtt.probe_after() + sack_delay;
        let wait = single * 2u32.pow(self.unanswered.min(MOST_DOUBLINGS));
        let longest = if window_closed { WINDOW_INTERVAL } else { LONGEST_WAIT };
        let believed = rtt.best(self.since).map_or(single, |best| single.min(BEST_ROUND_TRIPS * best));
        self.since + wait.min(longest.max(believed))
    }

    /// The deadline has passed.
    pub(super) fn on_deadline(&mut self, now: Instant, window_closed: bool) {
        if self.unanswered == 0 && !window_closed {
            self.silent_from = Some(self.since);
        }
        self.unanswered = self.unanswered.saturating_add(1);
        // The second and later ones are two packets: their loss would be expensive, RFC 9002 6.2.4.
        self.credit = if self.unanswered > 1 { 2 } else { 1 };
        self.since = now;
    }

    pub(super) fn is_due(&self) -> bool {
        self.credit > 0
    }

    pub(super) fn on_sent(&mut self, now: Instant, is_probe: bool) {
        self.since = now;
        if is_probe {
            self.credit = self.credit.saturating_sub(1);
        }
    }

    /// The path is another: what was not answered was not asked there. It is asked at once.
    pub(super) fn restart(&mut self, now: Instant) {
        (self.unanswered, self.silent_from, self.credit, self.since) = (0, None, 1, now);
    }

    /// There is nothing to probe with.
    pub(super) fn withdraw(&mut self) {
        self.credit = 0;
    }

    /// Something was newly acknowledged; `rtt` is what was known before. Returns whether so many probes were lost
    /// for so long that the path as it was known is gone.
    pub(super) fn on_progress(&mut self, now: Instant, rtt: &Rtt) -> bool {
        let long = PERSISTENT * rtt.probe_after();
        let was_long =
            self.silent_from.take().is_some_and(|since| now.saturating_duration_since(since) >= long);
        let was_persistent = was_long && self.unanswered >= PERSISTENT;
        (self.unanswered, self.credit) = (0, 0);
        was_persistent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn three_unanswered_probes_are_congestion_only_after_as_many_time_outs_and_with_room_at_the_peer() {
        let sent = Instant::now();
        for (round_trip, closed, gone) in [(40, false, true), (1500, false, false), (40, true, false)] {
            let mut rtt = Rtt::new(None, sent);
            rtt.on_sample(sent, Duration::from_millis(round_trip));
            let mut probe = Probe::new(sent);
            for second in 1..=3 {
                probe.on_deadline(sent + second * SECOND, closed);
            }
            assert_eq!(probe.on_progress(sent + 7 * SECOND / 2, &rtt), gone, "{round_trip} ms");
            assert!(!probe.on_progress(sent + 9 * SECOND, &rtt), "what was answered is over");
        }
    }
}
