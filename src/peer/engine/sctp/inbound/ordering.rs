//! Hands messages to the reader of their stream, each in its turn.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::OVERHEAD;
use super::reassembly::Whole;

/// Streams that keep their buffers while they are idle. Beyond, idle streams are a number each.
const KEPT: usize = 32;

/// Messages that an idle stream keeps room for.
const KEPT_ROOM: usize = 256;

/// What a stream costs beyond its messages while some of them are early: its body, and the first node of their map.
const EARLY_OVERHEAD: usize = 600;

/// How far ahead of the next message one may be: as far as TSNs may be ahead.
const FARTHEST: u32 = 65_535;

/// The messages of all streams that wait for their turn or their reader.
///
/// # Invariant
/// An idle stream beyond the first few costs 16 bytes, so that a peer that uses all 65,536 of them costs no
/// more than about 3 MB. [`held`](Self::held) covers all else that grows with what the peer sends: messages with
/// [`OVERHEAD`] each, and [`EARLY_OVERHEAD`] for a stream that has early ones.
#[derive(Debug, Default)]
pub(super) struct Ordering {
    streams: FxHashMap<u16, Incoming>,
    bodies: usize,
    /// Messages whose turn has come.
    ready: usize,
    held: usize,
}

/// One stream of the peer's.
#[derive(Debug, Default)]
struct Incoming {
    /// The number of the message whose turn is next; of DATA only the low 16 bits count.
    next: u32,
    body: Option<Box<Body>>,
}

#[derive(Debug, Default)]
struct Body {
    ready: VecDeque<(u32, Bytes)>,
    /// Messages before whose turn others are missing, by number.
    early: BTreeMap<u32, (u32, Bytes)>,
    /// The reader was told that there is something, and has not yet taken all.
    told: bool,
}

/// A message that cannot be in its stream now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message {0} is out of its stream's order")]
pub(super) struct OutOfOrder(u32);

impl Ordering {
    /// Bytes held, see the invariant.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether the reader has anything to take.
    pub(super) fn is_readable(&self) -> bool {
        self.ready > 0
    }

    /// Streams that have buffers.
    #[cfg(test)]
    pub(super) fn bodies(&self) -> usize {
        self.bodies
    }

    /// Takes a message. Returns whether its stream's reader has to be told.
    ///
    /// # Errors
    /// [`OutOfOrder`]: it comes a second time, or from too far ahead.
    pub(super) fn insert(
        &mut self,
        stream: u16,
        unordered: bool,
        interleaved: bool,
        whole: Whole,
    ) -> Result<bool, OutOfOrder> {
        let cost = whole.bytes.len() + OVERHEAD;
        let incoming = self.streams.entry(stream).or_default();
        let body = incoming.body.get_or_insert_with(|| {
            self.bodies += 1;
            Box::default()
        });
        let (ready, was_early) = (body.ready.len(), !body.early.is_empty());
        if unordered || incoming.next == whole.message {
            body.ready.push_back((whole.ppid, whole.bytes));
            if !unordered {
                incoming.next = after(whole.message, interleaved);
                incoming.next = body.follow(incoming.next, interleaved);
            }
        } else {
            let ahead = distance(incoming.next, whole.message, interleaved);
            if ahead > FARTHEST || body.early.contains_key(&whole.message) {
                return Err(OutOfOrder(whole.message));
            }
            body.early.insert(whole.message, (whole.ppid, whole.bytes));
        }
        self.ready += body.ready.len() - ready;
        self.held += cost;
        charge_early(&mut self.held, was_early, body);
        Ok(body.tell())
    }

    /// The next message of a stream.
    pub(super) fn take(&mut self, stream: u16) -> Option<(u32, Bytes)> {
        let incoming = self.streams.get_mut(&stream)?;
        let body = incoming.body.as_mut()?;
        let message = body.ready.pop_front();
        if let Some((_, bytes)) = &message {
            self.held -= bytes.len() + OVERHEAD;
            self.ready -= 1;
        }
        if body.ready.is_empty() {
            body.told = false;
            if body.ready.capacity() > KEPT_ROOM {
                body.ready = VecDeque::new();
            }
            if body.early.is_empty() && self.bodies > KEPT {
                incoming.body = None;
                self.bodies -= 1;
            }
        }
        message
    }

    /// The peer starts the stream anew (RFC 6525): its next message has number 0. What was complete can
    /// still be read; what waited for earlier messages is lost, as they will never come.
    pub(super) fn reset(&mut self, stream: u16) {
        let Some(incoming) = self.streams.get_mut(&stream) else { return };
        incoming.next = 0;
        let is_idle = incoming.body.as_mut().is_none_or(|body| {
            let early = std::mem::take(&mut body.early);
            self.held -= early.values().map(|(_, bytes)| bytes.len() + OVERHEAD).sum::<usize>();
            charge_early(&mut self.held, !early.is_empty(), body);
            body.ready.is_empty()
        });
        if is_idle {
            self.bodies -= usize::from(incoming.body.is_some());
            self.streams.remove(&stream);
        }
    }

    /// The streams that the peer has used since their last reset.
    pub(super) fn used(&self) -> impl Iterator<Item = u16> + '_ {
        self.streams.keys().copied()
    }

    /// The peer has given up the messages up to this one (RFC 3758). Returns whether the reader has to be
    /// told of one that waited for them.
    pub(super) fn skip(&mut self, stream: u16, message: u32, interleaved: bool) -> bool {
        let incoming = self.streams.entry(stream).or_default();
        if distance(incoming.next, message, interleaved) > FARTHEST / 2 {
            return false;
        }
        let old = std::mem::replace(&mut incoming.next, after(message, interleaved));
        let Some(body) = incoming.body.as_mut() else { return false };
        let (ready, was_early) = (body.ready.len(), !body.early.is_empty());
        let ahead = distance(old, message, interleaved);
        if (ahead as usize) < body.early.len() {
            let mut turn = old;
            for _ in 0..=ahead {
                body.ready.extend(body.early.remove(&turn));
                turn = after(turn, interleaved);
            }
        } else {
            let mut passed: Vec<(u32, u32)> = body
                .early
                .keys()
                .map(|early| (distance(old, *early, interleaved), *early))
                .filter(|(distance, _)| *distance <= ahead)
                .collect();
            passed.sort_unstable();
            for (_, early) in passed {
                body.ready.extend(body.early.remove(&early));
            }
        }
        incoming.next = body.follow(incoming.next, interleaved);
        self.ready += body.ready.len() - ready;
        charge_early(&mut self.held, was_early, body);
        body.tell()
    }
}

/// Charges for the first early message of a stream, and gives back with the last.
fn charge_early(held: &mut usize, was_early: bool, body: &Body) {
    match (was_early, !body.early.is_empty()) {
        (false, true) => *held += EARLY_OVERHEAD,
        (true, false) => *held -= EARLY_OVERHEAD,
        _ => {}
    }
}

impl Body {
    /// Makes ready what waited for `next`; returns the number that is next now.
    fn follow(&mut self, mut next: u32, interleaved: bool) -> u32 {
        while !self.early.is_empty()
            && let Some(message) = self.early.remove(&next)
        {
            self.ready.push_back(message);
            next = after(next, interleaved);
        }
        next
    }

    fn tell(&mut self) -> bool {
        !self.ready.is_empty() && !std::mem::replace(&mut self.told, true)
    }
}

/// The number after this one: SSNs have 16 bits, MIDs 32.
fn after(message: u32, interleaved: bool) -> u32 {
    let next = message.wrapping_add(1);
    if interleaved { next } else { next & 0xffff }
}

/// How far `message` is ahead of `next`.
fn distance(next: u32, message: u32, interleaved: bool) -> u32 {
    let ahead = message.wrapping_sub(next);
    if interleaved { ahead } else { ahead & 0xffff }
}
