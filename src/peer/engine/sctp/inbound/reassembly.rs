//! Puts fragments together again, in whatever order they come.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::OVERHEAD;
use crate::peer::engine::sctp::codec::Data;

/// Fragments that wait for others of their message, as runs of neighbours.
///
/// The fragments of a message follow each other by TSN (DATA) or by FSN (I-DATA). A run grows at its end
/// while fragments come in order, which copies each byte once; a run that meets the next one takes it in,
/// which copies that one's bytes a second time. A run with the message's first and last fragment is the
/// message.
///
/// # Invariant
/// No two runs touch unless a message ends between them. [`held`](Self::held) covers all memory that grows
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
        let (start, before) = match self.before(place) {
            Some((start, run)) if !data.flags.begin => {
                check(run, data)?;
                fits(run.bytes.len() + data.payload.len())?;
                let capacity = run.bytes.capacity();
                run.bytes.extend_from_slice(data.payload);
                run.last = place.position;
                run.ends = data.flags.end;
                let grown = run.bytes.capacity() - capacity;
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
            self.held += run.bytes.capacity() + OVERHEAD;
            self.runs.insert(place, run);
        }
        if !data.flags.end {
            self.join(start, place, data, largest)?;
        }
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

    /// Forgets the fragments of a stream. In proportion to all that is held.
    pub(super) fn forget_stream(&mut self, stream: u16) {
        let of_stream = |(place, run): (&Place, &Run)| (run.stream == stream).then_some(*place);
        let places: Vec<Place> = self.runs.iter().filter_map(of_stream).collect();
        places.into_iter().for_each(|place| drop(self.remove(place)));
    }

    /// The run that ends right before `place`, unless its message ends there too.
    fn before(&mut self, place: Place) -> Option<(Place, &mut Run)> {
        let (start, run) = self.runs.range_mut(..place).next_back()?;
        let touches = start.group == place.group && run.last + 1 == place.position && !run.ends;
        touches.then_some((*start, run))
    }

    /// Lets the run at `start`, which now ends at `place`, take in the one behind it.
    fn join(
        &mut self,
        start: Place,
        place: Place,
        data: &Data<'_>,
        largest: usize,
    ) -> Result<(), FragmentError> {
        let next = Place { position: place.position + 1, ..place };
        let Some(after) = self.runs.get(&next) else { return Ok(()) };
        if after.begins {
            // Only of DATA: the message that was begun has no end where the next one begins.
            return Err(FragmentError::Contradiction);
        }
        check(after, data)?;
        let Some(after) = self.remove(next) else { return Ok(()) };
        if let Some(run) = self.runs.get_mut(&start) {
            if run.bytes.len() + after.bytes.len() > largest {
                return Err(FragmentError::TooLarge);
            }
            let capacity = run.bytes.capacity();
            run.bytes.extend_from_slice(&after.bytes);
            (run.last, run.ends) = (after.last, after.ends);
            self.held += run.bytes.capacity() - capacity;
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
        self.held -= run.bytes.capacity() + OVERHEAD;
        Some(run)
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

/// Neighbours belong to one message.
fn check(run: &Run, data: &Data<'_>) -> Result<(), FragmentError> {
    let fits = run.stream == data.stream && run.message == data.message;
    if fits { Ok(()) } else { Err(FragmentError::Contradiction) }
}
