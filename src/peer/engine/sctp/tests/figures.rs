//! What the whole makes of recovery, over 40 ms round trips. Figures are printed; bounds are those of the issue.

use super::*;

fn link(loss: f64) -> LinkConfig {
    LinkConfig { loss, ..LinkConfig::default() }
}

/// Serial echoes of 64 bytes: the 99th percentile and the longest.
fn echoes(loss: f64, count: usize) -> (Duration, Duration) {
    let mut pair = Pair::connected(7, link(loss));
    pair.run(Duration::from_secs(1));
    let mut times = Vec::new();
    for n in 0..count {
        let from = pair.now;
        pair.send(0, 0, vec![1; 64]);
        assert!(pair.run_until(Duration::from_secs(10), |pair| pair.received(1, 0) > n));
        pair.send(1, 0, vec![1; 64]);
        assert!(pair.run_until(Duration::from_secs(10), |pair| pair.received(0, 0) > n));
        times.push(pair.now - from);
    }
    times.sort_unstable();
    (times[count * 99 / 100], times[count - 1])
}

#[test]
fn a_lost_packet_costs_an_echo_little_more_than_a_round_trip() {
    for (loss, most) in [(0.0, 41), (0.01, 100), (0.05, 200)] {
        let (p99, longest) = echoes(loss, 1500);
        println!("loss {loss}: p99 {p99:?}, longest {longest:?}");
        assert!(p99 <= Duration::from_millis(most), "loss {loss}: {p99:?}");
    }
}

#[test]
fn an_echo_takes_two_packets() {
    let mut pair = Pair::connected(7, link(0.0));
    pair.run(Duration::from_secs(1));
    let sent = |pair: &Pair| pair.sides[0].sent_packets + pair.sides[1].sent_packets;
    let before = sent(&pair);
    for n in 0..100 {
        pair.send(0, 0, vec![1; 64]);
        assert!(pair.run_until(Duration::from_secs(1), |pair| pair.received(1, 0) > n));
        pair.send(1, 0, vec![1; 64]);
        assert!(pair.run_until(Duration::from_secs(1), |pair| pair.received(0, 0) > n));
    }
    assert!(sent(&pair) - before <= 210, "{}", sent(&pair) - before);
}

#[test]
fn bulk_goes_on_at_one_percent_of_loss() {
    let mut pair = Pair::connected(7, link(0.01));
    let from = pair.now;
    for _ in 0..1000 {
        pair.send(0, 0, vec![1; 16_384]);
    }
    assert!(pair.run_until(Duration::from_secs(60), |pair| pair.received(1, 0) == 1000));
    let rate = 16.384 / (pair.now - from).as_secs_f64();
    println!("{rate:.1} MB/s, {:?}", pair.sides[0].sctp.stats());
    assert!(rate > 5.0, "{rate} MB/s");
}

#[test]
fn an_rpc_beside_bulk_does_not_wait_for_it() {
    let mut pair = Pair::connected(7, LinkConfig { rate: Some(1_250_000), queue: 50_000, ..link(0.0) });
    pair.sides[0].sctp.set_priority(1, Priority::HIGH);
    let mut worst = Duration::ZERO;
    for n in 0..50 {
        while pair.sides[0].sctp.buffered(0) < 1 << 20 {
            pair.send(0, 0, vec![1; 64 << 10]);
        }
        pair.run(Duration::from_millis(97));
        let from = pair.now;
        pair.send(0, 1, vec![1; 64]);
        assert!(pair.run_until(Duration::from_secs(10), |pair| pair.received(1, 1) > n));
        worst = if n > 10 { worst.max(pair.now - from) } else { worst };
    }
    println!("worst one-way time {worst:?}");
    assert!(worst <= Duration::from_millis(120), "{worst:?}");
}
