//! No collapse on any path.

use super::world::{MS, SECOND, World, rate};
use crate::peer::engine::recovery::RecoveryConfig;
use crate::peer::engine::simulator::LinkConfig;
use std::time::Duration;

#[test]
fn no_path_collapses() {
    for rate_kb in [12u64, 125, 1250, 12_500, 100_000] {
        for rtt_ms in [1, 40, 200, 600] {
            for loss in [0.0, 0.01, 0.05, 0.2] {
                let bdp = rate_kb * rtt_ms;
                if bdp > 10_000_000 && cfg!(debug_assertions) {
                    continue;
                }
                let link = LinkConfig {
                    delay: rtt_ms as u32 * MS / 2,
                    loss,
                    rate: Some(rate_kb * 1000),
                    queue: (bdp as usize).max(20_000),
                    ..LinkConfig::default()
                };
                let mut world = World::even(link, 5);
                world
                    .flow_with(
                        &RecoveryConfig::default(),
                        super::receiver::ReceiverConfig { window: 256 << 20, ..Default::default() },
                    )
                    .near
                    .bulk = usize::MAX;
                let time = if rate_kb >= 100_000 { 10 } else { 30 };
                world.run(time * SECOND);
                let flow = &world.flows[0];
                let before = flow.far.received;
                world.run(time * SECOND);
                let reached = rate(world.flows[0].far.received - before, time * SECOND)
                    / (rate_kb as f64 / 1000.0)
                    / (1.0 - loss);
                let s = world.flows[0].near.flight.stats();
                println!(
                    "{rate_kb} kB/s {rtt_ms} ms {loss}: {:.0} % wait {:?} drop {} of {} spur {} window {} rate {}",
                    reached * 100.0,
                    world.there.longest_wait,
                    world.there.dropped,
                    world.there.sent,
                    s.spurious,
                    s.window,
                    s.pacing_rate
                );
                let _ = Duration::ZERO;
            }
        }
    }
}

#[test]
fn trace() {
    let get =
        |name: &str, default: f64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (rate_kb, rtt_ms, loss) = (get("RATE", 125.0) as u64, get("RTT", 1.0), get("LOSS", 0.01));
    let queue = (get("QUEUE", 1.0) * rate_kb as f64 * rtt_ms) as usize;
    let link = LinkConfig {
        delay: MS.mul_f64(rtt_ms / 2.0),
        loss,
        rate: Some(rate_kb * 1000),
        queue: queue.max(20_000),
        ..LinkConfig::default()
    };
    let mut world = World::even(link, 5);
    world
        .flow_with(
            &RecoveryConfig::default(),
            super::receiver::ReceiverConfig { window: 256 << 20, ..Default::default() },
        )
        .near
        .bulk = usize::MAX;
    let step = MS.mul_f64(get("STEP", 500.0));
    for _ in 0..40 {
        let before = world.flows[0].far.received;
        world.run(step);
        let flow = &world.flows[0];
        let reached = rate(flow.far.received - before, step);
        println!(
            "{:?} {reached:.4} MB/s in_flight {} drop {} rtx {} sp {} pr {} | {:?}",
            world.now - world.start,
            flow.near.flight.in_flight_bytes(),
            world.there.dropped,
            flow.near.flight.stats().retransmitted,
            flow.near.flight.stats().spurious,
            flow.near.flight.stats().probes,
            flow.near.flight.controller
        );
    }
}
