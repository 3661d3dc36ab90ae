//! Messages are cut and take turns as they should.

use std::collections::BTreeMap;

use super::*;

const FULL: usize = 1000;

/// Streams and bytes of the next fragments, each in a packet of its own.
fn fragments(outbound: &mut Outbound, count: usize) -> Vec<(u16, usize)> {
    let next = || outbound.next(FULL, FULL).map(|(one, _)| (one.stream, one.payload.len()));
    std::iter::from_fn(next).take(count).collect()
}

fn outbound(interleaved: bool, messages: &[(u16, usize)]) -> Outbound {
    let mut outbound = Outbound::new();
    outbound.start(interleaved, 1 << 20);
    for (stream, length) in messages {
        outbound.push(*stream, 53, Bytes::from(vec![1; *length])).unwrap();
    }
    outbound
}

#[test]
fn a_message_is_cut_into_fragments_that_say_where_they_belong() {
    let mut outbound = outbound(false, &[(3, 2500), (3, 1)]);
    let all: Vec<Fragment> =
        std::iter::from_fn(|| outbound.next(FULL, FULL)).map(|(fragment, _)| fragment).collect();
    let shape: Vec<_> = all
        .iter()
        .map(|one| (one.message, one.index, one.payload.len(), one.flags.begin, one.flags.end))
        .collect();
    assert_eq!(
        shape,
        [
            (0, 0, 1000, true, false),
            (0, 1, 1000, false, false),
            (0, 2, 500, false, true),
            (1, 0, 1, true, true)
        ]
    );
    assert!(outbound.is_empty());
    assert_eq!(outbound.buffered(3), 2501, "not acknowledged yet");
}

#[test]
fn what_fits_a_packet_is_not_torn_and_what_does_not_fills_it() {
    let mut small = outbound(false, &[(0, 900)]);
    assert!(small.next(899, FULL).is_none());
    assert!(small.next(900, FULL).is_some());
    let mut large = outbound(false, &[(0, 1100)]);
    assert!(large.next(100, FULL).is_none(), "too little to be worth a header");
    assert_eq!(large.next(400, FULL).unwrap().0.payload.len(), 400);
    assert_eq!(large.next(FULL, FULL).unwrap().0.payload.len(), 700);
}

#[test]
fn without_interleaving_a_message_is_sent_to_its_end() {
    let mut outbound = outbound(false, &[(1, 3000), (2, 10), (1, 10)]);
    assert_eq!(fragments(&mut outbound, 9), [(1, 1000), (1, 1000), (1, 1000), (2, 10), (1, 10)]);
}

#[test]
fn with_interleaving_a_large_message_does_not_hold_up_a_small_one() {
    let mut outbound = outbound(true, &[(1, 100_000)]);
    fragments(&mut outbound, 3);
    outbound.push(2, 53, Bytes::from_static(b"small")).unwrap();
    let next = fragments(&mut outbound, 2);
    assert!(next.contains(&(2, 5)), "{next:?}");
}

#[test]
fn streams_share_in_proportion_to_their_priority() {
    let each = [(1, Priority::LOW), (2, Priority::NORMAL), (3, Priority::HIGH)];
    for interleaved in [true, false] {
        let messages: Vec<(u16, usize)> = (0..3000).map(|n| (1 + n % 3, 990)).collect();
        let mut outbound = outbound(interleaved, &messages);
        for (stream, priority) in each {
            outbound.set_priority(stream, priority);
        }
        let mut sent = BTreeMap::<u16, usize>::new();
        for (stream, bytes) in fragments(&mut outbound, 701) {
            *sent.entry(stream).or_default() += bytes / 990;
        }
        let expected = [(1u16, 100), (2, 200), (3, 400)];
        for (stream, share) in expected {
            assert!(sent[&stream].abs_diff(share) <= 2, "{sent:?}");
        }
    }
}

#[test]
fn a_stream_that_was_idle_has_saved_nothing_up() {
    let mut outbound = outbound(true, &[(1, 500_000)]);
    fragments(&mut outbound, 400);
    for _ in 0..5 {
        outbound.push(2, 53, Bytes::from(vec![2; 20_000])).unwrap();
    }
    let next = fragments(&mut outbound, 40);
    let of_first = next.iter().filter(|(stream, _)| *stream == 1).count();
    assert!((19..=21).contains(&of_first), "{next:?}");
}

#[test]
fn beginnings_never_fill_more_than_half_of_the_peers_window() {
    let mut outbound = Outbound::new();
    outbound.start(true, 100_000);
    for stream in 0..50 {
        outbound.push(stream, 53, Bytes::from(vec![1; 20_000])).unwrap();
    }
    outbound.push(60, 53, Bytes::from(vec![1; 10])).unwrap();
    let (mut begun, mut most, mut count) = (BTreeMap::new(), 0, 0);
    while let Some((fragment, _)) = outbound.next(FULL, FULL) {
        count += 1;
        if fragment.flags.end {
            begun.remove(&fragment.stream);
        } else {
            begun.insert(fragment.stream, 20_000);
        }
        most = most.max(begun.values().sum::<usize>());
    }
    assert_eq!(count, 50 * 20 + 1, "all are sent in the end");
    assert_eq!(most, 40_000, "two at a time");
}

#[test]
fn what_fits_a_packet_does_not_wait_until_fewer_large_messages_are_begun() {
    let mut outbound = Outbound::new();
    outbound.start(true, 80_000);
    for stream in 0..10 {
        outbound.push(stream, 53, Bytes::from(vec![1; 20_000])).unwrap();
    }
    fragments(&mut outbound, 6);
    outbound.push(60, 53, Bytes::from(vec![1; 10])).unwrap();
    let next = fragments(&mut outbound, 4);
    assert!(next.contains(&(60, 10)), "{next:?}");
}

#[test]
fn low_water_is_told_of_once_as_it_is_passed() {
    let mut outbound = outbound(true, &[(1, 3000)]);
    outbound.set_low_water(1, 1500);
    let all: Vec<Fragment> = std::iter::from_fn(|| outbound.next(FULL, FULL)).map(|(one, _)| one).collect();
    let told: Vec<bool> = all.iter().map(|fragment| outbound.acknowledged(fragment)).collect();
    assert_eq!(told, [false, true, false]);
    assert_eq!(outbound.buffered(1), 0);
}

#[test]
fn a_stream_that_drains_takes_nothing_and_can_be_reset_once_all_is_acknowledged() {
    let mut outbound = outbound(true, &[(1, 10), (2, 10)]);
    outbound.drain(1);
    assert_eq!(outbound.push(1, 53, Bytes::from_static(b"late")), Err(SendError::Resetting(1)));
    assert!(outbound.resettable(9).is_empty());
    let (fragment, _) = outbound.next(FULL, FULL).unwrap();
    outbound.acknowledged(&fragment);
    assert_eq!(outbound.resettable(9), [1]);
    assert!(!outbound.is_draining());
    assert_eq!(outbound.push(1, 53, Bytes::from_static(b"late")), Err(SendError::Resetting(1)));
    outbound.end_reset(1, true);
    outbound.push(1, 53, Bytes::from_static(b"new")).unwrap();
    let first = std::iter::from_fn(|| outbound.next(FULL, FULL)).find(|(one, _)| one.stream == 1);
    assert_eq!(first.unwrap().0.message, 0, "numbered from 0");
}

#[test]
fn empty_messages_are_not_taken() {
    assert_eq!(Outbound::new().push(0, 56, Bytes::new()), Err(SendError::Empty));
}
