//! A silent peer is asked whether it is there.

use super::*;

fn pair(interval: Option<Duration>) -> Pair {
    let mut pair =
        Pair::new(1, LinkConfig::default(), [Config { heartbeat: interval, ..config(1) }, config(2)]);
    pair.connect();
    pair
}

#[test]
fn an_idle_association_sends_nothing_unless_it_is_asked_to() {
    let mut pair = pair(None);
    pair.run(Duration::from_secs(1));
    let sent = pair.sides[0].sent_packets;
    pair.run(Duration::from_secs(3600));
    assert_eq!(pair.sides[0].sent_packets, sent);
    assert_eq!(pair.sides[0].sctp.poll_timeout(pair.now), None);
}

#[test]
fn heartbeats_are_sent_at_their_interval_and_answered() {
    let mut pair = pair(Some(Duration::from_secs(5)));
    pair.run(Duration::from_secs(1));
    let sent = |pair: &Pair| pair.sides.each_ref().map(|side| side.sent_packets);
    let before = sent(&pair);
    pair.run(Duration::from_secs(600));
    for (before, after) in before.into_iter().zip(sent(&pair)) {
        let sent = after - before;
        assert!((115..=121).contains(&sent), "{sent}");
    }
}

#[test]
fn a_peer_that_is_gone_is_noticed() {
    let mut pair = pair(Some(Duration::from_secs(5)));
    pair.links[1].config.loss = 1.0;
    let from = pair.now;
    assert!(pair.run_until(Duration::from_secs(120), |pair| pair.closed(0).is_some()));
    assert_eq!(pair.closed(0), Some(&CloseReason::Silent));
    assert!(pair.now - from <= Duration::from_secs(45), "{:?}", pair.now - from);
}

#[test]
fn data_without_any_answer_ends_it_too() {
    let mut pair = pair(None);
    pair.links[1].config.loss = 1.0;
    pair.send(0, 0, "anyone?");
    assert!(pair.run_until(Duration::from_secs(120), |pair| pair.closed(0).is_some()));
    assert_eq!(pair.closed(0), Some(&CloseReason::Silent));
}

#[test]
fn another_path_is_shown_to_the_peer_at_once() {
    let mut pair = pair(None);
    pair.run(Duration::from_secs(5));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let watched = Rc::clone(&seen);
    pair.watch = Some(Box::new(move |from, packet| {
        watched.borrow_mut().push((from, kinds(packet)));
        true
    }));
    let now = pair.now;
    pair.sides[0].sctp.path_changed(now, None);
    pair.run(Duration::from_millis(100));
    assert_eq!(*seen.borrow(), [(0, vec![kind::HEARTBEAT]), (1, vec![kind::HEARTBEAT_ACK])]);
}
