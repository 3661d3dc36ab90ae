//! DTLS 1.2 and 1.3 (RFC 6347, RFC 9147) over crate `dimpl`: who the peer is, and what travels unread.
//!
//! # Invariant
//! No plaintext gets out, and nothing is sent that the peer could take for consent, before the peer's
//! certificate was held against the fingerprints of its description. An error ends the connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use dimpl::{Error, Output, UnexpectedMessageError};

use super::failure::Failure;
use super::last_flight::LastFlight;
use super::record_numbers::RecordNumbers;
use crate::peer::engine::certificate::Identity;
use crate::peer::fingerprint;

/// The most that a protected record adds to its plaintext, in bytes: header 13, nonce 8, tag 16 (DTLS 1.2
/// with AES-GCM). DTLS 1.3 adds 22.
pub(super) const OVERHEAD: usize = 37;

/// Room for what the crate may want to put into one datagram beside a record of ours, in bytes.
const SLACK: usize = 64;

/// How stale the crate's clock may be once connected, when it only times updates of keys; and how soon it may
/// ask to be called again.
const CLOCK: Duration = Duration::from_millis(10);

/// What came out of the peer's datagrams.
pub(super) enum Record<'a> {
    /// Hands are shaken, and the peer is the one of its description.
    Connected,
    /// One record's plaintext.
    Data(&'a [u8]),
    /// The peer sends nothing more.
    CloseNotify,
}

pub(super) struct Dtls {
    inner: dimpl::Dtls,
    fingerprints: Vec<(String, String)>,
    stage: Stage,
    /// Handshake, alerts, updates of keys: whole datagrams, at most a few flights of them.
    flight: VecDeque<Vec<u8>>,
    /// Of a client; the crate's servers count right.
    numbers: Option<RecordNumbers>,
    /// Of a server, until the client is heard under the new keys.
    last: Option<LastFlight>,
    timeout: Instant,
    /// What the crate was told last; it must be told before all else.
    clock: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A client that waits for a path.
    Waiting,
    Shaking,
    /// The certificate was the right one.
    Known,
    Connected,
    Closed,
}

impl Dtls {
    /// An endpoint that knows whom it expects. The client says nothing before [`start`](Self::start).
    pub(super) fn new(
        identity: &Identity,
        client: bool,
        fingerprints: Vec<(String, String)>,
        now: Instant,
    ) -> Self {
        let mut inner = identity.endpoint(now);
        if client {
            inner.set_active(true);
        }
        let stage = if client { Stage::Waiting } else { Stage::Shaking };
        let numbers = client.then(RecordNumbers::default);
        let flight = VecDeque::new();
        Self { inner, fingerprints, stage, flight, numbers, last: None, timeout: now, clock: None }
    }

    /// There is a path: a client says hello.
    pub(super) fn start(&mut self, now: Instant) -> Result<(), Failure> {
        if self.stage == Stage::Waiting {
            self.stage = Stage::Shaking;
            self.handle_timeout(now)?;
        }
        Ok(())
    }

    /// One datagram of the peer. Its bytes are overwritten with the plaintext, which saves a buffer.
    pub(super) fn handle_input(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        to: impl FnMut(Record<'_>),
    ) -> Result<(), Failure> {
        if matches!(self.stage, Stage::Waiting | Stage::Closed) {
            return Ok(());
        }
        self.refresh(now)?;
        match self.inner.handle_packet(datagram) {
            // The crate calls all errors fatal, but these two leave it as it was: no answer to our hello, and
            // more than it can hold of what comes too early. Both are repeated by an honest peer.
            Err(Error::UnexpectedMessage(UnexpectedMessageError::UnrecognizedAutoServerResponse))
            | Err(Error::ReceiveQueueFull)
            | Ok(()) => {}
            Err(error) => return Err(Failure::Dtls(error)),
        }
        self.drain(datagram, to)
    }

    /// Encrypts one message of the layer above and appends the datagram to `out`.
    pub(super) fn send(&mut self, now: Instant, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.stage != Stage::Connected {
            return Ok(());
        }
        self.refresh(now)?;
        self.inner.send_application_data(plain).map_err(Failure::Dtls)?;
        let start = out.len();
        out.resize(start + plain.len() + OVERHEAD + SLACK, 0);
        let mut filled = start;
        // The crate's queue of packets is short, and full is fatal: nothing may stay in it.
        loop {
            let needed = match self.inner.poll_output(out.get_mut(filled..).unwrap_or_default()) {
                Output::Packet(packet) if filled == start => {
                    filled += packet.len();
                    continue;
                }
                Output::Packet(packet) => {
                    self.flight.push_back(packet.to_vec());
                    continue;
                }
                Output::BufferTooSmall { needed } => needed,
                Output::Timeout(at) => {
                    self.timeout = at;
                    break;
                }
                // All that had come was taken when it came.
                _ => continue,
            };
            out.resize(filled + needed, 0);
        }
        out.truncate(filled);
        Ok(())
    }

    /// A whole datagram of the handshake, an alert, or an update of keys.
    pub(super) fn poll_flight(&mut self) -> Option<Vec<u8>> {
        self.flight.pop_front()
    }

    /// A whole datagram that has to go out by itself.
    pub(super) fn put_back(&mut self, datagram: Vec<u8>) {
        self.flight.push_back(datagram);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let last = self.last.as_ref().and_then(LastFlight::due);
        let next = last.map_or(self.timeout, |due| due.min(self.timeout));
        (!matches!(self.stage, Stage::Waiting | Stage::Closed)).then_some(next)
    }

    /// Sends a lost flight again.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Failure> {
        if matches!(self.stage, Stage::Waiting | Stage::Closed) {
            return Ok(());
        }
        if let Some(last) = &mut self.last {
            self.flight.extend(last.again(now));
        }
        if now < self.timeout {
            return Ok(());
        }
        self.clock = Some(now);
        self.inner.handle_timeout(now).map_err(Failure::Dtls)?;
        self.drain(&mut [], |_| {})?;
        // A hello that was answered with nonsense makes the crate ask for the same instant again and again.
        if self.timeout <= now {
            self.timeout = now + CLOCK;
        }
        Ok(())
    }

    /// Says `close_notify`, which is then in [`poll_flight`](Self::poll_flight). Nothing is sent or taken any
    /// more.
    pub(super) fn close(&mut self) {
        let was = std::mem::replace(&mut self.stage, Stage::Closed);
        self.flight.clear();
        self.last = None;
        if was == Stage::Connected && self.inner.close().is_ok() {
            // The crate cannot fail here, and nobody would want to know.
            let _ = self.drain(&mut [], |_| {});
        }
    }

    fn refresh(&mut self, now: Instant) -> Result<(), Failure> {
        let stale = self.clock.map_or(CLOCK, |clock| now.saturating_duration_since(clock));
        if stale >= CLOCK || (stale > Duration::ZERO && self.stage != Stage::Connected) {
            self.clock = Some(now);
            self.inner.handle_timeout(now).map_err(Failure::Dtls)?;
        }
        Ok(())
    }

    /// Takes all that the crate has to say: it is at peace with itself only after that.
    fn drain(&mut self, scratch: &mut [u8], mut to: impl FnMut(Record<'_>)) -> Result<(), Failure> {
        let (mut larger, before, mut shaken, mut heard) = (Vec::new(), self.flight.len(), false, false);
        loop {
            let room = if larger.is_empty() { &mut *scratch } else { larger.as_mut_slice() };
            let needed = match self.inner.poll_output(room) {
                Output::BufferTooSmall { needed } => needed,
                Output::Packet(packet) => {
                    let mut datagram = packet.to_vec();
                    if let Some(numbers) = &mut self.numbers {
                        numbers.number(&mut datagram);
                    }
                    self.flight.push_back(datagram);
                    continue;
                }
                Output::PeerCert(der) => {
                    if !fingerprint::is_described(der, &self.fingerprints) {
                        return Err(Failure::Fingerprint);
                    }
                    self.stage = self.stage.later(Stage::Known);
                    continue;
                }
                Output::Connected => {
                    if self.stage != Stage::Known {
                        return Err(Failure::Fingerprint);
                    }
                    self.stage = Stage::Connected;
                    shaken = true;
                    to(Record::Connected);
                    continue;
                }
                Output::ApplicationData(plain) => {
                    if self.stage == Stage::Connected {
                        self.last = None;
                        heard = true;
                        to(Record::Data(plain));
                    }
                    continue;
                }
                // Before there are keys anybody can say it.
                Output::CloseNotify if self.stage != Stage::Connected => return Err(Failure::Handshake),
                Output::CloseNotify => {
                    to(Record::CloseNotify);
                    continue;
                }
                Output::Timeout(at) => {
                    self.timeout = at;
                    if let (true, None, Some(now)) = (shaken && !heard, &self.numbers, self.clock) {
                        let said = self.flight.range(before..).cloned().collect();
                        self.last = Some(LastFlight::new(said, now));
                    }
                    return Ok(());
                }
                _ => continue,
            };
            larger.resize(needed, 0);
        }
    }
}

impl Stage {
    fn later(self, next: Self) -> Self {
        if self == Self::Shaking { next } else { self }
    }
}
