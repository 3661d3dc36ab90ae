//! Another path, under a flight that goes on.

use super::*;

#[test]
fn another_path_is_probed_at_once_and_time_outs_begin_anew() {
    let mut bench = Bench::new();
    let a = bench.send(3);
    for _ in 0..5 {
        let at = bench.flight.deadline(bench.now).unwrap();
        bench.now = at;
        bench.flight.on_deadline(at).unwrap();
        bench.again();
    }
    let waits = bench.flight.deadline(bench.now).unwrap() - bench.now;
    assert!(waits >= 700 * MS, "they doubled: {waits:?}");
    bench.flight.path_changed(bench.now, Some(20 * MS));
    assert_eq!(bench.again(), [a], "at once");
    // Three times the hint, and what the peer may hold back.
    bench.deadline(60..=62);
}

#[test]
fn the_first_acknowledgement_on_another_path_finds_all_that_the_one_before_lost() {
    let mut bench = Bench::new();
    let a = bench.send(10);
    bench.wait(500);
    bench.flight.path_changed(bench.now, Some(20 * MS));
    let window = bench.flight.stats().window;
    assert_eq!(bench.again(), [a]);
    bench.wait(20);
    assert_eq!(bench.sack(a + 1, &[]).unwrap().lost, 9);
    assert_eq!(bench.again(), (a + 1..a + 10).collect::<Vec<_>>());
    assert!(bench.flight.stats().window >= window, "that loss is not the new path's");
}

#[test]
fn what_arrives_by_the_path_before_measures_nothing_and_proves_nothing_lost() {
    let mut bench = Bench::new();
    let a = bench.send(10);
    bench.wait(35);
    bench.flight.path_changed(bench.now, Some(20 * MS));
    assert_eq!(bench.again(), [a]);
    bench.wait(5);
    assert_eq!(bench.sack(a + 1, &[]).unwrap().lost, 0, "too soon for the probe");
    bench.sack(a + 10, &[]).unwrap();
    assert!(!bench.flight.rtt().is_measured());
    assert_eq!(bench.flight.stats().retransmitted, 0);
    let b = bench.send(1);
    bench.wait(20);
    bench.sack(b + 1, &[]).unwrap();
    assert_eq!(bench.flight.rtt().smoothed(), 20 * MS);
}

#[test]
fn window_and_rate_of_the_path_before_are_forgotten() {
    for congestion in [Algorithm::Model, Algorithm::Cubic] {
        let config = RecoveryConfig { congestion, ..RecoveryConfig::default() };
        let mut bench = Bench::with(config.clone(), 1 << 20);
        let fresh: Flight<u32> = Flight::new(&config, FIRST, 1 << 20, Some(5 * MS), bench.now);
        for _ in 0..50 {
            bench.send(60);
            bench.wait(40);
            bench.sack(bench.sent, &[]).unwrap();
        }
        assert_ne!(bench.flight.stats().window, fresh.stats().window);
        bench.flight.path_changed(bench.now, Some(5 * MS));
        assert_eq!(bench.flight.stats().window, fresh.stats().window, "{congestion:?}");
        assert_eq!(bench.flight.stats().pacing_rate, fresh.stats().pacing_rate, "{congestion:?}");
        assert!(bench.again().is_empty(), "nothing is under way");
    }
}
