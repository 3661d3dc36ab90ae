//! What the fuzz targets call: they reach no private room themselves. Tests feed the same from seeds.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::codec::{Chunk, Packet, Reset, Writer, seal};
use super::{Association, Config, Priority, Seed};
use crate::peer::engine::fuzzing::Orders;

/// Reads all that can be read of a packet.
pub fn packet(packet: &[u8]) {
    let Ok(packet) = Packet::parse(packet) else { return };
    let _ = packet.checksum(true);
    for chunk in packet.chunks().flatten() {
        match chunk.parse() {
            Ok(Chunk::Init(init) | Chunk::InitAck(init)) => {
                init.abilities();
                init.cookie();
                assert!(init.unrecognized().count() <= chunk.value.len() / 4);
            }
            Ok(Chunk::Sack(sack)) => {
                assert!(sack.gaps().len() + sack.duplicates().len() <= chunk.value.len() / 4)
            }
            Ok(Chunk::Abort(causes) | Chunk::Error(causes)) => {
                assert!(causes.count() <= chunk.value.len() / 4);
            }
            Ok(Chunk::ReConfig(parameters)) => {
                for reset in parameters.filter_map(|one| Reset::parse(&one)) {
                    if let Reset::Outgoing { streams, .. } | Reset::Incoming { streams, .. } = reset {
                        assert!(streams.iter().len() <= chunk.value.len() / 2);
                    }
                }
            }
            Ok(Chunk::ForwardTsn(forward)) => assert!(forward.skips().count() <= chunk.value.len() / 4),
            _ => {}
        }
    }
}

/// Two associations, and a peer in between who knows the tags and does what the bytes say: packets of any
/// content, lost, changed, sent again, late; timers; calls of the application.
///
/// # Panics
/// When an invariant does not hold: more memory than allowed, no timer while something is outstanding, packets
/// without end, something received that was never sent or came twice.
pub fn association(bytes: &[u8]) {
    let mut script = Orders(bytes);
    let mut world = World::new(&mut script);
    while let Some(step) = script.byte() {
        world.step(step, &mut script);
        world.settle();
    }
    world.end();
}

const WINDOW: usize = 64 << 10;
const MOST: usize = 16 << 10;
const STREAMS: usize = 12;

/// Bytes of the shortest message.
const LEAST: usize = 5;

/// A message that says which it is, and so much more.
fn message(stream: usize, number: u32, more: usize) -> Bytes {
    let mut message = vec![stream as u8];
    message.extend(number.to_be_bytes());
    message.resize(LEAST + more, stream as u8 ^ number as u8);
    Bytes::from(message)
}

struct World {
    now: Instant,
    sides: [Association; 2],
    /// The tag that packets to each side carry.
    tags: [u32; 2],
    /// Packets on their way to each side.
    under_way: [Vec<Vec<u8>>; 2],
    /// The last ones that were sent to each side.
    old: [Vec<Vec<u8>>; 2],
    /// Packets come late, twice or never, and are never changed or made up.
    is_honest: bool,
    /// Something was fed that no side had sent so: nothing holds any more but memory and time.
    interferes: bool,
    /// Of each side and stream: the number of the next message.
    sent: [[u32; STREAMS]; 2],
    /// Of each side and stream: the number of the message that comes next.
    received: [[u32; STREAMS]; 2],
}

impl World {
    fn new(script: &mut Orders<'_>) -> Self {
        let options = script.number();
        let config = |seed: u8, interleaving: bool, heartbeat: bool| Config {
            interleaving,
            zero_checksum: options & 4 != 0,
            heartbeat: heartbeat.then_some(Duration::from_secs(1)),
            receive_window: WINDOW,
            max_message: MOST,
            streams: if options & 16 != 0 { 8 } else { 65_535 },
            ..Config::new(Seed([seed; 32]))
        };
        let now = Instant::now();
        let first = Association::new(config(1, options & 1 != 0, options & 8 != 0), now);
        let second = Association::new(config(2, options & 2 != 0, false), now);
        let mut world = Self {
            now,
            sides: [first, second],
            tags: [0; 2],
            under_way: [Vec::new(), Vec::new()],
            old: [Vec::new(), Vec::new()],
            is_honest: options & 64 != 0,
            interferes: false,
            sent: [[0; STREAMS]; 2],
            received: [[0; STREAMS]; 2],
        };
        for side in &mut world.sides {
            side.connect(now);
        }
        world.settle();
        // Most of what there is to find is behind the handshake.
        for _ in 0..if options & 32 != 0 { 0 } else { 4 } {
            world.deliver(0, usize::MAX);
            world.deliver(1, usize::MAX);
        }
        world
    }

    fn step(&mut self, step: u8, script: &mut Orders<'_>) {
        let side = usize::from(step & 1);
        match step >> 1 & 15 {
            0..=3 => {
                let most = script.number();
                self.deliver(side, most);
            }
            4 => {
                let lost = script.number().min(self.under_way[side].len());
                self.under_way[side].drain(..lost);
            }
            5 => self.under_way[side].reverse(),
            6 => self.pass(Duration::from_millis(script.number() as u64)),
            7 => self.pass(Duration::from_millis(script.number() as u64 * 100)),
            8 => {
                let stream = script.number() % STREAMS;
                let number = &mut self.sent[side][stream];
                let message = message(stream, *number, script.number() << 6);
                if self.sides[side].send(self.now, stream as u16, 51, message).is_ok() {
                    *number += 1;
                }
            }
            9 => {
                let stream = script.number() as u16;
                self.sides[side].reset_stream(self.now, stream % 12);
            }
            10 => match script.number() {
                0 => self.sides[side].shutdown(self.now),
                1 => self.sides[side].abort(self.now, "enough"),
                other => {
                    self.sides[side].set_priority(other as u16 % 12, Priority::new(other as u16));
                    self.sides[side].set_urgent(other as u16 % 12, other & 1 != 0);
                    self.sides[side].set_low_water(other as u16 % 12, other);
                }
            },
            11 => self.read(side),
            12 if !self.is_honest => {
                let length = script.number();
                self.feed(side, script.take(length));
            }
            13 if !self.is_honest => {
                // Chunks of any content, with tag and checksum as they should be.
                let tag = if step & 0x80 != 0 { 0 } else { self.tags[side] };
                let length = script.number();
                let chunks = script.take(length);
                let mut packet = Vec::new();
                Writer::new(&mut packet, 1200, 5000, 5000, tag).encoded(chunks);
                seal(&mut packet);
                self.feed(side, &packet);
            }
            _ => {
                let which = script.number();
                let Some(mut packet) = self.old[side].get(which % self.old[side].len().max(1)).cloned()
                else {
                    return;
                };
                let changes = if self.is_honest { 0 } else { step >> 6 };
                for _ in 0..changes {
                    let at = script.number() | script.number() << 8;
                    let value = script.byte().unwrap_or(0);
                    let length = packet.len().max(1);
                    if let Some(byte) = packet.get_mut(at % length) {
                        *byte = value;
                    }
                }
                if changes == 0 {
                    return self.sides[side].handle_input(self.now, &packet);
                }
                if packet.len() >= 12 {
                    packet[8..12].fill(0);
                    seal(&mut packet);
                }
                self.feed(side, &packet);
            }
        }
    }

    fn feed(&mut self, side: usize, packet: &[u8]) {
        let before = self.sides[side].stats().packets_received;
        self.sides[side].handle_input(self.now, packet);
        self.interferes |= self.sides[side].stats().packets_received != before;
    }

    fn deliver(&mut self, side: usize, most: usize) {
        let most = most.min(self.under_way[side].len());
        for packet in self.under_way[side].drain(..most) {
            self.sides[side].handle_input(self.now, &packet);
        }
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for side in &mut self.sides {
            side.handle_timeout(self.now);
        }
    }

    fn read(&mut self, side: usize) {
        for stream in 0..STREAMS {
            while let Some((ppid, got)) = self.sides[side].receive(stream as u16) {
                if self.interferes {
                    continue;
                }
                let number = &mut self.received[side][stream];
                let expected = message(stream, *number, got.len().saturating_sub(LEAST));
                assert!(ppid == 51 && got == expected, "stream {stream}: not message {number}");
                *number += 1;
                assert!(*number <= self.sent[1 - side][stream], "stream {stream}: never sent");
            }
        }
    }

    fn settle(&mut self) {
        for (index, side) in self.sides.iter_mut().enumerate() {
            let mut packet = Vec::new();
            let mut count = 0;
            while side.poll_transmit(self.now, &mut packet) {
                count += 1;
                assert!(count < 10_000, "packets without end");
                assert!(packet.len() <= 1200 && packet.len() % 4 == 0, "{} bytes", packet.len());
                let parsed = Packet::parse(&packet).map(|packet| packet.tag);
                let to = 1 - index;
                if let Ok(tag) = parsed
                    && tag != 0
                    && self.tags[to] == 0
                {
                    self.tags[to] = tag;
                }
                if self.old[to].len() < 64 {
                    self.old[to].push(packet.clone());
                }
                if self.under_way[to].len() < 4096 {
                    self.under_way[to].push(packet.clone());
                }
            }
            while side.poll_event().is_some() {}
            assert!(side.stats().held <= WINDOW + WINDOW / 2 + 3 * MOST, "{}", side.stats().held);
            let outstanding = (0..STREAMS as u16).any(|stream| side.buffered(stream) > 0);
            assert!(!outstanding || side.poll_timeout(self.now).is_some(), "no timer");
        }
    }

    /// Whatever has happened: left alone, both come to rest.
    fn end(&mut self) {
        for side in &mut self.sides {
            side.shutdown(self.now);
        }
        for _ in 0..10_000 {
            self.settle();
            for side in 0..2 {
                self.read(side);
                self.deliver(side, usize::MAX);
            }
            let next = self.sides.iter().filter_map(|side| side.poll_timeout(self.now)).min();
            let Some(next) = next else { break };
            let time = next.saturating_duration_since(self.now);
            self.pass(time);
        }
        assert!(self.sides.iter().all(Association::is_closed), "does not end");
    }
}
