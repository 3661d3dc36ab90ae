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
    let before = [pair.sides[0].sent_packets, pair.sides[1].sent_packets];
    pair.run(Duration::from_secs(600));
    for side in 0..2 {
        let sent = pair.sides[side].sent_packets - before[side];
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
