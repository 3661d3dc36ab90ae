//! The handshake (RFC 9260 section 5): four chunks, often begun by both sides at once.

use std::time::Instant;

use super::cookie::Cookie;
use super::{Association, Peer, State, Transfer};
use crate::peer::engine::sctp::codec::{
    Abilities, Init, Writer, code, kind, write_cause, write_cookie, write_unrecognized,
};
use crate::peer::engine::sctp::{CloseReason, Event};

impl Association {
    /// Begins the handshake. Both sides of a data channel do.
    pub(crate) fn connect(&mut self, now: Instant) {
        if self.state == State::Closed {
            self.state = State::CookieWait;
            self.due.init = true;
            self.retry.start(now, self.config.rtt, self.config.handshake_timeout);
        }
    }

    /// INIT (5.1 B, 5.2.1, 5.2.2). The peer is not remembered: all is in the cookie.
    pub(super) fn on_init(&mut self, now: Instant, init: &Init<'_>) {
        if init.tag == 0 {
            self.stats.chunks_ignored += 1;
            return;
        }
        if init.outbound == 0 || init.inbound == 0 {
            return self.reply_abort(init.tag, code::INVALID_PARAMETER, &[]);
        }
        if !matches!(self.state, State::Closed | State::CookieWait | State::CookieEchoed) {
            // The peer's DTLS session lives as long as its association: a new one of the same session is
            // either an old INIT that took its time, or a fault.
            if init.tag != self.peer_tag && self.state != State::Ended {
                self.stats.restarts_refused += 1;
                self.reply_abort(init.tag, code::USER_ABORT, b"association exists, restart refused");
            }
            return;
        }
        let cookie = self.key.seal(&Cookie {
            made: now.saturating_duration_since(self.began),
            local_tag: self.local_tag,
            peer_tag: init.tag,
            peer_tsn: init.tsn,
            window: init.window,
            outbound: init.outbound,
            inbound: init.inbound,
            abilities: init.abilities(),
        });
        let ours = self.own_init();
        let abilities = self.abilities();
        let most = self.config.max_packet;
        self.reply(init.tag, |packet| {
            packet.chunk(kind::INIT_ACK, 0, |value| {
                ours.write_fields(value);
                abilities.write(value);
                write_cookie(value, &cookie);
                // A peer with more to say than fits hears of what does.
                let mut room = most / 2;
                for one in init.unrecognized() {
                    room = room.saturating_sub(one.value.len() + 8);
                    if room > 0 {
                        write_unrecognized(value, &one);
                    }
                }
            });
        });
    }

    /// INIT ACK (5.1 C, 5.2.3).
    pub(super) fn on_init_ack(&mut self, now: Instant, init: &Init<'_>) {
        if self.state != State::CookieWait {
            self.stats.chunks_ignored += 1;
            return;
        }
        if init.tag == 0 {
            return self.end(CloseReason::Violation("INIT ACK without a tag"));
        }
        self.peer_tag = init.tag;
        if init.outbound == 0 || init.inbound == 0 {
            let reason = CloseReason::Violation("INIT ACK without streams");
            return self.abort_with(code::INVALID_PARAMETER, &[], reason);
        }
        let Some(cookie) = init.cookie() else {
            // How many are missing: one, the cookie (type 7).
            let reason = CloseReason::Violation("INIT ACK without a cookie");
            return self.abort_with(code::MISSING_PARAMETER, &[0, 0, 0, 1, 0, 7], reason);
        };
        if cookie.len() + 16 > self.config.max_packet {
            return self.violated("cookie does not fit a packet");
        }
        self.peer_cookie = cookie.to_vec();
        let sent = self.init_sent.take();
        let peer = Peer {
            tag: init.tag,
            tsn: init.tsn,
            window: init.window,
            streams: init.inbound,
            abilities: init.abilities(),
            rtt: self.config.rtt.or_else(|| sent.map(|sent| now.saturating_duration_since(sent))),
        };
        self.meet(&peer, now);
        self.state = State::CookieEchoed;
        self.due.init = false;
        self.due.cookie_echo = true;
        self.retry.next_step(now, peer.rtt);
        let mut unknown = Vec::new();
        init.unrecognized().for_each(|one| one.copy_to(&mut unknown));
        if !unknown.is_empty() {
            self.due.error(code::UNRECOGNIZED_PARAMETERS, &unknown, self.config.max_packet / 2);
        }
    }

    /// COOKIE ECHO (5.1 D, 5.2.4). Returns whether the rest of its packet may be read.
    pub(super) fn on_cookie_echo(&mut self, now: Instant, bytes: &[u8]) -> bool {
        let Some(cookie) = self.key.open(bytes).filter(|cookie| cookie.local_tag == self.local_tag) else {
            self.stats.chunks_ignored += 1;
            return false;
        };
        if self.state.is_connected() {
            // Ours was lost, or the cookie of an INIT that was not used in the end.
            let is_again = cookie.peer_tag == self.peer_tag;
            self.due.cookie_ack |= is_again;
            self.stats.restarts_refused += u64::from(!is_again);
            return is_again;
        }
        let age = now.saturating_duration_since(self.began).saturating_sub(cookie.made);
        if let Some(stale) = age.checked_sub(self.config.cookie_life).filter(|stale| !stale.is_zero()) {
            let stale = u32::try_from(stale.as_micros()).unwrap_or(u32::MAX);
            self.reply(cookie.peer_tag, |packet| {
                packet.chunk(kind::ERROR, 0, |value| {
                    write_cause(value, code::STALE_COOKIE, &stale.to_be_bytes())
                });
            });
            return false;
        }
        let knows_peer = self.state == State::CookieEchoed && self.peer_tag == cookie.peer_tag;
        if !knows_peer {
            let rtt = self.config.rtt;
            let Cookie { peer_tag: tag, peer_tsn: tsn, window, inbound: streams, abilities, .. } = cookie;
            self.meet(&Peer { tag, tsn, window, streams, abilities, rtt }, now);
        }
        self.establish(now);
        self.due.cookie_ack = true;
        true
    }

    /// COOKIE ACK (5.1 E, 5.2.5), or anything that only one who has sent it can send.
    pub(super) fn on_cookie_ack(&mut self, now: Instant) {
        if self.state == State::CookieEchoed {
            self.establish(now);
        }
    }

    /// The peer says that its cookie is too old (5.2.6): from the beginning, in the time that is left.
    pub(super) fn on_stale_cookie(&mut self, now: Instant) {
        if self.state == State::CookieEchoed {
            self.state = State::CookieWait;
            self.transfer = None;
            self.peer_tag = 0;
            self.due.clear_chunks();
            self.due.init = true;
            self.retry.next_step(now, self.config.rtt);
        }
    }

    /// Writes our INIT.
    pub(super) fn write_init(&mut self, now: Instant, to: &mut Writer<'_>) {
        // A time measured over two INITs could be of either.
        self.init_sent = if self.due.init_again { None } else { Some(now) };
        self.due.init_again = true;
        let (ours, abilities) = (self.own_init(), self.abilities());
        to.chunk(kind::INIT, 0, |value| {
            ours.write_fields(value);
            abilities.write(value);
        });
    }

    /// The peer's side of the association is known.
    fn meet(&mut self, peer: &Peer, now: Instant) {
        let ours = self.abilities();
        self.agreed = Abilities {
            interleaving: ours.interleaving && peer.abilities.interleaving,
            reset: ours.reset && peer.abilities.reset,
            forward: ours.forward && peer.abilities.forward,
            zero_checksum: ours.zero_checksum && peer.abilities.zero_checksum,
        };
        self.peer_tag = peer.tag;
        self.streams = self.config.streams.min(peer.streams);
        self.outbound.start(self.agreed.interleaving, peer.window);
        self.resets.start(self.local_tsn, peer.tsn);
        self.transfer = Some(Transfer::new(&self.config, peer, self.local_tsn, self.agreed, now));
    }

    fn establish(&mut self, now: Instant) {
        self.state = State::Established;
        self.retry.stop();
        self.due.clear_chunks();
        self.peer_cookie = Vec::new();
        self.heartbeats.start(now);
        self.events.push_back(Event::Connected);
    }

    fn own_init(&self) -> Init<'static> {
        let window = u32::try_from(self.config.receive_window).unwrap_or(u32::MAX);
        let (outbound, inbound) = (self.config.streams, self.config.streams);
        Init::new(self.local_tag, window, outbound, inbound, self.local_tsn)
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            interleaving: self.config.interleaving,
            reset: true,
            forward: true,
            zero_checksum: self.config.zero_checksum,
        }
    }
}
