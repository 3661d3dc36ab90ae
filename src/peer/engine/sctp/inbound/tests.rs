//! What comes in any order goes out in order, and never takes more memory than it may.

use std::collections::BTreeMap;
use std::time::Instant;

use super::*;
use crate::peer::engine::sctp::codec::DataFlags;
use crate::peer::engine::sctp::{Config, Seed};

fn config(window: usize) -> Config {
    Config { receive_window: window, max_message: 50_000, ..Config::new(Seed([1; 32])) }
}

fn inbound(interleaved: bool, window: usize) -> Inbound {
    Inbound::new(FIRST, interleaved, &config(window))
}

const FIRST: u32 = u32::MAX - 50;

/// A fragment, with what it carries.
#[derive(Debug, Clone)]
struct Piece {
    tsn: u32,
    stream: u16,
    message: u32,
    fragment: u32,
    begin: bool,
    end: bool,
    unordered: bool,
    payload: Vec<u8>,
}

impl Piece {
    fn whole(tsn: u32, stream: u16, message: u32, length: usize) -> Self {
        let (begin, end) = (true, true);
        Self { tsn, stream, message, fragment: 0, begin, end, unordered: false, payload: vec![7; length] }
    }

    fn data(&self, interleaved: bool) -> Data<'_> {
        let Self { begin, end, unordered, .. } = *self;
        Data {
            flags: DataFlags { begin, end, unordered, immediate: false },
            interleaved,
            tsn: self.tsn,
            stream: self.stream,
            message: if interleaved { self.message } else { self.message & 0xffff },
            fragment: if interleaved { self.fragment } else { 0 },
            ppid: if begin { 53 } else { 0 },
            payload: &self.payload,
        }
    }
}

/// Messages by stream, unordered ones apart.
type Sent = BTreeMap<(u16, bool), Vec<Vec<u8>>>;

/// Messages of several streams as a sender would cut them: those of DATA one after the other, those of I-DATA
/// mixed.
fn cut(random: &mut fastrand::Rng, interleaved: bool) -> (Vec<Piece>, Sent) {
    let mut sent = Sent::new();
    let mut messages = Vec::new();
    for _ in 0..40 {
        let (stream, unordered) = (random.u16(0..3), random.u8(0..4) == 0);
        let bytes: Vec<u8> = (0..random.usize(1..300)).map(|_| random.u8(..)).collect();
        let of_stream = sent.entry((stream, unordered)).or_default();
        let number = of_stream.len() as u32;
        of_stream.push(bytes.clone());
        let count = bytes.chunks(50).len();
        let pieces = bytes.chunks(50).enumerate().map(|(index, payload)| Piece {
            tsn: 0,
            stream,
            message: number,
            fragment: index as u32,
            begin: index == 0,
            end: index + 1 == count,
            unordered,
            payload: payload.to_vec(),
        });
        messages.push(pieces.collect::<Vec<_>>());
    }
    let mut pieces: Vec<Piece> = messages.into_iter().flatten().collect();
    if interleaved {
        random.shuffle(&mut pieces);
    }
    for (index, piece) in pieces.iter_mut().enumerate() {
        piece.tsn = FIRST.wrapping_add(index as u32);
    }
    (pieces, sent)
}

#[test]
fn any_order_of_arrival_gives_every_message_once_and_each_stream_in_order() {
    for seed in 0..100 {
        let interleaved = seed % 2 == 0;
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut pieces, sent) = cut(&mut random, interleaved);
        let mut inbound = inbound(interleaved, 1 << 20);
        random.shuffle(&mut pieces);
        let copies: Vec<Piece> = (0..20).map(|_| random.choice(&pieces).unwrap().clone()).collect();
        pieces.extend(copies);
        let mut received: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
        for piece in &pieces {
            inbound.on_data(&piece.data(interleaved)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            for stream in 0..3 {
                while let Some((ppid, bytes)) = inbound.receive(stream) {
                    assert_eq!(ppid, 53);
                    received.entry(stream).or_default().push(bytes.to_vec());
                }
            }
        }
        for stream in 0..3 {
            let got = received.remove(&stream).unwrap_or_default();
            let ordered = sent.get(&(stream, false)).cloned().unwrap_or_default();
            let mut loose = sent.get(&(stream, true)).cloned().unwrap_or_default();
            let mut turns = ordered.into_iter().peekable();
            for message in got {
                if turns.peek() == Some(&message) {
                    turns.next();
                } else {
                    let at = loose.iter().position(|one| *one == message);
                    loose.remove(at.unwrap_or_else(|| panic!("seed {seed}: out of order or never sent")));
                }
            }
            assert!(turns.next().is_none() && loose.is_empty(), "seed {seed}: a message is missing");
        }
        assert_eq!(inbound.held(), 0, "seed {seed}");
    }
}

#[test]
fn a_gap_in_one_stream_does_not_hold_up_another() {
    let mut inbound = inbound(false, 1 << 20);
    inbound.on_data(&Piece::whole(FIRST.wrapping_add(1), 1, 1, 10).data(false)).unwrap();
    assert_eq!(
        inbound.on_data(&Piece::whole(FIRST.wrapping_add(2), 2, 0, 10).data(false)),
        Ok(Arrival::Readable)
    );
    assert!(inbound.receive(2).is_some());
    assert!(inbound.receive(1).is_none());
    assert_eq!(inbound.on_data(&Piece::whole(FIRST, 1, 0, 10).data(false)), Ok(Arrival::Readable));
    assert!(inbound.receive(1).is_some() && inbound.receive(1).is_some());
}

#[test]
fn readable_is_told_again_only_after_all_was_taken() {
    let mut inbound = inbound(true, 1 << 20);
    let put = |inbound: &mut Inbound, n: u32| {
        inbound.on_data(&Piece::whole(FIRST.wrapping_add(n), 0, n, 10).data(true)).unwrap()
    };
    assert_eq!(put(&mut inbound, 0), Arrival::Readable);
    assert_eq!(put(&mut inbound, 1), Arrival::Taken);
    inbound.receive(0);
    assert_eq!(put(&mut inbound, 2), Arrival::Taken);
    inbound.receive(0);
    inbound.receive(0);
    assert_eq!(put(&mut inbound, 3), Arrival::Readable);
}

#[test]
fn memory_stays_bounded_whatever_comes() {
    let window = 200_000;
    let bound = window + window / 2 + 50_000 * 2;
    for seed in 0..24 {
        let mut random = fastrand::Rng::with_seed(seed);
        let interleaved = random.bool();
        let mut inbound = inbound(interleaved, window);
        // A taste for gaps, endings, streams and sizes that is the seed's own.
        let (step, ends, streams, longest) =
            (random.u32(1..4), random.u8(0..4), random.u16(1..2000), random.usize(1..1200));
        let mut tsn = FIRST;
        let mut fragment = 0;
        for n in 0..8000u32 {
            let begin = fragment == 0;
            let end = random.u8(0..4) < ends;
            let piece = Piece {
                tsn,
                stream: random.u16(0..streams),
                message: if interleaved { n } else { random.u32(0..8) },
                fragment: if interleaved { random.u32(..) } else { 0 },
                begin,
                end,
                unordered: random.bool(),
                payload: vec![1; random.usize(1..=longest)],
            };
            fragment = if end { 0 } else { fragment + 1 };
            tsn = if random.u8(0..50) == 0 {
                FIRST.wrapping_add(random.u32(0..70_000))
            } else {
                tsn.wrapping_add(step)
            };
            let outcome = inbound.on_data(&piece.data(interleaved));
            assert!(inbound.held() <= bound, "seed {seed}: holds {}", inbound.held());
            if outcome.is_err() {
                break;
            }
        }
    }
}

#[test]
fn what_is_held_is_what_the_allocator_says() {
    let window = 1 << 20;
    for (length, step, streams) in [(1, 2, 1), (1, 1, 1), (30, 2, 1000), (1000, 2, 1), (1, 1, 60_000)] {
        let mut inbound = None;
        let memory = allocation_counter::measure(|| {
            let inbound = inbound.insert(self::inbound(true, window));
            for n in 0..30_000u32 {
                let stream = n % streams;
                let number = n / streams * step + step - 1;
                let piece = Piece::whole(FIRST.wrapping_add(n * step), stream as u16, number, length);
                _ = inbound.on_data(&piece.data(true));
            }
        });
        let held = inbound.map_or(0, |inbound| inbound.held());
        let fixed = 4 << 20;
        let bytes = usize::try_from(memory.bytes_current).unwrap();
        assert!(bytes <= held + fixed, "{length} bytes, step {step}, {streams} streams: {bytes} for {held}");
    }
}

#[test]
fn an_early_message_on_each_of_many_streams_is_charged_for_what_it_costs() {
    let mut inbound = None;
    let memory = allocation_counter::measure(|| {
        let inbound = inbound.insert(self::inbound(true, 8 << 20));
        for n in 0..48_000u32 {
            _ = inbound.on_data(&Piece::whole(FIRST.wrapping_add(n), n as u16, 1, 1).data(true));
        }
    });
    let held = inbound.map_or(0, |inbound| inbound.held());
    let bytes = usize::try_from(memory.bytes_current).unwrap();
    assert!(bytes <= held + (4 << 20), "{bytes} for {held}");
}

#[test]
fn fragments_that_come_from_the_last_to_the_first_are_not_copied_again_and_again() {
    for interleaved in [true, false] {
        let mut inbound =
            Inbound::new(FIRST, interleaved, &Config { max_message: 2 << 20, ..config(8 << 20) });
        let memory = allocation_counter::measure(|| {
            for n in (0..2000u32).rev() {
                let whole = Piece::whole(FIRST.wrapping_add(n), 0, 0, 1000);
                let piece = Piece { fragment: n, begin: n == 0, end: n == 1999, ..whole };
                inbound.on_data(&piece.data(interleaved)).unwrap();
            }
        });
        assert_eq!(inbound.receive(0).unwrap().1.len(), 2_000_000);
        assert!(memory.bytes_total < 20 << 20, "{} bytes", memory.bytes_total);
    }
}

#[test]
fn a_message_without_end_is_stopped_at_the_largest_size() {
    let mut inbound = inbound(false, 1 << 20);
    let mut outcomes = (0..).map(|n: u32| {
        let piece = Piece { begin: n == 0, end: false, ..Piece::whole(FIRST.wrapping_add(n), 0, 0, 1000) };
        inbound.on_data(&piece.data(false))
    });
    assert_eq!(outcomes.position(|outcome| outcome == Err(Violation::TooLarge)), Some(50));
}

#[test]
fn a_window_full_of_beginnings_ends_the_association_rather_than_stand_still() {
    let mut inbound = inbound(true, 100_000);
    let outcome = (0..1000u32).find_map(|n| {
        let piece = Piece { end: false, ..Piece::whole(FIRST.wrapping_add(n), n as u16, 0, 1000) };
        inbound.on_data(&piece.data(true)).err()
    });
    assert_eq!(outcome, Some(Violation::Stuck));
}

#[test]
fn what_a_window_full_of_early_messages_waits_for_is_taken() {
    for length in [1usize, 45_000] {
        let mut inbound = inbound(true, 100_000);
        let early = (0..).position(|n: u32| {
            let piece = Piece::whole(FIRST.wrapping_add(100 + n), 0, 1 + n, 1);
            inbound.on_data(&piece.data(true)) == Ok(Arrival::NoRoom)
        });
        let last = length.div_ceil(1000) - 1;
        for index in 0..=last {
            let piece = Piece {
                fragment: index as u32,
                begin: index == 0,
                end: index == last,
                ..Piece::whole(FIRST.wrapping_add(index as u32), 0, 0, length.min(1000))
            };
            let expected = if index == last { Arrival::Readable } else { Arrival::Taken };
            assert_eq!(inbound.on_data(&piece.data(true)), Ok(expected), "{length} bytes, fragment {index}");
        }
        assert_eq!(std::iter::from_fn(|| inbound.receive(0)).count(), early.unwrap() + 1);
    }
}

#[test]
fn what_does_not_fit_is_refused_until_the_reader_takes_something() {
    let mut inbound = inbound(true, 100_000);
    let put = |inbound: &mut Inbound, n: u32| {
        inbound.on_data(&Piece::whole(FIRST.wrapping_add(n), 0, n, 1000).data(true))
    };
    let full = (0..).position(|n| put(&mut inbound, n) == Ok(Arrival::NoRoom)).unwrap() as u32;
    assert_eq!(full, 100, "what the peer was allowed, though it costs more here than it counts");
    let sack = |inbound: &mut Inbound| inbound.write_sack(&mut Writer::new(&mut Vec::new(), 1200, 1, 1, 1));
    for _ in 0..5 {
        sack(&mut inbound);
        assert_eq!(
            (inbound.room(), put(&mut inbound, full)),
            (0, Ok(Arrival::NoRoom)),
            "asking takes nothing"
        );
    }
    while inbound.room() < 1000 {
        inbound.receive(0);
    }
    sack(&mut inbound);
    assert_eq!(put(&mut inbound, full), Ok(Arrival::Taken), "it is not a duplicate");
}

#[test]
fn a_reader_that_drains_makes_a_window_update_due() {
    let now = Instant::now();
    let mut inbound = inbound(true, 100_000);
    for n in 0..80 {
        inbound.on_data(&Piece::whole(FIRST.wrapping_add(n), 0, n, 1000).data(true)).unwrap();
    }
    inbound.end_of_packet(now);
    let mut packet = Vec::new();
    inbound.write_sack(&mut Writer::new(&mut packet, 1200, 1, 1, 1));
    assert!(!inbound.is_sack_wanted());
    let reads = (0..80).position(|_| {
        inbound.receive(0);
        inbound.is_sack_due(now)
    });
    assert!(reads.is_some_and(|reads| (20..30).contains(&reads)), "a quarter of the window: {reads:?}");
}

#[test]
fn fragments_that_contradict_each_other_end_the_association() {
    let first = Piece { end: false, ..Piece::whole(FIRST, 1, 0, 10) };
    let second = |stream, message, begin| Piece {
        begin,
        end: true,
        fragment: 1,
        ..Piece::whole(FIRST.wrapping_add(1), stream, message, 10)
    };
    for (next, what) in [(second(2, 0, false), "another stream"), (second(1, 1, false), "another message")] {
        for order in [[&first, &next], [&next, &first]] {
            let mut inbound = inbound(false, 1 << 20);
            let outcomes = order.map(|piece| inbound.on_data(&piece.data(false)));
            assert_eq!(outcomes[1], Err(Violation::Contradiction), "{what}");
        }
    }
}

#[test]
fn a_message_that_goes_on_after_its_end_ends_the_association() {
    let end = Piece { begin: false, fragment: 1, ..Piece::whole(FIRST, 1, 0, 10) };
    let more =
        Piece { begin: false, end: false, fragment: 2, ..Piece::whole(FIRST.wrapping_add(1), 1, 0, 10) };
    for interleaved in [true, false] {
        for order in [[&end, &more], [&more, &end]] {
            let mut inbound = inbound(interleaved, 1 << 20);
            let outcomes = order.map(|piece| inbound.on_data(&piece.data(interleaved)));
            assert_eq!(outcomes[1], Err(Violation::Contradiction));
        }
    }
}

#[test]
fn a_message_without_end_before_the_next_one_was_given_up() {
    let begun = Piece { end: false, ..Piece::whole(FIRST, 1, 0, 10) };
    let next = Piece { end: false, ..Piece::whole(FIRST.wrapping_add(1), 1, 1, 10) };
    for order in [[&begun, &next], [&next, &begun]] {
        let mut inbound = inbound(false, 1 << 20);
        assert_eq!(order.map(|piece| inbound.on_data(&piece.data(false))), [Ok(Arrival::Taken); 2]);
    }
}

#[test]
fn the_kind_of_chunk_that_was_not_agreed_on_ends_the_association() {
    let piece = Piece::whole(FIRST, 0, 0, 1);
    assert_eq!(inbound(true, 1 << 20).on_data(&piece.data(false)), Err(Violation::WrongKind));
    assert_eq!(inbound(false, 1 << 20).on_data(&piece.data(true)), Err(Violation::WrongKind));
}

#[test]
fn a_stream_that_was_not_granted_is_acknowledged_and_thrown_away() {
    let mut inbound = Inbound::new(FIRST, true, &Config { streams: 4, ..config(1 << 20) });
    let piece = Piece::whole(FIRST, 4, 0, 1);
    assert_eq!(inbound.on_data(&piece.data(true)), Ok(Arrival::NoSuchStream));
    assert_eq!(inbound.cumulative(), FIRST);
    assert_eq!(inbound.held(), 0);
}

#[test]
fn idle_streams_cost_next_to_nothing() {
    let mut inbound = inbound(true, 1 << 20);
    for n in 0..60_000u32 {
        inbound.on_data(&Piece::whole(FIRST.wrapping_add(n), n as u16, 0, 10).data(true)).unwrap();
        inbound.receive(n as u16).unwrap();
    }
    assert_eq!(inbound.held(), 0);
    assert!(inbound.ordering.bodies() <= 32);
}

#[test]
fn a_stream_that_starts_anew_begins_with_message_0() {
    for interleaved in [true, false] {
        let mut inbound = inbound(interleaved, 1 << 20);
        for n in 0..3 {
            inbound.on_data(&Piece::whole(FIRST.wrapping_add(n), 5, n, 10).data(interleaved)).unwrap();
        }
        inbound.receive(5);
        inbound.reset(&[5]);
        inbound.on_data(&Piece::whole(FIRST.wrapping_add(3), 5, 0, 11).data(interleaved)).unwrap();
        let lengths: Vec<usize> =
            std::iter::from_fn(|| inbound.receive(5)).map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lengths, [10, 10, 11]);
    }
}

#[test]
fn messages_that_the_peer_gave_up_are_stepped_over() {
    for interleaved in [true, false] {
        let mut inbound = inbound(interleaved, 1 << 20);
        // Message 0 is missing its end, message 1 is not there at all, 2 and 3 wait.
        let begun = Piece { end: false, ..Piece::whole(FIRST, 5, 0, 10) };
        inbound.on_data(&begun.data(interleaved)).unwrap();
        for n in [3, 4] {
            inbound
                .on_data(&Piece::whole(FIRST.wrapping_add(n), 5, n - 1, n as usize).data(interleaved))
                .unwrap();
        }
        assert!(inbound.receive(5).is_none());
        let to = FIRST.wrapping_add(2).to_be_bytes();
        let skip = if interleaved { vec![0, 5, 0, 0, 0, 0, 0, 1] } else { vec![0, 5, 0, 1] };
        let kind = if interleaved { 194 } else { 192 };
        let length = 8 + skip.len() as u8;
        let mut packet = vec![0; 12];
        packet.extend([kind, 0, 0, length]);
        packet.extend(to);
        packet.extend(skip);
        let chunk = super::super::codec::Packet::parse(&packet).unwrap().chunks().next().unwrap().unwrap();
        let super::super::codec::Chunk::ForwardTsn(forward) = chunk.parse().unwrap() else { panic!() };
        let mut readable = Vec::new();
        inbound.on_forward(&forward, |stream| readable.push(stream));
        assert_eq!(readable, [5]);
        assert_eq!(inbound.cumulative(), FIRST.wrapping_add(4));
        let lengths: Vec<usize> =
            std::iter::from_fn(|| inbound.receive(5)).map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lengths, [3, 4]);
        assert_eq!(inbound.held(), 0, "what was begun is forgotten");
    }
}
