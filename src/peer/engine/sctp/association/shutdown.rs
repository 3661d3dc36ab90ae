//! The end in good order (RFC 9260 9.2): both sides send what they have, then three chunks.

use std::time::Instant;

use super::{Association, State};
use crate::peer::engine::recovery::Tsn;
use crate::peer::engine::sctp::CloseReason;
use crate::peer::engine::sctp::codec::kind;

impl Association {
    /// Takes no more messages; ends once all that was taken is acknowledged, by [`Event::Closed`] with
    /// [`CloseReason::Shutdown`]. Before the handshake is done it ends at once.
    ///
    /// [`Event::Closed`]: crate::peer::engine::sctp::Event::Closed
    #[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "the seam closes at once, by DTLS"))]
    pub(crate) fn shutdown(&mut self, now: Instant) {
        match self.state {
            State::Closed | State::CookieWait | State::CookieEchoed => self.abort(now, "closed"),
            State::Established => {
                self.state = State::ShutdownPending;
                self.progress(now);
            }
            _ => {}
        }
    }

    /// SHUTDOWN: the peer will send no more data.
    pub(super) fn on_shutdown(&mut self, now: Instant, cumulative: u32) {
        self.on_cookie_ack(now);
        let is_news = self
            .transfer
            .as_ref()
            .is_some_and(|transfer| Tsn(cumulative).is_after(transfer.flight.cumulative()));
        if is_news {
            // It tells of no gaps and of no window: both stay as they were told.
            self.acknowledge(|flight, told| flight.on_cumulative(now, Tsn(cumulative), told));
        }
        match self.state {
            State::Established | State::ShutdownPending => self.state = State::ShutdownReceived,
            State::ShutdownSent => self.send_shutdown_ack(now),
            State::ShutdownAckSent => self.due.shutdown_ack = true,
            _ => {}
        }
    }

    /// SHUTDOWN ACK: the peer has nothing more to send either.
    pub(super) fn on_shutdown_ack(&mut self) {
        if matches!(self.state, State::ShutdownSent | State::ShutdownAckSent) {
            self.reply(self.peer_tag, |packet| packet.chunk(kind::SHUTDOWN_COMPLETE, 0, |_| {}));
            self.end(CloseReason::Shutdown);
        }
    }

    /// SHUTDOWN COMPLETE.
    pub(super) fn on_shutdown_complete(&mut self) {
        if self.state == State::ShutdownAckSent {
            self.end(CloseReason::Shutdown);
        }
    }

    /// Goes on with what waited for acknowledgements: resets, then the shutdown.
    pub(super) fn progress(&mut self, now: Instant) {
        self.ask_resets(now);
        let is_done = self.outbound.is_empty()
            && self.transfer.as_ref().is_some_and(|transfer| transfer.flight.is_empty());
        match self.state {
            State::ShutdownPending if is_done => {
                self.state = State::ShutdownSent;
                self.due.shutdown = true;
                self.retry.start(now, self.rtt_hint(), self.config.recovery.max_silence);
            }
            State::ShutdownReceived if is_done => self.send_shutdown_ack(now),
            _ => {}
        }
    }

    fn send_shutdown_ack(&mut self, now: Instant) {
        self.state = State::ShutdownAckSent;
        self.due.shutdown = false;
        self.due.shutdown_ack = true;
        self.retry.start(now, self.rtt_hint(), self.config.recovery.max_silence);
    }
}
