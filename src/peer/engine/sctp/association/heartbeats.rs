//! HEARTBEAT (RFC 9260 8.3): answered always, sent when nothing has come for a while and the owner wants it.

use std::time::{Duration, Instant};

use super::Association;
use crate::peer::engine::sctp::CloseReason;
use crate::peer::engine::sctp::codec::{ParameterWriter, kind};

/// The one parameter of a HEARTBEAT (3.3.5).
const HEARTBEAT_INFO: u16 = 1;

/// When to ask whether the peer is there.
#[derive(Debug)]
pub(super) struct Heartbeats {
    interval: Option<Duration>,
    heard: Instant,
    next: Option<Instant>,
}

impl Heartbeats {
    pub(super) fn new(interval: Option<Duration>, now: Instant) -> Self {
        Self { interval, heard: now, next: None }
    }

    /// The association is established.
    pub(super) fn start(&mut self, now: Instant) {
        self.heard = now;
        self.next = self.interval.and_then(|interval| now.checked_add(interval));
    }

    /// The peer is there.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Whether to ask now. The deadline moves on; it is not set anew with every packet, that costs too much.
    fn is_due(&mut self, now: Instant) -> bool {
        let (Some(interval), Some(next)) = (self.interval, self.next) else { return false };
        if next > now {
            return false;
        }
        let is_idle = now.saturating_duration_since(self.heard) >= interval;
        self.next = if is_idle { now } else { self.heard }.checked_add(interval);
        is_idle
    }
}

impl Association {
    /// HEARTBEAT: its value goes back as it is.
    pub(super) fn on_heartbeat(&mut self, value: &[u8]) {
        if self.state.is_connected() && value.len() + 16 <= self.config.max_packet {
            self.due.chunk(kind::HEARTBEAT_ACK, value);
        }
    }

    /// Asks the peer if it is time to, or gives it up.
    pub(super) fn beat(&mut self, now: Instant) {
        if !self.state.is_connected() || !self.heartbeats.is_due(now) {
            return;
        }
        let silence = now.saturating_duration_since(self.heartbeats.heard);
        let patience =
            self.heartbeats.interval.unwrap_or_default().saturating_add(self.config.recovery.max_silence);
        if silence >= patience {
            return self.end(CloseReason::Silent);
        }
        self.ask_if_there(now);
    }

    /// A HEARTBEAT, with how long nothing has come.
    pub(super) fn ask_if_there(&mut self, now: Instant) {
        let silence = now.saturating_duration_since(self.heartbeats.heard);
        let mut value = Vec::new();
        let count = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        value.parameter(HEARTBEAT_INFO, |value| value.extend_from_slice(&count.to_be_bytes()));
        self.due.chunk(kind::HEARTBEAT, &value);
    }
}
