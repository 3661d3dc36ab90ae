//! Streams start anew (RFC 6525).

use super::codec::{Chunk, Parameters, Reset, ResetResult};
use super::*;

fn is_reset(pair: &Pair, side: usize, stream: u16, by_peer: bool) -> bool {
    pair.sides[side].events.contains(&Event::Reset { stream, by_peer })
}

#[test]
fn a_stream_is_reset_after_all_that_it_took_has_arrived_and_serves_again() {
    let links = [
        LinkConfig::default(),
        LinkConfig { loss: 0.15, jitter: Duration::from_millis(5), ..LinkConfig::default() },
    ];
    for (seed, link) in (0..20).flat_map(|seed| links.map(|link| (seed, link))) {
        let mut pair = Pair::connected(seed, link);
        pair.send(0, 4, vec![1; 50_000]);
        pair.send(0, 5, vec![1; 50_000]);
        pair.sides[0].sctp.reset_stream(pair.now, 4);
        let late = pair.sides[0].sctp.send(pair.now, 4, 51, Bytes::from_static(b"late"));
        assert_eq!(late, Err(SendError::Resetting(4)));
        let is_done = |pair: &Pair| is_reset(pair, 0, 4, false) && is_reset(pair, 1, 4, true);
        assert!(pair.run_until(Duration::from_secs(30), is_done), "seed {seed}");
        assert_eq!(pair.received(1, 4), 1);
        pair.send(0, 4, "anew");
        pair.send(0, 5, "still");
        let is_done = |pair: &Pair| pair.received(1, 4) == 2 && pair.received(1, 5) == 2;
        assert!(pair.run_until(Duration::from_secs(30), is_done), "seed {seed}");
    }
}

#[test]
fn both_sides_reset_at_once() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    for side in 0..2 {
        pair.send(side, 4, "x");
        pair.sides[side].sctp.reset_stream(pair.now, 4);
    }
    let is_done =
        |pair: &Pair| (0..2).all(|side| is_reset(pair, side, 4, false) && is_reset(pair, side, 4, true));
    assert!(pair.run_until(Duration::from_secs(5), is_done));
}

#[test]
fn more_streams_than_fit_one_request_are_all_reset() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    for stream in 0..1000 {
        pair.sides[0].sctp.reset_stream(pair.now, stream);
    }
    let is_done = |pair: &Pair| (0..1000).all(|stream| is_reset(pair, 1, stream, true));
    assert!(pair.run_until(Duration::from_secs(30), is_done));
}

/// The responses in what side 1 sent: number and result.
fn responses(sent: &[Vec<u8>]) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for packet in sent {
        for chunk in Packet::parse(packet).unwrap().chunks() {
            if let Ok(Chunk::ReConfig(parameters)) = chunk.unwrap().parse() {
                found.extend(parameters.filter_map(|one| match Reset::parse(&one) {
                    Some(Reset::Response { request, result }) => Some((request, result.0)),
                    _ => None,
                }));
            }
        }
    }
    found
}

/// A pair, the tag of side 1, and the number of side 0's next request and TSN.
fn forged() -> (Pair, u32, u32) {
    let mut pair = Pair::connected(1, LinkConfig::default());
    pair.run(Duration::from_secs(1));
    let sent = record(&mut pair, 0);
    pair.send(0, 9, "x");
    pair.settle();
    let data = sent.borrow()[0].clone();
    let chunk = Packet::parse(&data).unwrap().chunks().next().unwrap().unwrap();
    let Ok(Chunk::Data(data_chunk)) = chunk.parse() else { panic!() };
    let tag = tag_of(&data);
    pair.run(Duration::from_secs(1));
    (pair, tag, data_chunk.tsn)
}

fn request(pair: &mut Pair, tag: u32, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<(u32, u32)> {
    let sent = record(pair, 1);
    pair.inject(1, &packet(tag, |to| to.chunk(kind::RE_CONFIG, 0, fill)));
    responses(&sent.take())
}

#[test]
fn a_request_that_comes_again_gets_the_same_answer_and_is_not_carried_out_twice() {
    let (mut pair, tag, first) = forged();
    for _ in 0..3 {
        let answer = request(&mut pair, tag, |value| Reset::write_outgoing(value, first, 0, first, &[9]));
        assert_eq!(answer, [(first, ResetResult::PERFORMED.0)]);
    }
    assert_eq!(pair.sides[1].events.iter().filter(|event| matches!(event, Event::Reset { .. })).count(), 1);
    let answer = request(&mut pair, tag, |value| Reset::write_outgoing(value, first - 1, 0, first, &[9]));
    assert_eq!(answer, [(first - 1, ResetResult::BAD_NUMBER.0)]);
}

#[test]
fn a_request_that_overtook_another_is_not_refused() {
    let (mut pair, tag, first) = forged();
    let ask = |pair: &mut Pair, number| {
        request(pair, tag, |value| Reset::write_outgoing(value, number, 0, first, &[9]))
    };
    assert_eq!(ask(&mut pair, first + 1), []);
    assert_eq!(ask(&mut pair, first), [(first, ResetResult::PERFORMED.0)]);
    assert_eq!(ask(&mut pair, first + 1), [(first + 1, ResetResult::PERFORMED.0)]);
}

#[test]
fn requests_that_wait_do_not_displace_each_other_and_are_few() {
    let (mut pair, tag, first) = forged();
    pair.send(0, 9, "the missing one is not there yet");
    let ask = |pair: &mut Pair, n: u32| {
        request(pair, tag, |value| Reset::write_outgoing(value, first + n, 0, first + 1, &[20 + n as u16]))
    };
    for n in 0..8 {
        assert_eq!(ask(&mut pair, n), [], "request {n}");
    }
    for _ in 0..2 {
        assert_eq!(ask(&mut pair, 8), [(first + 8, ResetResult::BUSY.0)]);
    }
    assert_eq!(ask(&mut pair, 3), [(first + 3, ResetResult::IN_PROGRESS.0)]);
    let sent = record(&mut pair, 1);
    pair.run(Duration::from_secs(1));
    let expected: Vec<_> = (0..8).map(|n| (first + n, ResetResult::PERFORMED.0)).collect();
    assert_eq!(responses(&sent.borrow()), expected);
    assert!((0..8).all(|n| is_reset(&pair, 1, 20 + n, true)));
    assert_eq!(ask(&mut pair, 2), [(first + 2, ResetResult::PERFORMED.0)]);
    assert_eq!(ask(&mut pair, 8), [(first + 8, ResetResult::PERFORMED.0)]);
}

#[test]
fn a_peer_that_asks_us_to_reset_what_we_never_used_has_nothing_to_wait_for() {
    let (mut pair, tag, first) = forged();
    let all: Vec<u16> = (100..500).collect();
    let answer = request(&mut pair, tag, |value| Reset::write_incoming(value, first, &all));
    assert_eq!(answer, [(first, ResetResult::NOTHING_TO_DO.0)]);
    let answer = request(&mut pair, tag, |value| Reset::write_incoming(value, first + 1, &[]));
    assert_eq!(answer, [(first + 1, ResetResult::NOTHING_TO_DO.0)]);
}

#[test]
fn a_stream_that_a_request_names_twice_is_reset_once() {
    let (mut pair, tag, first) = forged();
    request(&mut pair, tag, |value| Reset::write_outgoing(value, first, 0, first, &[9, 4, 9, 9]));
    assert_eq!(pair.sides[1].events.iter().filter(|event| matches!(event, Event::Reset { .. })).count(), 2);
}

#[test]
fn a_request_waits_for_the_data_before_it() {
    let (mut pair, tag, first) = forged();
    let answer = request(&mut pair, tag, |value| Reset::write_outgoing(value, first, 0, first + 1, &[9]));
    assert_eq!(answer, [], "no answer yet");
    let answer = request(&mut pair, tag, |value| Reset::write_outgoing(value, first, 0, first + 1, &[9]));
    assert_eq!(answer, [(first, ResetResult::IN_PROGRESS.0)], "asked again");
    assert!(!is_reset(&pair, 1, 9, true));
    pair.send(0, 9, "the missing one");
    let sent = record(&mut pair, 1);
    pair.run(Duration::from_secs(1));
    assert!(is_reset(&pair, 1, 9, true));
    assert_eq!(responses(&sent.borrow()), [(first, ResetResult::PERFORMED.0)], "told without being asked");
    assert_eq!(pair.received(1, 9), 2);
}

#[test]
fn a_request_without_streams_means_all() {
    let (mut pair, tag, first) = forged();
    let answer = request(&mut pair, tag, |value| Reset::write_outgoing(value, first, 0, first, &[]));
    assert_eq!(answer, [(first, ResetResult::PERFORMED.0)]);
    assert!(is_reset(&pair, 1, 9, true));
}

#[test]
fn a_peer_that_asks_us_to_reset_gets_our_request() {
    let (mut pair, tag, first) = forged();
    pair.send(1, 9, "x");
    pair.run(Duration::from_secs(1));
    let sent = record(&mut pair, 1);
    pair.inject(
        1,
        &packet(tag, |to| {
            to.chunk(kind::RE_CONFIG, 0, |value| Reset::write_incoming(value, first, &[9]));
        }),
    );
    let ours = sent.borrow()[0].clone();
    let chunk = Packet::parse(&ours).unwrap().chunks().next().unwrap().unwrap();
    let mut parameters = Parameters::new(chunk.value);
    let Some(Reset::Outgoing { response, streams, .. }) = Reset::parse(&parameters.next().unwrap()) else {
        panic!()
    };
    assert_eq!((response, streams.iter().collect::<Vec<_>>()), (first, vec![9]));
    pair.run(Duration::from_secs(1));
    assert!(is_reset(&pair, 1, 9, false) && is_reset(&pair, 0, 9, true));
}

#[test]
fn what_we_do_not_do_is_denied() {
    let (mut pair, tag, first) = forged();
    // Add Outgoing Streams.
    let answer = request(&mut pair, tag, |value| {
        value.extend([0, 17, 0, 12]);
        value.extend(first.to_be_bytes());
        value.extend([0, 1, 0, 0]);
    });
    assert_eq!(answer, [(first, ResetResult::DENIED.0)]);
}

#[test]
fn the_reset_of_a_stream_ends_though_the_peer_never_answers() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    pair.run(Duration::from_secs(1));
    pair.watch = Some(Box::new(|_, packet| !kinds(packet).contains(&kind::RE_CONFIG)));
    pair.sides[0].sctp.reset_stream(pair.now, 3);
    pair.run(Duration::from_secs(40));
    assert!(is_reset(&pair, 0, 3, false));
    assert_eq!(pair.sides[0].sctp.poll_timeout(pair.now), None);
    let more = pair.sides[0].sctp.send(pair.now, 3, 51, Bytes::from_static(b"numbered from where?"));
    assert_eq!(more, Err(SendError::Resetting(3)));
}
