//! Every chunk sent and not cumulatively acknowledged, in the order of their numbers.
//!
//! Floor 1, engine, part of `recovery`. A chunk is found by its number in constant time. Runs of acknowledged
//! chunks are skipped: each carries where its run ends, and looking it up shortens the way.
//!
//! # Invariant
//! `in_flight` is the sum of `size` over the chunks that are under way, `unacknowledged` that of `bytes` over
//! all that are not acknowledged, `kept` that of `bytes` over those that are, `acknowledged` their number.

use std::collections::VecDeque;
use std::time::Instant;

use super::rate::Snapshot;
use super::tsn::Tsn;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    UnderWay,
    /// Left long ago, and no report reaches so far: lost or arrived.
    Unknown,
    /// To be sent again.
    Lost,
    /// By a gap block.
    Acknowledged,
}

/// A chunk that was sent.
#[derive(Debug)]
pub(super) struct Sent<C> {
    pub(super) chunk: C,
    /// Of user data.
    pub(super) bytes: usize,
    /// On the wire, with its share of the packet.
    pub(super) size: usize,
    pub(super) state: State,
    /// How often it was sent.
    pub(super) times: u32,
    pub(super) urgent: bool,
    /// Whether it was taken for lost.
    pub(super) was_lost: bool,
    pub(super) first_at: Instant,
    /// The last time it was sent, and that transmission's place in the order of sending.
    pub(super) sent_at: Instant,
    pub(super) serial: u64,
    pub(super) snapshot: Snapshot,
    /// Whether its acknowledgement was told: it may be taken back.
    told: bool,
    /// If it is acknowledged: nothing before this number is not.
    skip: Tsn,
}

#[derive(Debug)]
pub(super) struct Ledger<C> {
    /// The number of the first entry.
    first: Tsn,
    entries: VecDeque<Sent<C>>,
    pub(super) in_flight: usize,
    /// How many are `Unknown`.
    pub(super) unknown: usize,
    pub(super) unacknowledged: usize,
    pub(super) acknowledged: usize,
    /// Bytes of user data of these: the peer may take them back.
    pub(super) kept: usize,
}

/// What of a chunk is needed after it was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    pub(super) tsn: Tsn,
    pub(super) bytes: usize,
    pub(super) size: usize,
    pub(super) times: u32,
    pub(super) was_lost: bool,
    /// Whether its acknowledgement was told before, and taken back.
    pub(super) told: bool,
    pub(super) first_at: Instant,
    pub(super) sent_at: Instant,
    pub(super) serial: u64,
    pub(super) snapshot: Snapshot,
}

impl<C> Ledger<C> {
    pub(super) fn new(first: Tsn) -> Self {
        Self {
            first,
            entries: VecDeque::new(),
            in_flight: 0,
            unknown: 0,
            unacknowledged: 0,
            acknowledged: 0,
            kept: 0,
        }
    }

    pub(super) fn first(&self) -> Tsn {
        self.first
    }

    /// The number that the next chunk gets.
    pub(super) fn next(&self) -> Tsn {
        self.first.add(u32::try_from(self.entries.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn get(&self, tsn: Tsn) -> Option<&Sent<C>> {
        self.entries.get(self.index(tsn)?)
    }

    /// A new chunk is under way.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn push(
        &mut self,
        now: Instant,
        chunk: C,
        bytes: usize,
        size: usize,
        urgent: bool,
        serial: u64,
        snapshot: Snapshot,
    ) -> Tsn {
        let tsn = self.next();
        self.entries.push_back(Sent {
            chunk,
            bytes,
            size,
            state: State::UnderWay,
            times: 1,
            urgent,
            was_lost: false,
            first_at: now,
            sent_at: now,
            serial,
            snapshot,
            told: false,
            skip: tsn.next(),
        });
        self.in_flight += size;
        self.unacknowledged += bytes;
        tsn
    }

    /// A chunk leaves again, as `size` bytes on the wire.
    pub(super) fn send_again(
        &mut self,
        now: Instant,
        tsn: Tsn,
        size: usize,
        serial: u64,
        snapshot: Snapshot,
    ) -> Option<&C> {
        let index = self.index(tsn)?;
        let sent = self.entries.get_mut(index)?;
        match sent.state {
            State::UnderWay => self.in_flight -= sent.size,
            State::Unknown => self.unknown -= 1,
            State::Lost | State::Acknowledged => {}
        }
        self.in_flight += size;
        (sent.state, sent.size, sent.sent_at) = (State::UnderWay, size, now);
        (sent.serial, sent.snapshot, sent.times) = (serial, snapshot, sent.times.saturating_add(1));
        Some(&sent.chunk)
    }

    /// The packet was larger than its chunks: the rest is this chunk's.
    pub(super) fn grow(&mut self, tsn: Tsn, size: usize) {
        if let Some(index) = self.index(tsn)
            && let Some(sent) = self.entries.get_mut(index)
            && sent.state == State::UnderWay
        {
            sent.size += size;
            self.in_flight += size;
        }
    }

    /// Returns its size if it was not known to be lost before, nor acknowledged.
    pub(super) fn mark_lost(&mut self, tsn: Tsn) -> Option<usize> {
        let index = self.index(tsn)?;
        let sent = self.entries.get_mut(index)?;
        match sent.state {
            State::UnderWay => self.in_flight -= sent.size,
            State::Unknown => self.unknown -= 1,
            State::Lost | State::Acknowledged => return None,
        }
        (sent.state, sent.was_lost) = (State::Lost, true);
        Some(sent.size)
    }

    /// It is no longer under way, and nobody knows what became of it.
    pub(super) fn mark_unknown(&mut self, tsn: Tsn) {
        if let Some(index) = self.index(tsn)
            && let Some(sent) = self.entries.get_mut(index)
            && sent.state == State::UnderWay
        {
            sent.state = State::Unknown;
            self.in_flight -= sent.size;
            self.unknown += 1;
        }
    }

    /// Takes the first chunk out if it is at or before `cumulative`. Not `Delivered` if a gap block had
    /// acknowledged it already.
    pub(super) fn pop(&mut self, cumulative: Tsn) -> Option<(C, Option<Delivered>)> {
        if self.entries.is_empty() || self.first.is_after(cumulative) {
            return None;
        }
        let sent = self.entries.pop_front()?;
        let tsn = self.first;
        self.first = tsn.next();
        if sent.state == State::Acknowledged {
            self.acknowledged -= 1;
            self.kept -= sent.bytes;
            return Some((sent.chunk, None));
        }
        self.forget(sent.state, sent.size, sent.bytes);
        let delivered = sent.delivered(tsn);
        Some((sent.chunk, Some(delivered)))
    }

    /// The first chunk from `from` to `last` that is not acknowledged.
    pub(super) fn next_unacknowledged(&mut self, from: Tsn, last: Tsn) -> Option<Tsn> {
        let from = if from.is_before(self.first) { self.first } else { from };
        let mut end = from;
        while let Some(sent) = self.get(end)
            && sent.state == State::Acknowledged
        {
            end = sent.skip;
        }
        let mut at = from;
        while at != end
            && let Some(index) = self.index(at)
            && let Some(sent) = self.entries.get_mut(index)
        {
            at = std::mem::replace(&mut sent.skip, end);
        }
        (!end.is_after(last) && end.is_before(self.next())).then_some(end)
    }

    /// A gap block acknowledges this chunk.
    pub(super) fn acknowledge(&mut self, tsn: Tsn) -> Option<(&C, Delivered)> {
        let index = self.index(tsn)?;
        let sent = self.entries.get_mut(index)?;
        if sent.state == State::Acknowledged {
            return None;
        }
        let state = std::mem::replace(&mut sent.state, State::Acknowledged);
        sent.skip = tsn.next();
        let (size, bytes) = (sent.size, sent.bytes);
        self.acknowledged += 1;
        self.kept += bytes;
        self.forget(state, size, bytes);
        let sent = self.entries.get_mut(index)?;
        let delivered = sent.delivered(tsn);
        sent.told = true;
        Some((&sent.chunk, delivered))
    }

    /// The peer threw away what it had acknowledged: everything acknowledged from `from` to `last` that
    /// `is_kept`, asked in order, does not know is lost. Walks over all; it is rare.
    pub(super) fn renege(&mut self, last: Tsn, mut is_kept: impl FnMut(Tsn) -> bool) -> Vec<Tsn> {
        let mut lost = Vec::new();
        let mut tsn = self.first;
        for sent in &mut self.entries {
            sent.skip = tsn.next();
            if sent.state == State::Acknowledged && !tsn.is_after(last) && !is_kept(tsn) {
                sent.state = State::Lost;
                self.acknowledged -= 1;
                self.kept -= sent.bytes;
                self.unacknowledged += sent.bytes;
                lost.push(tsn);
            }
            tsn = tsn.next();
        }
        lost
    }

    fn forget(&mut self, state: State, size: usize, bytes: usize) {
        match state {
            State::UnderWay => self.in_flight -= size,
            State::Unknown => self.unknown -= 1,
            State::Lost | State::Acknowledged => {}
        }
        self.unacknowledged -= bytes;
    }

    fn index(&self, tsn: Tsn) -> Option<usize> {
        usize::try_from(tsn.distance(self.first)).ok()
    }
}

impl<C> Sent<C> {
    fn delivered(&self, tsn: Tsn) -> Delivered {
        Delivered {
            tsn,
            bytes: self.bytes,
            size: self.size,
            times: self.times,
            was_lost: self.was_lost,
            told: self.told,
            first_at: self.first_at,
            sent_at: self.sent_at,
            serial: self.serial,
            snapshot: self.snapshot,
        }
    }
}
