//! ICE, DTLS and SCTP as one object without I/O: a peer connection.
//!
//! Floor 1, engine, below its driver. The driver owns sockets and clock, and does four things: hands in what
//! arrives ([`Connection::handle_input`]) and that time passes ([`Connection::handle_timeout`]), and after
//! either takes out what is to be sent ([`Connection::poll_transmit`]) and what happened
//! ([`Connection::poll_event`]), each until there is none, and then asks when to come back
//! ([`Connection::poll_timeout`]).
//!
//! ```text
//!  datagram ─▶ first byte ┬ 0..=3   STUN ─▶ ice ──▶ path
//!                         └ 20..=63 DTLS ─▶ dtls ─▶ association ─▶ channels ─▶ events, messages
//!  descriptions, candidates ─▶ negotiation, ice
//! ```
//!
//! # Invariant
//! Nothing of the peer is read before its certificate was held against its description. Events come in the
//! order in which things happened, and after the [`State`](Event::State) with a final phase there is none. What
//! the peer said before it closed can still be received. Memory: bounds are named where they are kept; an idle
//! connection holds a few kB beside what the crates hold.

mod channels;
mod config;
mod drive;
mod dtls;
mod failure;
mod farewell;
mod ice;
mod last_flight;
mod life;
mod negotiate;
mod negotiation;
mod record_numbers;
#[cfg(test)]
mod tests;
mod timing;
mod transmit;

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

pub(crate) use self::channels::{DATA, Message, Open, SendError};
pub(crate) use self::config::Config;
pub(crate) use self::failure::{CandidateError, Failure, NegotiationError};
pub(crate) use self::ice::{LocalCandidate, NamedCandidate, RemoteCandidate};
pub(crate) use self::transmit::Transmit;

use self::channels::Channels;
use self::dtls::Dtls;
use self::farewell::Farewell;
use self::ice::{Ice, Route};
use self::life::Life;
use self::negotiation::Negotiation;
use super::certificate::Identity;
use super::sctp::Association;
use crate::peer::{PeerState, PeerStats, Phase, Role};

/// Something that happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Another phase, or another path. After a final phase nothing happens any more.
    State(PeerState),
    /// Messages may be sent: hands are shaken, and the peer takes them. [`DATA`] opens with the connection, a
    /// channel of ours when the peer has acknowledged it.
    Opened { stream: u16 },
    /// The peer opened a channel.
    Channel { stream: u16, open: Open },
    /// There are messages to [`receive`](Connection::receive), until it gives none.
    Readable { stream: u16 },
    /// What is buffered fell to the low-water mark.
    Low { stream: u16 },
    /// The channel was closed, by either side. The rest of the connection goes on.
    Closed { stream: u16 },
}

/// A peer connection. See the module.
pub(crate) struct Connection {
    config: Config,
    identity: Arc<Identity>,
    negotiation: Negotiation,
    ice: Ice,
    /// The path of the last [`Event::State`].
    path: Option<Route>,
    /// Where data last came that was not on the path: from there to here.
    elsewhere: Option<(SocketAddr, SocketAddr)>,
    /// Which relay was lost, while there is no other path.
    orphaned: Option<String>,
    dtls: Option<Dtls>,
    /// Datagrams of DTLS that came before the peer's description.
    early: Vec<Early>,
    association: Option<Association>,
    channels: Channels,
    life: Life,
    events: VecDeque<Event>,
    /// One packet of SCTP, and whether it waits for its turn.
    packet: Vec<u8>,
    waits: bool,
    farewell: Option<Farewell>,
    sent: u64,
    received: u64,
    /// What came on the negotiation channel and was no offer.
    #[cfg(test)]
    ignored: Vec<Message>,
}

struct Early {
    from: SocketAddr,
    to: SocketAddr,
    datagram: Vec<u8>,
}

impl Connection {
    /// A connection that nothing was negotiated for.
    pub(crate) fn new(config: Config, identity: Arc<Identity>, _now: Instant) -> Self {
        Self {
            negotiation: Negotiation::new(config.role, identity.fingerprint()),
            ice: Ice::new(config.role == Role::Caller, config.relay_only, config.lost),
            path: None,
            elsewhere: None,
            orphaned: None,
            dtls: None,
            early: Vec::new(),
            association: None,
            channels: Channels::new(false),
            life: Life::new(&config),
            events: VecDeque::new(),
            packet: Vec::new(),
            waits: false,
            farewell: None,
            sent: 0,
            received: 0,
            #[cfg(test)]
            ignored: Vec::new(),
            config,
            identity,
        }
    }

    /// Adds a candidate of ours, at any time; its line of SDP (`candidate:..`) if it is new and the peer is to
    /// be told. Link-local IPv4 addresses, anything but relays where only relays are wanted, and what exceeds
    /// 100 is left out.
    pub(crate) fn add_local_candidate(&mut self, now: Instant, candidate: &LocalCandidate) -> Option<String> {
        let line = self.ice.add_local(now, candidate);
        self.pump(now);
        line
    }

    /// Says that TCP connections can be made from this address of ours (RFC 6544, active). The peer is not told.
    /// Packets to its passive candidates then come out of [`poll_transmit`](Self::poll_transmit) with port
    /// 9 as their source: the driver connects to the destination when there is no connection yet,
    /// frames by RFC 4571, and hands in what it reads with that same address as `to`.
    pub(crate) fn add_tcp_address(&mut self, now: Instant, address: IpAddr) {
        self.ice.add_tcp(now, address);
        self.pump(now);
    }

    /// There will be no more candidates of ours. Without any, the connection fails.
    pub(crate) fn end_of_local_candidates(&mut self, now: Instant) {
        self.ice.end_of_local();
        if !self.ice.can_be_reached() && matches!(self.life.phase(), Phase::New | Phase::Connecting) {
            let why = if self.config.relay_only { Failure::NoRelay } else { Failure::NoAddress };
            self.fail(now, why);
        }
        self.pump(now);
    }

    /// A relay of ours and an address that the peer said it has, once for each two that may reach one another: a relay
    /// lets nobody through who was not announced, and to do so in time takes a round trip.
    pub(crate) fn poll_relayed_pair(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        self.ice.poll_relayed_pair()
    }

    /// Adds a candidate of the peer, in any spelling, at any time: before the description it is kept.
    ///
    /// # Errors
    /// [`CandidateError`] for one that cannot be used. It harms nothing.
    pub(crate) fn add_remote_candidate(
        &mut self,
        now: Instant,
        candidate: &str,
    ) -> Result<RemoteCandidate, CandidateError> {
        let added = self.ice.add_remote(now, candidate);
        self.pump(now);
        added
    }

    /// Adds one whose name was looked up.
    ///
    /// # Errors
    /// [`CandidateError`] when nothing can be sent to the address.
    pub(crate) fn add_resolved_candidate(
        &mut self,
        now: Instant,
        candidate: NamedCandidate,
        address: IpAddr,
    ) -> Result<RemoteCandidate, CandidateError> {
        let added = self.ice.add_resolved(now, candidate, address);
        self.pump(now);
        added
    }

    /// The next thing that happened.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Opens a channel by DCEP (RFC 8832); messages may be sent on it at once.
    ///
    /// # Errors
    /// [`SendError`] before [`Event::Opened`] of [`DATA`], after the end, and above 64 channels.
    #[cfg_attr(not(test), expect(dead_code, reason = "the seam has one channel, which needs no words"))]
    pub(crate) fn open_channel(&mut self, now: Instant, open: Open) -> Result<u16, SendError> {
        let association = self.association.as_mut().ok_or(SendError::NotOpen)?;
        self.channels.open(now, open, association)
    }

    /// Closes a channel, both directions. What was sent and not yet acknowledged may be lost.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the seam has one channel, which ends with the connection")
    )]
    pub(crate) fn close_channel(&mut self, now: Instant, stream: u16) {
        if let Some(association) = &mut self.association {
            association.reset_stream(now, stream);
        }
    }

    /// Hands over a message, of at most 256 KiB and what the peer says that it takes (RFC 8841 6.1; 64 KiB if it says
    /// nothing). Never waits: the caller bounds what is waiting by [`buffered`](Self::buffered).
    ///
    /// # Errors
    /// [`SendError`] when it will not be sent.
    pub(crate) fn send(&mut self, now: Instant, stream: u16, message: Message) -> Result<(), SendError> {
        let association = self.association.as_mut().ok_or(SendError::NotOpen)?;
        let largest = self.negotiation.remote().map_or(0, |remote| remote.max_message);
        self.channels.send(now, stream, message, largest, association)
    }

    /// The next message on a stream. What came before the end is there after it.
    pub(crate) fn receive(&mut self, stream: u16) -> Option<Message> {
        Channels::receive(stream, self.association.as_mut()?)
    }

    /// Bytes sent on a stream and not yet acknowledged.
    pub(crate) fn buffered(&self, stream: u16) -> usize {
        self.association.as_ref().map_or(0, |association| association.buffered(stream))
    }

    /// When [`Event::Low`] is told: once [`buffered`](Self::buffered) falls to this. From [`Event::Opened`] on.
    pub(crate) fn set_low_water(&mut self, stream: u16, bytes: usize) {
        if let Some(association) = &mut self.association {
            association.set_low_water(stream, bytes);
        }
    }

    /// Whether nothing new will come and nothing can be sent. What came can still be received.
    pub(crate) fn is_over(&self) -> bool {
        self.life.phase().is_final()
    }

    /// Where it stands, in words: [`is_over`](Self::is_over) is cheaper.
    pub(crate) fn state(&self) -> PeerState {
        let path = self.path.map(|route| self.ice.describe(route));
        PeerState { phase: self.life.phase().clone(), path }
    }

    /// The path and its counters. Datagrams of all paths count.
    pub(crate) fn stats(&self) -> PeerStats {
        let measured = self.association.as_ref().and_then(Association::rtt);
        PeerStats {
            path: self.state().path,
            rtt: measured.or_else(|| self.ice.rtt()),
            bytes_sent: self.sent,
            bytes_received: self.received,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("state", &self.state()).finish_non_exhaustive()
    }
}
