//! What the application sends: queued by stream, scheduled, cut into fragments.
//!
//! Floor 1, engine, below the association. What is under way is `recovery`'s; each fragment's payload is a
//! slice of the message that the application handed over.
//!
//! # Invariant
//! A message's fragments leave in order. Without interleaving nothing comes between them (RFC 9260 6.9).

mod schedule;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::Bytes;
use rustc_hash::FxHashMap;

pub(crate) use self::schedule::Priority;
use self::schedule::Schedule;
pub(crate) use self::stream::Fragment;
use self::stream::{Outgoing, Phase};

/// The sending half of an association, up to the wire.
#[derive(Debug)]
pub(crate) struct Outbound {
    streams: FxHashMap<u16, Outgoing>,
    schedule: Schedule,
    /// The stream whose message must be sent to its end before another's, when fragments do not interleave.
    locked: Option<u16>,
    interleaved: bool,
    /// Bytes of messages that are partly sent, and how many there may be. Only of interleaved ones.
    begun: usize,
    most_begun: usize,
    /// Streams that wait until fewer messages are partly sent.
    parked: VecDeque<u16>,
    /// Bytes not yet sent.
    unsent: usize,
    /// Streams whose reset waits for acknowledgements, see [`resettable`](Self::resettable).
    draining: Vec<u16>,
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// The association is closed, or closing.
    #[error("association is closed")]
    Closed,
    /// SCTP has no messages without bytes; data channels send one byte with a payload protocol identifier
    /// of its own (RFC 8831 6.6).
    #[error("message is empty")]
    Empty,
    /// The stream is being reset.
    #[error("stream {0} is being reset")]
    Resetting(u16),
    /// The peer takes fewer streams.
    #[error("stream {0} is beyond what the peer takes")]
    NoSuchStream(u16),
}

impl Outbound {
    pub(crate) fn new() -> Self {
        Self {
            streams: FxHashMap::default(),
            schedule: Schedule::default(),
            locked: None,
            interleaved: false,
            begun: 0,
            most_begun: 0,
            parked: VecDeque::new(),
            unsent: 0,
            draining: Vec::new(),
        }
    }

    /// The handshake has told whether fragments of several messages may interleave, and how large the peer's
    /// window is. At most half of it goes to messages that are partly sent: a window full of beginnings could
    /// never be read (RFC 8260 leaves this to the sender).
    pub(crate) fn start(&mut self, interleaved: bool, peer_window: u32) {
        self.interleaved = interleaved;
        self.most_begun = peer_window as usize / 2;
    }

    /// Takes a message. Its number, and so its place among the stream's messages, is decided here.
    ///
    /// # Errors
    /// [`SendError::Empty`] and [`SendError::Resetting`].
    pub(crate) fn push(&mut self, stream: u16, ppid: u32, message: Bytes) -> Result<(), SendError> {
        if message.is_empty() {
            return Err(SendError::Empty);
        }
        let outgoing = self.streams.entry(stream).or_default();
        if outgoing.phase != Phase::Open {
            return Err(SendError::Resetting(stream));
        }
        self.unsent += message.len();
        outgoing.push(ppid, message);
        if !outgoing.is_scheduled {
            outgoing.is_scheduled = true;
            outgoing.at = self.schedule.add(stream, outgoing.at);
        }
        Ok(())
    }

    /// The next fragment. `room` is what the packet has left for user data, `full` what an empty packet has.
    /// None: nothing waits, or it is better sent in the next packet.
    pub(crate) fn next(&mut self, room: usize, full: usize) -> Option<(Fragment, bool)> {
        let stream = loop {
            let stream = self.locked.or_else(|| self.schedule.peek())?;
            if self.may_begin(stream, full) {
                break stream;
            }
            self.schedule.take();
            self.parked.push_back(stream);
        };
        let outgoing = self.streams.get_mut(&stream)?;
        let (length, rest, is_begun) = outgoing.front()?;
        // What fits into one packet is not torn: it would be late if either of two were lost. Of more, a
        // good piece is taken so that packets are full.
        let worth_it = rest <= room || (rest > full && room >= full / 4);
        if !worth_it {
            return None;
        }
        let fragment = outgoing.cut(stream, room)?;
        let bytes = fragment.payload.len();
        self.unsent -= bytes;
        if self.locked != Some(stream) {
            self.schedule.take();
        }
        outgoing.at = Schedule::after(outgoing.at, bytes, outgoing.priority);
        self.locked = (!self.interleaved && !fragment.flags.end).then_some(stream);
        if self.locked.is_none() {
            outgoing.is_scheduled = outgoing.has_messages();
            if outgoing.is_scheduled {
                outgoing.at = self.schedule.add(stream, outgoing.at);
            }
        }
        let urgent = outgoing.urgent;
        self.count_begun(length, is_begun, fragment.flags.end);
        Some((fragment, urgent))
    }

    /// Bytes that the fragment that is next would have in an empty packet; `None` if nothing waits.
    pub(crate) fn peek(&self, full: usize) -> Option<usize> {
        let stream = self.locked.or_else(|| self.schedule.peek())?;
        let (_, rest, _) = self.streams.get(&stream)?.front()?;
        Some(rest.min(full))
    }

    /// A fragment has reached the peer. Returns whether its stream is down to its low-water mark.
    pub(crate) fn acknowledged(&mut self, fragment: &Fragment) -> bool {
        let Some(outgoing) = self.streams.get_mut(&fragment.stream) else { return false };
        let before = outgoing.buffered;
        outgoing.buffered = before.saturating_sub(fragment.payload.len());
        before > outgoing.low_water && outgoing.buffered <= outgoing.low_water
    }

    /// Bytes of a stream that wait or are not acknowledged.
    pub(crate) fn buffered(&self, stream: u16) -> usize {
        self.streams.get(&stream).map_or(0, |outgoing| outgoing.buffered)
    }

    /// Whether all that was taken has been sent at least once.
    pub(crate) fn is_empty(&self) -> bool {
        self.unsent == 0
    }

    /// [`acknowledged`](Self::acknowledged) says so once `buffered` falls to this. 0 at first.
    pub(crate) fn set_low_water(&mut self, stream: u16, bytes: usize) {
        self.streams.entry(stream).or_default().low_water = bytes;
    }

    /// See [`Priority`].
    pub(crate) fn set_priority(&mut self, stream: u16, priority: Priority) {
        self.streams.entry(stream).or_default().priority = priority;
    }

    /// Whether early copies of the stream's packets are worth their bytes.
    pub(crate) fn set_urgent(&mut self, stream: u16, urgent: bool) {
        self.streams.entry(stream).or_default().urgent = urgent;
    }

    /// Takes no more messages for a stream. What it took is still sent; then it can be reset.
    pub(crate) fn drain(&mut self, stream: u16) {
        let outgoing = self.streams.entry(stream).or_default();
        if outgoing.phase == Phase::Open {
            outgoing.phase = Phase::Draining;
            self.draining.push(stream);
        }
    }

    /// As [`drain`](Self::drain) for a stream that was used and takes messages. Returns whether it is one.
    pub(crate) fn drain_used(&mut self, stream: u16) -> bool {
        let is_used = self.streams.get(&stream).is_some_and(|one| one.phase == Phase::Open && !one.is_new());
        if is_used {
            self.drain(stream);
        }
        is_used
    }

    /// Streams of which everything was acknowledged and whose reset the peer can be asked for, at most
    /// `most`. They count as asked for now.
    pub(crate) fn resettable(&mut self, most: usize) -> Vec<u16> {
        let streams = &mut self.streams;
        let mut ready = Vec::new();
        self.draining.retain(|stream| match streams.get_mut(stream) {
            Some(outgoing) if outgoing.buffered > 0 || ready.len() >= most => true,
            outgoing => {
                outgoing.into_iter().for_each(|outgoing| outgoing.phase = Phase::Asked);
                ready.push(*stream);
                false
            }
        });
        ready
    }

    /// Whether a stream waits for [`resettable`](Self::resettable) to give it.
    pub(crate) fn is_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// The peer has answered. If it was `performed`, message numbers begin at 0 again, and the stream is
    /// forgotten with its settings. It takes messages again.
    pub(crate) fn end_reset(&mut self, stream: u16, performed: bool) {
        if let Some(outgoing) = self.streams.get_mut(&stream) {
            outgoing.phase = Phase::Open;
            // A peer that uses every stream once must not make us remember them all.
            if performed || outgoing.is_new() {
                self.streams.remove(&stream);
            }
        }
    }

    /// All streams that are known.
    pub(crate) fn known(&self) -> Vec<u16> {
        self.streams.keys().copied().collect()
    }

    /// Forgets all streams: nothing will be sent any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Whether the message in front of a stream may be begun, or was begun already. One that fits a packet of
    /// `full` bytes is never partly sent.
    fn may_begin(&self, stream: u16, full: usize) -> bool {
        if !self.interleaved || self.begun == 0 {
            return true;
        }
        let Some((length, _, is_begun)) = self.streams.get(&stream).and_then(Outgoing::front) else {
            return true;
        };
        is_begun || length <= full || self.begun.saturating_add(length) <= self.most_begun
    }

    /// Keeps count of the messages that are partly sent.
    fn count_begun(&mut self, length: usize, was_begun: bool, ends: bool) {
        if !self.interleaved || was_begun != ends {
            return; // in the middle, or all of it at once
        }
        if was_begun {
            self.begun = self.begun.saturating_sub(length);
            while let Some(stream) = self.parked.pop_front() {
                if let Some(outgoing) = self.streams.get_mut(&stream) {
                    outgoing.at = self.schedule.add(stream, outgoing.at);
                }
            }
        } else {
            self.begun = self.begun.saturating_add(length);
        }
    }
}
