//! What arrives and what time brings, passed from part to part until all is quiet.

use std::net::SocketAddr;
use std::time::Instant;

use super::channels::{Channels, DATA, NEGOTIATION};
use super::dtls::{Dtls, Record};
use super::failure::Failure;
use super::ice::Stun;
use super::life::Due;
use super::{Connection, Early, Event, timing};
use crate::peer::engine::sctp::{Association, CloseReason, Event as Sctp};
use crate::peer::{Phase, Role, TransportProtocol};

/// Everybody's port of SCTP.
const SCTP_PORT: u16 = 5000;

/// The most datagrams of DTLS that are kept until the peer's description comes: a flight or two.
const MAX_EARLY: usize = 8;

/// The largest of them, in bytes.
const MAX_EARLY_DATAGRAM: usize = 2048;

/// What was heard of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// A check.
    Asks,
    /// The answer to one of ours.
    Answers,
    Data,
}

impl Connection {
    /// Takes one datagram. `to`: the address of ours where it came in, the base of a candidate or a relayed
    /// address. Its bytes are overwritten: they serve as scratch space.
    pub(crate) fn handle_input(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        protocol: TransportProtocol,
        datagram: &mut [u8],
    ) {
        self.received += datagram.len() as u64;
        if self.life.phase().is_final() {
            return;
        }
        match datagram.first() {
            // RFC 7983 7.
            Some(0..=3) => match self.ice.handle_stun(now, from, to, protocol, datagram) {
                Stun::Request => self.hear(now, from, to, Said::Asks),
                Stun::Response => self.hear(now, from, to, Said::Answers),
                Stun::Ignored => {}
            },
            Some(20..=63) => self.handle_dtls(now, from, to, datagram),
            _ => return,
        }
        self.pump(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None`: not before something else happens.
    pub(crate) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.life.phase().is_final() {
            return self.next_goodbye();
        }
        let dtls = self.dtls.as_ref().and_then(Dtls::poll_timeout);
        let association = self.association.as_ref().and_then(|association| association.poll_timeout(now));
        [self.ice.poll_timeout(), dtls, association, self.life.deadline()].into_iter().flatten().min()
    }

    /// Lets time pass. Too early or too late does no harm.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.life.phase().is_final() {
            self.repeat_goodbye(now);
            return;
        }
        self.ice.handle_timeout(now);
        if let Some(dtls) = &mut self.dtls
            && let Err(failure) = dtls.handle_timeout(now)
        {
            self.fail(now, failure);
        }
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
        }
        self.pump(now);
    }

    /// The peer's description is known: from here on everybody knows whom to expect.
    pub(super) fn begin(&mut self, now: Instant) {
        let Some(remote) = self.negotiation.remote() else { return };
        let client = self.negotiation.is_dtls_client();
        self.dtls = Some(Dtls::new(&self.identity, client, remote.fingerprints.clone(), now));
        self.channels = Channels::new(client);
        self.enter(Phase::Connecting);
        self.look(now);
        for Early { from, to, mut datagram } in std::mem::take(&mut self.early) {
            self.handle_dtls(now, from, to, &mut datagram);
        }
        self.pump(now);
    }

    /// Looks for a path to the peer of the newest description.
    pub(super) fn look(&mut self, now: Instant) {
        let Some(remote) = self.negotiation.remote() else { return };
        self.life.look(now);
        // What the description brings is enough: a bad candidate in it is no reason to fail.
        for candidate in &remote.candidates {
            let _ = self.ice.add_remote(now, candidate);
        }
        let hold = match self.config.role {
            Role::Caller => std::time::Duration::ZERO,
            Role::Answerer if remote.is_farlink => std::time::Duration::ZERO,
            Role::Answerer => timing::ANSWERER_HOLD,
        };
        self.ice.start(now, &remote.ufrag, &remote.pwd, hold);
    }

    fn handle_dtls(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, datagram: &mut [u8]) {
        let Self { dtls, association, ice, config, negotiation, .. } = self;
        let Some(dtls) = dtls else {
            if self.early.len() < MAX_EARLY && datagram.len() <= MAX_EARLY_DATAGRAM {
                self.early.push(Early { from, to, datagram: datagram.to_vec() });
            }
            return;
        };
        if !ice.knows(from, to) {
            return;
        }
        let (mut heard, mut ended) = (false, false);
        let result = dtls.handle_input(now, datagram, |record| match record {
            Record::Connected => {
                let port = negotiation.remote().map_or(SCTP_PORT, |remote| remote.sctp_port);
                let config = config.association(port, ice.rtt());
                association.insert(Association::new(config, now)).connect(now);
            }
            Record::Data(packet) => {
                heard = true;
                if let Some(association) = association {
                    association.handle_input(now, packet);
                }
            }
            Record::CloseNotify => ended = true,
        });
        if heard {
            self.hear(now, from, to, Said::Data);
        }
        if let Err(failure) = result {
            self.fail(now, failure);
        }
        if ended {
            // What came before it comes first.
            self.pump(now);
            self.enter(Phase::ClosedByPeer);
        }
    }

    /// Something that only the peer can have said. On the path it is a sign of life.
    fn hear(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, said: Said) {
        let on_path = self.path.is_some_and(|path| path.destination == from && path.source == to);
        if !on_path {
            if said == Said::Data {
                self.elsewhere = Some((from, to));
            }
            self.life.hear_elsewhere(now, said == Said::Data);
        } else if self.life.hear(now, said == Said::Answers) {
            self.tell_state();
        }
    }

    /// Passes on what one part has for another.
    pub(super) fn pump(&mut self, now: Instant) {
        self.follow_path(now);
        self.follow_association(now);
        let before = self.life.phase().clone();
        match self.life.due(now) {
            Some(Due::Doubt) => {
                if before != *self.life.phase() {
                    self.tell_state();
                }
                self.ice.doubt(now);
                self.follow_path(now);
            }
            Some(Due::Left) => {
                if before != *self.life.phase() {
                    self.tell_state();
                }
                self.follow_peer(now);
            }
            Some(Due::Fail(failure)) => self.fail(now, failure),
            Some(Due::NoPath(looked)) => {
                let (here, there, hint) = (self.ice.local().0.len(), self.ice.known(), self.hint());
                let no_path = Failure::NoPath { looked, here, there, hint };
                let failure = self.orphaned.take().map_or(no_path, Failure::Relay);
                self.fail(now, failure);
            }
            None if before != *self.life.phase() => self.tell_state(),
            None => {}
        }
    }

    /// The peer has left the path. Who controls looks which pair works; the other follows, so that the two never
    /// trade places.
    fn follow_peer(&mut self, now: Instant) {
        match self.config.role {
            Role::Caller => self.ice.doubt(now),
            Role::Answerer => {
                if let Some((from, to)) = self.elsewhere {
                    self.ice.follow(now, from, to);
                }
            }
        }
        self.follow_path(now);
    }

    /// A relay of ours is gone: `relay` is its address, `why` names its server. If packets take it, another pair takes
    /// over at once; while there is none, one is looked for, and then the connection fails.
    pub(crate) fn lose_relay(&mut self, now: Instant, relay: SocketAddr, why: &str) {
        if self.life.phase().is_final() {
            return;
        }
        let has_path = self.ice.lose_relay(now, relay);
        if !self.ice.can_be_reached() && self.ice.local().1 {
            return self.fail(now, Failure::Relay(why.to_owned()));
        }
        if !has_path {
            self.orphaned = Some(why.to_owned());
            self.life.orphan(now);
        }
        self.pump(now);
    }

    fn follow_path(&mut self, now: Instant) {
        let path = self.ice.path();
        if self.ice.take_found() {
            self.life.found();
        }
        if path == self.path || self.life.phase().is_final() {
            return;
        }
        let is_first = self.path.is_none();
        self.path = path;
        (self.elsewhere, self.orphaned) = (None, None);
        self.life.moved(now);
        self.life.enter(Phase::Connected);
        self.tell_state();
        if let Some(association) = &mut self.association
            && !is_first
        {
            association.path_changed(now, self.ice.rtt());
        }
        if let Some(dtls) = &mut self.dtls
            && let Err(failure) = dtls.start(now)
        {
            self.fail(now, failure);
        }
    }

    fn follow_association(&mut self, now: Instant) {
        loop {
            let Some(association) = &mut self.association else { return };
            let Some(event) = association.poll_event() else { return };
            if let Sctp::Connected = event {
                self.life.shaken();
            }
            if let Sctp::Readable { stream: NEGOTIATION } = event {
                self.answer_offers(now);
                continue;
            }
            self.channels.follow(now, &event, association, &mut self.events);
            match event {
                Sctp::Closed(CloseReason::Shutdown | CloseReason::AbortedByPeer { .. })
                | Sctp::Reset { stream: DATA, by_peer: true } => self.enter(Phase::ClosedByPeer),
                Sctp::Closed(why) => self.fail(now, Failure::Sctp(why)),
                _ => {}
            }
        }
    }

    fn hint(&self) -> &'static str {
        let outside = |line: &String| line.contains(" srflx ") || line.contains(" relay ");
        match self.config.servers && !self.ice.local().0.iter().any(outside) {
            true => "; no STUN or TURN server answered: UDP is probably blocked here",
            false => "",
        }
    }

    /// Ends it for this reason, unless it is over; the peer is told where that may be.
    pub(crate) fn fail(&mut self, now: Instant, failure: Failure) {
        if self.life.phase().is_final() {
            return;
        }
        // Where we may not send any more, we do not.
        if !matches!(failure, Failure::Silence(_) | Failure::Consent(_)) {
            self.say_goodbye(now);
        }
        self.enter(Phase::Failed(failure.to_string()));
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        if self.life.enter(phase) {
            self.tell_state();
        }
    }

    fn tell_state(&mut self) {
        let state = self.state();
        self.events.push_back(Event::State(state));
    }
}
