//! Two associations, the link between them, and virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::peer::engine::sctp::codec::Packet;
use crate::peer::engine::sctp::{Association, CloseReason, Config, Event, Seed};
use crate::peer::engine::simulator::{Link, LinkConfig};

/// One side: its association, what it has seen.
pub(super) struct Side {
    pub(super) sctp: Association,
    pub(super) events: Vec<Event>,
    pub(super) received: BTreeMap<u16, Vec<(u32, Bytes)>>,
    /// Whether it reads what has come as soon as it can.
    pub(super) reads: bool,
    pub(super) sent_packets: usize,
    most_held: usize,
}

type Watch = Box<dyn FnMut(usize, &mut Vec<u8>) -> bool>;

/// Two sides and what is on its way between them.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) began: Instant,
    pub(super) sides: [Side; 2],
    /// From side 0, and from side 1.
    pub(super) links: [Link<Vec<u8>>; 2],
    /// Sees each packet as it leaves side `usize`, and may change it; false: it is lost.
    pub(super) watch: Option<Watch>,
}

/// The kinds of a packet's chunks.
pub(super) fn kinds(packet: &[u8]) -> Vec<u8> {
    Packet::parse(packet).unwrap().chunks().map(|chunk| chunk.unwrap().kind).collect()
}

/// A configuration for tests, one per seed.
pub(super) fn config(seed: u8) -> Config {
    Config::new(Seed([seed; 32]))
}

impl Pair {
    pub(super) fn new(seed: u64, link: LinkConfig, configs: [Config; 2]) -> Self {
        let now = Instant::now();
        let side = |config| Side {
            sctp: Association::new(config, now),
            events: Vec::new(),
            received: BTreeMap::new(),
            reads: true,
            sent_packets: 0,
            most_held: 0,
        };
        Self {
            now,
            began: now,
            sides: configs.map(side),
            links: [Link::new(link, seed), Link::new(link, seed.wrapping_add(1))],
            watch: None,
        }
    }

    /// Both sides begin, and go on until both are connected.
    pub(super) fn connected(seed: u64, link: LinkConfig) -> Self {
        let mut pair = Self::new(seed, link, [config(1), config(2)]);
        pair.connect();
        pair
    }

    pub(super) fn connect(&mut self) {
        self.sides[0].sctp.connect(self.now);
        self.sides[1].sctp.connect(self.now);
        self.finish_handshake();
    }

    pub(super) fn finish_handshake(&mut self) {
        let is_done = |pair: &Self| pair.sides.iter().all(|side| side.events.contains(&Event::Connected));
        assert!(self.run_until(Duration::from_secs(60), is_done), "does not connect");
    }

    pub(super) fn send(&mut self, side: usize, stream: u16, message: impl Into<Bytes>) {
        self.sides[side].sctp.send(self.now, stream, 51, message.into()).unwrap();
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    /// Lets time pass until `is_done` or `most` has passed. Returns whether it is done.
    pub(super) fn run_until(&mut self, most: Duration, is_done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + most;
        let mut still = 0;
        loop {
            self.settle();
            if is_done(self) {
                return true;
            }
            let timers = self.sides.iter().filter_map(|side| side.sctp.poll_timeout(self.now));
            let arrivals = self.links.iter().filter_map(Link::next_arrival);
            let Some(next) = timers.chain(arrivals).min().filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            still = if next <= self.now { still + 1 } else { 0 };
            assert!(still < 1000, "time stands still: {:?}", self.sides[0].sctp.poll_timeout(self.now));
            self.now = self.now.max(next);
            self.step();
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Hands a packet to a side at once.
    pub(super) fn inject(&mut self, side: usize, packet: &[u8]) {
        self.sides[side].sctp.handle_input(self.now, packet);
        self.settle();
    }

    /// Hands over what has arrived and what timers are due.
    fn step(&mut self) {
        for (from, link) in self.links.iter_mut().enumerate() {
            while let Some(packet) = link.receive(self.now) {
                self.sides[1 - from].sctp.handle_input(self.now, &packet);
            }
        }
        for side in &mut self.sides {
            if side.sctp.poll_timeout(self.now).is_some_and(|at| at <= self.now) {
                side.sctp.handle_timeout(self.now);
            }
        }
    }

    /// Events, reading, sending, until nothing is left to do now.
    pub(super) fn settle(&mut self) {
        for from in 0..2 {
            let side = &mut self.sides[from];
            while let Some(event) = side.sctp.poll_event() {
                side.events.push(event);
            }
            if side.reads {
                side.read();
            }
            side.most_held = side.most_held.max(side.sctp.stats().held);
            let mut packet = Vec::new();
            let mut count = 0;
            while self.sides[from].sctp.poll_transmit(self.now, &mut packet) {
                count += 1;
                assert!(count < 100_000, "sends without end");
                assert!(packet.len() <= 1200);
                self.sides[from].sent_packets += 1;
                self.put(from, &packet);
            }
        }
    }

    /// Puts a packet of `from` on its way.
    pub(super) fn put(&mut self, from: usize, packet: &[u8]) {
        let mut packet = packet.to_vec();
        if let Some(watch) = &mut self.watch
            && !watch(from, &mut packet)
        {
            return;
        }
        let length = packet.len();
        self.links[from].send(self.now, packet, length);
    }

    pub(super) fn received(&self, side: usize, stream: u16) -> usize {
        self.sides[side].received.get(&stream).map_or(0, Vec::len)
    }

    pub(super) fn closed(&self, side: usize) -> Option<&CloseReason> {
        self.sides[side].events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    pub(super) fn most_held(&self, side: usize) -> usize {
        self.sides[side].most_held
    }
}

impl Side {
    /// Reads all that can be read.
    pub(super) fn read(&mut self) {
        for stream in 0..64 {
            while let Some(message) = self.sctp.receive(stream) {
                self.received.entry(stream).or_default().push(message);
            }
        }
    }
}
