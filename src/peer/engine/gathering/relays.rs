//! TURN servers: which of their addresses is asked, over what, and what came of it.
//!
//! A server with several addresses is asked at the next one while the one before is silent, and the first that
//! gives a relay wins. One that sends us elsewhere is followed.
//!
//! # Invariant
//! At most one relay for each server stays; every allocation that is not wanted is deleted.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::candidate::{Leg, LocalCandidate, Why};
use super::framing::Framer;
use super::turn::{Client, Event as TurnEvent};
use super::{Event, Resolved, ServerId, StreamId, Transmit, Via};
use crate::peer::{CandidateKind, IceUrl};

/// How long an address may be silent until the next one of the same server is asked too, RFC 8305 5.
const NEXT: Duration = Duration::from_millis(250);
/// How often a server may send us to another one.
const REDIRECTS: u8 = 3;

/// A TURN server of the configuration.
pub(super) struct Server {
    pub(super) id: ServerId,
    pub(super) url: IceUrl,
    pub(super) leg: Leg,
    pub(super) username: String,
    pub(super) credential: String,
    state: State,
    untried: VecDeque<Resolved>,
    tried: Vec<SocketAddr>,
    redirects: u8,
    next: Option<Instant>,
    /// The most telling of the failures so far.
    why: Option<Why>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Trying,
    Won,
    Failed,
}

impl Server {
    pub(super) fn new(id: ServerId, url: IceUrl, leg: Leg, username: &str, credential: &str) -> Self {
        Self {
            id,
            url,
            leg,
            username: username.to_owned(),
            credential: credential.to_owned(),
            state: State::Trying,
            untried: VecDeque::new(),
            tried: Vec::new(),
            redirects: 0,
            next: None,
            why: None,
        }
    }

    fn note(&mut self, why: Why) {
        if self.why.is_none() || self.why == Some(Why::Silent) {
            self.why = Some(why);
        }
    }
}

/// One address of a server.
pub(super) struct Relay {
    pub(super) server: ServerId,
    pub(super) via: Via,
    pub(super) to: SocketAddr,
    /// `None` until the stream stands.
    pub(super) client: Option<Client>,
    pub(super) framer: Framer,
}

impl Relay {
    pub(super) fn relayed(&self) -> Option<SocketAddr> {
        self.client.as_ref().and_then(Client::relayed)
    }
}

/// All TURN servers.
#[derive(Default)]
pub(super) struct Relays {
    pub(super) servers: Vec<Server>,
    pub(super) relays: Vec<Relay>,
    streams: u32,
}

/// What a relay needs to know of the gatherer.
pub(super) struct Surroundings<'a> {
    pub(super) now: Instant,
    pub(super) bases: &'a [SocketAddr],
    pub(super) patience: Duration,
    pub(super) relay_only: bool,
    pub(super) events: &'a mut VecDeque<Event>,
}

impl Relays {
    /// The server has these addresses, or none.
    pub(super) fn resolved(
        &mut self,
        around: &mut Surroundings<'_>,
        id: ServerId,
        found: Result<Vec<Resolved>, Why>,
    ) {
        let Some(server) = self.servers.iter_mut().find(|server| server.id == id) else { return };
        match found {
            Ok(addresses) => server.untried.extend(addresses),
            Err(why) => server.note(why),
        }
        self.try_next(around, id);
    }

    /// Asks the next address of this server; when there is none and nothing is under way, it has failed.
    fn try_next(&mut self, around: &mut Surroundings<'_>, id: ServerId) {
        let Some(server) = self.servers.iter_mut().find(|server| server.id == id) else { return };
        if server.state != State::Trying {
            return;
        }
        while let Some(Resolved { address, route }) = server.untried.pop_front() {
            if server.tried.contains(&address) {
                continue;
            }
            let via = match server.leg {
                Leg::Udp => super::base_for(around.bases, address, route).map(Via::Udp),
                Leg::Tcp | Leg::Tls => {
                    self.streams = self.streams.wrapping_add(1);
                    Some(Via::Stream(StreamId(self.streams)))
                }
            };
            let Some(via) = via else {
                server.note(Why::NoBase);
                continue;
            };
            if self.relays.iter().any(|relay| relay.via == via && relay.to == address) {
                server.note(Why::NotUsed("another URL names the same server"));
                continue;
            }
            server.tried.push(address);
            server.next = (!server.untried.is_empty()).then_some(around.now + NEXT);
            let client = match via {
                Via::Udp(_) => Some(Client::new(
                    around.now,
                    &server.username,
                    &server.credential,
                    false,
                    around.patience,
                )),
                Via::Stream(stream) => {
                    let name = (server.leg == Leg::Tls).then(|| server.url.host.clone());
                    around.events.push_back(Event::Connect { stream, to: address, name });
                    None
                }
            };
            self.relays.push(Relay { server: id, via, to: address, client, framer: Framer::default() });
            return;
        }
        server.next = None;
        if !self.relays.iter().any(|relay| relay.server == id) {
            server.state = State::Failed;
            let why = server.why.take().unwrap_or(Why::Silent);
            around.events.push_back(Event::failed(server.url.clone(), why));
        }
    }

    /// The stream stands.
    pub(super) fn connected(&mut self, around: &mut Surroundings<'_>, stream: StreamId) {
        let Some(relay) = self.by_stream(stream).filter(|relay| relay.client.is_none()) else {
            // It was given up while it was being connected.
            return around.events.push_back(Event::Disconnect(stream));
        };
        let id = relay.server;
        let Some(server) = self.servers.iter().find(|server| server.id == id) else { return };
        let client = Client::new(around.now, &server.username, &server.credential, true, around.patience);
        if let Some(relay) = self.by_stream(stream) {
            relay.client = Some(client);
        }
    }

    /// The stream broke, or never stood.
    pub(super) fn disconnected(&mut self, around: &mut Surroundings<'_>, stream: StreamId, why: String) {
        let Some(at) = self.relays.iter().position(|relay| relay.via == Via::Stream(stream)) else { return };
        let relay = self.relays.swap_remove(at);
        let relayed = relay.relayed();
        let why = if relayed.is_some() { Why::Lost(why) } else { Why::Connect(why) };
        self.ended(around, relay.server, relayed, why);
    }

    /// An address of this server is of no use, or not any more: `relayed` is gone.
    fn ended(&mut self, around: &mut Surroundings<'_>, id: ServerId, relayed: Option<SocketAddr>, why: Why) {
        let Some(server) = self.servers.iter_mut().find(|server| server.id == id) else { return };
        match server.state {
            State::Trying => {
                server.note(why);
                self.try_next(around, id);
            }
            // Those that lost against the winner do not count; they are gone before it can be.
            State::Won
                if !self.relays.iter().any(|relay| relay.server == id && relay.relayed().is_some()) =>
            {
                server.state = State::Failed;
                let url = server.url.clone();
                around.events.push_back(match relayed {
                    Some(relay) => Event::lost(url, relay, why),
                    None => Event::failed(url, why),
                });
            }
            _ => {}
        }
    }

    /// Takes what the clients have to say.
    pub(super) fn poll(&mut self, around: &mut Surroundings<'_>) {
        let mut at = 0;
        while let Some(relay) = self.relays.get_mut(at) {
            let (id, to, via) = (relay.server, relay.to, relay.via);
            match relay.client.as_mut().and_then(Client::poll_event) {
                Some(TurnEvent::Allocated { relayed, mapped }) => {
                    self.won(around, id, (via, to), relayed, mapped);
                    at = 0;
                }
                Some(TurnEvent::Alternate(other)) => {
                    self.forget(around, at);
                    self.redirected(around, id, to, other);
                    at = 0;
                }
                Some(TurnEvent::Over { relayed, why }) => {
                    self.forget(around, at);
                    self.ended(around, id, relayed, why);
                    at = 0;
                }
                None if relay.client.as_ref().is_some_and(Client::is_over) => self.forget(around, at),
                None => at += 1,
            }
        }
    }

    fn forget(&mut self, around: &mut Surroundings<'_>, at: usize) {
        if let Via::Stream(stream) = self.relays.swap_remove(at).via {
            around.events.push_back(Event::Disconnect(stream));
        }
    }

    fn won(
        &mut self,
        around: &mut Surroundings<'_>,
        id: ServerId,
        route: (Via, SocketAddr),
        relayed: SocketAddr,
        mapped: Option<SocketAddr>,
    ) {
        let Some(server) = self.servers.iter_mut().find(|server| server.id == id) else { return };
        if server.state != State::Trying {
            return;
        }
        server.state = State::Won;
        server.next = None;
        server.untried.clear();
        let (url, leg) = (server.url.clone(), server.leg);
        if let (Via::Udp(base), Some(mapped), false) = (route.0, mapped, around.relay_only) {
            around.events.push_back(Event::Candidate(LocalCandidate::reflexive(mapped, base, url.clone())));
        }
        around.events.push_back(Event::Candidate(LocalCandidate {
            kind: CandidateKind::Relay,
            address: relayed,
            base: relayed,
            leg: Some(leg),
            server: Some(url),
            related: mapped,
        }));
        self.abandon(around, |relay| relay.server == id && (relay.via, relay.to) != route);
    }

    fn redirected(
        &mut self,
        around: &mut Surroundings<'_>,
        id: ServerId,
        from: SocketAddr,
        other: SocketAddr,
    ) {
        let Some(server) = self.servers.iter_mut().find(|server| server.id == id) else { return };
        if server.redirects >= REDIRECTS || server.tried.contains(&other) || other.is_ipv4() != from.is_ipv4()
        {
            server.note(Why::Redirected);
        } else {
            server.redirects = server.redirects.saturating_add(1);
            // The route to one server of a site is taken for the route to the other.
            server.untried.push_front(Resolved { address: other, route: None });
        }
        self.try_next(around, id);
    }

    /// Deletes the allocations of these relays, and forgets those that have none.
    fn abandon(&mut self, around: &mut Surroundings<'_>, which: impl Fn(&Relay) -> bool) {
        let mut at = 0;
        while let Some(relay) = self.relays.get_mut(at) {
            if !which(relay) {
                at += 1;
                continue;
            }
            match &mut relay.client {
                None => self.forget(around, at),
                Some(client) => {
                    client.close(around.now);
                    at += 1;
                }
            }
        }
    }

    /// Time is up: what has no relay by now has failed.
    pub(super) fn give_up(&mut self, around: &mut Surroundings<'_>) {
        for server in &mut self.servers {
            if server.state == State::Trying {
                server.state = State::Failed;
                server.next = None;
                server.untried.clear();
                let why = server.why.take().unwrap_or(Why::Silent);
                around.events.push_back(Event::failed(server.url.clone(), why));
            }
        }
        self.abandon(around, |relay| relay.relayed().is_none());
    }

    /// Deletes all allocations.
    pub(super) fn close(&mut self, around: &mut Surroundings<'_>) {
        for server in &mut self.servers {
            server.state = State::Failed;
            server.next = None;
        }
        self.abandon(around, |_| true);
    }

    /// Whether a server has given a relay.
    pub(super) fn has_relay(&self) -> bool {
        self.servers.iter().any(|server| server.state == State::Won)
    }

    /// Whether a server may still give a relay.
    pub(super) fn is_busy(&self) -> bool {
        self.servers.iter().any(|server| server.state == State::Trying)
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.relays.iter_mut().find_map(|Relay { via, to, client, .. }| {
            let bytes = client.as_mut()?.poll_transmit()?;
            Some(Transmit { via: *via, to: *to, bytes })
        })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let clients = self.relays.iter().filter_map(|relay| relay.client.as_ref()?.deadline());
        clients.chain(self.servers.iter().filter_map(|server| server.next)).min()
    }

    pub(super) fn handle_timeout(&mut self, around: &mut Surroundings<'_>) {
        for client in self.relays.iter_mut().filter_map(|relay| relay.client.as_mut()) {
            client.handle_timeout(around.now);
        }
        let due = |server: &&Server| server.next.is_some_and(|next| next <= around.now);
        let due: Vec<ServerId> = self.servers.iter().filter(due).map(|server| server.id).collect();
        for id in due {
            self.try_next(around, id);
        }
    }

    /// The relay with this relayed address.
    pub(super) fn by_address(&mut self, relayed: SocketAddr) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|relay| relay.relayed() == Some(relayed))
    }

    /// The relay whose server's messages come in on `via` from `from`.
    pub(super) fn by_server(&mut self, via: Via, from: SocketAddr) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|relay| relay.via == via && relay.to == from)
    }

    /// The relay behind a stream.
    pub(super) fn by_stream(&mut self, stream: StreamId) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|relay| relay.via == Via::Stream(stream))
    }
}
