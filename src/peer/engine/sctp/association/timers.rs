//! What happens because nothing did.

use std::time::Instant;

use super::retry::Ring;
use super::{Association, State};
use crate::peer::engine::sctp::CloseReason;
use crate::peer::engine::sctp::codec::code;

impl Association {
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called. `None`: only something new can make
    /// a difference.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.state == State::Ended {
            return None;
        }
        let transfer = self.transfer.as_ref().filter(|_| self.state.is_connected());
        [
            self.retry.deadline(),
            self.resets.deadline(),
            self.heartbeats.deadline(),
            transfer.and_then(|transfer| transfer.inbound.deadline()),
            transfer.and_then(|transfer| transfer.flight.deadline(now)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed. Poll for packets and events afterwards. Calls at other times than asked for do no
    /// harm.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.retry.ring(now) {
            Ring::Quiet => {}
            Ring::Again => match self.state {
                State::CookieWait => self.due.init = true,
                State::CookieEchoed => self.due.cookie_echo = true,
                State::ShutdownSent => self.due.shutdown = true,
                State::ShutdownAckSent => self.due.shutdown_ack = true,
                _ => self.retry.stop(),
            },
            Ring::GiveUp => {
                if matches!(self.state, State::CookieWait | State::CookieEchoed) {
                    self.end(CloseReason::HandshakeTimedOut);
                } else {
                    self.abort_with(code::USER_ABORT, b"shutdown timed out", CloseReason::Silent);
                }
            }
        }
        if let Some(transfer) = self.transfer.as_mut().filter(|_| self.state.is_connected())
            && let Err(dead) = transfer.flight.on_deadline(now)
        {
            self.abort_with(code::USER_ABORT, dead.to_string().as_bytes(), CloseReason::Silent);
        }
        self.repeat_reset(now);
        self.beat(now);
    }
}
