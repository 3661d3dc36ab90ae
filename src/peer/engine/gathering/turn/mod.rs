//! A client of a TURN server, RFC 8656: one allocation, kept as long as it is wanted.
//!
//! Floor 1, engine, in `gathering`. It is told what came from the server and hands out what goes there; whether
//! datagrams or a stream carry it, [`Gatherer`](super::Gatherer) knows.
//!
//! ```text
//!  Allocate ──401: realm, nonce──▶ Allocate, signed ──▶ relayed address ──▶ Refresh .. Refresh ──▶ Refresh 0
//!                                        └─300──▶ another server
//! ```
//!
//! # Invariant
//! Two round trips to a relayed address: nothing is paced, nothing waits for something else. A response counts
//! only when it belongs to a request that is under way and, once the server has asked for signatures, is
//! signed. The credential is in no error and no log.

mod auth;
mod channel;
mod peers;
mod request;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use self::auth::Auth;
use self::peers::{Peers, Way};
use self::request::{Kind, Request};
use super::candidate::Why;
use super::resend::Due;
use super::stun::{Class, Message, Writer, attribute, method, transaction_id};

/// The lifetime that is asked for: RFC 8656's default, so that a relay of a process that died is soon free.
const LIFETIME: Duration = Duration::from_secs(600);
/// An allocation is refreshed this long before it expires.
const AHEAD: Duration = Duration::from_secs(60);
/// How long deleting may take. The allocation would expire anyway.
const DELETING: Duration = Duration::from_millis(500);

/// One allocation on one server.
pub(super) struct Client {
    auth: Auth,
    /// Over a stream nothing is sent again, and channel data is padded.
    stream: bool,
    state: State,
    patience: Duration,
    requests: Vec<Request>,
    peers: Peers,
    outgoing: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Allocating,
    Allocated { relayed: SocketAddr, refresh: Instant, expires: Instant },
    Deleting,
    Over,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// There is a relayed address; `mapped` is where the server sees us.
    Allocated { relayed: SocketAddr, mapped: Option<SocketAddr> },
    /// It sends us to another server.
    Alternate(SocketAddr),
    /// There is no relay, or none any more: `relayed` is the address that is gone.
    Over { relayed: Option<SocketAddr>, why: Why },
}

/// What a message from the server was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Not of TURN: what else speaks STUN with this server may have it.
    NotMine,
    Consumed,
    /// A datagram of a peer: these bytes of the message.
    Data {
        peer: SocketAddr,
        payload: Range<usize>,
    },
}

impl Client {
    /// Asks for an allocation. Each request may take `patience`.
    pub(super) fn new(
        now: Instant,
        username: &str,
        password: &str,
        stream: bool,
        patience: Duration,
    ) -> Self {
        let mut client = Self {
            auth: Auth::new(username, password),
            stream,
            state: State::Allocating,
            patience,
            requests: Vec::new(),
            peers: Peers::default(),
            outgoing: VecDeque::new(),
            events: VecDeque::new(),
        };
        client.request(now, Kind::Allocate, 0);
        client
    }

    /// The relayed address, once there is one.
    pub(super) fn relayed(&self) -> Option<SocketAddr> {
        match self.state {
            State::Allocated { relayed, .. } => Some(relayed),
            _ => None,
        }
    }

    /// Whether it is of no use any more and has nothing left to say.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over && self.outgoing.is_empty() && self.events.is_empty()
    }

    /// From the next request on this credential is used. The server may insist on the user name of before.
    pub(super) fn replace_credential(&mut self, username: &str, password: &str) {
        self.auth.replace(username, password);
    }

    /// Lets this address through, as soon as the server agrees. `false` when that cannot be.
    pub(super) fn permit(&mut self, now: Instant, peer: SocketAddr) -> bool {
        let possible = self.relayed().is_some_and(|relayed| relayed.is_ipv4() == peer.is_ipv4());
        let permitted = possible && self.peers.permit(now, peer.ip());
        self.ask(now);
        permitted
    }

    /// Appends to `out` what takes `payload` to `peer` when it is sent to the server. `false` when it waits for
    /// its permission, or cannot be sent at all.
    pub(super) fn send(&mut self, now: Instant, peer: SocketAddr, payload: &[u8], out: &mut Vec<u8>) -> bool {
        if self.relayed().is_none_or(|relayed| relayed.is_ipv4() != peer.is_ipv4()) {
            return false;
        }
        let way = self.peers.way(now, peer, payload);
        self.ask(now);
        match way {
            Way::Channel(number) => channel::write(number, payload, self.stream, out),
            Way::Indication => {
                out.extend_from_slice(&indication(peer, payload));
                true
            }
            Way::None => false,
        }
    }

    /// Takes one message that came from the server.
    pub(super) fn handle(&mut self, now: Instant, bytes: &[u8]) -> Incoming {
        if let Some((number, payload)) = channel::read(bytes) {
            return match self.peers.by_channel(number) {
                Some(peer) => Incoming::Data { peer, payload },
                None => Incoming::Consumed,
            };
        }
        let Some(message) = Message::read(bytes) else { return Incoming::NotMine };
        match message.class {
            Class::Indication if message.method == method::DATA => self.data(&message),
            Class::Success | Class::Error => self.response(now, &message),
            _ => Incoming::NotMine,
        }
    }

    fn data(&self, message: &Message<'_>) -> Incoming {
        let Some(peer) = message.xor_address(attribute::XOR_PEER_ADDRESS) else { return Incoming::Consumed };
        match message.range(attribute::DATA) {
            // RFC 8656 11.4: only from whom we let through.
            Some(payload) if self.peers.is_permitted(peer.ip()) => Incoming::Data { peer, payload },
            _ => Incoming::Consumed,
        }
    }

    fn response(&mut self, now: Instant, message: &Message<'_>) -> Incoming {
        let found =
            self.requests.iter().position(|each| each.id == message.id && each.method() == message.method);
        let Some(at) = found else {
            // A second answer to a request that was sent twice, unless it is another's.
            return if message.method == method::BINDING { Incoming::NotMine } else { Incoming::Consumed };
        };
        // A forgery must not end the request, so the true answer is waited for.
        if message.class == Class::Success && !self.auth.accepts(message) {
            return Incoming::Consumed;
        }
        let request = self.requests.swap_remove(at);
        match message.class {
            Class::Success => self.succeeded(now, request.kind, message),
            _ => self.refused(now, &request, message),
        }
        Incoming::Consumed
    }

    fn succeeded(&mut self, now: Instant, kind: Kind, message: &Message<'_>) {
        match kind {
            Kind::Allocate => match message.xor_address(attribute::XOR_RELAYED_ADDRESS) {
                Some(relayed) => {
                    self.keep(now, relayed, message);
                    let mapped = message.xor_address(attribute::XOR_MAPPED_ADDRESS);
                    self.events.push_back(Event::Allocated { relayed, mapped });
                }
                None => self.end(Why::Nonsense),
            },
            Kind::Refresh => {
                if let Some(relayed) = self.relayed() {
                    self.keep(now, relayed, message);
                }
            }
            Kind::Delete => self.state = State::Over,
            Kind::Ask(ask) => {
                for (peer, payload) in self.peers.granted(now, ask) {
                    self.outgoing.push_back(indication(peer, &payload));
                }
            }
        }
    }

    /// Notes how long the allocation lives.
    fn keep(&mut self, now: Instant, relayed: SocketAddr, message: &Message<'_>) {
        let seconds = message.number(attribute::LIFETIME).map_or(LIFETIME, |s| Duration::from_secs(s.into()));
        // A server may say less than asked for, and nobody plans for more than an hour.
        let lifetime = seconds.clamp(Duration::from_secs(10), Duration::from_secs(3600));
        let ahead = AHEAD.min(lifetime / 2);
        self.state = State::Allocated { relayed, refresh: now + (lifetime - ahead), expires: now + lifetime };
    }

    fn refused(&mut self, now: Instant, request: &Request, message: &Message<'_>) {
        /// How often a nonce may be stale in a row.
        const STALE: u8 = 3;
        let Some((code, words)) = message.error() else {
            return self.failed(now, request.kind, Why::Nonsense);
        };
        let first = code == 401 && !request.signed;
        let stale = code == 438 && request.retries < STALE;
        if (first || stale) && self.auth.challenged(message) {
            self.request(now, request.kind, request.retries.saturating_add(1));
            // Whoever closes was told how long that takes.
            if request.kind == Kind::Delete
                && let Some(again) = self.requests.last_mut()
            {
                again.resend.hurry(request.resend.end());
            }
            return;
        }
        if code == 300 && request.kind == Kind::Allocate {
            let Some(other) = message.address(attribute::ALTERNATE_SERVER) else {
                return self.end(Why::Nonsense);
            };
            self.state = State::Over;
            return self.events.push_back(Event::Alternate(other));
        }
        self.failed(
            now,
            request.kind,
            match code {
                401 | 441 => Why::Unauthorized,
                486 => Why::Quota,
                508 => Why::Full,
                code => Why::Refused { code, words },
            },
        );
    }

    fn failed(&mut self, now: Instant, kind: Kind, why: Why) {
        match (kind, self.state) {
            (Kind::Allocate, _) => self.end(why),
            // While it lives a datagram may only have been lost.
            (Kind::Refresh, State::Allocated { relayed, expires, .. })
                if why == Why::Silent && now < expires =>
            {
                self.state = State::Allocated { relayed, refresh: now, expires };
            }
            (Kind::Refresh, _) => self.end(Why::Lost(why.to_string())),
            (Kind::Delete, _) => {
                self.state = State::Over;
                // Nobody took it; there is nobody to wait for.
                self.outgoing.clear();
            }
            (Kind::Ask(ask), _) => self.peers.refused(now, ask),
        }
    }

    fn end(&mut self, why: Why) {
        let relayed = self.relayed();
        self.state = State::Over;
        self.requests.clear();
        self.events.push_back(Event::Over { relayed, why });
    }

    /// Deletes the allocation. Whatever else was under way is forgotten.
    pub(super) fn close(&mut self, now: Instant) {
        let allocated = match self.state {
            State::Allocated { .. } => true,
            // It may come into being while we leave.
            State::Allocating => self.auth.is_challenged(),
            State::Deleting | State::Over => return,
        };
        self.requests.clear();
        self.events.clear();
        self.outgoing.clear();
        self.state = if allocated { State::Deleting } else { State::Over };
        if allocated {
            self.request(now, Kind::Delete, 0);
        }
    }

    /// What goes to the server next: one message.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let requests = self.requests.iter().map(|request| request.resend.deadline());
        let own = match self.state {
            State::Allocated { refresh, .. } => {
                let refresh = (!self.is_refreshing()).then_some(refresh);
                refresh.into_iter().chain(self.peers.deadline()).min()
            }
            _ => None,
        };
        requests.chain(own).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(request) = self.requests.get_mut(at) {
            match request.resend.due(now) {
                Due::Nothing => at += 1,
                Due::Again => {
                    self.outgoing.push_back(request.bytes.clone());
                    at += 1;
                }
                Due::GiveUp => {
                    let kind = self.requests.swap_remove(at).kind;
                    self.failed(now, kind, Why::Silent);
                }
            }
        }
        if let State::Allocated { refresh, .. } = self.state {
            if refresh <= now && !self.is_refreshing() {
                self.request(now, Kind::Refresh, 0);
            }
            self.ask(now);
        }
    }

    /// How many things it keeps.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> usize {
        self.requests.len() + self.outgoing.len() + self.events.len() + self.peers.held()
    }

    fn is_refreshing(&self) -> bool {
        self.requests.iter().any(|request| request.kind == Kind::Refresh)
    }

    /// Asks for the permissions and channels that are due.
    fn ask(&mut self, now: Instant) {
        while let Some(ask) = self.peers.ask(now) {
            self.request(now, Kind::Ask(ask), 0);
        }
    }

    fn request(&mut self, now: Instant, kind: Kind, retries: u8) {
        let patience = if kind == Kind::Delete { DELETING } else { self.patience };
        let request = Request::new(now, kind, &self.auth, retries, patience, self.stream);
        self.outgoing.push_back(request.bytes.clone());
        self.requests.push(request);
    }
}

/// A datagram for a peer without a channel.
fn indication(peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    Writer::new(Class::Indication, method::SEND, transaction_id())
        .add_xor_address(attribute::XOR_PEER_ADDRESS, peer)
        .add(attribute::DATA, payload)
        .finish()
}
