//! The figures of issue 5 at 40 ms, without a neighbour.

use std::time::Duration;

use super::receiver::ReceiverConfig;
use super::world::{MS, SECOND, World, quantile, rate};
use crate::peer::engine::congestion::Algorithm;
use crate::peer::engine::recovery::{EarlyCopies, RecoveryConfig, Stats};
use crate::peer::engine::simulator::LinkConfig;

/// 60 MB/s with an eighth of a round trip of buffer.
fn wide(loss: f64) -> LinkConfig {
    LinkConfig { loss, rate: Some(60_000_000), queue: 300_000, ..LinkConfig::default() }
}

/// Serial calls of 64 bytes for two minutes.
fn calls(
    there: LinkConfig,
    back: LinkConfig,
    config: &RecoveryConfig,
    receiver: ReceiverConfig,
) -> Vec<Duration> {
    let mut world = World::new(there, back, 1);
    let now = world.now;
    world.flow_with(config, receiver).start_calls(now, 64, 64, Duration::ZERO);
    world.run(120 * SECOND);
    let flow = &world.flows[0];
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| quantile(&flow.took, share));
    let packets = flow.near.packets as f64 / flow.took.len() as f64;
    println!(
        "loss {} and {} {:?}: {} calls, p50 {p50:?} p99 {p99:?} max {max:?}, {packets:.2} packets a call",
        there.loss,
        back.loss,
        config.early_copies,
        flow.took.len(),
    );
    flow.took.clone()
}

fn lossy(loss: f64) -> LinkConfig {
    LinkConfig { loss, ..LinkConfig::default() }
}

#[test]
fn a_call_that_loses_a_packet_waits_for_a_probe_or_only_for_its_copy() {
    for (loss, early_copies, most) in [
        (0.0, EarlyCopies::Adaptive, 42),
        (0.01, EarlyCopies::Never, 100),
        (0.01, EarlyCopies::Adaptive, 60),
        (0.05, EarlyCopies::Never, 200),
        (0.05, EarlyCopies::Adaptive, 60),
        (0.05, EarlyCopies::Always, 60),
        (0.2, EarlyCopies::Adaptive, 250),
    ] {
        let config = RecoveryConfig { early_copies, ..RecoveryConfig::default() };
        let took = calls(lossy(loss), lossy(loss), &config, ReceiverConfig::default());
        assert!(quantile(&took, 0.99) <= most * MS && quantile(&took, 0.5) <= 42 * MS);
    }
}

#[test]
fn loss_in_one_direction_only_is_borne_in_either() {
    let config = RecoveryConfig::default();
    for (there, back) in [(0.05, 0.0), (0.0, 0.05)] {
        let took = calls(lossy(there), lossy(back), &config, ReceiverConfig::default());
        assert!(quantile(&took, 0.99) <= 60 * MS);
    }
    // Lost SACKs are told again by the next.
    let (stats, reached) = bulk(wide(0.0), lossy(0.2), &config, 3);
    assert!(reached > 38.0 && stats.spurious == 0, "{reached} {stats:?}");
}

#[test]
fn calls_without_loss_are_not_sent_twice() {
    let mut world = World::even(LinkConfig::default(), 1);
    let now = world.now;
    world.flow(&RecoveryConfig::default()).start_calls(now, 64, 64, Duration::ZERO);
    world.run(20 * SECOND);
    let stats = world.flows[0].near.flight.stats();
    assert_eq!((stats.copies, stats.probes, stats.retransmitted), (0, 0, 0));
}

#[test]
fn urgent_calls_are_sent_twice_before_any_loss_was_seen() {
    let mut world = World::even(LinkConfig::default(), 1);
    let now = world.now;
    let flow = world.flow(&RecoveryConfig::default());
    flow.near.urgent = true;
    flow.start_calls(now, 64, 64, Duration::ZERO);
    world.run(SECOND);
    let flow = &world.flows[0];
    assert!(flow.near.flight.stats().copies >= 23 && flow.far.flight.stats().copies == 0);
}

#[test]
fn a_peer_that_knows_no_i_bit_and_acknowledges_after_200_ms_is_borne() {
    let receiver = ReceiverConfig { delay: 200 * MS, immediate: None, ..ReceiverConfig::default() };
    for loss in [0.0, 0.01] {
        let took = calls(lossy(loss), lossy(loss), &RecoveryConfig::default(), receiver);
        assert!(quantile(&took, 0.99) <= 350 * MS);
    }
}

fn bulk(there: LinkConfig, back: LinkConfig, config: &RecoveryConfig, seconds: u32) -> (Stats, f64) {
    let mut world = World::new(there, back, 2);
    world.flow(config).near.bulk = usize::MAX;
    world.run(seconds * SECOND);
    let flow = &world.flows[0];
    let reached = rate(flow.far.received, seconds * SECOND);
    let stats = flow.near.flight.stats();
    println!("{:?} {there:?}: {reached:.2} MB/s, {stats:?}", config.congestion);
    (stats, reached)
}

#[test]
fn bulk_reaches_most_of_a_path_that_loses_packets() {
    for (loss, least) in [(0.0, 38.0), (0.01, 38.0), (0.05, 30.0), (0.2, 10.0)] {
        let (stats, reached) = bulk(wide(loss), lossy(0.0), &RecoveryConfig::default(), 3);
        assert!(reached >= least && stats.spurious == 0, "{reached}");
    }
}

#[test]
fn cubic_fills_a_clean_path_and_answers_every_loss() {
    let config = RecoveryConfig { congestion: Algorithm::Cubic, ..RecoveryConfig::default() };
    let link = LinkConfig { queue: 2_400_000, ..wide(0.0) };
    assert!(bulk(link, lossy(0.0), &config, 3).1 > 35.0);
    let (_, reached) = bulk(wide(0.01), lossy(0.0), &config, 3);
    assert!((0.2..2.0).contains(&reached), "{reached}");
}

#[test]
fn calls_before_it_do_not_slow_bulk() {
    for loss in [0.0, 0.01] {
        let mut world = World::even(wide(loss), 3);
        let now = world.now;
        world.flow(&RecoveryConfig::default()).start_calls(now, 64, 64, Duration::ZERO);
        world.run(20 * SECOND);
        world.flows[0].calls = None;
        world.flows[0].near.bulk = usize::MAX;
        world.run(2 * SECOND);
        let reached = rate(world.flows[0].far.received, 2 * SECOND);
        println!("bulk after calls, loss {loss}: {reached:.2} MB/s");
        assert!(reached >= 20.0);
    }
}

#[test]
fn sixteen_kilobytes_arrive_within_a_round_trip_and_a_half() {
    let mut world = World::even(lossy(0.01), 4);
    let now = world.now;
    world.flow(&RecoveryConfig::default()).start_calls(now, 16 << 10, 16 << 10, Duration::ZERO);
    world.run(60 * SECOND);
    let took = &world.flows[0].took;
    println!("16 KiB: p50 {:?} p99 {:?}", quantile(took, 0.5), quantile(took, 0.99));
    assert!(quantile(took, 0.5) <= 60 * MS && quantile(took, 0.99) <= 150 * MS);
}

#[test]
fn a_slow_reader_that_goes_on_is_noticed_within_300_ms() {
    for updates in [true, false] {
        let receiver = ReceiverConfig { window: 1 << 20, updates, ..ReceiverConfig::default() };
        let mut world = World::even(wide(0.0), 5);
        world.flow_with(&RecoveryConfig::default(), receiver).near.bulk = usize::MAX;
        world.run(3 * SECOND);
        let before = world.flows[0].far.received;
        world.flows[0].far.receiver.is_reading = false;
        world.run(5 * SECOND);
        let (now, stopped) = (world.now, world.flows[0].far.received);
        world.flows[0].far.receiver.resume(now);
        world.run(300 * MS);
        let resumed = world.flows[0].far.received - stopped;
        world.run(SECOND);
        let after = rate(world.flows[0].far.received - stopped - resumed, SECOND);
        let stats = world.flows[0].near.flight.stats();
        println!("updates {updates}: {resumed} bytes in 300 ms, then {after:.2} MB/s, {stats:?}");
        assert!(resumed > 100_000);
        assert!(after > 0.7 * rate(before, 3 * SECOND), "the window's rate was taken for the path's");
    }
}
