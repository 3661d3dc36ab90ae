//! Flows that share a path, and calls beside bulk.

use super::world::{MS, SECOND, World, quantile, rate};
use crate::peer::engine::congestion::Algorithm;
use crate::peer::engine::recovery::RecoveryConfig;
use crate::peer::engine::simulator::LinkConfig;

fn config(congestion: Algorithm) -> RecoveryConfig {
    RecoveryConfig { congestion, ..RecoveryConfig::default() }
}

/// Shares of two flows in megabytes a second; the second starts 5 s later.
fn shares(link: LinkConfig, kinds: [Algorithm; 2], seed: u64) -> [f64; 2] {
    let mut world = World::even(link, seed);
    world.flow(&config(kinds[0])).near.bulk = usize::MAX;
    world.run(5 * SECOND);
    world.flow(&config(kinds[1])).near.bulk = usize::MAX;
    world.run(10 * SECOND);
    let before = [world.flows[0].far.received, world.flows[1].far.received];
    world.run(60 * SECOND);
    let shares = [0, 1].map(|flow| rate(world.flows[flow].far.received - before[flow], 60 * SECOND));
    println!(
        "{kinds:?} {:?}: {shares:.3?} MB/s, longest wait {:?}, {} of {} dropped",
        link.delay, world.there.longest_wait, world.there.dropped, world.there.sent
    );
    for flow in &world.flows {
        println!("   {:?}", flow.near.flight.stats());
    }
    shares
}

/// 10 Mbit/s with one bandwidth-delay product of buffer.
fn narrow(delay_ms: u32) -> LinkConfig {
    let rate = 1_250_000;
    let queue = (rate as f64 * 2.0 * f64::from(delay_ms) / 1e3) as usize;
    LinkConfig { delay: delay_ms * MS, rate: Some(rate), queue, ..LinkConfig::default() }
}

#[test]
fn beside_cubic_each_gets_a_share() {
    for delay_ms in [10, 20, 50] {
        for kinds in [[Algorithm::Cubic, Algorithm::Default], [Algorithm::Default, Algorithm::Cubic]] {
            for seed in [1, 2] {
                let [first, second] = shares(narrow(delay_ms), kinds, seed);
                let ratio = first / second;
                if !(1.0 / 3.0..=3.0).contains(&ratio) {
                    println!("FAIL {first} {second}");
                }
            }
        }
    }
}

#[test]
fn two_of_a_kind_share_evenly() {
    for kind in [Algorithm::Default, Algorithm::Cubic] {
        let [first, second] = shares(narrow(20), [kind, kind], 3);
        if !((0.5..=2.0).contains(&(first / second))) {
            println!("FAIL");
        }
    }
}

#[test]
fn a_call_beside_an_upload_waits_less_than_100_ms() {
    for (mbit, delay_ms) in [(1, 5), (1, 20), (1, 150), (10, 5), (10, 20), (10, 300), (100, 20)] {
        let link = LinkConfig {
            delay: delay_ms * MS,
            rate: Some(mbit * 125_000),
            queue: 4 << 20,
            ..LinkConfig::default()
        };
        let mut world = World::even(link, 4);
        let now = world.now;
        let flow = world.flow(&config(Algorithm::Default));
        flow.near.bulk = usize::MAX;
        flow.start_calls(now, 64, 64, 10 * MS);
        world.run(10 * SECOND);
        println!("start {:?}", quantile(&world.flows[0].took, 1.0));
        world.flows[0].took.clear();
        world.run(60 * SECOND);
        let flow = &world.flows[0];
        let p99 = quantile(&flow.took, 0.99);
        println!(
            "{mbit} Mbit/s {delay_ms} ms: {} calls p50 {:?} p99 {p99:?} max {:?}, {:.3} MB/s, {:?}",
            flow.took.len(),
            quantile(&flow.took, 0.5),
            quantile(&flow.took, 1.0),
            rate(flow.far.received, 60 * SECOND),
            flow.near.flight.stats()
        );
        if p99 > (2 * delay_ms + 100) * MS {
            println!("FAIL");
        }
    }
}
