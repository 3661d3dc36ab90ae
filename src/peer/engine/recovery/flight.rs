//! Every chunk sent and not cumulatively acknowledged, and the rules for sending the next packet.
//!
//! Floor 1, engine, part of `recovery`: what `sctp` sees of it. Acknowledgements are in `acknowledging`, what time
//! brings in `timers`.
//!
//! # Invariant
//! See [`recovery`](super). Besides: `take_again` gives lost chunks only when `may_send` held as the packet
//! began, probes and copies always.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::RecoveryConfig;
use super::copies::{Copies, SMALL_FLIGHT};
use super::ledger::{Ledger, State};
use super::order::Order;
use super::probe::Probe;
use super::rack::Rack;
use super::rate::Rate;
use super::rtt::Rtt;
use super::spurious::Recovery;
use super::tsn::Tsn;
use crate::peer::engine::congestion::{Algorithm, Controller, Pacer};

/// Of a DATA chunk; I-DATA has 20. The rest of a packet is counted when it is closed.
const CHUNK_HEADER: usize = 16;

/// Every chunk sent and not cumulatively acknowledged, in TSN order, and the rules for sending the next packet.
///
/// For each packet: `take_again` until it gives nothing or the packet is full, then `push` what is new while
/// `may_send` and `peer_room` allow it, then `packet_sent`. C is cheap to clone.
#[derive(Debug)]
pub(crate) struct Flight<C> {
    pub(super) ledger: Ledger<C>,
    pub(super) order: Order,
    pub(super) next_serial: u64,
    /// Chunks to send again; one that is not `Lost` is void.
    pub(super) lost: VecDeque<Tsn>,
    pub(super) peer_window: usize,
    pub(super) rtt: Rtt,
    pub(super) rack: Rack,
    pub(super) probe: Probe,
    pub(super) copies: Copies,
    pub(super) recovery: Recovery,
    pub(super) rate: Rate,
    pub(super) controller: Box<dyn Controller>,
    pub(super) congestion: Algorithm,
    /// When the path began to be this one: what left before says nothing about it. `None`: it was never another.
    pub(super) moved_at: Option<Instant>,
    pub(super) pacer: Pacer,
    pub(super) stats: Stats,
    /// When the reordering window of the oldest transmission ends.
    pub(super) reorder_at: Option<Instant>,
    /// When the oldest chunk without one gets an early copy, and whether that time has come.
    pub(super) copy_at: Option<Instant>,
    pub(super) copies_due: bool,
    /// The newest urgent chunk.
    pub(super) last_urgent: Option<Tsn>,
    /// When the peer was last heard, or something began to be under way.
    pub(super) heard_at: Instant,
    packet: Packet,
    /// Whether the last packet asked for an acknowledgement at once.
    pub(super) asked: bool,
    /// Whether there may be more to send than was let go.
    pub(super) has_more: bool,
    pub(super) max_packet: usize,
    pub(super) max_silence: Duration,
    pub(super) sack_delay: Duration,
}

/// The packet that is being built.
#[derive(Debug, Default)]
struct Packet {
    /// The last chunk in it; none: it has not begun.
    last: Option<Tsn>,
    /// What its chunks were charged.
    bytes: usize,
    /// The first transmission in it.
    serial: u64,
    is_probe: bool,
    has_copy: bool,
    has_retransmission: bool,
}

/// What a path has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Packets with data.
    pub(crate) packets: u64,
    /// Chunks sent for the first time.
    pub(crate) chunks: u64,
    /// Chunks sent again because they were lost.
    pub(crate) retransmitted: u64,
    /// Of these, those that had not been lost after all.
    pub(crate) spurious: u64,
    /// Early copies.
    pub(crate) copies: u64,
    /// Times that a probe was due.
    pub(crate) probes: u64,
    /// Times that the peer threw away what it had acknowledged.
    pub(crate) reneged: u64,
    /// Bytes that may be under way.
    pub(crate) window: usize,
    /// Bytes on the wire that are.
    pub(crate) in_flight: usize,
    /// Bytes a second at which packets leave; 0: not paced.
    pub(crate) pacing_rate: u64,
}

/// The peer was silent for longer than is believable, with data under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no acknowledgement for {0:?}")]
pub(crate) struct PathDead(pub(crate) Duration);

impl<C: Clone> Flight<C> {
    /// Nothing under way yet. `first` is the number of the first chunk, `peer_window` and `rtt` what the
    /// handshakes told.
    pub(crate) fn new(
        config: &RecoveryConfig,
        first: Tsn,
        peer_window: u32,
        rtt: Option<Duration>,
        now: Instant,
    ) -> Self {
        Self {
            ledger: Ledger::new(first),
            order: Order::default(),
            next_serial: 1,
            lost: VecDeque::new(),
            peer_window: peer_window as usize,
            rtt: Rtt::new(rtt, now),
            rack: Rack::default(),
            probe: Probe::new(now),
            copies: Copies::new(config.early_copies),
            recovery: Recovery::default(),
            rate: Rate::new(now),
            // A first number is drawn at random, RFC 9260 5.3.1: no two flows have the same.
            controller: config.congestion.controller(config.max_packet, rtt, now, first.0.into()),
            congestion: config.congestion,
            moved_at: None,
            pacer: Pacer::new(config.max_packet, now),
            stats: Stats::default(),
            reorder_at: None,
            copy_at: None,
            copies_due: false,
            last_urgent: None,
            heard_at: now,
            packet: Packet::default(),
            asked: false,
            has_more: false,
            max_packet: config.max_packet,
            max_silence: config.max_silence,
            sack_delay: config.sack_delay,
        }
    }

    /// Whether congestion window and pacer let one more packet go. A packet that has begun may be filled.
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        self.packet.last.is_some() || (self.has_room() && self.pacer.may_send(now))
    }

    /// Bytes of new user data that the peer has room for. When nothing is under way, at least one chunk,
    /// which asks for the window, RFC 9260 6.1 A.
    pub(crate) fn peer_room(&self) -> usize {
        let room = self.peer_window.saturating_sub(self.ledger.unacknowledged);
        if self.ledger.is_empty() { room.max(self.max_packet) } else { room }
    }

    /// A new chunk with `bytes` of user data is in the packet being built. Returns its number. `urgent` chunks
    /// get early copies.
    pub(crate) fn push(&mut self, now: Instant, chunk: C, bytes: usize, urgent: bool) -> Tsn {
        if self.ledger.is_empty() {
            self.heard_at = now;
        }
        let size = bytes + CHUNK_HEADER;
        let snapshot = self.rate.snapshot(now, self.ledger.in_flight);
        let serial = self.take_serial();
        let tsn = self.ledger.push(now, chunk, bytes, size, urgent, serial, snapshot);
        if urgent {
            self.last_urgent = Some(tsn);
        }
        self.order.push(serial, tsn);
        self.add_to_packet(tsn, size, serial);
        self.has_more = true;
        self.stats.chunks += 1;
        tsn
    }

    /// The next chunk that is to be sent again and has at most `room` bytes of user data: lost, as a probe or
    /// as an early copy. It counts as sent. None: go on with new chunks, or with the next packet. A chunk waits
    /// for a packet that has room for it, so what else is in packets must not always take that room.
    pub(crate) fn take_again(&mut self, now: Instant, room: usize) -> Option<(Tsn, C)> {
        if let Some(tsn) = self.next_lost() {
            if !self.may_send(now) && !self.probe.is_due() {
                return None;
            }
            let taken = self.send_again(now, tsn, room)?;
            self.packet.is_probe |= self.probe.is_due();
            self.packet.has_retransmission = true;
            self.lost.pop_front();
            self.stats.retransmitted += 1;
            return Some(taken);
        }
        if self.probe.is_due() || (self.packet.is_probe && self.packet.last.is_some()) {
            let Some(tsn) = self.oldest(|_| true) else {
                if self.packet.last.is_none() {
                    self.probe.withdraw();
                }
                return None;
            };
            let taken = self.send_again(now, tsn, room)?;
            self.packet.is_probe = true;
            return Some(taken);
        }
        if self.copies_due {
            let before = now.checked_sub(Copies::wait(self.rtt.smoothed())).unwrap_or(now);
            let wanted = self.oldest(|sent| sent.sent_at <= before);
            let Some(tsn) = wanted else {
                self.copies_due = false;
                self.arm_copies(now);
                return None;
            };
            let taken = self.send_again(now, tsn, room)?;
            self.packet.has_copy = true;
            self.stats.copies += 1;
            return Some(taken);
        }
        None
    }

    /// Whether something was lost and waits for [`take_again`](Self::take_again).
    pub(crate) fn has_lost(&mut self) -> bool {
        self.next_lost().is_some()
    }

    /// The packet is closed and leaves with so many bytes, all headers that are known counted. Without chunks of
    /// data in it nothing happens.
    pub(crate) fn packet_sent(&mut self, now: Instant, bytes: usize) {
        let asked = self.ask_immediate();
        let packet = std::mem::take(&mut self.packet);
        let Some(last) = packet.last else { return };
        self.asked = asked;
        self.ledger.grow(last, bytes.saturating_sub(packet.bytes));
        self.probe.on_sent(now, packet.is_probe);
        self.controller.on_sent(now, bytes, self.ledger.in_flight);
        self.pacer.on_sent(now, bytes, self.controller.pacing_rate(), self.rtt.smoothed());
        if self.has_room() && self.peer_room() < self.max_packet {
            // The peer is the limit, not the path.
            self.rate.on_limited(self.ledger.in_flight);
        }
        self.stats.packets += 1;
        self.arm_copies(now);
    }

    /// There is nothing more to send, new or lost. To be told whenever that is so after packets were built, even if
    /// a window is closed as well: small flights get early copies only then.
    pub(crate) fn out_of_data(&mut self, now: Instant) {
        if self.has_room() {
            self.rate.on_limited(self.ledger.in_flight);
        }
        if std::mem::take(&mut self.has_more) {
            self.arm_copies(now);
        }
    }

    /// New data waits that `may_send` has held back: `deadline` tells when it may leave.
    pub(crate) fn held_back(&mut self) {
        self.has_more = true;
    }

    /// Whether the packet being built should ask for an acknowledgement at once (the I bit, RFC 7053): small
    /// flights, probes, recovery, and windows that are nearly full. Besides, who has no more to send should ask.
    pub(crate) fn ask_immediate(&self) -> bool {
        let nearly = 2 * self.max_packet;
        self.packet.is_probe
            || self.packet.has_copy
            || self.packet.has_retransmission
            || self.ledger.in_flight <= nearly
            || self.ledger.in_flight + nearly >= self.controller.window()
            || self.peer_room() < nearly
    }

    /// The number of the next new chunk.
    pub(crate) fn next_tsn(&self) -> Tsn {
        self.ledger.next()
    }

    /// The peer has everything up to this number.
    pub(crate) fn cumulative(&self) -> Tsn {
        self.ledger.first().previous()
    }

    /// Bytes of user data that gap blocks acknowledge: kept until the cumulative acknowledgement, as the peer may take
    /// them back.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.ledger.kept
    }

    /// Bytes on the wire that are under way.
    #[cfg(test)]
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.ledger.in_flight
    }

    /// Whether everything sent is cumulatively acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.ledger.is_empty()
    }

    /// Round-trip times of the path.
    pub(crate) fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// What the path has cost so far.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            window: self.controller.window(),
            in_flight: self.ledger.in_flight,
            pacing_rate: self.controller.pacing_rate().unwrap_or(0),
            ..self.stats
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.ledger.in_flight < self.controller.window()
    }

    pub(super) fn is_small(&self) -> bool {
        self.ledger.in_flight <= SMALL_FLIGHT * self.max_packet
    }

    fn take_serial(&mut self) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        serial
    }

    fn add_to_packet(&mut self, tsn: Tsn, size: usize, serial: u64) {
        if self.packet.last.is_none() {
            self.packet.serial = serial;
        }
        self.packet.last = Some(tsn);
        self.packet.bytes += size;
    }

    fn send_again(&mut self, now: Instant, tsn: Tsn, room: usize) -> Option<(Tsn, C)> {
        let bytes = self.ledger.get(tsn)?.bytes;
        if bytes > room {
            return None;
        }
        let size = bytes + CHUNK_HEADER;
        let snapshot = self.rate.snapshot(now, self.ledger.in_flight);
        let serial = self.take_serial();
        let chunk = self.ledger.send_again(now, tsn, size, serial, snapshot)?.clone();
        self.order.push(serial, tsn);
        self.add_to_packet(tsn, size, serial);
        Some((tsn, chunk))
    }

    fn next_lost(&mut self) -> Option<Tsn> {
        while let Some(&tsn) = self.lost.front() {
            if self.ledger.get(tsn).is_some_and(|sent| sent.state == State::Lost) {
                return Some(tsn);
            }
            self.lost.pop_front();
        }
        None
    }

    /// The chunk under way whose last transmission is the oldest, if it is not in this packet.
    fn oldest(&mut self, wanted: impl Fn(&super::ledger::Sent<C>) -> bool) -> Option<Tsn> {
        let under_way = self.order.oldest(&self.ledger);
        let (serial, tsn) = under_way.or_else(|| self.order.oldest_unknown(&self.ledger))?;
        if self.packet.last.is_some() && serial >= self.packet.serial {
            return None;
        }
        self.ledger.get(tsn).filter(|sent| wanted(sent)).map(|_| tsn)
    }
}
