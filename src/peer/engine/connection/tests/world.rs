//! Two connections on a network that is a list, in a time that is a number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::super::*;
use crate::peer::{CandidateKind, Description, TransportProtocol};

/// The caller and the answerer.
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One datagram on its way.
#[derive(Debug, Clone)]
pub(super) struct Flying {
    pub(super) by: usize,
    /// How many its sender had sent before it.
    pub(super) number: usize,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) protocol: TransportProtocol,
    pub(super) bytes: Vec<u8>,
}

impl Flying {
    pub(super) fn is_stun(&self) -> bool {
        self.bytes[0] < 4
    }

    /// A handshake record, of DTLS 1.2 or 1.3's plaintext part.
    pub(super) fn is_handshake(&self) -> bool {
        self.bytes[0] == 22
    }
}

enum Signal {
    Offer(Description),
    Answer(Description),
    Candidate(String),
}

pub(super) struct Side {
    pub(super) connection: Connection,
    pub(super) events: Vec<(Duration, Event)>,
    pub(super) got: Vec<Message>,

    pub(super) opened: Option<Duration>,
    sent: usize,
    /// Buffers that went out.
    pub(super) buffers: usize,
    pub(super) reads: bool,
}

impl Side {
    pub(super) fn datagrams(&self) -> usize {
        self.sent
    }
}

type Meddle = dyn FnMut(Flying) -> Vec<(Duration, Flying)>;
type Drop = dyn FnMut(&Flying) -> bool;

pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) sides: [Side; 2],
    flying: BTreeMap<(Instant, u64), Flying>,
    signals: BTreeMap<(Instant, u64), (usize, Signal)>,
    order: u64,
    /// One way.
    pub(super) delay: Duration,
    pub(super) signaling: Duration,
    pub(super) lose: Box<Drop>,
    /// What the network does to what it does not lose: copies, changes, delays.
    pub(super) meddle: Box<Meddle>,
    /// What signaling does to offers and answers.
    pub(super) rewrite: Box<dyn Fn(&str) -> String>,
    /// All that ever flew, if kept.
    pub(super) trace: Vec<(Duration, Flying)>,
    pub(super) keep_trace: bool,
    pub(super) trickles: bool,
}

fn identities() -> &'static [Arc<Identity>; 3] {
    static MADE: OnceLock<[Arc<Identity>; 3]> = OnceLock::new();
    MADE.get_or_init(|| [1, 2, 3].map(|seed| Arc::new(Identity::seeded(seed, Instant::now()).unwrap())))
}

pub(super) fn stranger() -> Arc<Identity> {
    Arc::clone(&identities()[2])
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    pub(super) fn with(seed: u64, tweak: impl Fn(&mut Config)) -> Self {
        // The ICE crate takes its randomness from here.
        fastrand::seed(seed);
        let start = Instant::now();
        let side = |role, index: usize| {
            let mut config = Config::new(role);
            config.seed = Some(seed * 2 + index as u64);
            tweak(&mut config);
            Side {
                connection: Connection::new(config, Arc::clone(&identities()[index]), start),
                events: Vec::new(),
                got: Vec::new(),
                opened: None,
                sent: 0,
                buffers: 0,
                reads: true,
            }
        };
        Self {
            start,
            now: start,
            sides: [side(Role::Caller, A), side(Role::Answerer, B)],
            flying: BTreeMap::new(),
            signals: BTreeMap::new(),
            order: 0,
            delay: ms(10),
            signaling: ms(20),
            lose: Box::new(|_| false),
            meddle: Box::new(|one| vec![(ms(0), one)]),
            rewrite: Box::new(str::to_owned),
            trace: Vec::new(),
            keep_trace: false,
            trickles: true,
        }
    }

    /// Makes a side another one, before it does anything.
    pub(super) fn replace(&mut self, side: usize, identity: Identity) {
        let config = self.sides[side].connection.config.clone();
        self.sides[side].connection = Connection::new(config, Arc::new(identity), self.start);
    }

    /// Since the beginning.
    pub(super) fn time(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn connection(&mut self, side: usize) -> &mut Connection {
        &mut self.sides[side].connection
    }

    /// One host candidate each, and the offer on its way.
    pub(super) fn dial(&mut self) {
        self.dial_from(&[host("10.0.0.1:1000")], &[host("10.0.0.2:2000")]);
    }

    pub(super) fn dial_from(&mut self, caller: &[LocalCandidate], answerer: &[LocalCandidate]) {
        if !self.trickles {
            for candidate in caller {
                self.sides[A].connection.add_local_candidate(self.now, candidate).unwrap();
            }
            self.sides[A].connection.end_of_local_candidates(self.now);
            for candidate in answerer {
                self.sides[B].connection.add_local_candidate(self.now, candidate).unwrap();
            }
            self.sides[B].connection.end_of_local_candidates(self.now);
        }
        let offer = self.sides[A].connection.create_offer(self.now).unwrap();
        self.signal(B, Signal::Offer(offer));
        if self.trickles {
            for candidate in caller {
                self.find(A, candidate);
            }
            for candidate in answerer {
                // Told once the answer is on its way; the order does not matter.
                self.find(B, candidate);
            }
        }
    }

    /// A candidate turns up on a side, and is told to the other.
    pub(super) fn find(&mut self, side: usize, candidate: &LocalCandidate) {
        let line = self.sides[side].connection.add_local_candidate(self.now, candidate);
        if let Some(line) = line {
            self.signal(1 - side, Signal::Candidate(line));
        }
    }

    pub(super) fn offer(&mut self, to: usize, offer: Description) {
        self.signal(to, Signal::Offer(offer));
    }

    fn signal(&mut self, to: usize, mut signal: Signal) {
        self.order += 1;
        if let Signal::Offer(description) | Signal::Answer(description) = &mut signal {
            description.sdp = (self.rewrite)(&description.sdp);
        }
        self.signals.insert((self.now + self.signaling, self.order), (to, signal));
    }

    pub(super) fn send(&mut self, side: usize, message: impl Into<bytes::Bytes>) {
        let now = self.now;
        self.sides[side].connection.send(now, DATA, Message::binary(message)).unwrap();
    }

    pub(super) fn texts(&self, side: usize) -> Vec<String> {
        let text = |message: &Message| String::from_utf8_lossy(&message.data).into_owned();
        self.sides[side].got.iter().map(text).collect()
    }

    pub(super) fn phase(&self, side: usize) -> Phase {
        self.sides[side].connection.state().phase
    }

    /// Runs until this holds; panics when it does not within the time.
    pub(super) fn until(&mut self, within: Duration, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.now + within;
        loop {
            self.settle();
            if holds(self) {
                return;
            }
            let next = self.next().filter(|next| *next <= end);
            let Some(next) = next else {
                panic!("did not happen in {within:?}: {:#?}", self.sides.each_ref().map(|side| &side.events));
            };
            self.advance(next);
        }
    }

    /// Lets this much time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            match self.next() {
                Some(next) if next <= end => self.advance(next),
                _ => break,
            }
        }
        self.now = end;
    }

    pub(super) fn open(&mut self) {
        self.dial();
        self.until_open();
    }

    pub(super) fn until_open(&mut self) {
        self.until(ms(8_000), |world| world.sides.iter().all(|side| side.opened.is_some()));
    }

    fn next(&mut self) -> Option<Instant> {
        let now = self.now;
        let timers = self.sides.iter_mut().filter_map(|side| side.connection.poll_timeout(now));
        let flying = self.flying.keys().next().map(|(at, _)| *at);
        let signals = self.signals.keys().next().map(|(at, _)| *at);
        timers.chain(flying).chain(signals).min()
    }

    fn advance(&mut self, next: Instant) {
        self.now = self.now.max(next);
        let now = self.now;
        while self.signals.keys().next().is_some_and(|(at, _)| *at <= now) {
            let (_, (to, signal)) = self.signals.pop_first().unwrap();
            self.deliver_signal(to, signal);
            self.settle();
        }
        while self.flying.keys().next().is_some_and(|(at, _)| *at <= now) {
            let (_, mut one) = self.flying.pop_first().unwrap();
            let to = 1 - one.by;
            self.sides[to].connection.handle_input(now, one.from, one.to, one.protocol, &mut one.bytes);
            self.settle();
        }
        for index in [A, B] {
            for round in 0.. {
                let connection = &mut self.sides[index].connection;
                assert!(round < 20, "a time-out stays due: {connection:?}");
                if connection.poll_timeout(now).is_none_or(|at| at > now) {
                    break;
                }
                connection.handle_timeout(now);
                self.settle();
            }
        }
    }

    fn deliver_signal(&mut self, to: usize, signal: Signal) {
        let now = self.now;
        let connection = &mut self.sides[to].connection;
        match signal {
            Signal::Offer(offer) => {
                let first = connection.local_description().is_none();
                let answer = match first {
                    true => connection.accept_offer(now, &offer),
                    false => connection.accept_again(now, &offer),
                };
                self.signal(1 - to, Signal::Answer(answer.unwrap()));
            }
            Signal::Answer(answer) => connection.set_answer(now, &answer).unwrap(),
            Signal::Candidate(line) => {
                connection.add_remote_candidate(now, &line).unwrap();
            }
        }
    }

    /// Takes out all that is to be sent and that happened.
    fn settle(&mut self) {
        let (now, time) = (self.now, self.time());
        for index in [A, B] {
            let side = &mut self.sides[index];
            let mut buffer = Vec::new();
            let mut rounds = 0;
            while let Some(transmit) = side.connection.poll_transmit(now, &mut buffer) {
                rounds += 1;
                side.buffers += 1;
                assert!(rounds < 10_000, "it never stops sending");
                assert!(!buffer.is_empty());
                let size = transmit.segment.unwrap_or(buffer.len());
                assert!(transmit.segment.is_none_or(|size| size < buffer.len()));
                for datagram in buffer.chunks(size) {
                    let one = Flying {
                        by: index,
                        number: side.sent,
                        from: transmit.source,
                        to: transmit.destination,
                        protocol: transmit.protocol,
                        bytes: datagram.to_vec(),
                    };
                    side.sent += 1;
                    if self.keep_trace {
                        self.trace.push((time, one.clone()));
                    }
                    if (self.lose)(&one) {
                        continue;
                    }
                    for (late, one) in (self.meddle)(one) {
                        self.order += 1;
                        self.flying.insert((now + self.delay + late, self.order), one);
                    }
                }
            }
            while let Some(event) = side.connection.poll_event() {
                match &event {
                    Event::Opened { stream: DATA } => side.opened = Some(time),
                    Event::Readable { stream: DATA } => assert!(side.opened.is_some(), "read before opened"),
                    _ => {}
                }
                side.events.push((time, event));
            }
            if side.reads {
                while let Some(message) = side.connection.receive(DATA) {
                    side.got.push(message);
                }
            }
        }
    }
}

pub(super) fn host(text: &str) -> LocalCandidate {
    let address = address(text);
    LocalCandidate { kind: CandidateKind::Host, address, base: address }
}

pub(super) fn relay(text: &str) -> LocalCandidate {
    let address = address(text);
    LocalCandidate { kind: CandidateKind::Relay, address, base: address }
}
