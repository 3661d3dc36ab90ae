//! The end in good order.

use super::*;

fn shut_down(pair: &mut Pair, sides: &[usize]) {
    for side in sides {
        pair.sides[*side].sctp.shutdown(pair.now);
    }
    let is_done = |pair: &Pair| pair.closed(0).is_some() && pair.closed(1).is_some();
    assert!(pair.run_until(Duration::from_secs(60), is_done), "{:?} {:?}", pair.closed(0), pair.closed(1));
    for side in 0..2 {
        assert_eq!(pair.closed(side), Some(&CloseReason::Shutdown));
        assert!(pair.sides[side].sctp.is_closed());
        assert_eq!(pair.sides[side].sctp.poll_timeout(pair.now), None);
    }
}

#[test]
fn all_that_was_taken_arrives_before_the_end_whoever_begins_it() {
    let links = [
        LinkConfig::default(),
        LinkConfig { loss: 0.1, jitter: Duration::from_millis(5), ..LinkConfig::default() },
    ];
    for sides in [&[0][..], &[1], &[0, 1]] {
        for (seed, link) in (0..10).flat_map(|seed| links.map(|link| (seed, link))) {
            let mut pair = Pair::connected(seed, link);
            for side in 0..2 {
                for n in 0..10u8 {
                    pair.send(side, u16::from(n % 3), vec![n; 20_000]);
                }
            }
            shut_down(&mut pair, sides);
            for side in 0..2 {
                let received: usize = (0..3).map(|stream| pair.received(side, stream)).sum();
                assert_eq!(received, 10, "side {side} seed {seed} {sides:?}");
            }
        }
    }
}

#[test]
fn nothing_is_taken_any_more() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    pair.sides[0].sctp.shutdown(pair.now);
    let late = pair.sides[0].sctp.send(pair.now, 0, 51, Bytes::from_static(b"late"));
    assert_eq!(late, Err(SendError::Closed));
    shut_down(&mut pair, &[]);
}

#[test]
fn each_packet_of_the_end_may_be_lost() {
    for lost in 0..6 {
        let mut pair = Pair::connected(1, LinkConfig::default());
        pair.run(Duration::from_secs(1));
        let mut count = 0;
        pair.watch = Some(Box::new(move |_, _| {
            count += 1;
            count != lost + 1
        }));
        let from = pair.now;
        shut_down(&mut pair, &[0]);
        assert!(pair.now - from < Duration::from_secs(1), "{lost} lost: {:?}", pair.now - from);
    }
}

#[test]
fn messages_can_be_read_after_the_end() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    pair.sides[1].reads = false;
    pair.send(0, 0, "last words");
    shut_down(&mut pair, &[0]);
    assert_eq!(pair.sides[1].sctp.receive(0), Some((51, Bytes::from("last words"))));
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    pair.run(Duration::from_secs(1));
    pair.links[1].config.loss = 1.0;
    pair.sides[0].sctp.shutdown(pair.now);
    assert!(pair.run_until(Duration::from_secs(60), |pair| pair.closed(0).is_some()));
    assert_eq!(pair.closed(0), Some(&CloseReason::Silent));
}

#[test]
fn a_peer_that_has_much_to_say_still_is_heard_to_the_end() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    pair.links[1].config.rate = Some(20_000);
    for _ in 0..20 {
        pair.send(1, 0, vec![1; 50_000]);
    }
    let from = pair.now;
    pair.sides[0].sctp.shutdown(pair.now);
    let is_done = |pair: &Pair| pair.closed(0).is_some() && pair.closed(1).is_some();
    assert!(pair.run_until(Duration::from_secs(600), is_done));
    assert_eq!([pair.closed(0), pair.closed(1)], [Some(&CloseReason::Shutdown); 2]);
    assert_eq!(pair.received(0, 0), 20);
    assert!(pair.now - from > Duration::from_secs(40), "longer than T2's patience");
}

#[test]
fn a_peer_that_is_given_up_is_told() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    pair.run(Duration::from_secs(1));
    pair.watch = Some(Box::new(|_, packet| !kinds(packet).contains(&kind::SHUTDOWN)));
    pair.sides[0].sctp.shutdown(pair.now);
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.closed(0), Some(&CloseReason::Silent));
    assert!(matches!(pair.closed(1), Some(CloseReason::AbortedByPeer { .. })));
}

#[test]
fn before_the_handshake_is_done_it_ends_at_once() {
    let mut pair = Pair::new(1, LinkConfig::default(), [config(1), config(2)]);
    pair.sides[0].sctp.connect(pair.now);
    pair.settle();
    pair.sides[0].sctp.shutdown(pair.now);
    pair.settle();
    assert_eq!(pair.closed(0), Some(&CloseReason::Aborted));
}
