//! Flows that share a path, and calls beside bulk.

use super::world::{MS, SECOND, World, quantile, rate};
use crate::peer::engine::congestion::Algorithm;
use crate::peer::engine::recovery::RecoveryConfig;
use crate::peer::engine::simulator::LinkConfig;

fn config(congestion: Algorithm) -> RecoveryConfig {
    RecoveryConfig { congestion, ..RecoveryConfig::default() }
}

/// What each of two flows gets in megabytes a second; the second starts 5 s after the first.
fn shares(link: LinkConfig, kinds: [Algorithm; 2], seed: u64) -> [f64; 2] {
    let mut world = World::even(link, seed);
    world.flow(&config(kinds[0])).near.bulk = usize::MAX;
    world.run(5 * SECOND);
    world.flow(&config(kinds[1])).near.bulk = usize::MAX;
    world.run(10 * SECOND);
    let before = [0, 1].map(|flow| world.flows[flow].far.received);
    world.run(60 * SECOND);
    let shares = [0, 1].map(|flow| rate(world.flows[flow].far.received - before[flow], 60 * SECOND));
    println!("{kinds:?} {:?}: {shares:.3?} MB/s, {:?}", link.delay, world.there);
    shares
}

/// 10 Mbit/s with so many bandwidth-delay products of buffer.
fn narrow(delay_ms: u32, products: f64) -> LinkConfig {
    let rate = 1_250_000;
    let queue = (rate as f64 * 2.0 * f64::from(delay_ms) / 1e3 * products) as usize;
    LinkConfig { delay: delay_ms * MS, rate: Some(rate), queue, ..LinkConfig::default() }
}

#[test]
fn beside_cubic_each_gets_between_a_third_and_three_times_the_other() {
    use Algorithm::{Cubic, Model};
    for (delay_ms, products) in [(10, 1.0), (20, 1.0), (50, 1.0), (20, 2.0), (20, 0.5), (100, 1.0)] {
        for kinds in [[Cubic, Model], [Model, Cubic]] {
            let [first, second] = shares(narrow(delay_ms, products), kinds, 1);
            let ratio = first / second;
            // With a deeper queue CUBIC, which has to fill it, comes back slowly after each loss.
            let most = if products > 1.0 { 5.0 } else { 3.0 };
            assert!((1.0 / most..=most).contains(&ratio), "{ratio}");
            assert!(first + second > 1.0, "together they fill the path");
        }
    }
}

#[test]
fn two_of_a_kind_share_evenly() {
    for kind in [Algorithm::Model, Algorithm::Cubic] {
        let [first, second] = shares(narrow(20, 1.0), [kind, kind], 3);
        assert!((0.5..=2.0).contains(&(first / second)));
    }
}

#[test]
fn a_call_beside_an_upload_waits_less_than_100_ms() {
    for (mbit, delay_ms) in [(1, 5), (1, 20), (1, 150), (10, 5), (10, 20), (10, 300), (100, 20)] {
        // A buffer without end: only the sender keeps the queue short.
        let rate = Some(mbit * 125_000);
        let link = LinkConfig { delay: delay_ms * MS, rate, queue: 64 << 20, ..LinkConfig::default() };
        let mut world = World::even(link, 4);
        let now = world.now;
        let flow = world.flow(&config(Algorithm::Model));
        flow.near.bulk = usize::MAX;
        flow.start_calls(now, 64, 64, 10 * MS);
        world.run(10 * SECOND);
        let start = quantile(&world.flows[0].took, 1.0);
        world.flows[0].took.clear();
        let received = world.flows[0].far.received;
        world.run(if mbit == 100 { 10 } else { 50 } * SECOND);
        let flow = &world.flows[0];
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| quantile(&flow.took, share));
        let reached = (flow.far.received - received) as f64 / if mbit == 100 { 10.0 } else { 50.0 };
        let filled = reached / (mbit * 125_000) as f64;
        println!(
            "{mbit} Mbit/s {delay_ms} ms: p50 {p50:?} p99 {p99:?} max {max:?}, at the start {start:?}, filled {filled:.2}"
        );
        assert!(p99 <= (2 * delay_ms + 100) * MS);
        assert!(filled > 0.8);
    }
}
