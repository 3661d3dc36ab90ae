//! A gatherer among a STUN server and TURN servers over UDP, TCP and TLS, which do what bytes say.
//!
//! In `gathering`, part of its fuzzing; the servers are [`Turn`] of the tests.
//!
//! # Invariant
//! What is checked holds for servers that know the credential and sign whatever they like.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::peer::IceServer;
use crate::peer::engine::fuzzing::Orders;
use crate::peer::engine::gathering::script::{Script, Turn, at};
use crate::peer::engine::gathering::stun::{Class, Message, Writer, attribute, method};
use crate::peer::engine::gathering::{Config, Handled, Resolved, StreamId, Transmit, Via};

const BASES: [&str; 3] = ["10.0.0.2:4000", "[2001:db8::2]:4000", "127.0.0.1:4000"];
/// A later one, of a network that came up.
const LATE: &str = "10.0.0.3:4000";
pub(super) const URLS: [&str; 4] = ["stun:s", "turn:t", "turn:t?transport=tcp", "turns:t"];
pub(super) const ADDRESSES: [&str; 8] = [
    "192.0.2.1:3478",
    "192.0.2.2:3478",
    "192.0.2.3:3478",
    "192.0.2.4:3478",
    "192.0.2.9:3478",
    "127.0.0.1:3478",
    "[2001:db8::9]:3478",
    "[2001:db8::a]:3478",
];
/// What relays say that they are.
const RELAYED: [&str; 4] =
    ["203.0.113.1:50000", "203.0.113.2:50000", "[2001:db8::cc]:50000", "10.0.0.2:4000"];
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long closing may take.
pub(super) const CLOSING: Duration = Duration::from_millis(500);
/// A gatherer, and servers that answer truly, changed, cut, with refusals or with anything, late or never; streams
/// that come and go; peers; an application that sends, permits and closes.
///
/// # Panics
/// When an invariant does not hold: gathering does not end within its patience, a server is told twice or never, it
/// keeps too much, runs hot, hands out what nobody let through, or is not quiet once closed.
pub fn gathering(bytes: &[u8]) {
    let mut orders = Orders(bytes);
    let mut world = World::new(orders.number());
    while let Some(order) = orders.byte() {
        world.step(usize::from(order), &mut orders);
        world.settle();
    }
    world.end();
}

pub(super) struct World {
    pub(super) script: Script,
    pub(super) turn: Turn,
    /// Servers tell the truth, once left alone.
    pub(super) repents: bool,
    /// Those that were not answered.
    pub(super) requests: Vec<Transmit>,
    /// Where anything was ever sent.
    pub(super) routes: Vec<(Via, SocketAddr)>,
    pub(super) connecting: Vec<StreamId>,
    pub(super) streams: Vec<StreamId>,
    /// Whom we have let through.
    pub(super) peers: HashSet<IpAddr>,
    /// Candidates at the end of gathering.
    pub(super) found: Option<usize>,
    /// A socket was bound later.
    pub(super) grew: bool,
    /// When it was closed, and what had been told by then.
    pub(super) closed: Option<(Instant, [usize; 3])>,
}

impl World {
    fn new(options: usize) -> Self {
        let servers = URLS.iter().take(3 + (options & 1)).enumerate();
        let server = |(n, url): (usize, &&str)| match n {
            0 => IceServer::new(url).unwrap(),
            _ => Turn::server(url),
        };
        let servers = servers.map(server).collect();
        let config = Config { servers, relay_only: options & 2 != 0, patience: PATIENCE };
        let bases = if options & 4 != 0 { &BASES[..] } else { &BASES[..1] };
        let mut world = Self {
            script: Script::with(config, bases),
            turn: Turn::new(),
            repents: options & 8 != 0,
            requests: Vec::new(),
            routes: Vec::new(),
            connecting: Vec::new(),
            streams: Vec::new(),
            peers: HashSet::new(),
            found: None,
            grew: false,
            closed: None,
        };
        // Most of what there is to find is behind the names.
        if options & 16 == 0 {
            for n in 0..world.script.resolve.len() {
                let last = if options & 32 != 0 { ADDRESSES.len() } else { n + 1 };
                world.script.resolved(n, &ADDRESSES[n..last]);
            }
        }
        world.settle();
        // And behind the first answers.
        if options & 64 == 0 {
            world.stand();
            world.tell_the_truth();
        }
        world
    }

    fn step(&mut self, order: usize, orders: &mut Orders<'_>) {
        match order & 15 {
            kind @ 0..=7 => {
                let Some(at) = orders.number().checked_rem(self.requests.len()) else { return };
                // A server may answer twice.
                let request =
                    if order & 16 != 0 { self.requests[at].clone() } else { self.requests.remove(at) };
                let Some(answer) = self.answer(kind, &request, orders) else { return };
                let cut = if order & 32 != 0 { orders.number() } else { usize::MAX };
                self.feed((request.via, request.to), answer, cut);
            }
            8 => {
                let Some(route) = self.route(orders) else { return };
                let (length, cut) = (orders.number(), orders.number());
                self.feed(route, orders.take(length).to_vec(), cut);
            }
            9 => self.pass(Duration::from_millis(orders.number() as u64 * 4)),
            10 => self.pass(Duration::from_secs(orders.number() as u64 * 3)),
            11 => self.send(order, orders),
            12 => {
                let Some(route) = self.route(orders) else { return };
                let (peer, length) = (peer(orders), orders.number());
                let payload = orders.take(length);
                let bytes = match order & 16 {
                    0 => {
                        let channel = [0x40, peer.port() as u8, 0, payload.len() as u8];
                        let mut bytes = [&channel, payload].concat();
                        bytes.resize(bytes.len().next_multiple_of(4), 0);
                        bytes
                    }
                    _ => Writer::new(Class::Indication, method::DATA, [order as u8; 12])
                        .add_xor_address(attribute::XOR_PEER_ADDRESS, peer)
                        .add(attribute::DATA, payload)
                        .finish(),
                };
                self.feed(route, bytes, orders.number());
            }
            13 => self.connections(order, orders),
            14 => match order >> 4 {
                0..=3 => self.turn.nonce = ["first", "second", "third", ""][order >> 4],
                4 | 5 => self.turn.lifetime = [0, 1, 60, 600, 4000, u32::MAX][orders.number() % 6],
                6 | 7 => self.turn.relayed = at(RELAYED[orders.number() % RELAYED.len()]),
                8 => self.turn.mapped = at(BASES[orders.number() % BASES.len()]),
                9 => self.turn.password = ["wonder", "other"][orders.number() & 1],
                _ => {
                    let password = ["wonder", "other"][orders.number() & 1];
                    let new = IceServer::with_credential(URLS[1 + (order >> 4) % 3], "alice", password);
                    self.script.gatherer.set_credentials(&[new.unwrap()]);
                }
            },
            _ => self.surroundings(order, orders),
        }
    }

    /// Names, sockets, and the end.
    fn surroundings(&mut self, order: usize, orders: &mut Orders<'_>) {
        match order >> 4 {
            0..=7 => {
                let Some(n) = (order >> 4).checked_rem(self.script.resolve.len()) else { return };
                let count = orders.number() % 6;
                let one = |orders: &mut Orders<'_>| {
                    let at_and_route = orders.number();
                    let address = at(ADDRESSES[at_and_route % ADDRESSES.len()]);
                    // The system sends from an address of the same family.
                    let route = BASES.get(at_and_route >> 4).map(|base| at(base).ip());
                    Resolved { address, route: route.filter(|route| route.is_ipv4() == address.is_ipv4()) }
                };
                let found = match count {
                    0 => Err("no such name".to_owned()),
                    _ => Ok((1..count).map(|_| one(orders)).collect()),
                };
                self.script.gatherer.resolved(self.script.now, self.script.resolve[n].0, found);
            }
            8..=11 if self.closed.is_none() => {
                self.script.gatherer.add_base(self.script.now, at(LATE));
                self.grew = true;
            }
            15 => self.close(),
            _ => {
                let handled = self.script.gatherer.handle_datagram(
                    self.script.now,
                    at(BASES[0]),
                    at("6.6.6.6:6"),
                    orders.take(order),
                );
                assert_eq!(handled, Handled::NotMine);
            }
        }
    }

    fn route(&self, orders: &mut Orders<'_>) -> Option<(Via, SocketAddr)> {
        let at = orders.number().checked_rem(self.routes.len())?;
        self.routes.get(at).copied()
    }

    /// Connections stand, do not come about, or break.
    fn connections(&mut self, order: usize, orders: &mut Orders<'_>) {
        let which = orders.number();
        match order >> 4 {
            0..=5 => self.stand(),
            6..=9 if !self.connecting.is_empty() => {
                let stream = self.connecting.remove(which % self.connecting.len());
                self.script.disconnected(stream, "refused");
            }
            10..=12 if !self.streams.is_empty() => {
                let stream = self.streams.remove(which % self.streams.len());
                self.script.disconnected(stream, "reset");
            }
            // One that nobody knows, or that was given up meanwhile.
            13 => self.script.disconnected(StreamId(which as u32 + 1000), "late"),
            14 => self.script.gatherer.connected(self.script.now, StreamId(which as u32 + 1000)),
            _ => {}
        }
    }

    pub(super) fn stand(&mut self) {
        for stream in std::mem::take(&mut self.connecting) {
            self.script.gatherer.connected(self.script.now, stream);
            self.streams.push(stream);
        }
        self.settle();
    }

    /// The application sends to peers, or lets them through.
    fn send(&mut self, order: usize, orders: &mut Orders<'_>) {
        let relays: Vec<SocketAddr> = self
            .script
            .candidates
            .iter()
            .filter(|each| each.leg.is_some())
            .map(|each| each.address)
            .collect();
        let Some(at) = (order >> 4 & 3).checked_rem(relays.len()) else { return };
        let (relay, first, length) = (relays[at], peer(orders), orders.number());
        let count = if order & 64 != 0 { orders.number() % 100 } else { 1 };
        let payload = vec![length as u8; length * 5];
        for n in 0..count {
            let ip = match first.ip() {
                IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) ^ (n as u32) << 8).into()),
                IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) ^ (n as u128) << 8).into()),
            };
            let peer = SocketAddr::new(ip, first.port());
            self.peers.insert(ip);
            if order & 128 != 0 {
                self.script.gatherer.permit(self.script.now, relay, peer);
                continue;
            }
            let mut out = vec![7];
            let route = self.script.gatherer.send_relayed(self.script.now, relay, peer, &payload, &mut out);
            let Some((via, to)) = route else {
                assert_eq!(out, [7], "what is not sent is not written");
                continue;
            };
            assert!(self.routes.contains(&(via, to)));
            // Only a stream needs padding.
            assert!(!is_stream(via) || out.len() % 4 == 1);
            let sent = match Message::read(&out[1..]) {
                Some(message) => message.attribute(attribute::DATA),
                None => out.get(5..5 + payload.len()),
            };
            assert_eq!(sent, Some(payload.as_slice()));
        }
    }

    /// Bytes come from a server, over a stream in two pieces.
    fn feed(&mut self, (via, from): (Via, SocketAddr), mut bytes: Vec<u8>, cut: usize) {
        let now = self.script.now;
        let mut relayed = Vec::new();
        match via {
            Via::Udp(base) => {
                let handled = self.script.gatherer.handle_datagram(now, base, from, &bytes);
                if let Handled::Relayed { relay, peer, payload } = handled {
                    assert!(bytes.get(payload).is_some());
                    relayed.push((relay, peer));
                }
            }
            Via::Stream(stream) if self.streams.contains(&stream) => {
                let cut = cut.min(bytes.len());
                let (first, second) = bytes.split_at_mut(cut);
                for piece in [first, second] {
                    let take = |relay, peer, _: &mut [u8]| relayed.push((relay, peer));
                    self.script.gatherer.handle_stream(now, stream, piece, take);
                }
            }
            Via::Stream(_) => {}
        }
        self.settle();
        for (relay, peer) in relayed {
            let told = self.script.candidates.iter().any(|each| each.leg.is_some() && each.address == relay);
            assert!(told && self.closed.is_none(), "{relay} is no relay");
            assert!(self.peers.contains(&peer.ip()), "{peer} was not let through");
        }
    }

    pub(super) fn tick(&mut self) -> bool {
        let ticked = self.script.tick();
        self.settle();
        let next = self.script.gatherer.poll_timeout();
        assert!(!ticked || next.is_none_or(|next| next > self.script.now), "a time-out that stays");
        ticked
    }

    pub(super) fn pass(&mut self, by: Duration) {
        let until = self.script.now + by;
        while self.script.gatherer.poll_timeout().is_some_and(|timeout| timeout <= until) {
            self.tick();
        }
        self.script.now = until;
        self.settle();
    }

    pub(super) fn close(&mut self) {
        if self.closed.is_none() {
            self.script.gatherer.close(self.script.now);
            self.closed = Some((self.script.now, self.told()));
        }
    }

    /// Servers say what is true until there is nothing to be said.
    pub(super) fn tell_the_truth(&mut self) {
        for _ in 0..1000 {
            let Some(request) = self.requests.pop() else { return };
            let answer = self.truth(&request);
            self.feed((request.via, request.to), answer, usize::MAX);
        }
        panic!("requests without end");
    }
}

fn is_stream(via: Via) -> bool {
    matches!(via, Via::Stream(_))
}

/// One of many peers, some of them servers.
pub(super) fn peer(orders: &mut Orders<'_>) -> SocketAddr {
    let (which, port) = (orders.number(), orders.number() as u16);
    match which >> 6 {
        0 | 1 => SocketAddr::from(([10, 9, 8, which as u8], port)),
        2 => at(ADDRESSES[which % ADDRESSES.len()]),
        _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, which as u16], port)),
    }
}
