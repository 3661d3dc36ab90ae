//! Puts fragments together again, in whatever order they come.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::OVERHEAD;
use crate::peer::engine::sctp::codec::Data;

/// Fragments that wait for others of their message, as runs of neighbours.
///
/// The fragments of a message follow each other by TSN (DATA) or by FSN (I-DATA). A run grows at its end
/// while fragments come in order, which copies each byte once; the run that begins a message takes in those
/// that it meets, which copies their bytes a second time. Others stay apart, or fragments that come from the
/// last to the first would be copied again and again. A run with the message's first and last fragment is
/// the message.
///
/// # Invariant
/// Runs that touch fit together. Behind a run that begins a message and does not end it is a gap, or one that begins
/// another. [`held`](Self::held) covers all memory that grows
/// with what the peer sends.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    runs: BTreeMap<Place, Run>,
    held: usize,
}

/// Where a fragment stands. For DATA the TSN says it all; for I-DATA it is the FSN within its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    group: Group,
    position: u64,
}

/// Within a group, neighbours have neighbouring positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// All DATA chunks.
    Tsn,
    /// The I-DATA chunks of one message.
    Message { stream: u16, unordered: bool, message: u32 },
}

#[derive(Debug)]
struct Run {
    /// The position of its last fragment.
    last: u64,
    begins: bool,
    ends: bool,
    ppid: u32,
    stream: u16,
    message: u32,
    bytes: Vec<u8>,
}

/// A message whose fragments are all there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// SSN or MID.
    pub(super) message: u32,
    /// Payload protocol identifier.
    pub(super) ppid: u32,
    /// User data.
    pub(super) bytes: Bytes,
}

/// The peer breaks the rules of fragmentation, or a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FragmentError {
    /// More bytes than the largest message that is taken.
    #[error("message is larger than what was agreed on")]
    TooLarge,
    /// Neighbours that cannot belong together.
    #[error("fragments contradict each other")]
    Contradiction,
}

impl Reassembly {
    /// Bytes of memory held: capacity of the buffers, and [`OVERHEAD`] for each run.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes a fragment that has not come before; `tsn` is its unwrapped TSN. Returns its message if that is
    /// whole now. At most `largest` bytes per message.
    ///
    /// # Errors
    /// [`FragmentError`]; the association cannot go on.
    pub(super) fn insert(
        &mut self,
        tsn: u64,
        data: &Data<'_>,
        largest: usize,
    ) -> Result<Option<Whole>, FragmentError> {
        let place = Place::of(tsn, data);
        let fits = |length: usize| if length > largest { Err(FragmentError::TooLarge) } else { Ok(()) };
        fits(data.payload.len())?;
        if data.flags.begin && data.flags.end {
            let bytes = Bytes::copy_from_slice(data.payload);
            return Ok(Some(Whole { message: data.message, ppid: data.ppid, bytes }));
        }
        // A message that begins where another has not ended: the sender has given that one up (RFC 3758).
        let (start, before) = match self.before(place) {
            Some((start, run)) if !data.flags.begin => {
                if run.ends {
                    return Err(FragmentError::Contradiction);
                }
                check(run, data)?;
                fits(run.bytes.len() + data.payload.len())?;
                let grown = append(&mut run.bytes, data.payload, largest);
                run.last = place.position;
                run.ends = data.flags.end;
                self.held += grown;
                (start, true)
            }
            _ => (place, false),
        };
        if !before {
            let run = Run {
                last: place.position,
                begins: data.flags.begin,
                ends: data.flags.end,
                ppid: data.ppid,
                stream: data.stream,
                message: data.message,
                bytes: data.payload.to_vec(),
            };
            self.held += run.cost();
            self.runs.insert(place, run);
        }
        self.join(start, place, data, largest)?;
        Ok(self.take_whole(start))
    }

    /// Forgets the fragments of DATA up to a TSN: their messages were given up (RFC 3758 3.6).
    pub(super) fn forget_up_to(&mut self, tsn: u64) {
        let end = Place { group: Group::Tsn, position: tsn + 1 };
        while let Some(start) = self.runs.range(..end).next().map(|(place, _)| *place) {
            self.remove(start);
        }
    }

    /// Forgets the fragments of one stream's I-DATA messages up to `message` (RFC 8260 2.3.1).
    pub(super) fn forget_messages(&mut self, stream: u16, unordered: bool, message: u32) {
        let place =
            |message, position| Place { group: Group::Message { stream, unordered, message }, position };
        // Those not far behind; MIDs wrap.
        let first = message.wrapping_sub(u32::from(u16::MAX));
        let wraps = first > message;
        let ranges = [
            (!wraps).then_some((first, message)),
            wraps.then_some((0, message)),
            wraps.then_some((first, u32::MAX)),
        ];
        for (from, to) in ranges.into_iter().flatten() {
            let range = place(from, 0)..=place(to, u64::MAX);
            while let Some(start) = self.runs.range(range.clone()).next().map(|(place, _)| *place) {
                self.remove(start);
            }
        }
    }

    /// Forgets the fragments of streams, which are sorted. In proportion to all that is held.
    pub(super) fn forget_streams(&mut self, streams: &[u16]) {
        self.runs.retain(|_, run| {
            let stays = streams.binary_search(&run.stream).is_err();
            if !stays {
                self.held -= run.cost();
            }
            stays
        });
    }

    /// The run that goes up to right before `place`.
    fn before(&mut self, place: Place) -> Option<(Place, &mut Run)> {
        let (start, run) = self.runs.range_mut(..place).next_back()?;
        let touches = start.group == place.group && run.last + 1 == place.position;
        touches.then_some((*start, run))
    }

    /// Compares what came at `place` with the run behind it. If the run at `start`, which now ends at `place`, is
    /// the beginning of a message, it takes in all that follows.
    fn join(
        &mut self,
        start: Place,
        place: Place,
        data: &Data<'_>,
        largest: usize,
    ) -> Result<(), FragmentError> {
        let behind = |position| Place { position: position + 1, ..place };
        let Some(after) = self.runs.get(&behind(place.position)).filter(|after| !after.begins) else {
            return Ok(());
        };
        if data.flags.end {
            return Err(FragmentError::Contradiction);
        }
        check(after, data)?;
        while let Some(run) = self.runs.get(&start).filter(|run| run.begins && !run.ends) {
            let next = behind(run.last);
            if self.runs.get(&next).is_none_or(|after| after.begins) {
                break;
            }
            let Some(after) = self.remove(next) else { break };
            let Some(run) = self.runs.get_mut(&start) else { break };
            if run.bytes.len() + after.bytes.len() > largest {
                return Err(FragmentError::TooLarge);
            }
            self.held += append(&mut run.bytes, &after.bytes, largest);
            (run.last, run.ends) = (after.last, after.ends);
        }
        Ok(())
    }

    fn take_whole(&mut self, start: Place) -> Option<Whole> {
        self.runs.get(&start).filter(|run| run.begins && run.ends)?;
        let Run { message, ppid, mut bytes, .. } = self.remove(start)?;
        // A buffer grows by doubling: what is left over would be held as long as the message.
        if bytes.capacity() - bytes.len() > bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        Some(Whole { message, ppid, bytes: Bytes::from(bytes) })
    }

    fn remove(&mut self, start: Place) -> Option<Run> {
        let run = self.runs.remove(&start)?;
        self.held -= run.cost();
        Some(run)
    }
}

impl Run {
    fn cost(&self) -> usize {
        self.bytes.capacity() + OVERHEAD
    }
}

impl Place {
    fn of(tsn: u64, data: &Data<'_>) -> Self {
        if !data.interleaved {
            return Self { group: Group::Tsn, position: tsn };
        }
        let group =
            Group::Message { stream: data.stream, unordered: data.flags.unordered, message: data.message };
        Self { group, position: u64::from(data.fragment) }
    }
}

/// Appends to a buffer that never needs more than `largest` bytes. Returns by how much its capacity has grown.
fn append(to: &mut Vec<u8>, more: &[u8], largest: usize) -> usize {
    let capacity = to.capacity();
    let needed = to.len() + more.len();
    if needed > capacity {
        let wanted = capacity.saturating_mul(2).min(largest).max(needed);
        to.reserve_exact(wanted - to.len());
    }
    to.extend_from_slice(more);
    to.capacity() - capacity
}

/// Neighbours of which the second does not begin a message belong to one, which has not ended before.
fn check(run: &Run, data: &Data<'_>) -> Result<(), FragmentError> {
    let fits = run.stream == data.stream && run.message == data.message;
    if fits { Ok(()) } else { Err(FragmentError::Contradiction) }
}
