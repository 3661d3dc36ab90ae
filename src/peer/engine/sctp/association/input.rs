//! Packets of the peer's, chunk by chunk.

use std::time::Instant;

use super::{Association, State, Transfer};
use crate::peer::engine::recovery::{Flight, Sack, SackError, SackOutcome, Tsn};
use crate::peer::engine::sctp::codec::{
    Causes, Checksum, Chunk, ChunkError, Data, ForwardTsn, Init, Packet, RawChunk, SackChunk, code, kind,
};
use crate::peer::engine::sctp::inbound::{Arrival, Violation};
use crate::peer::engine::sctp::outbound::Fragment;
use crate::peer::engine::sctp::{CloseReason, Event};

/// Gap blocks of one SACK that are looked at: as many as fit a packet of 16 KiB. More would be a slow way to
/// say little.
const MOST_GAPS: usize = 4096;

/// Duplicate TSNs of one SACK that are looked at: as many as recovery follows.
const MOST_DUPLICATES: usize = 64;

impl Association {
    /// Takes one SCTP packet, as DTLS gave it. Never fails: what is wrong is counted and left out, or ends the
    /// association with an ABORT, as RFC 9260 says.
    pub(crate) fn handle_input(&mut self, now: Instant, packet: &[u8]) {
        let Some((packet, first)) = self.believe(packet) else {
            self.stats.packets_ignored += 1;
            return;
        };
        if first.kind == kind::INIT {
            self.stats.packets_received += 1;
            if let Some(init) = lone_init(&packet) {
                self.on_init(now, &init);
            }
            return;
        }
        if !self.is_for_us(&packet, &first) {
            self.stats.packets_ignored += 1;
            return self.on_out_of_the_blue(&packet, &first);
        }
        self.stats.packets_received += 1;
        self.heartbeats.heard(now);
        for chunk in packet.chunks() {
            let goes_on = chunk.is_ok_and(|chunk| self.on_chunk(now, &chunk));
            if !goes_on || self.state == State::Ended {
                break;
            }
        }
        if let Some(transfer) = &mut self.transfer {
            transfer.inbound.end_of_packet(now);
        }
        self.perform_deferred_resets();
        self.progress(now);
    }

    /// Header, ports and checksum (RFC 9260 6.8, RFC 9653 5.3).
    fn believe<'a>(&self, packet: &'a [u8]) -> Option<(Packet<'a>, RawChunk<'a>)> {
        let packet = Packet::parse(packet).ok()?;
        let first = packet.chunks().next()?.ok()?;
        let ports_fit =
            packet.destination == self.config.local_port && packet.source == self.config.remote_port;
        let zero_is_fine = self.config.zero_checksum && first.kind != kind::INIT;
        let is_whole = match packet.checksum(zero_is_fine) {
            Checksum::Right => true,
            Checksum::Zero => zero_is_fine,
            Checksum::Wrong => false,
        };
        let init_is_untagged = first.kind != kind::INIT || packet.tag == 0;
        (ports_fit && is_whole && init_is_untagged).then_some((packet, first))
    }

    /// The verification tag (8.5, 8.5.1).
    fn is_for_us(&self, packet: &Packet<'_>, first: &RawChunk<'_>) -> bool {
        if self.state == State::Closed && first.kind != kind::COOKIE_ECHO {
            return false;
        }
        let may_reflect = matches!(first.kind, kind::ABORT | kind::SHUTDOWN_COMPLETE);
        if may_reflect && first.flags & 1 != 0 {
            return self.peer_tag != 0 && packet.tag == self.peer_tag;
        }
        self.state != State::Ended && packet.tag == self.local_tag
    }

    /// A packet that no association of ours waits for (8.4). The one answer that matters over DTLS is that to
    /// a SHUTDOWN ACK whose SHUTDOWN COMPLETE was lost.
    fn on_out_of_the_blue(&mut self, packet: &Packet<'_>, first: &RawChunk<'_>) {
        if self.state == State::Ended && first.kind == kind::SHUTDOWN_ACK {
            self.reply(packet.tag, |reply| reply.chunk(kind::SHUTDOWN_COMPLETE, 1, |_| {}));
        }
    }

    /// Returns whether to go on with the packet.
    fn on_chunk(&mut self, now: Instant, raw: &RawChunk<'_>) -> bool {
        let chunk = match raw.parse() {
            Ok(chunk) => chunk,
            Err(ChunkError::NoUserData(tsn)) => {
                let reason = CloseReason::Violation("data chunk without user data");
                self.abort_with(code::NO_USER_DATA, &tsn.to_be_bytes(), reason);
                return false;
            }
            Err(ChunkError::Length | ChunkError::Malformed(_)) => {
                self.violated("malformed chunk");
                return false;
            }
        };
        match chunk {
            Chunk::Data(data) => self.on_data(now, &data),
            Chunk::Sack(sack) => self.on_sack(now, &sack),
            Chunk::InitAck(init) => {
                self.on_init_ack(now, &init);
                return false;
            }
            Chunk::CookieEcho(cookie) => return self.on_cookie_echo(now, cookie),
            Chunk::CookieAck => self.on_cookie_ack(now),
            Chunk::Heartbeat(value) => self.on_heartbeat(value),
            Chunk::HeartbeatAck | Chunk::Pad => {}
            Chunk::Abort(causes) => self.on_abort(causes),
            Chunk::Error(causes) => self.on_error(now, causes),
            Chunk::Shutdown(cumulative) => self.on_shutdown(now, cumulative),
            Chunk::ShutdownAck => self.on_shutdown_ack(),
            Chunk::ShutdownComplete => self.on_shutdown_complete(),
            Chunk::ReConfig(parameters) => self.on_reconfig(now, parameters),
            Chunk::ForwardTsn(forward) => self.on_forward(&forward),
            // INIT must be alone (4.3 in 8.5.1 A).
            Chunk::Init(_) => return false,
            Chunk::Unknown(unknown) => {
                self.stats.chunks_ignored += 1;
                if unknown.report && self.state.is_connected() {
                    let mut copy = Vec::new();
                    raw.copy_to(&mut copy);
                    self.due.error(code::UNRECOGNIZED_CHUNK, &copy, self.config.max_packet / 2);
                }
                return unknown.skip;
            }
        }
        true
    }

    fn on_data(&mut self, now: Instant, data: &Data<'_>) {
        // Only one who has seen our COOKIE ECHO can send it: its COOKIE ACK is late or lost.
        self.on_cookie_ack(now);
        let takes_data =
            matches!(self.state, State::Established | State::ShutdownPending | State::ShutdownSent);
        let Some(transfer) = self.transfer.as_mut().filter(|_| takes_data) else {
            self.stats.chunks_ignored += 1;
            return;
        };
        let before = transfer.inbound.cumulative();
        let arrival = transfer.inbound.on_data(data);
        let goes_on = transfer.inbound.cumulative() != before;
        match arrival {
            Ok(Arrival::Taken) => {}
            Ok(Arrival::Readable) => self.events.push_back(Event::Readable { stream: data.stream }),
            Ok(Arrival::NoRoom) => self.stats.chunks_without_room += 1,
            Ok(Arrival::NoSuchStream) => {
                let [high, low] = data.stream.to_be_bytes();
                self.due.error(code::INVALID_STREAM, &[high, low, 0, 0], self.config.max_packet / 2);
            }
            Err(violation) => {
                let code = if violation == Violation::Stuck {
                    code::OUT_OF_RESOURCE
                } else {
                    code::PROTOCOL_VIOLATION
                };
                let information = violation.to_string();
                return self.abort_with(code, information.as_bytes(), CloseReason::from(violation));
            }
        }
        if self.state == State::ShutdownSent {
            // 9.2: each packet with data is answered by SHUTDOWN and SACK at once.
            self.due.shutdown = true;
            // It is not silent, it has more to say: T2 begins anew. Only if that gets on, or it might never end.
            if goes_on {
                self.retry.start(now, self.rtt_hint(), self.config.recovery.max_silence);
            }
            if let Some(transfer) = &mut self.transfer {
                transfer.inbound.acknowledge_at_once();
            }
        }
    }

    fn on_sack(&mut self, now: Instant, sack: &SackChunk<'_>) {
        self.on_cookie_ack(now);
        self.gaps.clear();
        self.gaps.extend(sack.gaps().take(MOST_GAPS));
        self.duplicates.clear();
        self.duplicates.extend(sack.duplicates().take(MOST_DUPLICATES).map(Tsn));
        let (gaps, duplicates) = (std::mem::take(&mut self.gaps), std::mem::take(&mut self.duplicates));
        let report = Sack {
            cumulative: Tsn(sack.cumulative),
            window: sack.window,
            gaps: &gaps,
            duplicates: &duplicates,
        };
        self.acknowledge(|flight, told| flight.on_sack(now, &report, told));
        (self.gaps, self.duplicates) = (gaps, duplicates);
    }

    /// Gives an acknowledgement to whom it concerns.
    pub(super) fn acknowledge(
        &mut self,
        report: impl FnOnce(&mut Flight<Fragment>, &mut dyn FnMut(&Fragment)) -> Result<SackOutcome, SackError>,
    ) {
        let Some(Transfer { flight, .. }) = self.transfer.as_mut().filter(|_| self.state.is_connected())
        else {
            self.stats.chunks_ignored += 1;
            return;
        };
        let (outbound, events) = (&mut self.outbound, &mut self.events);
        let outcome = report(flight, &mut |fragment| {
            if outbound.acknowledged(fragment) {
                events.push_back(Event::Low { stream: fragment.stream });
            }
        });
        if outcome.is_err() {
            self.violated("data was acknowledged that was never sent");
        }
    }

    fn on_forward(&mut self, forward: &ForwardTsn<'_>) {
        let Some(transfer) = self.transfer.as_mut().filter(|_| self.agreed.forward) else {
            self.stats.chunks_ignored += 1;
            return;
        };
        let events = &mut self.events;
        transfer.inbound.on_forward(forward, |stream| events.push_back(Event::Readable { stream }));
    }

    fn on_abort(&mut self, mut causes: Causes<'_>) {
        let cause = causes.next();
        let code = cause.map_or(0, |cause| cause.kind);
        let words = cause.filter(|cause| cause.kind == code::USER_ABORT).map_or(&[][..], |cause| cause.value);
        let reason = String::from_utf8_lossy(words.get(..128).unwrap_or(words)).into_owned();
        self.end(CloseReason::AbortedByPeer { code, reason });
    }

    fn on_error(&mut self, now: Instant, causes: Causes<'_>) {
        for cause in causes {
            if cause.kind == code::STALE_COOKIE {
                self.on_stale_cookie(now);
            }
        }
    }
}

/// The packet's INIT, if it is alone.
fn lone_init<'a>(packet: &Packet<'a>) -> Option<Init<'a>> {
    let mut chunks = packet.chunks();
    let first = chunks.next()?.ok()?;
    match (first.parse(), chunks.next()) {
        (Ok(Chunk::Init(init)), None) => Some(init),
        _ => None,
    }
}
