//! The association: who may do what, and when.
//!
//! Floor 1, engine. The parts: [handshake] and its [cookie], [input] by chunk, [output] by packet, [timers],
//! [shutdown], [resets], [heartbeats].
//!
//! ```text
//!  Closed ─connect─▶ CookieWait ─INIT ACK─▶ CookieEchoed ─COOKIE ACK─▶ Established
//!     └──────COOKIE ECHO──┴─────────────────────┴──────────────────────────▲
//!  Established ─shutdown─▶ ShutdownPending ─all acknowledged─▶ ShutdownSent ─┐ SHUTDOWN ACK
//!       └──SHUTDOWN──▶ ShutdownReceived ─all acknowledged─▶ ShutdownAckSent ─┴▶ Ended ◀─ ABORT, silence
//! ```
//!
//! # Invariant
//! See [`sctp`](super). Besides: nothing but the state `Ended` is final, and it has one [`Event::Closed`].

mod cookie;
mod handshake;
mod heartbeats;
mod input;
mod output;
mod resets;
mod retry;
mod shutdown;
mod timers;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::cookie::Key;
use self::heartbeats::Heartbeats;
use self::output::Due;
use self::resets::Resets;
use self::retry::Retry;
use super::codec::{Abilities, code};
use super::inbound::Inbound;
use super::outbound::{Fragment, Outbound};
use super::{CloseReason, Config, Event, Priority, SendError};
use crate::peer::engine::recovery::{self, Flight, Tsn};

/// One SCTP association. Its owner feeds it packets and time, then takes packets and events until there are
/// no more: after each `handle_input` (or batch of them), `handle_timeout`, `send`, `receive` and `connect`.
#[derive(Debug)]
pub(crate) struct Association {
    config: Config,
    began: Instant,
    state: State,
    key: Key,
    local_tag: u32,
    local_tsn: u32,
    /// 0 until the peer has told it.
    peer_tag: u32,
    /// The peer's cookie while we echo it.
    peer_cookie: Vec<u8>,
    /// What both sides can do.
    agreed: Abilities,
    /// Streams that we may send on, once the peer has told.
    streams: u16,
    outbound: Outbound,
    transfer: Option<Transfer>,
    /// T1 of the handshake, T2 of the shutdown: never both.
    retry: Retry,
    /// When INIT was sent, while it was sent only once.
    init_sent: Option<Instant>,
    due: Due,
    resets: Resets,
    heartbeats: Heartbeats,
    events: VecDeque<Event>,
    /// The gap blocks of the SACK being read; kept for its memory.
    gaps: Vec<(u16, u16)>,
    /// Its duplicate TSNs, likewise.
    duplicates: Vec<Tsn>,
    stats: Stats,
}

/// Both directions of data, from when the peer's first TSN is known.
#[derive(Debug)]
struct Transfer {
    flight: Flight<Fragment>,
    inbound: Inbound,
}

/// Where an association stands (RFC 9260 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    CookieWait,
    CookieEchoed,
    Established,
    ShutdownPending,
    ShutdownSent,
    ShutdownReceived,
    ShutdownAckSent,
    Ended,
}

/// What an association has seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Packets sent.
    pub(crate) packets_sent: u64,
    /// Packets received and believed.
    pub(crate) packets_received: u64,
    /// Packets left out: wrong ports, tag, checksum or shape.
    pub(crate) packets_ignored: u64,
    /// Chunks left out: not understood, or not for the state.
    pub(crate) chunks_ignored: u64,
    /// Chunks of data that there was no room for.
    pub(crate) chunks_without_room: u64,
    /// Handshakes refused because there was an association already.
    pub(crate) restarts_refused: u64,
    /// Bytes of messages that wait for their rest, their turn or their reader.
    pub(crate) held: usize,
    /// What the path has cost.
    pub(crate) flight: recovery::Stats,
}

impl Association {
    /// An association that waits for [`connect`](Self::connect) or for the peer's INIT.
    pub(crate) fn new(mut config: Config, now: Instant) -> Self {
        config.receive_window = config.receive_window.max(config.max_message.saturating_mul(2));
        let key = Key::new(&config.seed);
        Self {
            began: now,
            state: State::Closed,
            // A tag of 0 means "none" (RFC 9260 3.3.2).
            local_tag: key.number("tag").max(1),
            local_tsn: key.number("first tsn"),
            key,
            peer_tag: 0,
            peer_cookie: Vec::new(),
            agreed: Abilities::default(),
            streams: u16::MAX,
            outbound: Outbound::new(),
            transfer: None,
            retry: Retry::default(),
            init_sent: None,
            due: Due::default(),
            resets: Resets::default(),
            heartbeats: Heartbeats::new(config.heartbeat, now),
            events: VecDeque::new(),
            gaps: Vec::new(),
            duplicates: Vec::new(),
            stats: Stats::default(),
            config,
        }
    }

    /// Takes a message for a stream, at any time before the end. Never blocks: the caller bounds what waits by
    /// [`buffered`](Self::buffered).
    ///
    /// # Errors
    /// [`SendError`]; the message was not taken.
    pub(crate) fn send(
        &mut self,
        _now: Instant,
        stream: u16,
        ppid: u32,
        message: Bytes,
    ) -> Result<(), SendError> {
        if !self.state.takes_messages() {
            return Err(SendError::Closed);
        }
        if stream >= self.streams {
            return Err(SendError::NoSuchStream(stream));
        }
        self.outbound.push(stream, ppid, message)
    }

    /// The next message of a stream and its payload protocol identifier, in order. Makes room: poll for a
    /// packet afterwards, the peer may have to be told.
    pub(crate) fn receive(&mut self, stream: u16) -> Option<(u32, Bytes)> {
        self.transfer.as_mut()?.inbound.receive(stream)
    }

    /// The next event.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes of a stream's messages that are not sent or not acknowledged.
    pub(crate) fn buffered(&self, stream: u16) -> usize {
        self.outbound.buffered(stream)
    }

    /// [`Event::Low`] comes when `buffered` falls to this. 0 at first.
    pub(crate) fn set_low_water(&mut self, stream: u16, bytes: usize) {
        self.outbound.set_low_water(stream, bytes);
    }

    /// A stream's share of the path beside others that have something to send.
    #[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "the seam has one channel"))]
    pub(crate) fn set_priority(&mut self, stream: u16, priority: Priority) {
        self.outbound.set_priority(stream, priority);
    }

    /// Whether early copies of the stream's packets are worth their bytes.
    #[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "the seam has one channel"))]
    pub(crate) fn set_urgent(&mut self, stream: u16, urgent: bool) {
        self.outbound.set_urgent(stream, urgent);
    }

    /// Ends the association at once. The peer is told, with `reason` for people; nothing more is sent of what
    /// was taken.
    pub(crate) fn abort(&mut self, _now: Instant, reason: &str) {
        if self.state != State::Ended {
            self.abort_with(code::USER_ABORT, reason.as_bytes(), CloseReason::Aborted);
        }
    }

    /// The smoothed round-trip time, once one was measured.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        let rtt = self.transfer.as_ref()?.flight.rtt();
        rtt.is_measured().then(|| rtt.smoothed())
    }

    /// Packets take another path from now on, on which something else (ICE) measured this round-trip time. What was
    /// learned of the one before is forgotten (RFC 9260 7.2.1), and the peer is asked at once for what it has not
    /// acknowledged; if there is nothing, a HEARTBEAT (8.3) shows it the new path. Poll for packets afterwards.
    pub(crate) fn path_changed(&mut self, now: Instant, rtt: Option<Duration>) {
        self.config.rtt = rtt.or(self.config.rtt);
        let Some(transfer) = self.transfer.as_mut().filter(|_| self.state.is_connected()) else { return };
        transfer.flight.path_changed(now, rtt);
        if transfer.flight.is_empty() {
            self.ask_if_there(now);
        }
    }

    /// What it has seen so far.
    #[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "for whoever looks for a fault"))]
    pub(crate) fn stats(&self) -> Stats {
        let transfer = self.transfer.as_ref();
        Stats {
            held: transfer.map_or(0, |transfer| transfer.inbound.held()),
            flight: transfer.map_or_else(recovery::Stats::default, |transfer| transfer.flight.stats()),
            ..self.stats
        }
    }

    /// Whether it is over.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Ended
    }

    /// The time-out that a new exchange with the peer starts with.
    fn rtt_hint(&self) -> Option<Duration> {
        self.rtt().or(self.config.rtt)
    }

    /// The last thing that happens.
    fn end(&mut self, reason: CloseReason) {
        if std::mem::replace(&mut self.state, State::Ended) != State::Ended {
            self.retry.stop();
            self.resets.stop();
            self.outbound.clear();
            self.due.clear_chunks();
            self.events.push_back(Event::Closed(reason));
        }
    }

    /// Ends it and tells the peer why, if there is one.
    fn abort_with(&mut self, code: u16, information: &[u8], reason: CloseReason) {
        if self.peer_tag != 0 {
            self.reply_abort(self.peer_tag, code, information);
        }
        self.end(reason);
    }

    /// Ends it because the peer broke the protocol.
    fn violated(&mut self, what: &'static str) {
        self.abort_with(code::PROTOCOL_VIOLATION, what.as_bytes(), CloseReason::Violation(what));
    }
}

impl Transfer {
    fn new(config: &Config, peer: &Peer, first: u32, agreed: Abilities, now: Instant) -> Self {
        let recovery = recovery::RecoveryConfig { max_packet: config.max_packet, ..config.recovery.clone() };
        Self {
            flight: Flight::new(&recovery, Tsn(first), peer.window, peer.rtt, now),
            inbound: Inbound::new(peer.tsn, agreed.interleaving, config),
        }
    }
}

/// What the handshake tells of the peer.
#[derive(Debug, Clone, Copy)]
struct Peer {
    tag: u32,
    tsn: u32,
    window: u32,
    /// Streams that it takes.
    streams: u16,
    abilities: Abilities,
    rtt: Option<Duration>,
}

impl State {
    fn takes_messages(self) -> bool {
        matches!(self, Self::Closed | Self::CookieWait | Self::CookieEchoed | Self::Established)
    }

    /// Whether data and what belongs to it is exchanged.
    fn is_connected(self) -> bool {
        matches!(
            self,
            Self::Established
                | Self::ShutdownPending
                | Self::ShutdownSent
                | Self::ShutdownReceived
                | Self::ShutdownAckSent
        )
    }
}
