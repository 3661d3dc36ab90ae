//! Packets to the peer: what is due, in the order that RFC 9260 6.10 asks for, up to the packet's size.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Association, State, Transfer};
use crate::peer::engine::sctp::codec::{
    COMMON_HEADER, Data, SackChunk, Writer, kind, padded, seal, write_cause,
};
use crate::peer::engine::sctp::outbound::Outbound;

/// Whole packets that wait to be sent to whoever asked for them. More questions at a time are not answered.
const MOST_REPLIES: usize = 8;

/// Chunks that wait to be sent once each.
const MOST_CHUNKS: usize = 16;

/// Chunks that are sent and not cumulatively acknowledged. Gap blocks have 16 bits (RFC 9260
/// 3.3.4), and the numbers of a stream's messages too (SSN, 3.3.1): peers compare them by serial arithmetic,
/// which holds for less than 2^15.
const MOST_OUTSTANDING: i32 = 32_000;

/// Bytes of messages that gap blocks acknowledge and that are kept all the same, for a peer that takes them back: who
/// never acknowledges the first chunk makes us keep no more. Beside what the owner has to send; less than a chunk's
/// overhead counts nothing, so that small messages have the other bound only. More than the window of any peer that
/// we know, whose one stream waits for what was lost; with several streams that others read meanwhile, 1.25 round
/// trips' worth.
const MOST_KEPT: usize = 8 << 20;

/// What has to be sent besides data and acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) init: bool,
    /// INIT was sent before.
    pub(super) init_again: bool,
    pub(super) cookie_echo: bool,
    pub(super) cookie_ack: bool,
    pub(super) shutdown: bool,
    pub(super) shutdown_ack: bool,
    /// Packets with tags of their own.
    replies: VecDeque<Vec<u8>>,
    /// Chunks, encoded.
    chunks: VecDeque<Vec<u8>>,
}

impl Due {
    /// A chunk is to be sent once; it is dropped if too many wait.
    pub(super) fn chunk(&mut self, kind: u8, value: &[u8]) {
        if self.chunks.len() < MOST_CHUNKS {
            let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX).to_be_bytes();
            let mut chunk = Vec::with_capacity(padded(value.len() + 4));
            chunk.extend_from_slice(&[kind, 0, length[0], length[1]]);
            chunk.extend_from_slice(value);
            chunk.resize(padded(chunk.len()), 0);
            self.chunks.push_back(chunk);
        }
    }

    /// An ERROR with one cause, of whose information at most `most` bytes are sent.
    pub(super) fn error(&mut self, code: u16, information: &[u8], most: usize) {
        let mut value = Vec::new();
        write_cause(&mut value, code, information.get(..most).unwrap_or(information));
        self.chunk(kind::ERROR, &value);
    }

    /// Nothing but replies is due any more.
    pub(super) fn clear_chunks(&mut self) {
        *self = Self { replies: std::mem::take(&mut self.replies), ..Self::default() };
    }
}

impl Association {
    /// Clears `packet` and fills it with the next packet to send. False: there is none now.
    pub(crate) fn poll_transmit(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        if let Some(reply) = self.due.replies.pop_front() {
            packet.clear();
            packet.extend_from_slice(&reply);
            self.stats.packets_sent += 1;
            return true;
        }
        let tag = if self.due.init { 0 } else { self.peer_tag };
        let mut writer = self.writer(packet, tag);
        // The handshake's packets have a checksum always (RFC 9653 5.2): the peer may not know yet that we
        // can do without.
        let must_seal = self.due.init || self.due.cookie_echo || !self.agreed.zero_checksum;
        if std::mem::take(&mut self.due.init) {
            self.write_init(now, &mut writer);
        } else if self.state == State::CookieEchoed {
            // Nothing else may leave until the cookie is acknowledged (5.1 C).
            if std::mem::take(&mut self.due.cookie_echo) {
                let cookie = std::mem::take(&mut self.peer_cookie);
                writer.chunk(kind::COOKIE_ECHO, 0, |value| value.extend_from_slice(&cookie));
                self.peer_cookie = cookie;
                self.write_chunks(&mut writer);
            }
        } else if self.state.is_connected() {
            self.write_control(&mut writer);
            self.write_transfer(now, &mut writer);
        }
        if writer.is_empty() {
            packet.clear();
            return false;
        }
        if must_seal {
            seal(packet);
        }
        self.stats.packets_sent += 1;
        true
    }

    /// Answers a packet outside of the association's order: its tag is the one the sender wants.
    pub(super) fn reply(&mut self, tag: u32, fill: impl FnOnce(&mut Writer<'_>)) {
        if self.due.replies.len() < MOST_REPLIES {
            let mut packet = Vec::new();
            fill(&mut self.writer(&mut packet, tag));
            seal(&mut packet);
            self.due.replies.push_back(packet);
        }
    }

    /// Answers with an ABORT.
    pub(super) fn reply_abort(&mut self, tag: u32, code: u16, information: &[u8]) {
        let information = information.get(..self.config.max_packet / 2).unwrap_or(information);
        self.reply(tag, |packet| {
            packet.chunk(kind::ABORT, 0, |value| write_cause(value, code, information));
        });
    }

    fn writer<'a>(&self, packet: &'a mut Vec<u8>, tag: u32) -> Writer<'a> {
        let Self { config, .. } = self;
        Writer::new(packet, config.max_packet, config.local_port, config.remote_port, tag)
    }

    fn write_control(&mut self, to: &mut Writer<'_>) {
        if std::mem::take(&mut self.due.cookie_ack) {
            to.chunk(kind::COOKIE_ACK, 0, |_| {});
        }
        if std::mem::take(&mut self.due.shutdown)
            && let Some(transfer) = &self.transfer
        {
            let cumulative = transfer.inbound.cumulative();
            to.chunk(kind::SHUTDOWN, 0, |value| value.extend_from_slice(&cumulative.to_be_bytes()));
        }
        if std::mem::take(&mut self.due.shutdown_ack) {
            to.chunk(kind::SHUTDOWN_ACK, 0, |_| {});
        }
        self.write_chunks(to);
    }

    fn write_chunks(&mut self, to: &mut Writer<'_>) {
        while let Some(chunk) = self.due.chunks.front() {
            if chunk.len() > to.room() && !to.is_empty() {
                break;
            }
            to.encoded(chunk);
            self.due.chunks.pop_front();
        }
    }

    /// SACK and data. A SACK that can wait travels only with something else.
    fn write_transfer(&mut self, now: Instant, to: &mut Writer<'_>) {
        let Some(transfer) = &mut self.transfer else { return };
        let sack_is_due = transfer.inbound.is_sack_due(now);
        let with_sack =
            sack_is_due || (transfer.inbound.is_sack_wanted() && transfer.would_send(now, &self.outbound));
        // Without room it goes with the next packet.
        if with_sack && to.room() >= SackChunk::LEAST {
            transfer.inbound.write_sack(to);
        }
        let interleaved = self.agreed.interleaving;
        transfer.write_data(now, to, &mut self.outbound, interleaved, self.config.max_packet);
    }
}

impl Transfer {
    /// Whether [`write_data`](Self::write_data) would find something, or may; asked only for a SACK that can
    /// wait a little.
    fn would_send(&self, now: Instant, outbound: &Outbound) -> bool {
        !outbound.is_empty() && self.flight.may_send(now)
    }

    /// Whether so much was sent behind what is lost that a gap block can hardly tell of more, or that too much is kept.
    fn is_far_ahead(&self) -> bool {
        self.flight.kept_bytes() >= MOST_KEPT
            || self.flight.next_tsn().distance(self.flight.cumulative()) > MOST_OUTSTANDING
    }

    /// Fills the packet with chunks of data: first those to send again, then new ones.
    fn write_data(
        &mut self,
        now: Instant,
        to: &mut Writer<'_>,
        outbound: &mut Outbound,
        interleaved: bool,
        max_packet: usize,
    ) {
        let header = Data::header_of(interleaved);
        let full = (max_packet - max_packet % 4).saturating_sub(COMMON_HEADER + header);
        let mut last = None;
        while let Some(room) = to.room().checked_sub(header).filter(|room| *room > 0) {
            let (tsn, fragment) = if let Some(again) = self.flight.take_again(now, room) {
                again
            } else {
                // What is lost and has no room beside what is in the packet goes with the next one, ahead of
                // all that is new.
                if !to.is_empty() && self.flight.has_lost() {
                    break;
                }
                let Some(next) = outbound.peek(full) else {
                    self.flight.out_of_data(now);
                    break;
                };
                if !self.flight.may_send(now) || self.is_far_ahead() {
                    self.flight.held_back();
                    break;
                }
                if self.flight.peer_room() < next {
                    break;
                }
                let Some((fragment, urgent)) = outbound.next(room, full) else { break };
                let tsn = self.flight.push(now, fragment.clone(), fragment.payload.len(), urgent);
                (tsn, fragment)
            };
            last = Some(to.data(&Data {
                flags: fragment.flags,
                interleaved,
                tsn: tsn.0,
                stream: fragment.stream,
                message: fragment.message,
                fragment: fragment.index,
                ppid: fragment.ppid,
                payload: &fragment.payload,
            }));
        }
        if let Some(flags) = last {
            if outbound.is_empty() || self.flight.ask_immediate() {
                to.ask_immediate(flags);
            }
            self.flight.packet_sent(now, to.len());
        }
    }
}
