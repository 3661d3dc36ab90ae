//! Servers that answer with anything.

use std::time::Duration;

use proptest::prelude::*;

use super::script::{Script, Turn, at};
use crate::peer::IceServer;
use crate::peer::engine::gathering::stun::{Class, Writer, attribute, method};
use crate::peer::engine::gathering::{Via, fuzzing};

const BASE: &str = "10.0.0.2:4000";
const SERVERS: [&str; 3] = ["192.0.2.1:3478", "192.0.2.2:3478", "192.0.2.3:3478"];

/// What a server does with a request.
#[derive(Debug, Clone)]
enum Answer {
    Nothing,
    Truly,
    /// One byte of the true answer is another.
    Changed(usize, u8),
    Cut(usize),
    Refused(u16, bool),
    Anything(Vec<u8>),
    Wait(u64),
}

fn answer() -> impl Strategy<Value = Answer> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..100);
    prop_oneof![
        1 => Just(Answer::Nothing),
        4 => Just(Answer::Truly),
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Answer::Changed(at, byte)),
        2 => (0_usize..100).prop_map(Answer::Cut),
        2 => (prop_oneof![Just(300), Just(401), Just(437), Just(438), 300_u16..700], any::<bool>())
            .prop_map(|(code, alternate)| Answer::Refused(code, alternate)),
        2 => bytes.prop_map(Answer::Anything),
        1 => (0_u64..700_000).prop_map(Answer::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]
    #[test]
    fn whatever_servers_answer_gathering_ends_and_tells_every_server(
        answers in proptest::collection::vec(answer(), 0..60),
        peers in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let servers = vec![
            IceServer::new("stun:s").unwrap(),
            Turn::server("turn:t"),
            Turn::server("turn:t?transport=tcp"),
        ];
        let (turn, mut script) = (Turn::new(), Script::new(servers, &[BASE]));
        for (n, server) in SERVERS.iter().enumerate() {
            script.resolved(n, &[server]);
        }
        let mut answers = answers.into_iter();
        while answers.len() > 0 {
            for (stream, ..) in std::mem::take(&mut script.connect) {
                script.gatherer.connected(script.now, stream);
            }
            for peer in &peers {
                let (peer, payload) = (std::net::SocketAddr::from(([10, 9, 8, *peer], 7)), [*peer, 1, 2]);
                script.gatherer.send_relayed(script.now, turn.relayed, peer, &payload, &mut Vec::new());
            }
            let requests = script.sent();
            if requests.is_empty() && !script.tick() {
                break;
            }
            for request in requests {
                let truly = if request.to == at(SERVERS[0]) {
                    super::script::binding(&request, "198.51.100.7:1")
                } else if request.bytes[0] == 0 && request.bytes[1] & 0x10 == 0 {
                    turn.answer(&request)
                } else {
                    continue;
                };
                let bytes = match answers.next() {
                    None | Some(Answer::Nothing) => continue,
                    Some(Answer::Truly) => truly,
                    Some(Answer::Changed(at, byte)) => {
                        let mut bytes = truly;
                        let at = at % bytes.len();
                        bytes[at] = byte;
                        bytes
                    }
                    Some(Answer::Cut(length)) => truly[..length.min(truly.len())].to_vec(),
                    Some(Answer::Refused(code, alternate)) => {
                        turn.refuse(&request, code, alternate.then_some("192.0.2.9:3478"))
                    }
                    Some(Answer::Anything(bytes)) => bytes,
                    Some(Answer::Wait(ms)) => {
                        script.pass(Duration::from_millis(ms));
                        continue;
                    }
                };
                script.answer(&request, bytes);
            }
        }
        script.pass(Duration::from_secs(5));
        prop_assert!(script.complete.is_some_and(|complete| complete <= Duration::from_secs(5)));
        // Each TURN server has given a relay, or has been told, or both; never twice.
        for failure in &script.failures {
            let same = script.failures.iter().filter(|each| each.server == failure.server).count();
            prop_assert_eq!(same, 1);
        }
        let relays = script.candidates.iter().filter(|candidate| candidate.leg.is_some()).count();
        prop_assert!(relays + script.failures.len() >= 2, "{:?}", script.failures);
        // Left alone, it goes on refreshing or falls silent; it never runs hot.
        let mut turns = 0;
        let began = script.now;
        while script.now - began < Duration::from_secs(3600) && script.tick() {
            script.sent();
            turns += 1;
        }
        prop_assert!(turns < 2000, "{} turns", turns);
        script.gatherer.close(script.now);
        script.pass(Duration::from_secs(1));
        prop_assert!(script.gatherer.is_over());
        prop_assert_eq!(script.gatherer.poll_timeout(), None);
        let still_sent = script.sent().into_iter().filter(|each| matches!(each.via, Via::Udp(_))).count();
        prop_assert!(still_sent < 20);
    }
}

#[test]
fn whatever_the_bytes_gathering_keeps_to_its_bounds() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let script: Vec<u8> = (0..random.usize(0..600)).map(|_| random.u8(..)).collect();
        println!("seed {seed}");
        fuzzing::gathering(&script);
    }
}

#[test]
fn whatever_the_bytes_reading_them_ends_and_cutting_them_changes_nothing() {
    let valid = Writer::new(Class::Error, method::ALLOCATE, [3; 12])
        .add(attribute::ERROR_CODE, b"\0\0\x04\x01no")
        .add(attribute::REALM, b"lab")
        .add_xor_address(attribute::XOR_MAPPED_ADDRESS, at(SERVERS[0]))
        .sign(&Turn::new().key());
    for seed in 0..3000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes: Vec<u8> = (0..11).map(|_| random.u8(..)).collect();
        // As many cuts as there is room for before the message.
        bytes[3] = 7;
        bytes.extend_from_slice(&valid);
        bytes.extend_from_slice(&[0x40, 0, 0, 2, 1, 2, 0, 0]);
        for _ in 0..random.usize(0..4) {
            let at = random.usize(11..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(11..=bytes.len()));
        fuzzing::message(&bytes);
    }
}

#[test]
fn a_server_whose_nonce_is_stale_does_not_put_off_the_end() {
    let (mut turn, mut script) = (Turn::new(), Script::new(vec![Turn::server("turn:t")], &[BASE]));
    script.resolved(0, &[SERVERS[0]]);
    turn.serve(&mut script, SERVERS[0]);
    script.gatherer.close(script.now);
    for nonce in ["second", "third"] {
        turn.nonce = nonce;
        let delete = script.sent().remove(0);
        let stale = turn.answer(&delete);
        script.pass(Duration::from_millis(200));
        script.answer(&delete, stale);
        assert!(!script.gatherer.is_over());
    }
    script.pass(Duration::from_millis(100));
    assert!(script.gatherer.is_over());
}
