//! The gatherer: every server, every base, one queue of events.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::bindings::{Answer, Bindings};
use super::candidate::{Leg, LocalCandidate, Why};
use super::relays::{Relays, Server, Surroundings};
#[cfg(any(test, fuzzing))]
use super::turn::Client;
use super::turn::Incoming;
use super::{Config, Event, Handled, Resolved, ServerId, StreamId, Transmit, Via, bases_for};
use crate::peer::{CandidateKind, IceServer, IceUrl, Scheme, TransportProtocol};

/// URLs that are used. Signaling hands out a handful.
const MOST_SERVERS: usize = 16;
/// Addresses of one server that are used, of each family for STUN.
const MOST_ADDRESSES: usize = 4;

/// How much longer the others may take once there is a relay. Where UDP is blocked nothing else tells that the
/// servers that are asked over it will never answer, and whoever does not trickle waits for the end.
const GRACE: Duration = Duration::from_millis(500);

/// Finds the candidates of one peer, and keeps its relays.
pub(crate) struct Gatherer {
    config: Config,
    bases: Vec<SocketAddr>,
    stun: Vec<StunServer>,
    bindings: Bindings,
    relays: Relays,
    /// Server-reflexive addresses with their bases, told already.
    seen: Vec<(SocketAddr, SocketAddr)>,
    events: VecDeque<Event>,
    /// `None` once complete.
    give_up: Option<Instant>,
    hurried: bool,
}

/// A STUN server.
struct StunServer {
    id: ServerId,
    url: IceUrl,
    /// Empty until its name is resolved.
    addresses: Vec<SocketAddr>,
    state: Asked,
    why: Option<Why>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    NotYet,
    Now,
    Answered,
    Failed,
}

impl Gatherer {
    /// Starts, with a socket bound to each of `bases`: a host candidate for each, and names to resolve.
    pub(crate) fn new(config: Config, bases: &[SocketAddr], now: Instant) -> Self {
        let give_up = Some(now + config.patience);
        let mut gatherer = Self {
            bases: Vec::new(),
            stun: Vec::new(),
            bindings: Bindings::default(),
            relays: Relays::default(),
            seen: Vec::new(),
            events: VecDeque::new(),
            give_up,
            hurried: false,
            config,
        };
        for base in bases {
            gatherer.add_base(now, *base);
        }
        gatherer.list();
        gatherer.settle(now);
        gatherer
    }

    /// Sorts the servers into those that are used and those that are not.
    fn list(&mut self) {
        let servers = std::mem::take(&mut self.config.servers);
        let mut listed: Vec<&IceUrl> = Vec::new();
        for (server, url) in
            servers.iter().flat_map(|server| server.urls.iter().map(move |url| (server, url)))
        {
            if listed.contains(&url) {
                continue;
            }
            let id = ServerId(u32::try_from(listed.len()).unwrap_or(u32::MAX));
            let failed = match listed.len() < MOST_SERVERS {
                true => self.take(id, server, url).err(),
                false => Some(Why::NotUsed("there are more than 16 servers")),
            };
            listed.push(url);
            self.events.push_back(match failed {
                None => Event::Resolve { server: id, host: url.host.clone(), port: url.port },
                Some(why) => Event::failed(url.clone(), why),
            });
        }
    }

    fn take(&mut self, id: ServerId, server: &IceServer, url: &IceUrl) -> Result<(), Why> {
        let leg = match (url.scheme, url.transport) {
            (Scheme::Stun, _) if self.config.relay_only => {
                return Err(Why::NotUsed("only relays are wanted"));
            }
            (Scheme::Stun, _) => {
                let (url, state) = (url.clone(), Asked::NotYet);
                self.stun.push(StunServer { id, url, addresses: Vec::new(), state, why: None });
                return Ok(());
            }
            (Scheme::Stuns, _) => {
                return Err(Why::NotUsed("what a TLS connection looks like from outside is no candidate"));
            }
            (Scheme::Turns, TransportProtocol::Udp) => return Err(Why::NotUsed("DTLS to a relay")),
            (Scheme::Turns, TransportProtocol::Tcp) => Leg::Tls,
            (Scheme::Turn, TransportProtocol::Tcp) => Leg::Tcp,
            (Scheme::Turn, TransportProtocol::Udp) => Leg::Udp,
        };
        if server.username.is_empty() || server.credential.is_empty() {
            return Err(Why::NoCredential);
        }
        let server = Server::new(id, url.clone(), leg, &server.username, &server.credential);
        self.relays.servers.push(server);
        Ok(())
    }

    /// One more socket is bound, to `local`: a host candidate, and another view of each STUN server.
    pub(crate) fn add_base(&mut self, now: Instant, local: SocketAddr) {
        if self.bases.contains(&local) {
            return;
        }
        self.bases.push(local);
        if !self.config.relay_only {
            self.events.push_back(Event::Candidate(LocalCandidate::host(local)));
        }
        for server in self.stun.iter().filter(|server| server.state != Asked::Failed) {
            for to in &server.addresses {
                if bases_for(&self.bases, *to).any(|base| base == local) {
                    self.bindings.ask(now, server.id, local, *to, self.config.patience);
                }
            }
        }
    }

    /// The answer to [`Event::Resolve`]; an error in the words of the resolver.
    pub(crate) fn resolved(&mut self, now: Instant, id: ServerId, found: Result<Vec<Resolved>, String>) {
        if self.give_up.is_none() {
            return;
        }
        let found = found.map_err(Why::Name).and_then(|mut found| {
            found.truncate(MOST_ADDRESSES);
            if found.is_empty() { Err(Why::Name("it has no address".to_owned())) } else { Ok(found) }
        });
        match self.stun.iter_mut().find(|server| server.id == id) {
            Some(server) if server.state == Asked::NotYet => {
                server.state = Asked::Now;
                match found {
                    // One of each family: the others are the same server.
                    Ok(found) => {
                        let mut addresses = found.iter().map(|each| each.address);
                        server.addresses.extend(addresses.clone().find(SocketAddr::is_ipv4));
                        server.addresses.extend(addresses.find(SocketAddr::is_ipv6));
                        for to in &server.addresses {
                            for base in bases_for(&self.bases, *to) {
                                self.bindings.ask(now, id, base, *to, self.config.patience);
                            }
                        }
                        server.why = Some(Why::NoBase);
                    }
                    Err(why) => server.why = Some(why),
                }
            }
            Some(_) => {}
            None => self.with_relays(now, |relays, around| relays.resolved(around, id, found)),
        }
        self.settle(now);
    }

    /// The answer to [`Event::Connect`]: the stream stands. If nobody wants it any more, `Disconnect` comes.
    pub(crate) fn connected(&mut self, now: Instant, stream: StreamId) {
        self.with_relays(now, |relays, around| relays.connected(around, stream));
        self.settle(now);
    }

    /// The other answer to [`Event::Connect`], or what became of the stream later.
    pub(crate) fn disconnected(&mut self, now: Instant, stream: StreamId, why: String) {
        self.with_relays(now, |relays, around| relays.disconnected(around, stream, why));
        self.settle(now);
    }

    /// Takes a datagram that came in `on` this base, unless it is the connection's.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        on: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Handled {
        if let Some(relay) = self.relays.by_server(Via::Udp(on), from)
            && let Some(client) = &mut relay.client
        {
            match client.handle(now, datagram) {
                Incoming::Data { peer, payload } => {
                    let Some(relay) = client.relayed() else { return Handled::Consumed };
                    return Handled::Relayed { relay, peer, payload };
                }
                Incoming::Consumed => {
                    self.settle(now);
                    return Handled::Consumed;
                }
                Incoming::NotMine => {}
            }
        }
        match self.bindings.handle(now, on, from, datagram) {
            Some(answer) => {
                self.answered(answer);
                self.settle(now);
                Handled::Consumed
            }
            None => Handled::NotMine,
        }
    }

    /// Takes what came in on a stream. Datagrams of peers go to `relayed`: relay, peer, payload.
    pub(crate) fn handle_stream(
        &mut self,
        now: Instant,
        stream: StreamId,
        bytes: &mut [u8],
        mut relayed: impl FnMut(SocketAddr, SocketAddr, &mut [u8]),
    ) {
        let Some(relay) = self.relays.by_stream(stream) else { return };
        let Some(client) = &mut relay.client else { return };
        let in_step = relay.framer.feed(bytes, |message| {
            if let Incoming::Data { peer, payload } = client.handle(now, message)
                && let (Some(relay), Some(payload)) = (client.relayed(), message.get_mut(payload))
            {
                relayed(relay, peer, payload);
            }
        });
        if in_step.is_err() {
            self.events.push_back(Event::Disconnect(stream));
            return self.disconnected(now, stream, "its stream makes no sense".to_owned());
        }
        self.settle(now);
    }

    /// Lets a peer send to us through this relay, as soon as the server agrees; early, so that its first check
    /// is not lost. `false` when there is no such relay, when it is of the other family, or has too many peers.
    pub(crate) fn permit(&mut self, now: Instant, relay: SocketAddr, peer: SocketAddr) -> bool {
        let found = self.relays.by_address(relay).and_then(|relay| relay.client.as_mut());
        found.is_some_and(|client| client.permit(now, peer))
    }

    /// Appends to `out` what takes `payload` to `peer` through this relay, and says where to send it. `None`,
    /// and nothing appended, when it is lost, or waits for the permission and leaves by
    /// [`poll_transmit`](Self::poll_transmit). The one copy of a relayed payload that is made here.
    ///
    /// What is appended for several payloads of one length is of one length too, so that it may leave as a
    /// train; into a stream all of it goes at once.
    pub(crate) fn send_relayed(
        &mut self,
        now: Instant,
        relay: SocketAddr,
        peer: SocketAddr,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<(Via, SocketAddr)> {
        let relay = self.relays.by_address(relay)?;
        let route = (relay.via, relay.to);
        relay.client.as_mut()?.send(now, peer, payload, out).then_some(route)
    }

    /// From now on these servers' credentials are used; URLs that are not known are passed over. Relays that
    /// there are stay; servers tie them to the user name that they were made with.
    #[cfg_attr(
        not(any(test, fuzzing)),
        expect(dead_code, reason = "the seam has the servers of the beginning")
    )]
    pub(crate) fn set_credentials(&mut self, servers: &[IceServer]) {
        for new in servers {
            for server in self.relays.servers.iter_mut().filter(|server| new.urls.contains(&server.url)) {
                server.username.clone_from(&new.username);
                server.credential.clone_from(&new.credential);
                let relays = self.relays.relays.iter_mut().filter(|relay| relay.server == server.id);
                for client in relays.filter_map(|relay| relay.client.as_mut()) {
                    client.replace_credential(&new.username, &new.credential);
                }
            }
        }
    }

    /// The next message to a server.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.bindings.poll_transmit().or_else(|| self.relays.poll_transmit())
    }

    /// The next event.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        loop {
            let event = self.events.pop_front()?;
            let Event::Candidate(LocalCandidate { kind: CandidateKind::Srflx, address, base, .. }) = event
            else {
                return Some(event);
            };
            // RFC 8445 5.1.3: one that equals its base, or one that is known, is redundant.
            if address != base && !self.seen.contains(&(address, base)) {
                self.seen.push((address, base));
                return Some(event);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.give_up, self.bindings.deadline(), self.relays.deadline()].into_iter().flatten().min()
    }

    /// Sends again, refreshes, gives up, as is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(answer) = self.bindings.handle_timeout(now) {
            self.answered(answer);
        }
        self.with_relays(now, |relays, around| relays.handle_timeout(around));
        if self.give_up.is_some_and(|give_up| give_up <= now) {
            for server in &mut self.stun {
                match server.state {
                    Asked::NotYet => server.why = Some(Why::Name("the resolver does not answer".to_owned())),
                    Asked::Now if self.bindings.has(server.id) => server.why = Some(Why::Silent),
                    _ => continue,
                }
                server.state = Asked::Now;
            }
            self.bindings.clear();
            self.with_relays(now, |relays, around| {
                relays.poll(around);
                relays.give_up(around);
            });
        }
        self.settle(now);
    }

    /// Deletes all relays. What [`poll_transmit`](Self::poll_transmit) has must still be sent; no other event
    /// than `Disconnect` comes. It is over when [`is_over`](Self::is_over), at the latest after 500 ms.
    pub(crate) fn close(&mut self, now: Instant) {
        self.give_up = None;
        self.events.clear();
        self.bindings.clear();
        self.stun.clear();
        self.with_relays(now, |relays, around| relays.close(around));
        self.settle(now);
    }

    /// Whether nothing is left to be sent or waited for: there is no relay.
    pub(crate) fn is_over(&self) -> bool {
        self.give_up.is_none() && self.relays.relays.is_empty()
    }

    /// How many things it keeps, whatever they are.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> usize {
        let clients = self.relays.relays.iter().filter_map(|relay| relay.client.as_ref());
        let relays = self.relays.relays.len() + clients.map(Client::held).sum::<usize>();
        relays + self.bindings.held() + self.seen.len() + self.events.len()
    }

    fn answered(&mut self, answer: Answer) {
        let Answer { server, base, mapped } = answer;
        let Some(server) = self.stun.iter_mut().find(|each| each.id == server) else { return };
        match mapped {
            Ok(mapped) => {
                server.state = Asked::Answered;
                let url = server.url.clone();
                self.events.push_back(Event::Candidate(LocalCandidate::reflexive(mapped, base, url)));
            }
            Err(why) => server.why = Some(why),
        }
    }

    fn with_relays(&mut self, now: Instant, act: impl FnOnce(&mut Relays, &mut Surroundings<'_>)) {
        let mut around = Surroundings {
            now,
            bases: &self.bases,
            patience: self.config.patience,
            relay_only: self.config.relay_only,
            events: &mut self.events,
        };
        act(&mut self.relays, &mut around);
    }

    /// After anything that happened: tells which servers failed, and the end.
    fn settle(&mut self, now: Instant) {
        self.with_relays(now, |relays, around| relays.poll(around));
        for server in self.stun.iter_mut().filter(|server| server.state == Asked::Now) {
            if !self.bindings.has(server.id) {
                server.state = Asked::Failed;
                let why = server.why.take().unwrap_or(Why::Silent);
                self.events.push_back(Event::failed(server.url.clone(), why));
            }
        }
        if !self.hurried && self.relays.has_relay() {
            self.hurried = true;
            self.give_up = self.give_up.map(|give_up| give_up.min(now + GRACE));
        }
        let resolving = self.stun.iter().any(|server| server.state == Asked::NotYet);
        if self.give_up.is_some() && !resolving && !self.bindings.is_busy() && !self.relays.is_busy() {
            self.give_up = None;
            self.events.push_back(Event::Complete);
        }
    }
}
