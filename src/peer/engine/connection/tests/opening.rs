//! From nothing to open.

use super::super::*;
use super::world::{A, B, Flying, World, address, host, ms, relay, stranger};
use crate::peer::CandidateKind;

#[test]
fn it_opens_with_candidates_in_the_descriptions() {
    let mut world = World::new(1);
    world.trickles = false;
    world.open();
    let path = world.connection(A).state().path.unwrap();
    assert_eq!((path.local, path.remote), (CandidateKind::Host, CandidateKind::Host));
    assert_eq!(path.remote_address, "10.0.0.2:2000");
}

#[test]
fn it_opens_with_trickled_candidates() {
    let mut world = World::new(1);
    world.open();
    assert_eq!(world.phase(A), Phase::Connected);
    assert_eq!(world.phase(B), Phase::Connected);
}

#[test]
fn the_states_come_in_order_and_end_with_a_path() {
    let mut world = World::new(1);
    world.open();
    for side in [A, B] {
        let events: Vec<_> = world.sides[side].events.iter().map(|(_, event)| event).collect();
        let [Event::State(one), Event::State(two), Event::Opened { stream: DATA }] = events[..] else {
            panic!("{events:?}");
        };
        assert_eq!((&one.phase, &one.path), (&Phase::Connecting, &None));
        assert_eq!(two.phase, Phase::Connected);
        assert!(two.path.is_some());
    }
}

/// Signaling 2 x 20 ms, then per round trip of 20 ms: checks, DTLS (two), SCTP (one to two).
#[test]
fn opening_takes_no_round_trip_that_it_need_not() {
    for trickles in [false, true] {
        let mut world = World::new(1);
        world.trickles = trickles;
        world.open();
        let last = world.sides.iter().map(|side| side.opened.unwrap()).max().unwrap();
        println!("trickled {trickles}: {:?} {:?}", world.sides[A].opened, world.sides[B].opened);
        assert!(last <= ms(40 + 5 * 20 + 10), "{last:?}");
    }
}

#[test]
fn it_opens_with_only_the_callers_candidates_known() {
    let mut world = World::new(1);
    world.dial_from(&[host("10.0.0.1:1000")], &[]);
    world.run(ms(30));
    // The answerer tells nothing and listens.
    let now = world.now;
    world.connection(B).add_local_candidate(now, &host("10.0.0.2:2000"));
    world.until_open();
    assert_eq!(world.connection(A).state().path.unwrap().remote, CandidateKind::Prflx);
}

#[test]
fn both_sides_speak_first_and_nothing_is_lost() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.delay = ms(seed % 7);
        world.trickles = seed % 2 == 0;
        world.dial();
        let mut spoken = [false; 2];
        world.until(ms(3_000), |world| {
            for side in [A, B] {
                if world.sides[side].opened.is_some() && !spoken[side] {
                    spoken[side] = true;
                    for number in 0..5 {
                        world.send(side, format!("{number}"));
                    }
                }
            }
            world.sides.iter().all(|side| side.got.len() == 5)
        });
        for side in [A, B] {
            assert_eq!(world.texts(side), ["0", "1", "2", "3", "4"], "seed {seed}");
        }
    }
}

#[test]
fn each_packet_of_the_opening_may_be_lost_on_each_side() {
    for side in [A, B] {
        for lost in 0..14 {
            let mut world = World::new(lost as u64);
            world.lose = Box::new(move |one| one.by == side && one.number == lost);
            world.open();
            world.send(A, "ping");
            world.send(B, "pong");
            world.until(ms(3_000), |world| world.sides.iter().all(|side| side.got.len() == 1));
            let opened = world.sides.iter().map(|side| side.opened.unwrap()).max().unwrap();
            // A lost check costs 100 ms, a lost flight 250 ms and a quarter of jitter.
            assert!(opened < ms(600), "packet {lost} of side {side} lost: {opened:?}");
        }
    }
}

/// Peers drop what they take for a replay. What a server says again, [`LastFlight`](super::super::last_flight) means to
/// be taken for one: its records are protected.
#[test]
fn no_record_in_the_clear_comes_twice_under_one_number() {
    for version in [dimpl::Dtls::new_12, dimpl::Dtls::new_auto] {
        for side in [A, B] {
            for lost in 0..6 {
                let mut world = World::new(lost);
                world.replace(B, Identity::seeded(4, world.now).unwrap().speaking(version));
                world.keep_trace = true;
                let mut flown = 0;
                world.lose = Box::new(move |one| {
                    let counts = one.by == side && !one.is_stun();
                    flown += u64::from(counts);
                    // This one, and the two after it.
                    counts && (lost + 1..lost + 4).contains(&flown)
                });
                world.open();
                let mut seen = Vec::new();
                for (at, one) in world.trace.iter().filter(|(_, one)| one.is_handshake()) {
                    let number = (one.by, one.bytes[3..11].to_vec());
                    assert!(!seen.contains(&number), "{number:?} again after {at:?}");
                    seen.push(number);
                }
            }
        }
    }
}

/// Nobody repeats it in time but the server itself.
#[test]
fn a_lost_last_flight_of_the_handshake_costs_100_ms() {
    let mut world = World::new(1);
    // The caller is the server, and the client knows DTLS 1.2 only.
    world.replace(B, Identity::seeded(4, world.now).unwrap().speaking(dimpl::Dtls::new_12));
    world.keep_trace = true;
    let mut lost = false;
    world.lose = Box::new(move |one| {
        // Change of cipher spec and Finished: after them, nothing of the handshake.
        let is_last = one.by == A && one.bytes[0] == 20;
        let first = is_last && !lost;
        lost |= is_last;
        // The client has the patience of pion.
        first || one.by == B && lost && one.is_handshake()
    });
    world.open();
    let last = |(_, one): &&(_, Flying)| one.by == A && one.bytes[0] == 20;
    let said: Vec<_> = world.trace.iter().filter(last).map(|(at, one)| (*at, one.bytes.clone())).collect();
    assert_eq!(said.len(), 2);
    assert_eq!((said[1].0 - said[0].0, &said[1].1), (ms(100), &said[0].1));
    let opened = world.sides.iter().map(|side| side.opened.unwrap()).max().unwrap();
    assert!(opened <= ms(40 + 5 * 20 + 10 + 100), "{opened:?}");
}

#[test]
fn it_opens_through_heavy_loss() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        world.lose = Box::new(move |_| random.u8(..100) < 20);
        world.open();
    }
}

#[test]
fn a_hundred_connections_take_the_same_course_when_they_are_the_same() {
    let course = |seed| {
        let mut world = World::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        world.lose = Box::new(move |_| random.u8(..100) < 10);
        world.open();
        world.sides.each_ref().map(|side| format!("{:?}", side.events))
    };
    for seed in 0..100 {
        assert_eq!(course(seed), course(seed), "seed {seed}");
    }
}

#[test]
fn a_certificate_that_is_not_the_described_one_ends_it_before_a_word_is_read() {
    for imposter in [A, B] {
        let mut world = World::new(1);
        let config = Config::new(if imposter == A { Role::Caller } else { Role::Answerer });
        // It describes itself as somebody else.
        let mut connection = Connection::new(config, stranger(), world.now);
        let described = world.sides[imposter].connection.identity.fingerprint().to_owned();
        connection.negotiation = negotiation::Negotiation::new(connection.config.role, &described);
        world.sides[imposter].connection = connection;
        world.dial();
        let other = 1 - imposter;
        world.until(ms(3_000), |world| matches!(world.phase(other), Phase::Failed(_)));
        let Phase::Failed(why) = world.phase(other) else { unreachable!() };
        assert!(why.contains("certificate is not the one"), "{why}");
        assert!(world.sides[other].opened.is_none());
        world.run(ms(30_000));
        assert!(world.sides[imposter].opened.is_none());
        assert!(world.phase(imposter).is_final());
    }
}

#[test]
fn no_path_says_so_in_time_with_what_was_known() {
    let mut world = World::with(1, |config| config.servers = true);
    world.lose = Box::new(|_| true);
    world.dial();
    world.until(ms(9_100), |world| matches!(world.phase(A), Phase::Failed(_)));
    world.until(ms(1_100), |world| matches!(world.phase(B), Phase::Failed(_)));
    let Phase::Failed(why) = world.phase(A) else { unreachable!() };
    let said = "no path to the peer was found in 9 s (1 candidates here, 1 of the peer's)";
    assert!(why.starts_with(said) && why.ends_with("UDP is probably blocked here"), "{why}");
}

#[test]
fn a_path_without_a_handshake_fails_in_time() {
    let mut world = World::new(1);
    world.lose = Box::new(|one| !one.is_stun());
    world.dial();
    world.until(ms(11_000), |world| world.sides.iter().all(|side| side.connection.state().phase.is_final()));
    let Phase::Failed(why) = world.phase(A) else { panic!() };
    assert!(why.contains("handshake"), "{why}");
}

#[test]
fn without_an_address_it_fails_at_once() {
    let mut world = World::new(1);
    let now = world.now;
    world.connection(A).create_offer(now).unwrap();
    world.connection(A).end_of_local_candidates(now);
    assert_eq!(
        world.phase(A),
        Phase::Failed("this host has no address to connect from, or all of them are filtered out".into())
    );
    let mut world = World::with(1, |config| config.relay_only = true);
    assert_eq!(world.connection(A).add_local_candidate(now, &host("10.0.0.1:1000")), None);
    world.connection(A).end_of_local_candidates(now);
    assert!(matches!(world.phase(A), Phase::Failed(why) if why.contains("no TURN server gave one")));
}

#[test]
fn relays_are_a_path_by_their_own_address() {
    let mut world = World::with(1, |config| config.relay_only = true);
    world.dial_from(&[relay("192.0.2.1:50000")], &[relay("192.0.2.1:50001")]);
    world.until_open();
    let path = world.connection(A).state().path.unwrap();
    assert!(path.is_relayed() && path.local_address == "192.0.2.1:50000", "{path}");
}

#[test]
fn the_answerer_of_a_stranger_checks_nothing_until_it_hears_it_or_150_ms_are_over() {
    for (blocked, first) in [(false, 40 + 10), (true, 20 + 150)] {
        let mut world = World::new(1);
        world.rewrite = Box::new(|sdp| sdp.replace("a=tool:farlink", "a=tool:another"));
        world.keep_trace = true;
        world.lose = Box::new(move |one| blocked && one.by == A);
        world.dial();
        world.run(ms(400));
        let (at, one) = world.trace.iter().find(|(_, one)| one.by == B).unwrap();
        assert!(one.is_stun());
        assert_eq!(*at, ms(first), "blocked {blocked}");
        if !blocked {
            // Reply first, then its own check.
            let mut words = world.trace.iter().filter(|(_, one)| one.by == B).map(|(_, one)| one.bytes[0]);
            assert_eq!((words.next(), words.next()), (Some(1), Some(0)));
        }
    }
}

#[test]
fn the_answerer_of_a_stranger_answers_on_every_pair_before_it_checks_it() {
    let mut world = World::new(1);
    world.rewrite = Box::new(|sdp| sdp.replace("a=tool:farlink", "a=tool:another"));
    world.keep_trace = true;
    world.dial_from(
        &[host("10.0.0.1:1000"), host("10.1.0.1:1001")],
        &[host("10.0.0.2:2000"), host("10.1.0.2:2001")],
    );
    world.run(ms(100));
    let mut pairs = Vec::new();
    for (at, one) in world.trace.iter().filter(|(_, one)| one.by == B && one.is_stun()) {
        if !pairs.contains(&(one.from, one.to)) {
            pairs.push((one.from, one.to));
            assert_eq!(one.bytes[0], 1, "a check from {} to {} after {at:?}", one.from, one.to);
        }
    }
    assert_eq!(pairs.len(), 4);
}

#[test]
fn the_rest_of_a_strangers_candidates_is_checked_soon_after_its_first_check() {
    let mut world = World::new(1);
    world.rewrite = Box::new(|sdp| sdp.replace("a=tool:farlink", "a=tool:another"));
    world.keep_trace = true;
    // What the caller sends from its second address is lost.
    world.lose = Box::new(|one| one.from == address("10.1.0.1:1001"));
    world.dial_from(&[host("10.0.0.1:1000"), host("10.1.0.1:1001")], &[host("10.0.0.2:2000")]);
    world.run(ms(200));
    let first = |to| world.trace.iter().find(|(_, one)| one.by == B && one.to == address(to)).unwrap().0;
    assert_eq!((first("10.0.0.1:1000"), first("10.1.0.1:1001")), (ms(50), ms(60)));
}

#[test]
fn the_answerer_of_another_farlink_checks_at_once() {
    let mut world = World::new(1);
    world.keep_trace = true;
    world.lose = Box::new(|one| one.by == A);
    world.dial();
    world.run(ms(400));
    let (at, one) = world.trace.iter().find(|(_, one)| one.by == B).unwrap();
    assert!(one.is_stun());
    assert_eq!(*at, ms(20));
}

#[test]
fn many_checks_ahead_of_the_answer_do_not_stop_ours() {
    // pion sends dozens before its answer arrives, and is quiet once they are answered.
    let mut world = World::new(1);
    let many: Vec<_> = (0..90).map(|number| host(&format!("10.0.0.1:{}", 1000 + number))).collect();
    world.dial_from(&many, &[host("10.0.0.2:2000")]);
    world.run(ms(39));
    // From here on the answerer says nothing by itself.
    world.lose = Box::new(|one| one.by == B && one.is_stun() && one.bytes[0] == 0);
    world.run(ms(161));
    assert_eq!(world.phase(A), Phase::Connected);
}

#[test]
fn tcp_is_tried_from_our_side_where_the_peer_waits() {
    let mut world = World::new(1);
    world.keep_trace = true;
    world.dial();
    let now = world.now;
    world.connection(A).add_tcp_address(now, "10.0.0.1".parse().unwrap());
    let line = "candidate:7 1 tcp 1 10.0.0.9 443 typ host tcptype passive";
    assert_eq!(world.connection(A).add_remote_candidate(now, line), Ok(RemoteCandidate::Added));
    world.run(ms(200));
    let tcp = world.trace.iter().find(|(_, one)| one.protocol == crate::peer::TransportProtocol::Tcp);
    let (_, one) = tcp.unwrap();
    assert_eq!((one.from, one.to), (address("10.0.0.1:9"), address("10.0.0.9:443")));
}

#[test]
fn candidates_of_the_peer_are_bounded() {
    let mut world = World::new(1);
    let now = world.now;
    for number in 1..=100 {
        let line = format!("candidate:1 1 udp 1 10.0.1.{number} 9 typ host");
        assert_eq!(world.connection(A).add_remote_candidate(now, &line), Ok(RemoteCandidate::Added));
        assert_eq!(world.connection(A).add_remote_candidate(now, &line), Ok(RemoteCandidate::Ignored));
    }
    let more = "candidate:1 1 udp 1 10.0.2.1 9 typ host";
    assert_eq!(world.connection(A).add_remote_candidate(now, more), Err(CandidateError::TooMany));
    for number in 0..8 {
        let line = format!("candidate:1 1 udp 1 {number}.local 9 typ host");
        let added = world.connection(A).add_remote_candidate(now, &line).unwrap();
        assert!(
            matches!(added, RemoteCandidate::Resolve(named) if named.name() == format!("{number}.local"))
        );
    }
    let line = "candidate:1 1 udp 1 9.local 9 typ host";
    assert_eq!(world.connection(A).add_remote_candidate(now, line), Err(CandidateError::TooMany));
}

#[test]
fn a_name_that_was_looked_up_becomes_a_path() {
    let mut world = World::new(1);
    world.sides[A].connection.add_local_candidate(world.now, &host("10.0.0.1:1000"));
    let now = world.now;
    let line = "candidate:1 1 udp 1 abc.local 1000 typ host";
    let Ok(RemoteCandidate::Resolve(named)) = world.connection(B).add_remote_candidate(now, line) else {
        panic!();
    };
    let added = world.connection(B).add_resolved_candidate(now, named, "10.0.0.1".parse().unwrap());
    assert_eq!(added, Ok(RemoteCandidate::Added));
    world.dial_from(&[], &[host("10.0.0.2:2000")]);
    world.until_open();
}

#[test]
fn descriptions_out_of_turn_are_errors_that_harm_nothing() {
    use NegotiationError::{Closed, NoOffer, NotOurs, Session, Twice};
    let mut world = World::new(1);
    let now = world.now;
    let [caller, answerer] = &mut world.sides;
    let (caller, answerer) = (&mut caller.connection, &mut answerer.connection);
    assert_eq!(answerer.create_offer(now).unwrap_err(), NotOurs);
    let garbage = crate::peer::Description::offer("v=0");
    assert!(matches!(answerer.accept_offer(now, &garbage).unwrap_err(), Session(_)));
    assert_eq!(caller.restart(now).unwrap_err(), NoOffer);
    let offer = caller.create_offer(now).unwrap();
    assert_eq!(caller.create_offer(now).unwrap_err(), Twice);
    assert_eq!(caller.accept_offer(now, &offer).unwrap_err(), NotOurs);
    assert_eq!(answerer.set_answer(now, &offer).unwrap_err(), NoOffer);
    let answer = answerer.accept_offer(now, &offer).unwrap();
    assert_eq!(answerer.accept_offer(now, &offer).unwrap_err(), Twice);
    assert_eq!(answerer.set_answer(now, &answer).unwrap_err(), NotOurs);
    caller.set_answer(now, &answer).unwrap();
    assert_eq!(caller.set_answer(now, &answer).unwrap_err(), Twice);
    caller.close(now);
    assert_eq!(caller.set_answer(now, &answer).unwrap_err(), Closed);
}

#[test]
fn it_opens_with_peers_that_speak_one_version_of_dtls_in_both_roles() {
    for (old, version) in [(A, "1.2"), (B, "1.2"), (A, "1.3"), (B, "1.3")] {
        for passive in [false, true] {
            let mut world = World::new(1);
            let identity = Identity::seeded(4, world.now).unwrap();
            let constructor = if version == "1.2" { dimpl::Dtls::new_12 } else { dimpl::Dtls::new_13 };
            world.replace(old, identity.speaking(constructor));
            // The caller says that it starts the handshake, and the answerer lets it.
            world.rewrite = Box::new(move |sdp| match passive {
                true => sdp.replace("setup:actpass", "setup:active"),
                false => sdp.to_owned(),
            });
            world.open();
            assert_eq!(world.connection(A).negotiation.is_dtls_client(), passive, "side {old}, {version}");
            world.send(A, "ping");
            world.send(B, "pong");
            world.until(ms(300), |world| world.sides.iter().all(|side| side.got.len() == 1));
        }
    }
}

#[test]
fn one_of_several_fingerprints_in_the_description_is_enough_and_none_fails() {
    let other = "a=fingerprint:sha-256 AA:BB\r\na=fingerprint:";
    for (said, instead, opens) in [("a=fingerprint:", other, true), ("sha-256 ", "sha-256 00:", false)] {
        let mut world = World::new(1);
        world.rewrite = Box::new(move |sdp| sdp.replace(said, instead));
        world.dial();
        if opens {
            world.until_open();
        } else {
            world.until(ms(3_000), |world| world.sides.iter().any(|side| side.connection.is_over()));
            assert!(world.sides.iter().all(|side| side.opened.is_none()));
        }
    }
}

#[test]
fn what_comes_before_the_answer_is_not_lost() {
    let mut world = World::new(1);
    world.keep_trace = true;
    // The answer takes its time; checks and hello of the answerer overtake it.
    let (now, caller, answerer) = (world.now, host("10.0.0.1:1000"), host("10.0.0.2:2000"));
    let line = world.connection(A).add_local_candidate(now, &caller).unwrap();
    world.connection(B).add_local_candidate(now, &answerer).unwrap();
    world.connection(B).add_remote_candidate(now, &line).unwrap();
    let offer = world.connection(A).create_offer(now).unwrap();
    world.signaling = ms(500);
    world.offer(B, offer);
    world.run(ms(500));
    // From here on there is an answer on its way.
    world.run(ms(490));
    let checked = world.trace.iter().any(|(_, one)| one.by == B && one.is_stun());
    assert!(checked && world.trace.iter().all(|(_, one)| one.by == B), "the caller says nothing yet");
    world.until_open();
    let last = world.sides.iter().map(|side| side.opened.unwrap()).max().unwrap();
    assert!(last <= ms(1_000 + 150), "{last:?}");
}

#[test]
fn what_looks_like_dtls_before_the_description_is_kept_within_bounds_and_harms_nothing() {
    let mut world = World::new(1);
    let (now, udp) = (world.now, crate::peer::TransportProtocol::Udp);
    for _ in 0..100 {
        let (from, to) = (address("10.0.0.2:2000"), address("10.0.0.1:1000"));
        world.connection(A).handle_input(now, from, to, udp, &mut [22; 100]);
    }
    assert_eq!(world.connection(A).early.len(), 8, "and not more than that");
    world.open();
}

#[test]
fn datagrams_of_bulk_share_buffers_and_arrive() {
    let mut world = World::new(1);
    world.delay = ms(1);
    world.open();
    let mut sent = 0;
    world.until(ms(20_000), |world| {
        while sent < 100 && world.sides[A].connection.buffered(DATA) < 1 << 20 {
            world.send(A, vec![sent; 60_000]);
            sent += 1;
        }
        world.sides[B].got.len() == 100
    });
    for (number, message) in world.sides[B].got.iter().enumerate() {
        assert!(message.data.len() == 60_000 && message.data.iter().all(|byte| usize::from(*byte) == number));
    }
    let (datagrams, buffers) = (world.sides[A].datagrams(), world.sides[A].buffers);
    assert!(datagrams > 5 * buffers, "{datagrams} in {buffers}");
}

/// What is logged while this runs, all of it.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn passwords_are_not_logged() {
    let mut passwords = Vec::new();
    let log = logged(|| {
        let mut world = World::new(1);
        world.open();
        let now = world.now;
        for side in [A, B] {
            passwords.push(world.connection(side).local_description().unwrap());
        }
        world.connection(A).restart(now).unwrap();
        passwords.push(world.connection(A).local_description().unwrap());
    });
    assert!(log.contains("TRACE"), "nothing was logged at all");
    for description in passwords {
        let password = description.sdp.lines().find_map(|line| line.strip_prefix("a=ice-pwd:")).unwrap();
        let line = log.lines().find(|line| line.contains(password.trim()));
        assert_eq!(line, None);
    }
}
