//! What one side of a call has said, in order and bounded (R4, R5, R9).
//!
//! Floor 3. A reader keeps its own place in the log, so that whoever comes later misses nothing. Invariant:
//! candidates are bounded in number and bytes, the first terminal item is the last item.

use prost::Message as _;

use super::{AnswererItem, CallerItem};
use crate::proto::google_rpc::Status;

/// Most bytes of a status that one side hands to the other. A longer one loses its details, and then
/// the end of its message.
const MAX_STATUS: usize = 16 * 1024;

/// An item of a log, as far as the log has to know it.
pub(super) trait Item {
    /// Whether nothing may follow.
    fn is_terminal(&self) -> bool;
    /// What its texts have in bytes.
    fn len(&self) -> usize;
    /// What it counts in bytes if it is a candidate.
    fn candidate_len(&self) -> Option<usize>;
    /// The status in it, to cut to size.
    fn status(&mut self) -> Option<&mut Status>;
}

impl Item for CallerItem {
    fn len(&self) -> usize {
        match self {
            Self::Candidate(candidate) => candidate.encoded_len(),
            Self::Done => 0,
            Self::Error(status) => status.encoded_len(),
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Done | Self::Error(_))
    }

    fn candidate_len(&self) -> Option<usize> {
        match self {
            Self::Candidate(candidate) => Some(candidate.encoded_len()),
            _ => None,
        }
    }

    fn status(&mut self) -> Option<&mut Status> {
        match self {
            Self::Error(status) => Some(status),
            _ => None,
        }
    }
}

impl Item for AnswererItem {
    fn len(&self) -> usize {
        match self {
            Self::Answer(sdp) => sdp.len(),
            Self::Candidate(candidate) => candidate.encoded_len(),
            Self::Done => 0,
            Self::Error(status) => status.encoded_len(),
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Done | Self::Error(_))
    }

    fn candidate_len(&self) -> Option<usize> {
        match self {
            Self::Candidate(candidate) => Some(candidate.encoded_len()),
            _ => None,
        }
    }

    fn status(&mut self) -> Option<&mut Status> {
        match self {
            Self::Error(status) => Some(status),
            _ => None,
        }
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in the log.
    Yes,
    /// A terminal item came before it; it is ignored.
    AfterEnd,
    /// A candidate too many.
    Full,
}

/// The log of one side.
#[derive(Debug)]
pub(super) struct Log<T> {
    items: Vec<T>,
    candidates: usize,
    /// Of candidates.
    bytes: usize,
    /// Of all items, as [`Log::cost`] counts them.
    held: usize,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { items: Vec::new(), candidates: 0, bytes: 0, held: 0 }
    }
}

impl<T: Item + Clone> Log<T> {
    /// Appends an item unless the log has ended or has as many candidates, or bytes of them, as it may.
    pub(super) fn push(&mut self, mut item: T, max_candidates: usize, max_bytes: usize) -> Pushed {
        if self.has_ended() {
            return Pushed::AfterEnd;
        }
        if let Some(len) = item.candidate_len() {
            if self.candidates >= max_candidates || len > max_bytes.saturating_sub(self.bytes) {
                return Pushed::Full;
            }
            self.candidates += 1;
            self.bytes += len;
        }
        if let Some(status) = item.status() {
            cut(status);
        }
        self.held += Self::cost(&item);
        self.items.push(item);
        Pushed::Yes
    }

    /// What an item takes of memory: its texts and its place, which is more than a short candidate's text.
    pub(super) fn cost(item: &T) -> usize {
        item.len() + size_of::<T>()
    }

    /// What all items take.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether the item may come on top, by this room: what ends a log always may, for it is at most 16 KiB
    /// and frees much.
    pub(super) fn fits(&self, item: &T, room: usize) -> bool {
        self.has_ended() || item.is_terminal() || Self::cost(item) <= room
    }

    pub(super) fn read(&self, place: usize) -> Option<T> {
        self.items.get(place).cloned()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.items.last().is_some_and(Item::is_terminal)
    }
}

fn cut(status: &mut Status) {
    if status.encoded_len() > MAX_STATUS {
        status.details.clear();
        let mut end = status.message.len().min(MAX_STATUS);
        while !status.message.is_char_boundary(end) {
            end -= 1;
        }
        status.message.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::webrtc::IceCandidate;

    fn candidate(text: &str) -> CallerItem {
        CallerItem::Candidate(IceCandidate { candidate: text.to_owned(), ..IceCandidate::default() })
    }

    #[test]
    fn candidates_are_bounded_and_the_end_still_fits() {
        let mut log = Log::default();
        assert_eq!(log.push(candidate("a"), 2, 100), Pushed::Yes);
        assert_eq!(log.push(candidate(&"x".repeat(200)), 2, 100), Pushed::Full);
        assert_eq!(log.push(candidate("b"), 2, 100), Pushed::Yes);
        assert_eq!(log.push(candidate("c"), 2, 100), Pushed::Full);
        assert_eq!(log.push(CallerItem::Done, 2, 100), Pushed::Yes);
        assert_eq!(log.push(CallerItem::Error(Status::default()), 2, 100), Pushed::AfterEnd);
        assert_eq!(log.read(1), Some(candidate("b")));
        assert_eq!(log.read(2), Some(CallerItem::Done));
        assert_eq!(log.read(3), None);
    }

    #[test]
    fn an_oversized_status_keeps_its_code_and_the_start_of_its_message() {
        let mut log = Log::default();
        let status = Status { code: 8, message: "é".repeat(MAX_STATUS), details: Vec::new() };
        assert_eq!(log.push(CallerItem::Error(status), 1, 1), Pushed::Yes);
        let Some(CallerItem::Error(kept)) = log.read(0) else { panic!("no error") };
        assert_eq!(kept.code, 8);
        assert!(kept.message.len() <= MAX_STATUS && kept.message.starts_with('é'));
    }
}
