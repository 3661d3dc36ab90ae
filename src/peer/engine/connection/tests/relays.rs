//! A relay that was used is lost.

use super::super::*;
use super::world::{A, B, World, address, host, ms, relay};

const WHY: &str = "turn:relay.test:3478: the relay is gone: closed";

/// Two relays on one side and a host on the other, settled on one of the relays.
fn relayed(side: usize, seed: u64) -> World {
    let mut world = World::new(seed);
    let (relays, host) = ([relay("192.0.2.1:50000"), relay("192.0.2.2:50000")], [host("10.0.0.2:2000")]);
    if side == A {
        world.dial_from(&relays, &host)
    } else {
        world.dial_from(&host, &relays)
    }
    world.until_open();
    world.run(ms(10_000 + 170 * seed));
    world
}

/// The address of this side's end of the path.
fn end(world: &mut World, side: usize) -> SocketAddr {
    address(&world.connection(side).state().path.unwrap().local_address)
}

/// Loses the relay that is used on this side. Returns it.
fn lose(world: &mut World, side: usize) -> SocketAddr {
    let gone = end(world, side);
    world.lose = Box::new(move |one| one.from == gone || one.to == gone);
    let now = world.now;
    world.connection(side).lose_relay(now, gone, WHY);
    gone
}

#[test]
fn another_pair_takes_over_from_a_lost_relay_in_well_under_a_second() {
    for (side, seed) in [(A, 0), (A, 1), (A, 2), (B, 0), (B, 1), (B, 2)] {
        let mut world = relayed(side, seed);
        let gone = lose(&mut world, side);
        assert_ne!(end(&mut world, side), gone, "at once");
        world.send(side, "mine");
        world.send(1 - side, "yours");
        world.until(ms(15), |world| world.texts(1 - side) == ["mine"]);
        // The peer is not told of the relay. It sees that we write from elsewhere.
        world.until(timing::LEFT + ms(150), |world| world.texts(side) == ["yours"]);
        world.run(ms(60_000));
        for side in [A, B] {
            assert_eq!(world.phase(side), Phase::Connected);
            let told = |(_, event): &(_, Event)| matches!(event, Event::State(state) if state.phase == Phase::Disconnected);
            assert!(!world.sides[side].events.iter().any(told), "side {side}");
        }
        assert_eq!(
            end(&mut world, A),
            address(&world.sides[B].connection.state().path.unwrap().remote_address)
        );
    }
}

#[test]
fn an_idle_peer_follows_too() {
    for side in [A, B] {
        let mut world = relayed(side, 1);
        let gone = lose(&mut world, side);
        world.until(timing::LEFT + ms(150), |world| {
            let path = world.connection(1 - side).state().path.unwrap();
            address(&path.remote_address) != gone
        });
    }
}

#[test]
fn the_only_relay_when_lost_ends_the_connection_at_once_and_is_named() {
    for side in [A, B] {
        let mut world = World::new(1);
        world.trickles = false;
        let (relay, host) = ([relay("192.0.2.1:50000")], [host("10.0.0.2:2000")]);
        if side == A {
            world.dial_from(&relay, &host)
        } else {
            world.dial_from(&host, &relay)
        }
        world.until_open();
        lose(&mut world, side);
        let Phase::Failed(why) = world.phase(side) else { panic!("{:?}", world.phase(side)) };
        assert_eq!(why, format!("the relay in use is lost and no other path to the peer works ({WHY})"));
    }
}

#[test]
fn a_lost_relay_is_named_when_no_other_address_gets_through() {
    let mut world = World::new(1);
    world.lose = Box::new(|one| one.from.port() == 1000 || one.to.port() == 1000);
    world.dial_from(&[host("10.0.0.1:1000"), relay("192.0.2.1:50000")], &[host("10.0.0.2:2000")]);
    world.until_open();
    world.run(ms(10_000));
    let now = world.now;
    world.lose = Box::new(|_| true);
    world.connection(A).lose_relay(now, address("192.0.2.1:50000"), WHY);
    assert_eq!(world.phase(A), Phase::Connected, "it looks for another");
    world.until(timing::ORPHANED + ms(10), |world| matches!(world.phase(A), Phase::Failed(_)));
    let Phase::Failed(why) = world.phase(A) else { unreachable!() };
    assert!(why.contains(WHY), "{why}");
}

#[test]
fn a_pair_that_did_not_work_before_takes_over_if_it_does_now() {
    for side in [A, B] {
        let mut world = World::new(1);
        world.lose = Box::new(|one| one.from.port() == 1000 || one.to.port() == 1000);
        let (both, one) = ([host("10.0.0.1:1000"), relay("192.0.2.1:50000")], [host("10.0.0.2:2000")]);
        if side == A {
            world.dial_from(&both, &one)
        } else {
            world.dial_from(&one, &both)
        }
        world.until_open();
        // The pair that never worked is given up meanwhile.
        world.run(ms(60_000));
        lose(&mut world, side);
        world.send(side, "direct");
        world.until(ms(500), |world| world.texts(1 - side) == ["direct"]);
        world.run(ms(20_000));
        assert_eq!((world.phase(A), world.phase(B)), (Phase::Connected, Phase::Connected));
        assert!(!world.connection(side).state().path.unwrap().is_relayed());
    }
}

#[test]
fn another_relay_that_did_not_work_before_takes_over_if_it_does_now() {
    for side in [A, B] {
        let mut world = World::new(1);
        let [one, two] = [address("192.0.2.1:50000"), address("192.0.2.2:50000")];
        world.lose = Box::new(move |one| one.from == two || one.to == two);
        let (relays, host) = ([relay("192.0.2.1:50000"), relay("192.0.2.2:50000")], [host("10.0.0.2:2000")]);
        if side == A {
            world.dial_from(&relays, &host)
        } else {
            world.dial_from(&host, &relays)
        }
        world.until_open();
        world.run(ms(60_000));
        assert_eq!(lose(&mut world, side), one);
        world.send(side, "mine");
        world.send(1 - side, "yours");
        world.until(ms(900), |world| world.texts(1 - side) == ["mine"] && world.texts(side) == ["yours"]);
    }
}

#[test]
fn a_lost_relay_that_is_not_used_harms_nothing_and_is_no_longer_told() {
    let mut world = World::new(1);
    world.dial_from(&[host("10.0.0.1:1000"), relay("192.0.2.1:50000")], &[host("10.0.0.2:2000")]);
    world.until_open();
    world.run(ms(10_000));
    let (now, events) = (world.now, world.sides[A].events.len());
    assert!(world.connection(A).local_description().unwrap().sdp.contains("192.0.2.1"));
    world.connection(A).lose_relay(now, address("192.0.2.1:50000"), WHY);
    world.connection(A).lose_relay(now, address("192.0.2.9:1"), WHY);
    assert!(!world.connection(A).local_description().unwrap().sdp.contains("192.0.2.1"));
    world.run(ms(10_000));
    assert_eq!(world.sides[A].events.len(), events);
    world.send(A, "as before");
    world.until(ms(100), |world| world.texts(B) == ["as before"]);
}

#[test]
fn the_controlling_side_decides_when_both_lose_their_relays() {
    let mut world = World::new(1);
    let [one, two] = [relay("192.0.2.1:50000"), relay("192.0.2.2:50000")];
    let [three, four] = [relay("198.51.100.1:50000"), relay("198.51.100.2:50000")];
    world.dial_from(&[one, two], &[three, four]);
    world.until_open();
    world.run(ms(10_000));
    let (a, b) = (end(&mut world, A), end(&mut world, B));
    world.lose = Box::new(move |one| [one.from, one.to].iter().any(|end| *end == a || *end == b));
    let now = world.now;
    world.connection(A).lose_relay(now, a, WHY);
    world.connection(B).lose_relay(now, b, WHY);
    world.send(A, "one");
    world.send(B, "two");
    world.until(ms(1_000), |world| world.texts(B) == ["one"] && world.texts(A) == ["two"]);
    world.run(ms(20_000));
    assert_eq!((world.phase(A), world.phase(B)), (Phase::Connected, Phase::Connected));
    let (from, to) = (end(&mut world, A), end(&mut world, B));
    let path = world.connection(A).state().path.unwrap();
    assert_eq!((address(&path.remote_address), from == a, to == b), (to, false, false));
}
