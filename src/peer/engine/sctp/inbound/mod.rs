//! What the peer sends: received, put together, put in order, acknowledged.
//!
//! Floor 1, engine, below the association.
//!
//! ```text
//!  DATA ─▶ Received ─▶ Reassembly ─▶ Ordering ─▶ reader
//!          which TSNs   which bytes    whose turn
//!             └───────▶ Acknowledging ─▶ SACK ◀── window: what the two hold
//! ```
//!
//! # Invariant
//! Memory is bounded whatever the peer sends: fragments and messages with [`OVERHEAD`] for each hold at most
//! one and a half times the receive window and two messages of the largest size, one of which only the chunk
//! that all else waits for may take; TSNs above the cumulative one at most 128 KiB;
//! stream numbers at most 3 MB, if it uses all 65,536 of them. What does not fit is not taken and not
//! acknowledged, so that the peer sends it again.

mod acknowledging;
mod ordering;
mod reassembly;
mod received;
#[cfg(test)]
mod tests;

use std::time::Instant;

use bytes::Bytes;

use self::acknowledging::Acknowledging;
use self::ordering::Ordering;
use self::reassembly::{FragmentError, Reassembly};
use self::received::{Received, Verdict};
use super::Config;
use super::codec::{Data, ForwardTsn, Writer};

/// What a run of fragments or a message costs beyond its bytes: its place in maps and queues, and what the
/// allocator adds.
const OVERHEAD: usize = 128;

/// The receiving half of an association.
#[derive(Debug)]
pub(crate) struct Inbound {
    received: Received,
    reassembly: Reassembly,
    ordering: Ordering,
    acknowledging: Acknowledging,
    interleaved: bool,
    /// Streams granted.
    streams: u16,
    /// Receive window, bytes.
    window: usize,
    /// Largest message taken, bytes.
    largest: usize,
    /// The window that the last SACK told of, less what has come since: what the peer thinks there is.
    told: usize,
    /// User data that has come, in bytes, and how far the peer was ever allowed to go, counted the same way.
    arrived: u64,
    allowed: u64,
    /// Of the packet being read: whether it had data, the I bit, and something odd.
    packet: Option<(bool, bool)>,
}

/// What became of a chunk of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is kept, or was known already.
    Taken,
    /// Its stream has become readable.
    Readable,
    /// There is no room for it now.
    NoRoom,
    /// It is acknowledged and thrown away: its stream was not granted (RFC 9260 6.5).
    NoSuchStream,
}

/// Why the association must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// DATA where I-DATA was agreed on, or the other way round (RFC 8260 2.2.2).
    #[error("data chunk of the kind that was not agreed on")]
    WrongKind,
    /// A message is larger than what was agreed on.
    #[error("message is larger than what was agreed on")]
    TooLarge,
    /// Fragments or numbers of messages that cannot be.
    #[error("fragments or messages contradict each other")]
    Contradiction,
    /// The window is full of pieces, and none of them can be read before more comes.
    #[error("window is full of unfinished messages")]
    Stuck,
}

impl Inbound {
    /// `first` is the peer's initial TSN.
    pub(crate) fn new(first: u32, interleaved: bool, config: &Config) -> Self {
        let Config { receive_window: window, max_message: largest, streams, .. } = *config;
        Self {
            received: Received::new(first),
            reassembly: Reassembly::default(),
            ordering: Ordering::default(),
            acknowledging: Acknowledging::new(config.sack_delay),
            interleaved,
            streams,
            window,
            largest,
            told: window,
            arrived: 0,
            allowed: window as u64,
            packet: None,
        }
    }

    /// Takes a chunk of data.
    ///
    /// # Errors
    /// [`Violation`]: the association must end.
    pub(crate) fn on_data(&mut self, data: &Data<'_>) -> Result<Arrival, Violation> {
        if data.interleaved != self.interleaved {
            return Err(Violation::WrongKind);
        }
        let (asks, was_odd) = self.packet.unwrap_or_default();
        self.packet = Some((asks | data.flags.immediate, was_odd | self.received.has_gaps()));
        let tsn = match self.received.look_up(data.tsn) {
            Verdict::New(tsn) => tsn,
            Verdict::Duplicate | Verdict::TooFar => {
                self.mark_odd();
                return Ok(Arrival::Taken);
            }
        };
        // What all else waits for has a reserve: without it nothing might ever be readable again, through no
        // fault of a peer whose packet was lost.
        let is_next = tsn == self.received.cumulative() + 1;
        let reserve = if is_next { self.largest.saturating_add(2 * OVERHEAD) } else { 0 };
        if self.held() >= self.most().saturating_add(reserve) {
            self.mark_odd();
            let is_stuck = is_next && !self.ordering.is_readable();
            return if is_stuck { Err(Violation::Stuck) } else { Ok(Arrival::NoRoom) };
        }
        let arrived = self.arrived.saturating_add(data.payload.len() as u64);
        if arrived > self.allowed
            && self.room() == 0
            && tsn > self.received.highest()
            && self.ordering.is_readable()
        {
            // RFC 9260 6.2: what asks for a closed window is not taken, or asking would fill what is behind it.
            self.mark_odd();
            return Ok(Arrival::NoRoom);
        }
        self.arrived = arrived;
        if data.stream >= self.streams {
            self.received.insert(tsn);
            return Ok(Arrival::NoSuchStream);
        }
        let whole = self.reassembly.insert(tsn, data, self.largest)?;
        self.told = self.told.saturating_sub(data.payload.len());
        self.received.insert(tsn);
        if self.received.has_gaps() {
            self.mark_odd();
        }
        let Some(whole) = whole else { return Ok(Arrival::Taken) };
        let is_news = self
            .ordering
            .insert(data.stream, data.flags.unordered, self.interleaved, whole)
            .map_err(|_| Violation::Contradiction)?;
        Ok(if is_news { Arrival::Readable } else { Arrival::Taken })
    }

    /// All chunks of a packet were read.
    pub(crate) fn end_of_packet(&mut self, now: Instant) {
        if let Some((asks, odd)) = self.packet.take() {
            self.acknowledging.on_packet(now, asks, odd);
        }
    }

    /// The peer has given up on what is missing up to a TSN (RFC 3758 3.6, RFC 8260 2.3.1). `readable` is
    /// called for each stream that has become readable.
    pub(crate) fn on_forward(&mut self, forward: &ForwardTsn<'_>, mut readable: impl FnMut(u16)) {
        let to = self.received.unwrap(forward.cumulative);
        self.acknowledging.at_once();
        if forward.interleaved != self.interleaved || to <= self.received.cumulative() {
            return;
        }
        if !self.interleaved {
            self.reassembly.forget_up_to(to);
        }
        self.received.forward(to);
        for skip in forward.skips() {
            if self.interleaved {
                self.reassembly.forget_messages(skip.stream, skip.unordered, skip.message);
            }
            if !skip.unordered && self.ordering.skip(skip.stream, skip.message, self.interleaved) {
                readable(skip.stream);
            }
        }
    }

    /// The next message of a stream, with its payload protocol identifier. Makes room, and a SACK due if the
    /// peer should know.
    pub(crate) fn receive(&mut self, stream: u16) -> Option<(u32, Bytes)> {
        let message = self.ordering.take(stream)?;
        let has_little = self.told < self.window / 2;
        if has_little && self.room() >= self.told.saturating_add(self.window / 4) {
            self.acknowledging.at_once();
        }
        Some(message)
    }

    /// The peer starts streams anew, which are sorted; all their messages up to here have come.
    pub(crate) fn reset(&mut self, streams: &[u16]) {
        self.reassembly.forget_streams(streams);
        streams.iter().for_each(|stream| self.ordering.reset(*stream));
    }

    /// As [`reset`](Self::reset), for all streams. Returns those that were in use.
    pub(crate) fn reset_all(&mut self) -> Vec<u16> {
        let used: Vec<u16> = self.ordering.used().collect();
        self.reassembly = Reassembly::default();
        used.iter().for_each(|stream| self.ordering.reset(*stream));
        used
    }

    /// Whether all TSNs up to this one have come.
    pub(crate) fn has_all_up_to(&self, tsn: u32) -> bool {
        self.received.unwrap(tsn) <= self.received.cumulative()
    }

    /// The highest TSN up to which nothing is missing.
    pub(crate) fn cumulative(&self) -> u32 {
        // The low half: TSNs wrap (RFC 9260 1.6).
        self.received.cumulative() as u32
    }

    /// A SACK has to be sent now.
    pub(crate) fn acknowledge_at_once(&mut self) {
        self.acknowledging.at_once();
    }

    /// Whether a SACK has to be sent now, alone if need be.
    pub(crate) fn is_sack_due(&self, now: Instant) -> bool {
        self.acknowledging.is_due(now)
    }

    /// Whether a SACK may travel with data that is sent anyway.
    pub(crate) fn is_sack_wanted(&self) -> bool {
        self.acknowledging.is_wanted()
    }

    /// When the next SACK becomes due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.acknowledging.deadline()
    }

    /// Appends a SACK.
    pub(crate) fn write_sack(&mut self, to: &mut Writer<'_>) {
        self.told = self.room();
        self.allowed = self.allowed.max(self.arrived.saturating_add(self.told as u64));
        let window = u32::try_from(self.told).unwrap_or(u32::MAX);
        to.sack(self.cumulative(), window, self.received.gaps(), self.received.duplicates());
        self.received.forget_duplicates();
        self.acknowledging.on_sent();
    }

    /// Bytes that are held now, see the invariant.
    pub(crate) fn held(&self) -> usize {
        self.reassembly.held() + self.ordering.held()
    }

    /// The packet being read has something that the peer should know at once.
    fn mark_odd(&mut self) {
        if let Some((_, odd)) = &mut self.packet {
            *odd = true;
        }
    }

    fn room(&self) -> usize {
        self.window.saturating_sub(self.held())
    }

    /// A peer counts user data only, so more than the window may come that it was told of.
    fn most(&self) -> usize {
        self.window.saturating_add(self.window / 2)
    }
}

impl From<FragmentError> for Violation {
    fn from(error: FragmentError) -> Self {
        match error {
            FragmentError::TooLarge => Self::TooLarge,
            FragmentError::Contradiction => Self::Contradiction,
        }
    }
}
