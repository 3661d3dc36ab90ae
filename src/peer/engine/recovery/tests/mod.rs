//! A flight, event by event.

use std::time::{Duration, Instant};

use super::flight::PathDead;
use super::sack::{SackError, SackOutcome};
use super::*;

mod path;
mod random;

const MS: Duration = Duration::from_millis(1);
const BYTES: usize = 1000;
const FIRST: Tsn = Tsn(u32::MAX - 2);

/// A flight and its clock. Each packet carries one chunk, named by its place.
struct Bench {
    flight: Flight<u32>,
    now: Instant,
    sent: u32,
    acknowledged: Vec<u32>,
}

impl Bench {
    fn new() -> Self {
        Self::with(RecoveryConfig::default(), 1 << 20)
    }

    /// On a path of 40 ms, of which only ICE knows.
    fn on_path(config: RecoveryConfig, window: u32) -> Self {
        let now = Instant::now() + Duration::from_secs(100);
        let flight = Flight::new(&config, FIRST, window, Some(40 * MS), now);
        Self { flight, now, sent: 0, acknowledged: Vec::new() }
    }

    /// The same, and measured already.
    fn with(config: RecoveryConfig, window: u32) -> Self {
        let mut bench = Self::on_path(config, window);
        for _ in 0..20 {
            bench.send(1);
            bench.wait(40);
            bench.sack(bench.sent, &[]).unwrap();
        }
        bench.acknowledged.clear();
        bench
    }

    fn wait(&mut self, millis: u32) {
        self.now += millis * MS;
    }

    /// So many packets with a new chunk each. Returns the place of the first.
    fn send(&mut self, count: u32) -> u32 {
        let first = self.sent;
        for _ in 0..count {
            self.flight.push(self.now, self.sent, BYTES, false);
            self.flight.packet_sent(self.now, BYTES + 40);
            self.sent += 1;
        }
        self.flight.out_of_data(self.now);
        first
    }

    /// Everything that is to be sent again now, a chunk in a packet.
    fn again(&mut self) -> Vec<u32> {
        let mut again = Vec::new();
        while let Some((_, chunk)) = self.flight.take_again(self.now, BYTES) {
            again.push(chunk);
            self.flight.packet_sent(self.now, BYTES + 40);
        }
        again
    }

    /// Acknowledges `complete` chunks and the places in `gaps`.
    fn sack(&mut self, complete: u32, gaps: &[(u32, u32)]) -> Result<SackOutcome, SackError> {
        self.sack_with(complete, gaps, 1 << 20, &[])
    }

    fn sack_with(
        &mut self,
        complete: u32,
        gaps: &[(u32, u32)],
        window: u32,
        duplicates: &[u32],
    ) -> Result<SackOutcome, SackError> {
        let offset = |place: u32| (place + 1).wrapping_sub(complete) as u16;
        let gaps: Vec<_> = gaps.iter().map(|&(first, last)| (offset(first), offset(last))).collect();
        let duplicates: Vec<_> = duplicates.iter().map(|place| FIRST.add(*place)).collect();
        let sack =
            Sack { cumulative: FIRST.add(complete).previous(), window, gaps: &gaps, duplicates: &duplicates };
        let acknowledged = &mut self.acknowledged;
        self.flight.on_sack(self.now, &sack, |chunk| acknowledged.push(*chunk))
    }

    /// The first of two packets is lost, found to be and sent again.
    fn lose_one(&mut self) {
        let a = self.send(2);
        self.wait(60);
        self.sack(a, &[(a + 1, a + 1)]).unwrap();
        self.wait(20);
        self.flight.on_deadline(self.now).unwrap();
        assert_eq!(self.again(), [a]);
        self.wait(40);
        self.sack(a + 2, &[]).unwrap();
    }

    /// Lets time pass to the next deadline, which must be in so many milliseconds.
    fn deadline(&mut self, millis: std::ops::RangeInclusive<u32>) {
        let at = self.flight.deadline(self.now).expect("a deadline");
        let wait = at.saturating_duration_since(self.now);
        assert!((*millis.start() * MS..=*millis.end() * MS).contains(&wait), "{wait:?}");
        self.now = at;
        self.flight.on_deadline(self.now).unwrap();
    }
}

#[test]
fn chunks_are_acknowledged_once_by_gap_or_by_number() {
    let mut bench = Bench::new();
    let a = bench.send(6);
    bench.wait(40);
    let outcome = bench.sack(a + 1, &[(a + 2, a + 3)]).unwrap();
    assert_eq!((outcome.acknowledged, outcome.advanced, outcome.stale), (3 * BYTES, true, false));
    bench.sack(a + 6, &[]).unwrap();
    assert_eq!(bench.acknowledged, [a, a + 2, a + 3, a + 1, a + 4, a + 5]);
    assert!(bench.flight.is_empty() && bench.flight.in_flight_bytes() == 0);
    assert_eq!(bench.flight.cumulative(), bench.flight.next_tsn().previous());
    assert_eq!(bench.flight.deadline(bench.now), None);
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut bench = Bench::new();
    let a = bench.send(2);
    assert_eq!(bench.sack(a + 3, &[]), Err(SackError::NeverSent));
    assert_eq!(bench.sack(a, &[(a + 1, a + 2)]), Err(SackError::NeverSent));
    assert!(bench.sack(a.wrapping_sub(10), &[]).unwrap().stale);
    assert!(bench.acknowledged.is_empty());
}

#[test]
fn a_packet_without_room_for_the_probe_is_not_the_probe() {
    let mut bench = Bench::new();
    let a = bench.send(1);
    bench.deadline(0..=500);
    assert!(bench.flight.take_again(bench.now, BYTES - 1).is_none());
    bench.send(1);
    assert_eq!(bench.again().first(), Some(&a));
}

#[test]
fn an_acknowledgement_from_the_other_half_of_all_numbers_is_refused() {
    let mut bench = Bench::new();
    bench.send(2);
    let last = bench.flight.next_tsn().previous();
    for behind in [1 << 31, (1 << 31) - 1, (1 << 30) + 1] {
        let sack = Sack { cumulative: last.add(behind), window: 0, gaps: &[(1, 0)], duplicates: &[] };
        assert!(bench.flight.on_sack(bench.now, &sack, |_| ()).is_err(), "{behind}");
        let sack = Sack {
            cumulative: Tsn(last.0.wrapping_sub(behind)),
            window: 0,
            gaps: &[(1, 0)],
            duplicates: &[],
        };
        assert!(bench.flight.on_sack(bench.now, &sack, |_| ()).is_err(), "{behind}");
    }
}

#[test]
fn blocks_that_make_no_sense_do_no_harm() {
    let mut bench = Bench::new();
    let a = bench.send(8);
    // Backwards, overlapping, twice the same, from zero.
    bench.sack(a, &[(a + 5, a + 3), (a + 2, a + 4), (a + 3, a + 6), (a + 2, a + 4)]).unwrap();
    let mut acknowledged = bench.acknowledged.clone();
    acknowledged.sort();
    assert_eq!(acknowledged, [a + 2, a + 3, a + 4, a + 5, a + 6]);
    let sack =
        Sack { cumulative: FIRST.add(a).previous(), window: 0, gaps: &[(0, 0), (0, 1)], duplicates: &[] };
    bench.flight.on_sack(bench.now, &sack, |_| ()).unwrap();
}

#[test]
fn what_left_before_something_that_arrived_is_lost_after_the_reordering_window() {
    let mut bench = Bench::new();
    let a = bench.send(1);
    bench.wait(1);
    bench.send(1);
    bench.wait(40);
    assert_eq!(bench.sack(a, &[(a + 1, a + 1)]).unwrap().lost, 0);
    assert!(bench.again().is_empty());
    // A quarter of 40 ms after its acknowledgement was due.
    bench.deadline(9..=9);
    assert_eq!(bench.again(), [a]);
    bench.wait(40);
    bench.sack(a + 2, &[]).unwrap();
    assert_eq!(bench.flight.stats().retransmitted, 1);
}

#[test]
fn a_lost_retransmission_is_found_lost_too() {
    let mut bench = Bench::new();
    let a = bench.send(4);
    bench.wait(60);
    bench.sack(a, &[(a + 1, a + 3)]).unwrap();
    bench.wait(1);
    bench.send(1);
    bench.deadline(0..=20);
    assert_eq!(bench.again(), [a]);
    bench.wait(1);
    let b = bench.send(1);
    bench.wait(40);
    bench.sack(a, &[(a + 1, b)]).unwrap();
    bench.deadline(1..=20);
    assert_eq!(bench.again(), [a]);
}

#[test]
fn a_probe_is_sent_when_no_acknowledgement_comes_and_shrinks_nothing() {
    let mut bench = Bench::new();
    let window = bench.flight.stats().window;
    let a = bench.send(1);
    bench.deadline(45..=47);
    assert_eq!(bench.again(), [a]);
    assert!(bench.flight.ask_immediate());
    // The second waits twice as long and is two packets; there is but one chunk.
    bench.deadline(90..=94);
    assert_eq!(bench.again(), [a, a]);
    bench.deadline(180..=190);
    assert_eq!(bench.flight.stats().window, window);
    bench.wait(40);
    bench.sack(a + 1, &[]).unwrap();
    bench.send(1);
    bench.deadline(10..=80);
}

#[test]
fn a_peer_that_was_busy_for_long_is_probed_soon_when_it_is_back() {
    let fresh = || Bench::on_path(RecoveryConfig::default(), 1 << 20);
    for mut bench in [Bench::new(), fresh()] {
        let a = bench.send(10);
        bench.wait(8000);
        bench.sack(a + 5, &[]).unwrap();
        assert!(bench.flight.rtt().smoothed() >= 1000 * MS, "that is what round trips took");
        // The rest was dropped, and nothing that left later is there to tell.
        bench.deadline(0..=1100);
        assert_eq!(bench.again()[0], a + 5);
    }
}

/// One chunk, acknowledged so much later, with every time-out of the meantime.
fn exchange(bench: &mut Bench, millis: u32) {
    bench.send(1);
    let answered = bench.now + millis * MS;
    while let Some(at) = bench.flight.deadline(bench.now).filter(|at| *at <= answered) {
        bench.now = bench.now.max(at);
        bench.flight.on_deadline(bench.now).unwrap();
        bench.again();
    }
    bench.now = answered;
    bench.sack(bench.sent, &[]).unwrap();
}

#[test]
fn a_path_that_grows_long_is_measured_and_not_asked_for_ever() {
    let mut bench = Bench::new();
    for millis in (40..3000).step_by(20) {
        exchange(&mut bench, millis);
        let measured = bench.flight.rtt().smoothed();
        assert!(measured + 500 * MS > millis * MS, "{measured:?} on a path of {millis} ms");
    }
    for _ in 0..20 {
        exchange(&mut bench, 3000);
    }
    let probes = bench.flight.stats().probes;
    for _ in 0..10 {
        exchange(&mut bench, 3000);
    }
    assert_eq!(bench.flight.stats().probes, probes);
}

#[test]
fn a_path_of_which_nothing_is_known_is_asked_once_too_often_at_most() {
    for millis in [500, 1500, 3000] {
        let now = Instant::now() + Duration::from_secs(100);
        let flight = Flight::new(&RecoveryConfig::default(), FIRST, 1 << 20, None, now);
        let mut bench = Bench { flight, now, sent: 0, acknowledged: Vec::new() };
        for _ in 0..20 {
            exchange(&mut bench, millis);
        }
        let probes = bench.flight.stats().probes;
        for _ in 0..10 {
            exchange(&mut bench, millis);
        }
        let more = bench.flight.stats().probes - probes;
        assert!(more <= 10, "{millis} ms: {more} in ten");
    }
}

#[test]
fn a_probe_leaves_though_the_window_is_full() {
    let mut bench = Bench::new();
    let a = bench.sent;
    while bench.flight.may_send(bench.now) {
        bench.send(1);
    }
    assert!(bench.flight.in_flight_bytes() >= 10_000);
    bench.now += 45 * MS;
    while bench.flight.may_send(bench.now) {
        bench.send(1);
    }
    bench.deadline(0..=60);
    assert_eq!(bench.again()[0], a);
}

#[test]
fn a_silent_peer_ends_the_path_after_its_time() {
    let mut bench =
        Bench::with(RecoveryConfig { max_silence: 3000 * MS, ..RecoveryConfig::default() }, 1 << 20);
    bench.wait(60_000);
    bench.send(1);
    let began = bench.now;
    let dead = loop {
        bench.now = bench.flight.deadline(bench.now).expect("a timer is set");
        if let Err(dead) = bench.flight.on_deadline(bench.now) {
            break dead;
        }
        bench.again();
    };
    assert_eq!((dead, bench.now - began), (PathDead(3000 * MS), 3000 * MS));
}

#[test]
fn a_retransmission_that_was_not_needed_is_undone() {
    let mut bench =
        Bench::with(RecoveryConfig { congestion: Algorithm::Cubic, ..Default::default() }, 1 << 20);
    let before = bench.flight.stats().window;
    let a = bench.send(12);
    bench.wait(60);
    bench.sack(a, &[(a + 1, a + 11)]).unwrap();
    bench.now += 20 * MS;
    bench.flight.on_deadline(bench.now).unwrap();
    assert!(bench.flight.stats().window < before);
    assert_eq!(bench.again()[0], a);
    // Both arrive: the original late, the copy as a duplicate.
    bench.wait(41);
    bench.sack_with(a + 12, &[], 1 << 20, &[a]).unwrap();
    assert_eq!((bench.flight.stats().spurious, bench.flight.stats().window >= before), (1, true));
}

#[test]
fn an_acknowledgement_right_after_a_retransmission_is_for_the_original() {
    let mut bench =
        Bench::with(RecoveryConfig { congestion: Algorithm::Cubic, ..Default::default() }, 1 << 20);
    let before = bench.flight.stats().window;
    let a = bench.send(12);
    bench.wait(60);
    bench.sack(a, &[(a + 1, a + 11)]).unwrap();
    bench.now += 20 * MS;
    bench.flight.on_deadline(bench.now).unwrap();
    bench.again();
    bench.wait(5);
    bench.sack(a + 12, &[]).unwrap();
    assert_eq!((bench.flight.stats().spurious, bench.flight.stats().window >= before), (1, true));
    assert!(bench.flight.rtt().least() >= 40 * MS, "no round trip took 5 ms");
}

#[test]
fn a_report_that_comes_late_is_not_reneging() {
    let mut bench = Bench::new();
    let a = bench.send(6);
    bench.wait(40);
    bench.sack(a, &[(a + 1, a + 4)]).unwrap();
    let outcome = bench.sack_with(a, &[(a + 1, a + 2)], 7, &[]).unwrap();
    assert!(outcome.stale && outcome.acknowledged == 0);
    assert!(bench.flight.peer_room() > 7, "the window of a late report is old");
    assert_eq!(bench.flight.stats().reneged, 0);
}

#[test]
fn a_peer_that_takes_back_gets_it_again_and_is_counted_once() {
    let mut bench = Bench::new();
    let a = bench.send(6);
    bench.wait(40);
    bench.sack(a, &[(a + 1, a + 4)]).unwrap();
    bench.wait(20);
    bench.flight.on_deadline(bench.now).unwrap();
    assert_eq!(bench.again(), [a]);
    bench.wait(40);
    // It has the first now, and threw away the others.
    bench.sack(a + 1, &[]).unwrap();
    assert_eq!(bench.flight.stats().reneged, 1);
    // The last one never arrived: it left before the first left again.
    assert_eq!(bench.again(), [a + 1, a + 2, a + 3, a + 4, a + 5]);
    bench.wait(40);
    bench.sack(a + 6, &[]).unwrap();
    bench.acknowledged.sort();
    assert_eq!(bench.acknowledged, [a, a + 1, a + 2, a + 3, a + 4, a + 5]);
}

#[test]
fn a_shutdown_acknowledges_without_taking_back_what_gaps_told() {
    let mut bench = Bench::new();
    let a = bench.send(6);
    bench.wait(40);
    bench.sack_with(a, &[(a + 1, a + 4)], 70_000, &[]).unwrap();
    bench.wait(20);
    bench.flight.on_deadline(bench.now).unwrap();
    assert_eq!(bench.again(), [a]);
    bench.wait(40);
    let mut told = Vec::new();
    let outcome = bench.flight.on_cumulative(bench.now, FIRST.add(a), |chunk| told.push(*chunk)).unwrap();
    assert_eq!((outcome.acknowledged, outcome.advanced, told), (BYTES, true, vec![a]));
    // Only the last one left before the first left again.
    assert_eq!((bench.flight.stats().reneged, bench.again()), (0, vec![a + 5]));
    assert!(bench.flight.peer_room() > 60_000, "it says nothing of the window");
    let past_the_end = FIRST.add(a + 6);
    assert_eq!(bench.flight.on_cumulative(bench.now, past_the_end, |_| ()), Err(SackError::NeverSent));
    let half_around = FIRST.add(a + 5).add(1 << 31);
    assert_eq!(bench.flight.on_cumulative(bench.now, half_around, |_| ()), Err(SackError::NeverSent));
    assert!(bench.flight.on_cumulative(bench.now, FIRST.add(a), |_| ()).unwrap().stale);
}

#[test]
fn a_peer_that_takes_back_again_and_again_is_no_longer_believed() {
    let mut bench = Bench::new();
    let a = bench.send(100);
    for round in 0..40 {
        bench.wait(40);
        bench.sack(a + 2 * round, &[(a + 2 * round + 1, a + 99)]).unwrap();
        bench.sack(a + 2 * round + 1, &[]).unwrap();
        bench.again();
    }
    assert_eq!(bench.flight.stats().reneged, 8);
    bench.sack(a + 100, &[]).unwrap();
    bench.acknowledged.sort();
    assert_eq!(bench.acknowledged, (a..a + 100).collect::<Vec<_>>());
}

#[test]
fn nothing_is_lost_that_a_cut_off_report_does_not_reach() {
    let mut bench = Bench::new();
    let a = bench.send(50);
    bench.wait(60);
    // Every second one arrived; the peer reports 20 blocks.
    let blocks: Vec<_> = (0..20).map(|block| (a + 1 + 2 * block, a + 1 + 2 * block)).collect();
    bench.sack(a, &blocks).unwrap();
    bench.wait(1);
    bench.send(1);
    bench.now += 20 * MS;
    bench.flight.on_deadline(bench.now).unwrap();
    let again = bench.again();
    assert!(!again.is_empty() && again.iter().all(|chunk| *chunk < a + 40), "{again:?}");
}

#[test]
fn a_closed_window_is_asked_for_and_its_opening_noticed() {
    let mut bench = Bench::new();
    let a = bench.send(2);
    bench.wait(40);
    bench.sack_with(a + 2, &[], 0, &[]).unwrap();
    assert!(bench.flight.peer_room() >= BYTES, "one chunk may ask");
    bench.send(1);
    assert_eq!(bench.flight.peer_room(), 0);
    for _ in 0..5 {
        bench.deadline(40..=200);
        assert!(bench.again().contains(&(a + 2)));
        bench.sack_with(a + 2, &[], 0, &[]).unwrap();
    }
    bench.sack_with(a + 2, &[], 100_000, &[]).unwrap();
    assert_eq!(bench.again(), [a + 2], "at once, without waiting for a timer");
    assert_eq!(bench.flight.peer_room(), 100_000 - BYTES);
}

#[test]
fn round_trips_are_measured_though_every_packet_has_a_copy() {
    let config = RecoveryConfig { early_copies: EarlyCopies::Always, ..RecoveryConfig::default() };
    let mut bench = Bench::with(config, 1 << 20);
    for _ in 0..60 {
        let a = bench.send(1);
        bench.deadline(2..=40);
        assert_eq!(bench.again(), [a]);
        // The path has become 100 ms long.
        bench.now += 90 * MS;
        bench.sack(a + 1, &[]).unwrap();
    }
    let smoothed = bench.flight.rtt().smoothed();
    assert!((80 * MS..130 * MS).contains(&smoothed), "{smoothed:?}");
}

#[test]
fn an_early_copy_is_made_once_and_only_of_small_flights() {
    let config = RecoveryConfig { early_copies: EarlyCopies::Always, ..RecoveryConfig::default() };
    let mut bench = Bench::with(config.clone(), 1 << 20);
    let a = bench.send(2);
    bench.deadline(10..=10);
    assert_eq!(bench.again(), [a, a + 1]);
    // After that only the probe.
    bench.deadline(30..=60);
    let mut bench = Bench::with(config, 1 << 20);
    bench.send(3);
    bench.deadline(41..=60);
}

#[test]
fn early_copies_end_after_30_s_though_round_trips_vary() {
    // Nothing is lost: each second round trip takes 3 ms longer; or each tenth so much that the copy seems needed,
    // and then a duplicate is reported.
    for (every, usual, longer, reports) in [(2, 8, 11, false), (10, 40, 50, true)] {
        let mut bench = Bench::new();
        bench.lose_one();
        let mut copies = 0;
        for call in 0..1000 {
            if call == 900 {
                copies = bench.flight.stats().copies;
            }
            let (at, a) = (bench.now, bench.send(1));
            let arrives = at + if call % every == 0 { longer } else { usual } * MS;
            let mut sent_again = false;
            while let Some(next) = bench.flight.deadline(bench.now).filter(|next| *next < arrives) {
                bench.now = next;
                bench.flight.on_deadline(next).unwrap();
                sent_again |= !bench.again().is_empty();
            }
            bench.now = arrives;
            bench.sack(a + 1, &[]).unwrap();
            bench.wait(30);
            if sent_again && reports {
                bench.sack_with(a + 1, &[], 1 << 20, &[a]).unwrap();
            }
        }
        assert_eq!(bench.flight.stats().copies, copies);
    }
}

#[test]
fn small_chunks_are_sent_again_in_one_packet() {
    let mut bench = Bench::new();
    let a = bench.sent;
    for chunk in 0..3 {
        bench.flight.push(bench.now, a + chunk, 100, false);
    }
    bench.flight.packet_sent(bench.now, 400);
    bench.sent += 3;
    bench.flight.out_of_data(bench.now);
    bench.deadline(40..=60);
    let mut again = Vec::new();
    while let Some((_, chunk)) = bench.flight.take_again(bench.now, 250 - 100 * again.len()) {
        again.push(chunk);
    }
    assert_eq!(again, [a, a + 1]);
    bench.flight.packet_sent(bench.now, 300);
}

#[test]
fn early_copies_are_not_looked_for_among_all_that_has_arrived() {
    // The first and an urgent last are under way. A walk over all for each SACK would take minutes here.
    let mut bench = Bench::with(RecoveryConfig::default(), u32::MAX);
    let a = bench.send(60_000);
    bench.flight.push(bench.now, bench.sent, BYTES, true);
    bench.flight.packet_sent(bench.now, BYTES + 40);
    bench.flight.out_of_data(bench.now);
    bench.wait(1);
    let began = Instant::now();
    for _ in 0..30_000 {
        bench.sack(a, &[(a + 1, a + 59_999)]).unwrap();
    }
    assert!(bench.flight.in_flight_bytes() < 3 * (BYTES + 40) && bench.flight.stats().reneged == 0);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_sack_costs_what_it_tells_not_what_is_under_way() {
    // Quadratic work would take minutes here.
    let mut bench = Bench::with(RecoveryConfig::default(), u32::MAX);
    let a = bench.send(60_000);
    let began = Instant::now();
    for arrived in (1..60_000).step_by(2) {
        bench.sack(a, &[(a + 1, a + arrived)]).unwrap();
    }
    bench.sack(a + 60_000, &[]).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(bench.flight.in_flight_bytes(), 0);
}
