//! Two associations, the link between them, and virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::peer::engine::sctp::{Association, CloseReason, Config, Event, Seed};

/// What happens to packets in one direction.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    /// Of 1000 packets, how many are lost, and how many come twice.
    pub(super) loss: u32,
    pub(super) duplicates: u32,
    /// Bytes a second; 0 for no limit. With a queue of 50 ms.
    pub(super) rate: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self { delay: Duration::from_millis(10), jitter: Duration::ZERO, loss: 0, duplicates: 0, rate: 0 }
    }
}

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

type Watch = Box<dyn FnMut(usize, &[u8]) -> bool>;

/// Two sides and what is on its way between them.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) began: Instant,
    pub(super) sides: [Side; 2],
    pub(super) links: [Link; 2],
    under_way: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    free_at: [Instant; 2],
    count: u64,
    random: fastrand::Rng,
    /// Sees each packet as it leaves side `usize`; false: it is lost.
    pub(super) watch: Option<Watch>,
}

/// A configuration for tests, one per seed.
pub(super) fn config(seed: u8) -> Config {
    Config::new(Seed([seed; 32]))
}

impl Pair {
    pub(super) fn new(seed: u64, link: Link, configs: [Config; 2]) -> Self {
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
            links: [link.clone(), link],
            under_way: BTreeMap::new(),
            free_at: [now; 2],
            count: 0,
            random: fastrand::Rng::with_seed(seed),
            watch: None,
        }
    }

    /// Both sides begin, and go on until both are connected.
    pub(super) fn connected(seed: u64, link: Link) -> Self {
        let mut pair = Self::new(seed, link, [config(1), config(2)]);
        pair.connect();
        pair
    }

    pub(super) fn connect(&mut self) {
        self.sides[0].sctp.connect(self.now);
        self.sides[1].sctp.connect(self.now);
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
            let arrival = self.under_way.keys().next().map(|(at, _)| *at);
            let Some(next) = timers.chain(arrival).min().filter(|next| *next <= end) else {
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

    /// Hands over what has arrived and what timers are due.
    fn step(&mut self) {
        while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, packet) = entry.remove();
            self.sides[to].sctp.handle_input(self.now, &packet);
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
        if let Some(watch) = &mut self.watch
            && !watch(from, packet)
        {
            return;
        }
        let link = self.links[from].clone();
        if self.random.u32(0..1000) < link.loss {
            return;
        }
        let copies = if self.random.u32(0..1000) < link.duplicates { 2 } else { 1 };
        for _ in 0..copies {
            let mut leaves = self.now;
            if link.rate > 0 {
                leaves = leaves.max(self.free_at[from]);
                if leaves - self.now > Duration::from_millis(50) {
                    return; // the queue is full
                }
                leaves += Duration::from_nanos(packet.len() as u64 * 1_000_000_000 / link.rate);
                self.free_at[from] = leaves;
            }
            let jitter = link.jitter.mul_f64(self.random.f64());
            self.count += 1;
            self.under_way.insert((leaves + link.delay + jitter, self.count), (1 - from, packet.to_vec()));
        }
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
        let mut streams: VecDeque<u16> = (0..=u16::MAX).take(64).collect();
        while let Some(stream) = streams.pop_front() {
            while let Some(message) = self.sctp.receive(stream) {
                self.received.entry(stream).or_default().push(message);
            }
        }
    }
}
