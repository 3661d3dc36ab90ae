//! One end of a path: what `sctp` is to a flight, in little.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::receiver::{Receiver, ReceiverConfig, Report};
use crate::peer::engine::recovery::{Flight, RecoveryConfig, Sack, Tsn};

/// SCTP's header and a chunk's.
const PACKET_HEADER: usize = 12;
const CHUNK_HEADER: usize = 16;
const SACK_HEADER: usize = 16;
/// DTLS, UDP and IP around it.
pub(super) const AROUND: usize = 65;

/// The message that is always there to be sent.
pub(super) const BULK: u64 = 0;

#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) message: u64,
    pub(super) bytes: usize,
    /// Bytes of the whole message.
    pub(super) of: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) chunks: Vec<(Tsn, Chunk)>,
    pub(super) immediate: bool,
    pub(super) sack: Option<Report>,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) flight: Flight<Chunk>,
    pub(super) receiver: Receiver,
    /// Messages of calls: number, bytes left, bytes. They go before bulk.
    calls: VecDeque<(u64, usize, usize)>,
    /// Bytes of bulk that are left.
    pub(super) bulk: usize,
    pub(super) urgent: bool,
    max_packet: usize,
    /// Bytes of bulk that arrived.
    pub(super) received: u64,
    /// Of messages that have not arrived as a whole.
    parts: HashMap<u64, usize>,
    pub(super) packets: u64,
}

impl End {
    /// `number` is the end's own among all.
    pub(super) fn new(config: &RecoveryConfig, receiver: ReceiverConfig, now: Instant, number: u32) -> Self {
        let first = Tsn(u32::MAX - 1000 + number);
        Self {
            flight: Flight::new(config, first, receiver.window as u32, None, now),
            receiver: Receiver::new(receiver, first),
            calls: VecDeque::new(),
            bulk: 0,
            urgent: false,
            max_packet: config.max_packet,
            received: 0,
            parts: HashMap::new(),
            packets: 0,
        }
    }

    pub(super) fn call(&mut self, message: u64, bytes: usize) {
        self.calls.push_back((message, bytes, bytes));
    }

    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        [self.flight.deadline(now), self.receiver.sack_at].into_iter().flatten().min()
    }

    pub(super) fn on_deadline(&mut self, now: Instant) {
        self.flight.on_deadline(now).expect("the path is alive");
    }

    /// The next packet that may leave now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Packet> {
        let mut packet = Packet { chunks: Vec::new(), immediate: false, sack: None, bytes: PACKET_HEADER };
        // Room for a SACK of usual size.
        let most = self.max_packet - CHUNK_HEADER - SACK_HEADER - 16;
        while packet.bytes < most
            && let Some((tsn, chunk)) = self.flight.take_again(now, most - packet.bytes)
        {
            packet.bytes += chunk.bytes + CHUNK_HEADER;
            packet.chunks.push((tsn, chunk));
        }
        while packet.bytes < most && self.flight.may_send(now) {
            let room = (most - packet.bytes).min(self.flight.peer_room());
            let Some(chunk) = self.next_chunk(room) else { break };
            let urgent = self.urgent && chunk.message != BULK;
            let tsn = self.flight.push(now, chunk, chunk.bytes, urgent);
            packet.bytes += chunk.bytes + CHUNK_HEADER;
            packet.chunks.push((tsn, chunk));
        }
        let is_idle = self.calls.is_empty() && self.bulk == 0;
        if is_idle && self.flight.may_send(now) {
            self.flight.out_of_data(now);
        }
        if self.receiver.sack_at.is_some_and(|at| at <= now || !packet.chunks.is_empty()) {
            let report = self.receiver.report();
            packet.bytes += SACK_HEADER + 4 * (report.gaps.len() + report.duplicates.len());
            packet.sack = Some(report);
        }
        if packet.chunks.is_empty() && packet.sack.is_none() {
            return None;
        }
        packet.immediate = !packet.chunks.is_empty() && (is_idle || self.flight.ask_immediate());
        self.flight.packet_sent(now, packet.bytes);
        self.packets += 1;
        Some(packet)
    }

    /// Returns the messages of calls that are complete by it.
    pub(super) fn on_packet(&mut self, now: Instant, packet: &Packet) -> Vec<(u64, usize)> {
        if let Some(report) = &packet.sack {
            let sack = Sack {
                cumulative: report.cumulative,
                window: report.window,
                gaps: &report.gaps,
                duplicates: &report.duplicates,
            };
            self.flight.on_sack(now, &sack, |_| ()).expect("an honest peer");
        }
        let mut complete = Vec::new();
        if packet.chunks.is_empty() {
            return complete;
        }
        for chunk in self.receiver.on_packet(now, &packet.chunks, packet.immediate) {
            if chunk.message == BULK {
                self.received += chunk.bytes as u64;
                continue;
            }
            let arrived = self.parts.entry(chunk.message).or_default();
            *arrived += chunk.bytes;
            if *arrived == chunk.of {
                self.parts.remove(&chunk.message);
                complete.push((chunk.message, chunk.of));
            }
        }
        complete
    }

    fn next_chunk(&mut self, room: usize) -> Option<Chunk> {
        if let Some((message, left, of)) = self.calls.front_mut() {
            let bytes = room.min(*left);
            if bytes == 0 || (bytes < *left && room < 200) {
                return None;
            }
            *left -= bytes;
            let chunk = Chunk { message: *message, bytes, of: *of };
            if *left == 0 {
                self.calls.pop_front();
            }
            return Some(chunk);
        }
        if self.bulk == 0 || room < 200.min(self.bulk) {
            return None;
        }
        let bytes = room.min(self.bulk);
        self.bulk -= bytes;
        Some(Chunk { message: BULK, bytes, of: 0 })
    }
}
