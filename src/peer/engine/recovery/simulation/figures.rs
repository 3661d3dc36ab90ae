//! The figures of issue 5 at 40 ms.

use super::world::{MS, SECOND, World, quantile, rate};
use crate::peer::engine::congestion::Algorithm;
use crate::peer::engine::recovery::{EarlyCopies, RecoveryConfig};
use crate::peer::engine::simulator::LinkConfig;

fn calls(loss: f64, early_copies: EarlyCopies, seed: u64) -> Vec<std::time::Duration> {
    let mut world = World::even(LinkConfig { loss, ..LinkConfig::default() }, seed);
    let now = world.now;
    let config = RecoveryConfig { early_copies, ..RecoveryConfig::default() };
    world.flow(&config).start_calls(now, 64, 64, 0 * MS);
    world.run(200 * SECOND);
    let took = &world.flows[0].took;
    let near = &world.flows[0].near;
    println!(
        "loss {loss} {early_copies:?}: {} calls, p50 {:?} p99 {:?} max {:?}, {:.2} packets a call, {:?}",
        took.len(),
        quantile(took, 0.5),
        quantile(took, 0.99),
        quantile(took, 1.0),
        near.packets as f64 / took.len() as f64,
        near.flight.stats(),
    );
    took.clone()
}

#[test]
fn calls_bear_loss() {
    for (loss, early_copies, most) in [
        (0.0, EarlyCopies::Adaptive, 42),
        (0.01, EarlyCopies::Never, 100),
        (0.01, EarlyCopies::Adaptive, 60),
        (0.05, EarlyCopies::Never, 200),
        (0.05, EarlyCopies::Adaptive, 100),
        (0.05, EarlyCopies::Always, 100),
        (0.2, EarlyCopies::Adaptive, 400),
    ] {
        let took = calls(loss, early_copies, 1);
        assert!(quantile(&took, 0.99) <= most * MS);
    }
}

#[test]
fn bulk_bears_loss() {
    for (loss, algorithm, least) in [
        (0.0, Algorithm::Default, 10.0),
        (0.01, Algorithm::Default, 10.0),
        (0.05, Algorithm::Default, 5.0),
        (0.2, Algorithm::Default, 1.0),
        (0.01, Algorithm::Cubic, 0.2),
    ] {
        let config = RecoveryConfig { congestion: algorithm, ..RecoveryConfig::default() };
        let link = LinkConfig { loss, rate: Some(60_000_000), queue: 300_000, ..LinkConfig::default() };
        let mut world = World::even(link, 2);
        world.flow(&config).near.bulk = usize::MAX;
        world.run(10 * SECOND);
        let flow = &world.flows[0];
        let reached = rate(flow.far.received, 10 * SECOND);
        println!(
            "{algorithm:?} loss {loss}: {reached:.2} MB/s, {:?} {:?}",
            flow.near.flight.stats(),
            world.there
        );
        assert!(reached >= least, "{reached}");
    }
}
