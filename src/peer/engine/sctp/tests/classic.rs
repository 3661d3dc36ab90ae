//! A peer of the old school: no extensions, SACKs after 200 ms, a window of 1 MiB.

use super::codec::Chunk;
use super::*;

/// Side 1 is the classic one.
fn classic(link: LinkConfig) -> Pair {
    let old = Config {
        receive_window: 1 << 20,
        interleaving: false,
        zero_checksum: false,
        sack_delay: Duration::from_millis(200),
        ..config(2)
    };
    let mut pair = Pair::new(1, link, [config(1), old]);
    pair.watch = Some(Box::new(|from, packet| {
        rename_extensions(from, packet);
        forget_haste(from, packet);
        true
    }));
    pair.connect();
    pair
}

/// Side 1's INIT and INIT ACK tell of no extension.
fn rename_extensions(from: usize, packet: &mut Vec<u8>) {
    if from == 1 && matches!(kinds(packet)[0], kind::INIT | kind::INIT_ACK) {
        for at in 32..packet.len() - 4 {
            if packet[at..at + 2] == [0x80, 0x08] || packet[at..at + 4] == [0xc0, 0, 0, 4] {
                packet[at..at + 2].copy_from_slice(&[0x80, 0x77]);
            }
        }
        seal(packet);
    }
}

/// Side 1 does not know the I bit.
fn forget_haste(from: usize, packet: &mut Vec<u8>) {
    if from == 0 {
        let mut at = 12;
        while at + 4 <= packet.len() {
            if packet[at] == kind::DATA {
                packet[at + 1] &= !8;
            }
            at += usize::from(u16::from_be_bytes([packet[at + 2], packet[at + 3]])).next_multiple_of(4);
        }
        seal(packet);
    }
}

#[test]
fn nothing_is_sent_that_it_does_not_know() {
    let mut pair = classic(LinkConfig::default());
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    pair.watch = Some(Box::new(move |from, packet| {
        if from == 0 {
            assert_ne!(packet[8..12], [0; 4], "a checksum on every packet");
            for chunk in Packet::parse(packet).unwrap().chunks() {
                let known =
                    [kind::DATA, kind::SACK, kind::SHUTDOWN, kind::SHUTDOWN_ACK, kind::SHUTDOWN_COMPLETE];
                assert!(known.contains(&chunk.unwrap().kind));
                count.set(count.get() + 1);
            }
        }
        true
    }));
    pair.send(0, 1, vec![1; 100_000]);
    pair.sides[0].sctp.reset_stream(pair.now, 1);
    pair.run(Duration::from_secs(5));
    assert!(
        pair.sides[0].events.contains(&Event::Reset { stream: 1, by_peer: false }),
        "the stream is free again"
    );
    pair.send(0, 1, "numbers go on");
    assert!(pair.run_until(Duration::from_secs(5), |pair| pair.received(1, 1) == 2));
    assert!(seen.get() > 80);
}

#[test]
fn echoes_and_bulk_go_through_with_loss() {
    let link = LinkConfig { loss: 0.02, jitter: Duration::from_millis(2), ..LinkConfig::default() };
    let mut pair = classic(link);
    for _ in 0..100 {
        let before = [pair.received(0, 0), pair.received(1, 0)];
        pair.send(0, 0, vec![1; 500]);
        assert!(pair.run_until(Duration::from_secs(10), |pair| pair.received(1, 0) > before[1]));
        pair.send(1, 0, vec![1; 500]);
        assert!(pair.run_until(Duration::from_secs(10), |pair| pair.received(0, 0) > before[0]));
    }
    for side in 0..2 {
        for _ in 0..50 {
            pair.send(side, 1, vec![2; 64 << 10]);
        }
    }
    assert!(
        pair.run_until(Duration::from_secs(120), |pair| pair.received(0, 1) == 50
            && pair.received(1, 1) == 50)
    );
}

#[test]
fn sacks_that_come_late_cost_no_retransmission() {
    let mut pair = classic(LinkConfig::default());
    for _ in 0..30 {
        pair.send(0, 0, vec![1; 500]);
        pair.run(Duration::from_secs(1));
    }
    let stats = pair.sides[0].sctp.stats().flight;
    assert_eq!(pair.received(1, 0), 30);
    assert!(stats.retransmitted + stats.probes <= 40, "{stats:?}");
}

#[test]
fn i_data_is_used_between_new_ones() {
    let mut pair = Pair::connected(1, LinkConfig::default());
    let sent = record(&mut pair, 0);
    pair.send(0, 0, "x");
    pair.settle();
    let packet = sent.borrow()[0].clone();
    let chunk = Packet::parse(&packet).unwrap().chunks().last().unwrap().unwrap();
    let Ok(Chunk::Data(data)) = chunk.parse() else { panic!() };
    assert!(data.interleaved && data.flags.immediate);
}
