//! Readers that are slow, and the sender that waits for them.

use super::*;

/// Side 1 with this window, side 0 with this much to send in messages of 16 KiB.
fn pair(window: usize, link: LinkConfig, bytes: usize) -> Pair {
    let mut pair = Pair::new(1, link, [config(1), Config { receive_window: window, ..config(2) }]);
    pair.connect();
    pair.sides[1].reads = false;
    for _ in 0..bytes.div_ceil(16_384) {
        pair.send(0, 0, vec![1; 16_384]);
    }
    pair
}

#[test]
fn a_reader_that_stops_stops_the_sender_and_holds_no_more_than_its_window() {
    let mut pair = pair(1 << 20, LinkConfig::default(), 8 << 20);
    pair.run(Duration::from_secs(10));
    assert!(pair.most_held(1) <= (1 << 20) + (64 << 10), "{}", pair.most_held(1));
    assert!(pair.sides[0].sctp.buffered(0) >= 6 << 20);
    assert_eq!(pair.closed(0), None);
    assert!(pair.sides[0].sctp.poll_timeout(pair.now).is_some(), "it asks for the window now and then");
}

#[test]
fn a_sender_resumes_within_a_round_trip_of_the_reader() {
    for link in [LinkConfig::default(), LinkConfig { loss: 0.02, ..LinkConfig::default() }] {
        let mut pair = pair(1 << 20, link, 8 << 20);
        pair.run(Duration::from_secs(20));
        let from = pair.now;
        pair.sides[1].reads = true;
        let before = pair.received(1, 0);
        assert!(pair.run_until(Duration::from_secs(10), |pair| pair.received(1, 0) > before + 70));
        assert!(pair.now - from < Duration::from_millis(300), "{:?}", pair.now - from);
        assert!(pair.run_until(Duration::from_secs(60), |pair| pair.received(1, 0) == 512));
    }
}

#[test]
fn the_smallest_window_lets_the_largest_message_through() {
    let small = Config { receive_window: 1, max_message: 20_000, ..config(2) };
    let mut pair = Pair::new(1, LinkConfig::default(), [config(1), small]);
    pair.connect();
    for stream in 0..20 {
        pair.send(0, stream, vec![1; 20_000]);
    }
    let is_done = |pair: &Pair| (0..20).all(|stream| pair.received(1, stream) == 1);
    assert!(pair.run_until(Duration::from_secs(60), is_done), "{:?}", pair.closed(1));
}

#[test]
fn tiny_messages_are_charged_for_what_they_cost() {
    let mut pair = Pair::new(
        1,
        LinkConfig::default(),
        [config(1), Config { receive_window: 256 << 10, max_message: 1000, ..config(2) }],
    );
    pair.connect();
    pair.sides[1].reads = false;
    for n in 0..20_000u32 {
        pair.send(0, (n % 50) as u16, vec![1]);
    }
    pair.run(Duration::from_secs(5));
    assert!(pair.most_held(1) <= 400 << 10, "{}", pair.most_held(1));
    pair.sides[1].reads = true;
    let is_done = |pair: &Pair| (0..50).map(|stream| pair.received(1, stream)).sum::<usize>() == 20_000;
    assert!(pair.run_until(Duration::from_secs(60), is_done));
}

#[test]
fn tiny_messages_of_one_stream_survive_the_loss_of_what_they_wait_for() {
    for seed in 0..5 {
        let link = LinkConfig { loss: 0.02, ..LinkConfig::default() };
        let small = Config { receive_window: 100 << 10, max_message: 16_000, ..config(2) };
        let mut pair = Pair::new(seed, link, [config(1), small]);
        pair.connect();
        for _ in 0..20_000 {
            pair.send(0, 0, vec![1]);
        }
        let is_done = |pair: &Pair| pair.received(1, 0) == 20_000 || pair.closed(1).is_some();
        assert!(pair.run_until(Duration::from_secs(60), is_done), "seed {seed}");
        assert_eq!(pair.closed(1), None, "seed {seed}");
        println!("{:?}", pair.elapsed());
    }
}

#[test]
fn many_large_messages_at_once_do_not_stop_each_other() {
    let mut pair =
        Pair::new(1, LinkConfig::default(), [config(1), Config { receive_window: 1 << 20, ..config(2) }]);
    pair.connect();
    for stream in 0..40 {
        pair.send(0, stream, vec![1; 250_000]);
    }
    let is_done = |pair: &Pair| (0..40).all(|stream| pair.received(1, stream) == 1);
    assert!(pair.run_until(Duration::from_secs(120), is_done), "{:?}", pair.closed(1));
}

#[test]
fn what_the_pacer_holds_back_leaves_without_being_asked_again() {
    // A path that is said to be long and is short: packets are acknowledged before the next may leave.
    let delay = Duration::from_micros(100);
    let configs = [1, 2].map(|seed| Config { rtt: Some(Duration::from_millis(200)), ..config(seed) });
    let mut pair = Pair::new(1, LinkConfig { delay, ..LinkConfig::default() }, configs);
    pair.connect();
    for n in 0..200 {
        pair.send(0, 0, vec![1; 1000]);
        assert!(pair.run_until(Duration::from_millis(500), |pair| pair.received(1, 0) > n), "message {n}");
    }
}

/// Side 0's first chunk of data from now on never arrives until `open` is set, however often it is sent; what is in a
/// packet with it does.
fn lose_the_first(pair: &mut Pair) -> Rc<Cell<bool>> {
    /// A kind of chunk that is passed over (RFC 9260 3.2).
    const UNKNOWN: u8 = 0xbf;
    let open = Rc::new(Cell::new(false));
    let (is_open, mut first) = (Rc::clone(&open), None);
    pair.watch = Some(Box::new(move |from, packet| {
        let mut at = 12;
        while from == 0 && !is_open.get() && at < packet.len() {
            let length = usize::from(u16::from_be_bytes([packet[at + 2], packet[at + 3]]));
            let is_data = matches!(packet[at], kind::DATA | kind::I_DATA);
            if is_data
                && *first.get_or_insert_with(|| packet[at + 4..at + 8].to_vec()) == packet[at + 4..at + 8]
            {
                packet[at] = UNKNOWN;
            }
            at += length.next_multiple_of(4);
        }
        true
    }));
    open
}

#[test]
fn a_peer_that_never_acknowledges_the_first_chunk_makes_us_keep_no_more_than_8_mib() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    let open = lose_the_first(&mut pair);
    pair.send(0, 1, vec![1; 100]);
    pair.run(Duration::from_millis(20));
    for _ in 0..1200 {
        pair.send(0, 2, vec![1; 16_384]);
    }
    pair.run(Duration::from_secs(20));
    let arrived = pair.received(1, 2) * 16_384;
    // Besides, what was under way as the bound was met: a window of 4 MiB.
    assert!((7 << 20..=12 << 20).contains(&arrived), "{arrived}");
    open.set(true);
    assert!(pair.run_until(Duration::from_secs(20), |pair| pair.received(1, 2) == 1200), "it goes on");
}

#[test]
fn small_messages_are_not_held_up_by_the_loss_of_one() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    let _never = lose_the_first(&mut pair);
    pair.send(0, 1, vec![1; 100]);
    pair.run(Duration::from_millis(20));
    for _ in 0..30_000 {
        pair.send(0, 2, vec![1; 10]);
    }
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.received(1, 2), 30_000);
}
