//! From open to the end.

use super::super::channels::NEGOTIATION;
use super::super::*;
use super::world::{A, B, World, address, host, ms, relay};
use crate::peer::CandidateKind;
use crate::peer::Description;
use crate::peer::session::{self, Local};

fn phases(world: &World, side: usize) -> Vec<Phase> {
    let state = |(_, event): &(_, Event)| match event {
        Event::State(state) => Some(state.phase.clone()),
        _ => None,
    };
    world.sides[side].events.iter().filter_map(state).collect()
}

#[test]
fn a_close_from_either_end_is_seen_at_once() {
    for side in [A, B] {
        let mut world = World::new(1);
        world.open();
        let now = world.now;
        world.connection(side).close(now);
        world.connection(side).close(now);
        assert_eq!(world.phase(side), Phase::Closed);
        world.until(ms(10), |world| world.phase(1 - side) == Phase::ClosedByPeer);
        assert!(!world.connection(side).is_done());
        world.run(ms(1_000));
        assert!(world.connection(side).is_done() && world.connection(1 - side).is_done());
        let refused = world.sides[side].connection.send(now, DATA, Message::binary("late"));
        assert_eq!(refused, Err(SendError::NotOpen));
        assert_eq!(phases(&world, side).last(), Some(&Phase::Closed));
        let after = world.sides[1 - side].connection.poll_timeout(now);
        assert_eq!(after, None, "a closed connection wants nothing");
    }
}

#[test]
fn a_close_survives_the_loss_of_its_first_words() {
    let mut world = World::new(1);
    world.open();
    let now = world.now;
    world.connection(A).close(now);
    let mut dropped = 0;
    world.lose = Box::new(move |one| {
        let lost = one.by == A && dropped < 2;
        dropped += u32::from(lost);
        lost
    });
    world.until(ms(100), |world| world.phase(B) == Phase::ClosedByPeer);
}

#[test]
fn what_came_before_a_close_is_still_read() {
    let mut world = World::new(1);
    world.open();
    world.sides[B].reads = false;
    for number in 0..10 {
        world.send(A, format!("{number}"));
    }
    world.run(ms(100));
    let now = world.now;
    world.connection(A).close(now);
    world.until(ms(20), |world| world.phase(B) == Phase::ClosedByPeer);
    world.sides[B].reads = true;
    world.run(ms(1));
    assert_eq!(world.sides[B].got.len(), 10);
}

#[test]
fn closing_before_anything_was_negotiated_does_no_harm() {
    let mut world = World::new(1);
    let now = world.now;
    world.connection(A).close(now);
    assert!(world.connection(A).is_done());
    assert_eq!(world.connection(A).create_offer(now).unwrap_err(), NegotiationError::Closed);
}

#[test]
fn an_idle_connection_lives_for_an_hour_and_says_little() {
    let mut world = World::new(1);
    world.open();
    world.keep_trace = true;
    world.run(ms(3_600_000));
    assert_eq!((world.phase(A), world.phase(B)), (Phase::Connected, Phase::Connected));
    // A probe and its answer every 2 s, both ways, and what SCTP says on its own.
    let packets = world.trace.len();
    assert!(packets < 3_600 * 3, "{packets} packets");
}

#[test]
fn an_idle_connection_outlives_the_shortest_loss_time_out_and_one_lost_packet_in_twenty() {
    for lost in [ms(1_000), ms(1_500), ms(3_000)] {
        let mut world = World::with(1, |config| config.lost = lost);
        world.open();
        let mut packets = 0;
        world.lose = Box::new(move |_| {
            packets += 1;
            packets % 20 == 0
        });
        world.run(ms(600_000));
        assert_eq!((world.phase(A), world.phase(B)), (Phase::Connected, Phase::Connected), "{lost:?}");
        // It is still noticed when the peer is gone.
        world.lose = Box::new(|_| true);
        world.until(lost + ms(100), |world| matches!(world.phase(A), Phase::Failed(_)));
    }
}

#[test]
fn silence_is_told_after_5_s_and_ends_the_connection_after_10() {
    let mut world = World::new(1);
    world.open();
    world.run(ms(7_000));
    let cut = world.now;
    world.lose = Box::new(|_| true);
    world.until(ms(5_100), |world| {
        world.phase(A) == Phase::Disconnected && world.phase(B) == Phase::Disconnected
    });
    assert!(world.now - cut >= ms(2_500), "probes are 2 s apart");
    world.until(ms(5_100), |world| matches!(world.phase(A), Phase::Failed(_)));
    world.until(ms(2_100), |world| matches!(world.phase(B), Phase::Failed(_)));
    let Phase::Failed(why) = world.phase(A) else { unreachable!() };
    assert_eq!(why, "nothing came from the peer for 10 s");
    world.run(ms(1));
    assert!(world.connection(A).is_done());
}

#[test]
fn the_loss_time_out_can_be_longer_and_recovery_is_told() {
    let mut world = World::with(1, |config| config.lost = ms(60_000));
    world.open();
    world.run(ms(7_000));
    world.lose = Box::new(|_| true);
    world.run(ms(25_000));
    assert_eq!((world.phase(A), world.phase(B)), (Phase::Disconnected, Phase::Disconnected));
    world.lose = Box::new(|_| false);
    world.until(ms(2_100), |world| world.phase(A) == Phase::Connected && world.phase(B) == Phase::Connected);
    world.send(A, "still here");
    world.until(ms(30_000), |world| world.texts(B) == ["still here"]);
}

#[test]
fn a_peer_that_answers_no_probe_is_left_after_30_s() {
    let mut world = World::with(1, |config| config.lost = ms(120_000));
    world.open();
    // Its checks come, its answers do not.
    world.lose = Box::new(|one| one.by == B && one.bytes[..2] == [1, 1]);
    world.until(ms(30_100), |world| matches!(world.phase(A), Phase::Failed(_)));
    let Phase::Failed(why) = world.phase(A) else { unreachable!() };
    assert!(why.contains("answered no probe"), "{why}");
}

#[test]
fn a_restart_finds_another_path_and_loses_nothing() {
    for side in [A, B] {
        let mut world = World::new(1);
        world.open();
        world.run(ms(5_000));
        // The old path is cut, and there is another address.
        world.lose = Box::new(|one| one.from.port() == 1000 || one.to.port() == 1000);
        world.send(side, "across");
        world.run(ms(1_000));
        let new = host("10.0.0.3:3000");
        let now = world.now;
        world.connection(A).add_local_candidate(now, &new).unwrap();
        let offer = world.connection(side).restart(now).unwrap();
        world.offer(1 - side, offer);
        world.until(ms(9_000), |world| world.texts(1 - side) == ["across"]);
        let path = world.connection(B).state().path.unwrap();
        assert_eq!(path.remote_address, "10.0.0.3:3000");
        world.run(ms(20_000));
        assert_eq!((world.phase(A), world.phase(B)), (Phase::Connected, Phase::Connected));
    }
}

#[test]
fn a_restart_that_finds_nothing_fails() {
    let mut world = World::new(1);
    world.open();
    world.run(ms(5_000));
    world.lose = Box::new(|_| true);
    let now = world.now;
    let offer = world.connection(A).restart(now).unwrap();
    world.offer(B, offer);
    world.until(ms(12_000), |world| matches!(world.phase(A), Phase::Failed(_)));
    world.until(ms(3_000), |world| matches!(world.phase(B), Phase::Failed(_)));
}

#[test]
fn it_moves_to_a_better_pair_when_one_appears() {
    for late in [ms(0), ms(500), ms(30_000)] {
        let mut world = World::new(1);
        world.dial_from(&[relay("192.0.2.1:50000")], &[host("10.0.0.2:2000")]);
        world.until_open();
        assert!(world.connection(A).state().path.unwrap().is_relayed());
        world.run(late);
        world.find(A, &host("10.0.0.1:1000"));
        for side in [A, B] {
            world.until(ms(3_000), |world| !world.connection(side).state().path.unwrap().is_relayed());
            let told = world.sides[side].events.iter().any(|(_, event)| {
                matches!(event, Event::State(state) if state.path.as_ref().is_some_and(|path|
                    path.local == CandidateKind::Host && path.remote == CandidateKind::Host))
            });
            assert!(told);
        }
        world.send(A, "direct");
        world.until(ms(1_000), |world| world.texts(B) == ["direct"]);
    }
}

#[test]
fn a_path_that_falls_silent_gives_way_to_one_that_speaks() {
    for dead in ["10.0.0.1:1000", "10.0.0.2:2000"] {
        let mut world = World::new(1);
        let [one, two] = [host("10.0.0.1:1000"), host("10.0.1.1:1001")];
        let [three, four] = [host("10.0.0.2:2000"), host("10.0.1.2:2001")];
        world.dial_from(&[one, two], &[three, four]);
        world.until_open();
        world.run(ms(10_000));
        let path = world.connection(A).state().path.unwrap();
        assert_eq!(
            (path.local_address.as_str(), path.remote_address.as_str()),
            ("10.0.0.1:1000", "10.0.0.2:2000")
        );
        let gone = address(dead);
        world.lose = Box::new(move |one| one.from == gone || one.to == gone);
        world.send(A, "one");
        world.send(B, "two");
        let moved = |world: &mut World| {
            [A, B].iter().all(|side| {
                let path = world.connection(*side).state().path.unwrap();
                path.local_address != dead && path.remote_address != dead
            })
        };
        world.until(timing::DOUBT + ms(200), moved);
        world.until(ms(40), |world| world.texts(A) == ["two"] && world.texts(B) == ["one"]);
        world.run(ms(60_000));
        assert_eq!((world.phase(A), world.phase(B)), (Phase::Connected, Phase::Connected));
        for side in [A, B] {
            assert!(!phases(&world, side).contains(&Phase::Disconnected), "{:?}", phases(&world, side));
        }
        // Back again, and best again.
        world.lose = Box::new(|_| false);
        world.send(A, "three");
        world.until(ms(1_000), |world| world.texts(B).len() == 2);
    }
}

#[test]
fn what_waited_for_a_failover_arrives_within_a_round_trip_though_time_outs_had_doubled() {
    for number in 0..12 {
        let mut world = World::new(number);
        let [one, two] = [host("10.0.0.1:1000"), host("10.0.1.1:1001")];
        world.dial_from(&[one, two], &[host("10.0.0.2:2000")]);
        world.until_open();
        world.run(ms(10_000));
        let gone = address("10.0.0.1:1000");
        world.lose = Box::new(move |one| one.from == gone || one.to == gone);
        world.run(ms(40 * number));
        world.send(A, "waits");
        let moved = |world: &mut World| {
            let path = world.connection(A).state().path.unwrap();
            path.local_address == "10.0.1.1:1001"
        };
        world.until(timing::DOUBT + ms(200), moved);
        world.until(ms(20), |world| world.texts(B) == ["waits"]);
    }
}

#[test]
fn a_relay_is_taken_without_waiting_for_more_than_the_repeat_of_a_check() {
    let mut world = World::new(1);
    world.lose = Box::new(|one| one.from.port() == 1000 || one.to.port() == 1000);
    let both = [host("10.0.0.1:1000"), relay("192.0.2.1:50000")];
    world.dial_from(&both, &[host("10.0.0.2:2000")]);
    world.until_open();
    let last = world.sides.iter().map(|side| side.opened.unwrap()).max().unwrap();
    // Answer and head start of the others, then four round trips of 40 ms.
    assert!(last <= ms(250), "{last:?}");
}

fn offer_of(connection: &Connection) -> Description {
    // What a robot with cameras says next: the same transport, another section.
    let credentials = connection.ice.credentials();
    let local = Local {
        id: 1,
        version: 2,
        ufrag: credentials.ufrag.clone(),
        pwd: credentials.pass.clone(),
        fingerprint: connection.identity.fingerprint().to_owned(),
    };
    let sdp = session::offer(&local, &[], true);
    Description::offer(format!("{sdp}m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n"))
}

#[test]
fn offers_on_the_negotiation_channel_are_answered_and_all_else_ignored() {
    let mut world = World::new(1);
    world.open();
    let now = world.now;
    let offer = offer_of(world.connection(B)).encode();
    for words in
        ["%%%", "", &Description::answer("v=0").encode(), &Description::offer("v=0").encode(), &offer]
    {
        world.connection(B).send(now, NEGOTIATION, Message::text(words.to_owned())).unwrap();
    }
    world.run(ms(200));
    let answer = world.connection(B).ignored.pop();
    let answer = Description::decode(std::str::from_utf8(&answer.unwrap().data).unwrap()).unwrap();
    assert!(answer.sdp.contains("m=video 0 "), "{}", answer.sdp);
    assert!(answer.sdp.contains("a=setup:active") || answer.sdp.contains("a=setup:passive"));
    world.send(A, "as before");
    world.until(ms(100), |world| world.texts(B) == ["as before"]);
}

#[test]
fn channels_open_in_band_from_both_sides_and_close() {
    let mut world = World::new(1);
    world.open();
    let now = world.now;
    let open = |label: &str| Open { label: label.into(), priority: 256, ..Open::default() };
    let one = world.connection(A).open_channel(now, open("one")).unwrap();
    let two = world.connection(B).open_channel(now, open("two")).unwrap();
    assert_ne!(one % 2, two % 2, "each side has its own streams");
    world.connection(A).send(now, one, Message::text("with the words that open it")).unwrap();
    world.run(ms(200));
    let event = Event::Channel { stream: one, open: open("one") };
    assert!(world.sides[B].events.iter().any(|(_, one)| *one == event));
    let opened = Event::Opened { stream: one };
    assert!(world.sides[A].events.iter().any(|(_, one)| *one == opened));
    let message = world.connection(B).receive(one);
    assert_eq!(message, Some(Message::text("with the words that open it")));
    let now = world.now;
    world.connection(B).send(now, one, Message::binary("")).unwrap();
    world.connection(B).send(now, one, Message::text("")).unwrap();
    world.run(ms(100));
    assert_eq!(world.connection(A).receive(one), Some(Message::binary("")));
    assert_eq!(world.connection(A).receive(one), Some(Message::text("")));
    let now = world.now;
    world.connection(B).close_channel(now, one);
    world.run(ms(300));
    let closed = Event::Closed { stream: one };
    for side in [A, B] {
        assert!(world.sides[side].events.iter().any(|(_, one)| *one == closed), "side {side}");
    }
    assert_eq!((world.phase(A), world.phase(B)), (Phase::Connected, Phase::Connected));
}

#[test]
fn a_message_that_is_larger_than_the_peer_takes_is_refused_here() {
    for (said, largest) in [
        ("a=max-message-size:1000", 1_000),
        ("a=max-message-size:0", 256 << 10),
        ("a=max-message-size:1073741823", 256 << 10),
        ("a=nothing", 64 << 10),
    ] {
        let mut world = World::new(1);
        world.rewrite = Box::new(move |sdp| sdp.replace("a=max-message-size:65535", said));
        world.open();
        for side in [A, B] {
            let now = world.now;
            let long = Message::binary(vec![0; largest + 1]);
            let refused = Err(SendError::TooLong { length: largest + 1, largest });
            assert_eq!(world.connection(side).send(now, DATA, long), refused, "{said}");
            world.send(side, vec![7; largest]);
            world.until(ms(2_000), |world| world.sides[1 - side].got.len() == 1);
            assert_eq!(world.sides[1 - side].got[0].data.len(), largest);
        }
    }
}

#[test]
fn closing_the_data_channel_closes_the_connection() {
    let mut world = World::new(1);
    world.open();
    let now = world.now;
    world.connection(A).close_channel(now, DATA);
    world.until(ms(300), |world| world.phase(B) == Phase::ClosedByPeer);
}

#[test]
fn stats_count_bytes_and_know_the_round_trip() {
    let mut world = World::new(1);
    world.open();
    world.send(A, vec![0; 500]);
    world.run(ms(100));
    let stats = world.connection(A).stats();
    assert!(stats.bytes_sent > 1_500 && stats.bytes_received > 1_000, "{stats:?}");
    assert!(stats.rtt.is_some_and(|rtt| rtt >= ms(20) && rtt <= ms(25)), "{stats:?}");
    assert!(stats.path.is_some());
}
