//! Messages arrive.

use super::*;

#[test]
fn a_packet_that_was_only_late_is_known_by_its_duplicate() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    pair.run(Duration::from_secs(1));
    let late = Rc::new(RefCell::new(Vec::new()));
    let (keep, mut count) = (Rc::clone(&late), 0);
    pair.watch = Some(Box::new(move |from, packet| {
        count += usize::from(from == 0);
        if from == 0 && count == 4 {
            keep.borrow_mut().push(packet.clone());
        }
        from != 0 || count != 4
    }));
    pair.send(0, 0, vec![1; 100_000]);
    assert!(pair.run_until(Duration::from_secs(5), |pair| pair.received(1, 0) == 1));
    assert_eq!(pair.sides[0].sctp.stats().flight.spurious, 0);
    let packet = late.borrow()[0].clone();
    pair.inject(1, &packet);
    pair.run(Duration::from_secs(1));
    assert!(pair.sides[0].sctp.stats().flight.spurious > 0, "{:?}", pair.sides[0].sctp.stats().flight);
}

#[test]
fn a_message_goes_each_way() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    pair.send(0, 0, "hello");
    pair.send(1, 7, "hello yourself");
    assert!(pair.run_until(Duration::from_secs(1), |pair| pair.received(1, 0) + pair.received(0, 7) == 2));
    assert_eq!(pair.sides[1].received[&0], [(51, Bytes::from("hello"))]);
    assert_eq!(pair.sides[0].received[&7], [(51, Bytes::from("hello yourself"))]);
}

#[test]
fn large_messages_arrive_whole_over_a_link_that_loses_one_in_ten() {
    let link =
        LinkConfig { loss: 0.1, duplicate: 0.05, jitter: Duration::from_millis(3), ..LinkConfig::default() };
    for seed in 0..20 {
        let mut pair = Pair::connected(seed, link);
        let messages: Vec<Bytes> =
            (0..20u8).map(|n| Bytes::from(vec![n; 1 + usize::from(n) * 13_337])).collect();
        for message in &messages {
            pair.send(0, 3, message.clone());
        }
        let is_done = |pair: &Pair| pair.received(1, 3) == 20;
        assert!(
            pair.run_until(Duration::from_secs(120), is_done),
            "seed {seed}: {:?}",
            pair.sides[0].sctp.stats()
        );
        let received: Vec<Bytes> =
            pair.sides[1].received[&3].iter().map(|(_, bytes)| bytes.clone()).collect();
        assert!(received == messages, "seed {seed}");
        assert!(pair.run_until(Duration::from_secs(10), |pair| pair.sides[0].sctp.buffered(3) == 0));
    }
}
