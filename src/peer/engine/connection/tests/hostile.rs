//! A bad network, and peers that mean no good.

use is::stun::{StunMessage, TransId};
use is::{DefaultSha1HmacProvider, Sha1HmacProvider as _};

use super::super::*;
use super::world::{A, B, World, address, host, ms};
use crate::peer::TransportProtocol::Udp;

#[test]
fn garbage_from_anywhere_harms_nothing() {
    let mut world = World::new(1);
    world.open();
    let mut random = fastrand::Rng::with_seed(7);
    let (from, to) = ("10.0.0.2:2000".parse().unwrap(), "10.0.0.1:1000".parse().unwrap());
    for length in 0..2_000 {
        let mut bytes: Vec<u8> = (0..length % 300).map(|_| random.u8(..)).collect();
        if let Some(first) = bytes.first_mut() {
            *first = [0, 1, 20, 22, 23, 25, 32, 63, 64, 200][length % 10];
        }
        let now = world.now;
        world.connection(A).handle_input(now, from, to, Udp, &mut bytes);
    }
    world.send(A, "fine");
    world.until(ms(300), |world| world.texts(B) == ["fine"]);
}

#[test]
fn loss_copies_and_disorder_lose_no_message() {
    for seed in 0..30 {
        let mut world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        world.lose = Box::new(move |_| random.u8(..100) < 10);
        let mut random = fastrand::Rng::with_seed(seed + 1);
        world.meddle = Box::new(move |one| {
            let copies = if random.u8(..100) < 10 { 2 } else { 1 };
            (0..copies).map(|_| (ms(random.u64(..30)), one.clone())).collect()
        });
        world.dial();
        world.until_open();
        for number in 0..50 {
            world.send(A, format!("{number}"));
            world.send(B, format!("{number}"));
        }
        world.until(ms(60_000), |world| world.sides.iter().all(|side| side.got.len() == 50));
        let all: Vec<String> = (0..50).map(|number| format!("{number}")).collect();
        assert!(world.texts(A) == all && world.texts(B) == all, "seed {seed}");
    }
}

#[test]
fn changed_bytes_are_never_believed_and_never_panic() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        world.meddle = Box::new(move |mut one| {
            if random.u8(..100) < 15 {
                let index = random.usize(..one.bytes.len());
                one.bytes[index] ^= 1 << random.u8(..8);
            }
            if random.u8(..100) < 3 {
                one.bytes.truncate(random.usize(1..=one.bytes.len()));
            }
            vec![(ms(0), one)]
        });
        world.dial();
        world.run(ms(2_000));
        for side in [A, B] {
            if world.sides[side].opened.is_some() && !world.connection(side).is_over() {
                world.send(side, "whole");
            }
        }
        world.run(ms(20_000));
        for side in [A, B] {
            assert!(world.texts(side).iter().all(|text| text == "whole"), "seed {seed}");
        }
    }
}

/// A check that the peer could have sent.
fn check(from: &Connection, to: &Connection) -> Vec<u8> {
    check_signed(from, to, &to.ice.credentials().pass)
}

/// A check with the right names, signed with this password.
fn check_signed(from: &Connection, to: &Connection, password: &str) -> Vec<u8> {
    let username = format!("{}:{}", to.ice.credentials().ufrag, from.ice.credentials().ufrag);
    let message = StunMessage::binding_request(&username, TransId::new(), false, 1, 1, false);
    let mut bytes = vec![0; 300];
    let hmac = |key: &[u8], parts: &[&[u8]]| DefaultSha1HmacProvider.sha1_hmac(key, parts);
    let length = message.to_bytes(Some(password.as_bytes()), &mut bytes, hmac).unwrap();
    bytes.truncate(length);
    bytes
}

#[test]
fn a_peer_that_writes_from_everywhere_is_kept_within_bounds() {
    let mut world = World::new(1);
    world.open();
    let now = world.now;
    for port in 1_000..3_000 {
        let [caller, answerer] = &mut world.sides;
        let mut check = check(&answerer.connection, &caller.connection);
        let from = format!("10.9.9.9:{port}").parse().unwrap();
        caller.connection.handle_input(now, from, address("10.0.0.1:1000"), Udp, &mut check);
    }
    let known = world.connection(A).ice.places();
    assert!((200..=300).contains(&known), "{known}");
    world.run(ms(100));
    world.send(A, "fine");
    world.until(ms(300), |world| world.texts(B) == ["fine"]);
}

#[test]
fn answers_that_name_ever_new_addresses_of_ours_are_kept_within_bounds() {
    let mut world = World::new(1);
    world.open();
    let mut port = 1;
    for _ in 0..300 {
        world.keep_trace = true;
        world.trace.clear();
        world.run(ms(2_000));
        let checks: Vec<_> =
            world.trace.iter().filter(|(_, one)| one.by == A && one.is_stun()).cloned().collect();
        for (_, one) in checks {
            let Ok(message) = StunMessage::parse(&one.bytes) else { continue };
            if !message.is_binding_request() {
                continue;
            }
            port += 1;
            let reply =
                StunMessage::binding_reply(message.trans_id(), format!("10.8.8.8:{port}").parse().unwrap());
            let mut bytes = vec![0; 300];
            let pass = world.sides[B].connection.ice.credentials().pass.clone();
            let hmac = |key: &[u8], parts: &[&[u8]]| DefaultSha1HmacProvider.sha1_hmac(key, parts);
            let length = reply.to_bytes(Some(pass.as_bytes()), &mut bytes, hmac).unwrap();
            let now = world.now;
            let bytes = &mut bytes[..length];
            world.connection(A).handle_input(now, one.to, one.from, Udp, bytes);
        }
    }
    assert!(port > 250, "{port}");
    let known = world.connection(A).ice.places();
    assert!(known < 110, "{known}");
}

const STRANGER: &str = "10.7.7.7:7";

/// Hands this to the caller as if it came from there; what the caller then sends, and where.
fn told(world: &mut World, from: &str, mut bytes: Vec<u8>) -> Vec<(SocketAddr, Vec<u8>)> {
    let now = world.now;
    world.connection(A).handle_input(now, address(from), address("10.0.0.1:1000"), Udp, &mut bytes);
    let (mut sent, mut buffer) = (Vec::new(), Vec::new());
    while let Some(transmit) = world.connection(A).poll_transmit(now, &mut buffer) {
        sent.push((transmit.destination, buffer.clone()));
    }
    sent
}

#[test]
fn a_stranger_who_knows_all_but_the_password_gets_no_answer() {
    let mut world = World::new(1);
    world.open();
    world.run(ms(100));
    let [caller, answerer] = world.sides.each_ref().map(|side| &side.connection);
    let forged = check_signed(answerer, caller, &answerer.ice.credentials().pass);
    let genuine = check(answerer, caller);
    let answers =
        |sent: Vec<(SocketAddr, Vec<u8>)>| sent.iter().filter(|(to, _)| *to == address(STRANGER)).count();
    assert_eq!(answers(told(&mut world, STRANGER, forged)), 0);
    assert!(answers(told(&mut world, STRANGER, genuine)) > 0, "whoever knows it is answered");
}

#[test]
fn a_hello_of_the_peer_counts_only_from_where_the_peer_proved_to_be() {
    let mut world = World::new(1);
    world.keep_trace = true;
    world.lose = Box::new(|one| one.by == B && one.is_handshake());
    world.dial();
    world.run(ms(400));
    let hello =
        world.trace.iter().find(|(_, one)| one.by == B && one.is_handshake()).unwrap().1.bytes.clone();
    let answers = |sent: Vec<(SocketAddr, Vec<u8>)>| sent.iter().filter(|(_, one)| one[0] == 22).count();
    assert_eq!(answers(told(&mut world, STRANGER, hello.clone())), 0);
    assert!(answers(told(&mut world, "10.0.0.2:2000", hello)) > 0, "it would have been answered");
}

#[test]
fn a_message_of_the_peer_counts_only_from_where_the_peer_proved_to_be() {
    let mut world = World::new(1);
    world.open();
    world.run(ms(100));
    world.keep_trace = true;
    world.lose = Box::new(|one| one.by == B && !one.is_stun());
    world.send(B, "mine");
    world.run(ms(1));
    let record = world.trace.iter().find(|(_, one)| one.by == B && !one.is_stun()).unwrap().1.bytes.clone();
    told(&mut world, STRANGER, record.clone());
    assert_eq!(world.connection(A).receive(DATA), None);
    told(&mut world, "10.0.0.2:2000", record);
    assert_eq!(world.connection(A).receive(DATA), Some(Message::binary("mine")));
}

#[test]
fn candidates_of_the_generation_before_a_restart_are_ignored() {
    let mut world = World::new(1);
    world.open();
    let now = world.now;
    let before = world.sides[B].connection.ice.credentials().ufrag.clone();
    world.connection(A).restart(now).unwrap();
    let line = format!("candidate:1 1 udp 1 10.0.0.7 7 typ host ufrag {before}");
    assert_eq!(world.connection(A).add_remote_candidate(now, &line), Ok(RemoteCandidate::Ignored));
    let line = "candidate:1 1 udp 1 10.0.0.7 7 typ host ufrag another";
    assert_eq!(world.connection(A).add_remote_candidate(now, line), Ok(RemoteCandidate::Added));
}

#[test]
fn the_first_check_lets_all_candidates_of_the_caller_be_checked() {
    let mut world = World::new(1);
    world.keep_trace = true;
    world.dial_from(&[host("10.0.0.1:1000"), host("10.0.0.1:1001")], &[host("10.0.0.2:2000")]);
    // Only the first gets through.
    world.lose = Box::new(|one| one.by == A && one.from.port() == 1001);
    world.run(ms(60));
    let checked =
        |port| world.trace.iter().any(|(_, one)| one.by == B && one.bytes[0] == 0 && one.to.port() == port);
    assert!(checked(1000) && checked(1001));
}
