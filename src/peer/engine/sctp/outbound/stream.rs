//! One outgoing stream: its messages that wait, and how they are cut.

use std::collections::VecDeque;

use bytes::Bytes;

use super::schedule::Priority;
use crate::peer::engine::sctp::codec::DataFlags;

/// A piece of a message that is in one chunk. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Stream identifier.
    pub(crate) stream: u16,
    /// Payload protocol identifier.
    pub(crate) ppid: u32,
    /// SSN or MID.
    pub(crate) message: u32,
    /// FSN; not used in DATA.
    pub(crate) index: u32,
    /// Begin and end.
    pub(crate) flags: DataFlags,
    /// User data.
    pub(crate) payload: Bytes,
}

/// A message that waits, or what is left of it.
#[derive(Debug)]
struct Message {
    ppid: u32,
    rest: Bytes,
    /// Fragments cut off so far.
    cut: u32,
    /// Its length at the beginning.
    length: usize,
}

/// How far the way to a stream's reset is (RFC 6525).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// Takes messages.
    #[default]
    Open,
    /// Takes none; what it took is still sent.
    Draining,
    /// All it took was acknowledged, and the peer was asked.
    Asked,
}

/// One outgoing stream.
///
/// # Invariant
/// `buffered` is the bytes of messages that wait and of fragments not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    messages: VecDeque<Message>,
    /// The number of the next message.
    next: u32,
    pub(super) buffered: usize,
    pub(super) low_water: usize,
    pub(super) priority: Priority,
    pub(super) urgent: bool,
    pub(super) phase: Phase,
    /// Virtual time, see the schedule.
    pub(super) at: u64,
    /// Whether it is in the schedule.
    pub(super) is_scheduled: bool,
}

impl Outgoing {
    /// Takes a message to send.
    pub(super) fn push(&mut self, ppid: u32, message: Bytes) {
        self.buffered += message.len();
        self.messages.push_back(Message { ppid, length: message.len(), rest: message, cut: 0 });
    }

    /// Whether anything waits.
    pub(super) fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Of the message in front: its whole length, what is left of it, and whether a fragment was cut off.
    pub(super) fn front(&self) -> Option<(usize, usize, bool)> {
        self.messages.front().map(|front| (front.length, front.rest.len(), front.cut > 0))
    }

    /// Cuts the next fragment off the message in front, at most `most` bytes.
    pub(super) fn cut(&mut self, stream: u16, most: usize) -> Option<Fragment> {
        let front = self.messages.front_mut()?;
        let payload = front.rest.split_to(most.min(front.rest.len()));
        let flags = DataFlags { begin: front.cut == 0, end: front.rest.is_empty(), ..DataFlags::default() };
        let (ppid, message, index) = (front.ppid, self.next, front.cut);
        front.cut += 1;
        if flags.end {
            self.next = self.next.wrapping_add(1);
            self.messages.pop_front();
        }
        Some(Fragment { stream, ppid, message, index, flags, payload })
    }

    /// The peer knows the stream as new: message numbers begin at 0.
    pub(super) fn start_anew(&mut self) {
        (self.next, self.phase) = (0, Phase::Open);
    }
}
