//! ICE (RFC 8445, trickled by RFC 8838) over crate `is`: which pair of addresses packets take.
//!
//! The crate checks pairs and nominates: the caller the best one that works, again whenever a better one does;
//! the answerer follows. Here is what it leaves to its user: when the peer's candidates may be checked, how
//! fast, what of the peer is believed, and bounds on all that the peer can make grow.
//!
//! # Invariant
//! The path is the newest nomination, and stays until there is another, a restart included; but for a relay that is
//! gone, and a peer that has left it ([`loss`]). At most
//! [`MAX_CANDIDATES`] candidates of the peer and [`MAX_HEARD`] pairs of addresses that it wrote from are kept.

mod candidates;
mod local;
mod loss;
mod pace;
mod remote;
mod secret;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{IceAgent, IceAgentEvent, IceCreds};

use self::candidates::MAX_CANDIDATES;
pub(crate) use self::candidates::{NamedCandidate, RemoteCandidate};
pub(crate) use self::local::LocalCandidate;
use self::pace::Pace;
use super::timing;
use crate::peer::{CandidateKind, Path, TransportProtocol};

/// The most pairs of addresses on which a peer may show itself. Behind a NAT that changes ports it shows one
/// for each of our candidates.
const MAX_HEARD: usize = 256;

/// What the crate may do in one go: answer what came before the description, mostly.
const MOST_STEPS: usize = 1000;

/// How a check begins, RFC 8489 5.
const BINDING_REQUEST: [u8; 2] = [0, 1];

/// The way that packets take: from an address of ours to one of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) protocol: TransportProtocol,
    /// A base of ours, or a relayed address.
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// What a STUN packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stun {
    /// Not the peer's, or garbage.
    Ignored,
    /// A check of the peer.
    Request,
    /// The answer to one of ours.
    Response,
}

pub(super) struct Ice {
    agent: IceAgent,
    relay_only: bool,
    /// Silence after which a settled pair is given up.
    patience: Duration,
    /// Lines of SDP, `candidate:..`.
    local: Vec<String>,
    complete: bool,
    /// Addresses of our relays, and when checks through any relay begin.
    relays: Vec<SocketAddr>,
    /// Each with an address of the peer that it must let through, until somebody took them.
    relayed_pairs: VecDeque<(SocketAddr, SocketAddr)>,
    relays_from: Option<Instant>,
    /// Addresses that we connect from.
    tcp: usize,
    remote: Vec<(Place, CandidateKind)>,
    names: usize,
    /// The peer's fragment before the last restart.
    outdated: Option<String>,
    /// Candidates that may not be checked yet.
    held: Option<Held>,
    heard: Vec<(SocketAddr, SocketAddr)>,
    path: Option<Route>,
    /// Whether the path is that of the crate's newest nomination.
    nominated: bool,
    /// The path is over a relay that is gone.
    orphaned: bool,
    /// Where checks of ours were answered, and when last.
    answered: Vec<(Route, Instant)>,
    /// When the crate was last given its time.
    advanced: Option<Instant>,
    /// A nomination came that nobody was told of.
    found: bool,
    pace: Pace,
}

/// Where a candidate of the peer is.
type Place = (TransportProtocol, SocketAddr);

#[derive(Default)]
struct Held {
    waiting: Vec<is::Candidate>,
    /// When they may; not before there is a description.
    until: Option<Instant>,
}

impl Ice {
    /// An agent that has no candidates yet. `patience`: silence after which a pair may be forgotten.
    pub(super) fn new(controlling: bool, relay_only: bool, patience: Duration) -> Self {
        let mut agent = IceAgent::new(secret::credentials());
        agent.set_controlling(controlling);
        agent.set_control_tie_breaker(secret::tie_breaker());
        agent.set_timing_advance(timing::PACE);
        agent.set_initial_stun_rto(timing::CHECK);
        let mut ice = Self {
            agent,
            relay_only,
            patience,
            local: Vec::new(),
            complete: false,
            relays: Vec::new(),
            relayed_pairs: VecDeque::new(),
            relays_from: None,
            tcp: 0,
            remote: Vec::new(),
            names: 0,
            outdated: None,
            held: Some(Held::default()),
            heard: Vec::new(),
            path: None,
            nominated: false,
            orphaned: false,
            answered: Vec::new(),
            advanced: None,
            found: false,
            pace: Pace::Looking,
        };
        ice.look();
        ice
    }

    pub(super) fn credentials(&self) -> &IceCreds {
        self.agent.local_credentials()
    }

    /// The peer's description is known: checks begin, the peer's candidates' after `hold`.
    pub(super) fn start(&mut self, now: Instant, ufrag: &str, pwd: &str, hold: Duration) {
        let credentials = IceCreds { ufrag: ufrag.to_owned(), pass: pwd.to_owned() };
        unlogged(|| self.agent.set_remote_credentials(credentials));
        if let Some(held) = &mut self.held {
            held.until = Some(now + hold);
        }
        self.relays_from = (!self.relay_only).then(|| now + timing::RELAYS_LATER);
        self.advance(now);
    }

    /// Starts over with new credentials and the same candidates of ours (RFC 8445 9). What is sent takes the
    /// old path meanwhile.
    pub(super) fn restart(&mut self) {
        self.outdated = self.agent.remote_credentials().map(|credentials| credentials.ufrag.clone());
        unlogged(|| {
            self.agent.ice_restart(secret::credentials(), true);
            forget_events(&mut self.agent);
        });
        self.found = false;
        self.remote.clear();
        self.names = 0;
        self.held = Some(Held::default());
        self.heard.clear();
        self.answered.clear();
        self.look();
    }

    /// The path is silent: forgets which pairs worked, and checks all anew, at once. The crate would give a pair
    /// up only much later, and other pairs of the same address may be as dead. The first that works takes over.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.agent.recreate_candidate_pairs();
        self.look_again(now);
        self.advance(now);
    }

    /// One STUN packet.
    pub(super) fn handle_stun(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        protocol: TransportProtocol,
        packet: &[u8],
    ) -> Stun {
        let Ok(message) = StunMessage::parse(packet) else { return Stun::Ignored };
        let (request, response) = (message.is_binding_request(), message.is_successful_binding_response());
        if self.would_grow(from, to, &message) {
            return Stun::Ignored;
        }
        let proto = local::protocol(protocol);
        if !self.agent.handle_packet(now, StunPacket { proto, source: from, destination: to, message }) {
            return Stun::Ignored;
        }
        if !self.heard.contains(&(from, to)) && self.heard.len() < MAX_HEARD {
            self.heard.push((from, to));
        }
        if response {
            self.note_answer(now, Route { protocol, source: to, destination: from });
        }
        if request {
            self.hold_no_longer_than(now + timing::REST_LATER);
        }
        self.advance(now);
        match (request, response) {
            (true, _) => Stun::Request,
            (_, true) => Stun::Response,
            _ => Stun::Ignored,
        }
    }

    /// Whether the crate would remember yet another address for it, and has enough of them. It keeps one for
    /// each source of a request, and for each address that an answer says that we have.
    fn would_grow(&self, from: SocketAddr, to: SocketAddr, message: &StunMessage<'_>) -> bool {
        if message.is_binding_request() {
            return self.heard.len() >= MAX_HEARD && !self.heard.contains(&(from, to));
        }
        message.mapped_address().is_some_and(|mapped| {
            let known = self.agent.local_candidates();
            !known.clone().any(|candidate| candidate.addr() == mapped)
                && known.count() >= self.local.len() + MAX_CANDIDATES
        })
    }

    /// Whether the peer has proved, on the way from this address to that, that it is who it says.
    pub(super) fn knows(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.path.is_some_and(|path| path.destination == from && path.source == to)
            || self.heard.contains(&(from, to))
    }

    /// The way that packets take now.
    pub(super) fn path(&self) -> Option<Route> {
        self.path
    }

    /// Whether looking ended with a path since this was asked last.
    pub(super) fn take_found(&mut self) -> bool {
        std::mem::take(&mut self.found)
    }

    /// How many addresses the crate keeps.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.agent.remote_candidates().count().max(self.agent.local_candidates().count())
    }

    /// The same for people, with what its ends are.
    pub(super) fn describe(&self, route: Route) -> Path {
        let relayed = self.agent.local_candidates().any(|candidate| {
            candidate.addr() == route.source && candidate.kind() == is::CandidateKind::Relayed
        });
        let local = if relayed { CandidateKind::Relay } else { CandidateKind::Host };
        let place = (route.protocol, route.destination);
        let told = self.remote.iter().find(|(known, _)| *known == place);
        let remote = told.map_or(CandidateKind::Prflx, |(_, kind)| *kind);
        Path::new((local, route.source.to_string()), (remote, route.destination.to_string()))
    }

    /// The newest round trip time on the path, measured by checks; `None` on one that was not nominated.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.agent.nominated_pair_rtt().filter(|_| self.nominated)
    }

    /// The next STUN packet, appended to `out`.
    pub(super) fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Route> {
        loop {
            let packet = self.agent.poll_transmit()?;
            let Some(protocol) = local::transport(packet.proto) else { continue };
            let early = self.relays_from.is_some_and(|at| now < at);
            let is_request = packet.contents.first_chunk() == Some(&BINDING_REQUEST);
            if early && is_request && self.is_relayed(packet.source, packet.destination) {
                // It is made again before long.
                continue;
            }
            out.extend_from_slice(&packet.contents);
            return Some(Route { protocol, source: packet.source, destination: packet.destination });
        }
    }

    fn is_relayed(&self, source: SocketAddr, destination: SocketAddr) -> bool {
        let relay =
            |(place, kind): &(Place, CandidateKind)| *kind == CandidateKind::Relay && place.1 == destination;
        self.relays.contains(&source) || self.remote.iter().any(relay)
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        // Without them the crate has nothing to do, and asks to be called every few milliseconds all the same.
        self.agent.remote_credentials()?;
        let held = self.held.as_ref().and_then(|held| held.until);
        let settling = self.pace.until();
        // The crate says nothing before it has been through all that came ahead of the description.
        let next = self.agent.poll_timeout().or_else(|| self.advanced.map(|at| at + timing::PACE));
        [next, held, settling].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Lets the crate do all that is due: it does one thing per call.
    fn advance(&mut self, now: Instant) {
        if self.agent.remote_credentials().is_none() {
            return;
        }
        if self.held.as_ref().and_then(|held| held.until).is_some_and(|until| now >= until) {
            self.release();
        }
        if self.pace.until().is_some_and(|until| now >= until) {
            self.settle();
        }
        if self.advanced.replace(now).is_none() {
            unlogged(|| {
                self.agent.handle_timeout(now);
                forget_events(&mut self.agent);
            });
        }
        let mut checks = 0;
        for _ in 0..MOST_STEPS {
            let before = self.agent.stats();
            self.agent.handle_timeout(now);
            let after = self.agent.stats();
            if before.bind_request_sent != after.bind_request_sent {
                checks += 1;
            } else if before.bind_request_recv == after.bind_request_recv {
                break;
            }
            if checks >= timing::BURST {
                break;
            }
        }
        while let Some(event) = self.agent.poll_event() {
            let IceAgentEvent::NominatedSend { proto, source, destination } = event else { continue };
            let Some(protocol) = local::transport(proto) else { continue };
            self.path = Some(Route { protocol, source, destination });
            (self.nominated, self.orphaned) = (true, false);
            self.found |= self.pace == Pace::Looking;
            self.slow_down(now);
        }
    }

    /// The peer checks, so it has our answer: where it checks from, we check at once, as soon as it is answered,
    /// and the rest before long.
    fn hold_no_longer_than(&mut self, until: Instant) {
        if let Some(held) = self.held.as_mut().and_then(|held| held.until.as_mut()) {
            *held = until.min(*held);
        }
    }

    /// The peer's candidates may be checked from now on.
    fn release(&mut self) {
        for candidate in self.held.take().unwrap_or_default().waiting {
            self.agent.add_remote_candidate(candidate);
        }
    }
}

/// Its first event tells its own credentials, and nothing has happened before that.
fn forget_events(agent: &mut IceAgent) {
    while agent.poll_event().is_some() {}
}

/// The crate logs credentials, when it is given some and when it tells its own; passwords do not belong into a log.
fn unlogged<T>(work: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), work)
}
