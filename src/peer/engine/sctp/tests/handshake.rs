//! The handshake, whatever happens to it.

use super::*;

#[test]
fn both_sides_begin_at_once_and_are_connected_after_one_and_a_half_round_trips() {
    let pair = Pair::connected(1, LinkConfig::default());
    assert_eq!(pair.elapsed(), Duration::from_millis(60));
}

#[test]
fn one_side_is_enough_to_begin() {
    let mut pair = Pair::new(1, LinkConfig::default(), [config(1), config(2)]);
    pair.sides[0].sctp.connect(pair.now);
    pair.finish_handshake();
    pair.send(1, 0, "hello");
    assert!(pair.run_until(Duration::from_secs(1), |pair| pair.received(0, 0) == 1));
}

#[test]
fn each_packet_of_the_handshake_may_be_lost() {
    for both in [true, false] {
        for lost in 0..8 {
            let mut configs = [config(1), config(2)];
            configs.iter_mut().for_each(|config| config.rtt = Some(Duration::from_millis(40)));
            let mut pair = Pair::new(1, LinkConfig::default(), configs);
            let mut count = 0;
            pair.watch = Some(Box::new(move |_, _| {
                count += 1;
                count != lost + 1
            }));
            pair.sides[0].sctp.connect(pair.now);
            if both {
                pair.sides[1].sctp.connect(pair.now);
            }
            pair.finish_handshake();
            let late = pair.elapsed() - Duration::from_millis(60);
            assert!(late <= Duration::from_millis(120), "{lost} lost: {late:?} late");
            pair.send(0, 0, "hello");
            pair.send(1, 0, "hello");
            assert!(
                pair.run_until(Duration::from_secs(2), |pair| pair.received(0, 0) + pair.received(1, 0) == 2)
            );
        }
    }
}

#[test]
fn it_connects_over_a_link_that_loses_every_third_packet() {
    for seed in 0..50 {
        let link = LinkConfig {
            loss: 0.333,
            duplicate: 0.1,
            jitter: Duration::from_millis(30),
            ..LinkConfig::default()
        };
        Pair::connected(seed, link);
    }
}

#[test]
fn messages_that_were_taken_before_are_sent_after() {
    let mut pair = Pair::new(1, LinkConfig::default(), [config(1), config(2)]);
    pair.send(0, 0, "early");
    pair.connect();
    assert!(pair.run_until(Duration::from_secs(1), |pair| pair.received(1, 0) == 1));
}

#[test]
fn a_peer_that_is_not_there_is_given_up_after_the_time_that_was_asked_for() {
    let mut pair = Pair::new(1, LinkConfig { loss: 1.0, ..LinkConfig::default() }, [config(1), config(2)]);
    pair.sides[0].sctp.connect(pair.now);
    assert!(pair.run_until(Duration::from_secs(60), |pair| pair.closed(0).is_some()));
    assert_eq!(pair.closed(0), Some(&CloseReason::HandshakeTimedOut));
    assert_eq!(pair.elapsed(), Duration::from_secs(30));
    assert!(pair.sides[0].sent_packets < 30);
    assert!(pair.sides[0].sctp.poll_timeout(pair.now).is_none());
}

/// The first INIT of side 0, INIT ACK of side 1, and COOKIE ECHO of side 0, without anything going on.
fn three_packets(configs: [Config; 2]) -> (Pair, [Vec<u8>; 3]) {
    let mut pair = Pair::new(1, LinkConfig { loss: 1.0, ..LinkConfig::default() }, configs);
    let sent = Rc::new(RefCell::new(Vec::new()));
    let to = Rc::clone(&sent);
    pair.watch = Some(Box::new(move |_, packet| {
        to.borrow_mut().push(packet.clone());
        false
    }));
    pair.sides[0].sctp.connect(pair.now);
    pair.settle();
    let init = sent.borrow().last().unwrap().clone();
    pair.inject(1, &init);
    let init_ack = sent.borrow().last().unwrap().clone();
    pair.inject(0, &init_ack);
    let cookie_echo = sent.borrow().last().unwrap().clone();
    assert_eq!([kinds(&init), kinds(&init_ack), kinds(&cookie_echo)], [[1], [2], [10]]);
    (pair, [init, init_ack, cookie_echo])
}

#[test]
fn a_cookie_that_was_tampered_with_is_silently_left_out() {
    let (mut pair, [_, _, echo]) = three_packets([config(1), config(2)]);
    for at in 16..echo.len() {
        let mut changed = echo.clone();
        changed[at] ^= 1;
        seal(&mut changed);
        pair.inject(1, &changed);
        assert!(pair.sides[1].events.is_empty(), "byte {at}");
    }
    pair.inject(1, &echo);
    assert_eq!(pair.sides[1].events, [Event::Connected]);
}

#[test]
fn a_cookie_of_another_association_is_left_out() {
    let (_, [_, _, echo]) = three_packets([config(1), config(3)]);
    let (mut pair, _) = three_packets([config(1), config(2)]);
    pair.inject(1, &echo);
    assert!(pair.sides[1].events.is_empty());
}

#[test]
fn a_stale_cookie_is_told_of_and_the_peer_begins_again() {
    let (mut pair, [_, _, echo]) = three_packets([config(1), config(2)]);
    pair.now += Duration::from_secs(61);
    let sent = record(&mut pair, 1);
    pair.inject(1, &echo);
    let error = sent.borrow().last().unwrap().clone();
    assert_eq!(kinds(&error), [kind::ERROR]);
    // 61 s old, good for 60: a second too old, in microseconds.
    assert_eq!(error[16..24], [0, 3, 0, 8, 0, 0x0f, 0x42, 0x40]);
    assert!(pair.sides[1].events.is_empty());
    let again = record(&mut pair, 0);
    pair.inject(0, &error);
    assert_eq!(kinds(&again.borrow()[0]), [kind::INIT]);
}

#[test]
fn packets_with_wrong_tags_ports_or_checksums_do_nothing() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    let sent = record(&mut pair, 0);
    pair.send(0, 0, "hello");
    pair.settle();
    let good = sent.borrow().last().unwrap().clone();
    let before = pair.sides[1].sctp.stats().packets_ignored;
    for (at, seals) in [(1, true), (3, true), (7, true), (9, false), (20, false)] {
        let mut bad = good.clone();
        if !seals {
            seal(&mut bad);
        }
        bad[at] ^= 1;
        if seals {
            seal(&mut bad);
        }
        pair.inject(1, &bad);
    }
    for length in 0..12 {
        pair.inject(1, &good[..length]);
    }
    assert_eq!(pair.received(1, 0), 0);
    assert_eq!(pair.sides[1].sctp.stats().packets_ignored - before, 5 + 12);
    pair.inject(1, &good);
    assert_eq!(pair.received(1, 0), 1);
}

#[test]
fn a_packet_without_checksum_counts_only_where_that_was_agreed_on() {
    let mut pair =
        Pair::new(1, LinkConfig::default(), [config(1), Config { zero_checksum: false, ..config(2) }]);
    pair.connect();
    let sent = record(&mut pair, 0);
    pair.send(0, 0, "hello");
    pair.settle();
    let mut packet = sent.borrow().last().unwrap().clone();
    assert_ne!(packet[8..12], [0; 4], "the peer does not take zeros");
    packet[8..12].fill(0);
    pair.inject(1, &packet);
    assert_eq!(pair.received(1, 0), 0);

    let mut pair = Pair::connected(1, LinkConfig::default());
    let sent = record(&mut pair, 0);
    pair.send(0, 0, "hello");
    pair.settle();
    assert_eq!(sent.borrow().last().unwrap()[8..12], [0; 4]);
}

#[test]
fn an_init_must_have_a_checksum_no_tag_and_no_company() {
    let (mut pair, [init, ..]) = three_packets([config(1), config(2)]);
    let answers = |pair: &mut Pair, packet: &[u8]| {
        let sent = record(pair, 1);
        pair.inject(1, packet);
        let count = sent.borrow().len();
        count
    };
    let mut zero = init.clone();
    zero[8..12].fill(0);
    let mut tagged = init.clone();
    tagged[7] = 1;
    seal(&mut tagged);
    let mut with_company = init.clone();
    with_company.extend([11, 0, 0, 4]);
    seal(&mut with_company);
    for packet in [zero, tagged, with_company] {
        assert_eq!(answers(&mut pair, &packet), 0);
    }
    assert_eq!(answers(&mut pair, &init), 1);
}

#[test]
fn an_init_without_streams_is_answered_with_an_abort() {
    let mut pair = Pair::new(1, LinkConfig::default(), [config(1), config(2)]);
    let sent = record(&mut pair, 1);
    pair.inject(
        1,
        &packet(0, |to| to.chunk(kind::INIT, 0, |value| Init::new(7, 9, 0, 1, 1).write_fields(value))),
    );
    assert_eq!(kinds(&sent.borrow()[0]), [kind::ABORT]);
    assert_eq!(tag_of(&sent.borrow()[0]), 7);
}

#[test]
fn unknown_parameters_of_an_init_come_back_in_the_init_ack() {
    let mut pair = Pair::new(1, LinkConfig::default(), [config(1), config(2)]);
    let sent = record(&mut pair, 1);
    let init = packet(0, |to| {
        to.chunk(kind::INIT, 0, |value| {
            Init::new(7, 9, 1, 1, 1).write_fields(value);
            value.extend([0xc1, 0x23, 0, 5, 0xab, 0, 0, 0]);
        });
    });
    pair.inject(1, &init);
    let answer = sent.borrow()[0].clone();
    let wanted = [0, 8, 0, 9, 0xc1, 0x23, 0, 5, 0xab];
    assert!(answer.windows(wanted.len()).any(|window| window == wanted), "{answer:x?}");
}

#[test]
fn a_second_init_does_not_restart_an_association() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    let sent = record(&mut pair, 1);
    let abilities = Abilities::default();
    let restart = packet(0, |to| {
        to.chunk(kind::INIT, 0, |value| {
            Init::new(0x7777, 9000, 10, 10, 5).write_fields(value);
            abilities.write(value);
        });
    });
    pair.inject(1, &restart);
    assert_eq!(kinds(&sent.borrow()[0]), [kind::ABORT]);
    assert_eq!(tag_of(&sent.borrow()[0]), 0x7777, "told to the one who asked");
    assert_eq!(pair.sides[1].sctp.stats().restarts_refused, 1);
    pair.watch = None;
    pair.send(0, 0, "still");
    pair.send(1, 0, "here");
    assert!(pair.run_until(Duration::from_secs(1), |pair| pair.received(0, 0) + pair.received(1, 0) == 2));
}

#[test]
fn an_old_init_of_the_same_peer_is_not_a_restart() {
    let mut pair = Pair::new(1, LinkConfig::default(), [config(1), config(2)]);
    let sent = record(&mut pair, 0);
    pair.connect();
    let init = sent.borrow()[0].clone();
    let answers = record(&mut pair, 1);
    pair.inject(1, &init);
    assert!(answers.borrow().is_empty());
    assert_eq!(pair.sides[1].sctp.stats().restarts_refused, 0);
}

#[test]
fn a_cookie_that_comes_again_is_acknowledged_again() {
    let (mut pair, [_, _, echo]) = three_packets([config(1), config(2)]);
    for _ in 0..3 {
        let sent = record(&mut pair, 1);
        pair.inject(1, &echo);
        assert_eq!(kinds(&sent.borrow()[0])[0], kind::COOKIE_ACK);
    }
    assert_eq!(pair.sides[1].events, [Event::Connected]);
}

#[test]
fn data_in_place_of_a_lost_cookie_ack_connects() {
    let (mut pair, [_, _, echo]) = three_packets([config(1), config(2)]);
    pair.send(1, 0, "hello");
    let sent = record(&mut pair, 1);
    pair.inject(1, &echo);
    assert_eq!(kinds(&sent.borrow()[0]), [kind::COOKIE_ACK, kind::I_DATA], "bundled");
    pair.send(1, 0, "again");
    pair.run(Duration::from_millis(100));
    let second = sent.borrow().iter().find(|packet| kinds(packet) == [kind::I_DATA]).cloned().unwrap();
    pair.inject(0, &second);
    assert_eq!(pair.sides[0].events[0], Event::Connected);
}

#[test]
fn an_abort_ends_it_with_its_words_if_the_tag_is_right() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    let sent = record(&mut pair, 0);
    pair.sides[0].sctp.abort(pair.now, "robot is tired");
    pair.settle();
    let abort = sent.borrow()[0].clone();
    let mut wrong = abort.clone();
    wrong[4] ^= 1;
    seal(&mut wrong);
    pair.inject(1, &wrong);
    assert_eq!(pair.closed(1), None);
    pair.inject(1, &abort);
    let reason = "robot is tired".to_owned();
    assert_eq!(pair.closed(1), Some(&CloseReason::AbortedByPeer { code: code::USER_ABORT, reason }));
    assert_eq!(pair.closed(0), Some(&CloseReason::Aborted));
    assert_eq!(pair.sides[0].sctp.send(pair.now, 0, 51, Bytes::from_static(b"x")), Err(SendError::Closed));
}

#[test]
fn a_chunk_that_nobody_knows_is_reported_or_skipped_as_its_bits_say() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    let sent = record(&mut pair, 0);
    pair.send(0, 0, "x");
    pair.settle();
    let tag = tag_of(&sent.borrow()[0]);
    let answers = |pair: &mut Pair, unknown: u8| {
        let sent = record(pair, 1);
        pair.inject(
            1,
            &packet(tag, |to| {
                to.chunk(unknown, 0, |value| value.extend([1, 2, 3, 4]));
                to.chunk(kind::HEARTBEAT, 0, |value| value.extend([0, 1, 0, 8, 9, 9, 9, 9]));
            }),
        );
        let kinds: Vec<u8> = sent.borrow().iter().flat_map(|packet| kinds(packet)).collect();
        kinds
    };
    assert_eq!(answers(&mut pair, 0x3f), [0u8; 0], "stop");
    assert_eq!(answers(&mut pair, 0x7f), [kind::ERROR], "stop and report");
    assert_eq!(answers(&mut pair, 0xbf), [kind::HEARTBEAT_ACK], "skip");
    assert_eq!(answers(&mut pair, 0xff), [kind::ERROR, kind::HEARTBEAT_ACK], "skip and report");
}
