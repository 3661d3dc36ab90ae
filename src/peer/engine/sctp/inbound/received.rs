//! Which TSNs have come.

use std::collections::VecDeque;

/// How far above the cumulative TSN one is taken: a gap block cannot tell of more (RFC 9260 3.3.4).
const FARTHEST: u64 = 65_535;

/// Ranges above the cumulative TSN that are kept. As many gaps as a window of 20 MB has with every second
/// packet missing.
const MOST_RANGES: usize = 8192;

/// Duplicates told of in one SACK. They are for statistics only.
const MOST_DUPLICATES: usize = 16;

/// Every TSN received: all up to the cumulative one, and ranges above it.
///
/// TSNs are numbers of 64 bits here, which never wrap: [`Received::unwrap`] finds the one that is meant.
///
/// # Invariant
/// Ranges are in order, do not touch, and begin at least two above the cumulative TSN.
#[derive(Debug)]
pub(super) struct Received {
    cumulative: u64,
    ranges: VecDeque<(u64, u64)>,
    duplicates: Vec<u32>,
}

/// What a TSN is to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has not come before.
    New(u64),
    /// It has.
    Duplicate,
    /// It is not taken: too far ahead, or there are too many gaps.
    TooFar,
}

impl Received {
    /// Before the first chunk, whose TSN is known from the handshake.
    pub(super) fn new(first: u32) -> Self {
        let cumulative = (1 << 32) + u64::from(first.wrapping_sub(1));
        Self { cumulative, ranges: VecDeque::new(), duplicates: Vec::new() }
    }

    /// The highest TSN up to which nothing is missing.
    pub(super) fn cumulative(&self) -> u64 {
        self.cumulative
    }

    /// The highest TSN that has come.
    pub(super) fn highest(&self) -> u64 {
        self.ranges.back().map_or(self.cumulative, |(_, end)| *end)
    }

    /// The TSN nearest to the cumulative one that has these 32 bits.
    pub(super) fn unwrap(&self, tsn: u32) -> u64 {
        let ahead = tsn.wrapping_sub(self.cumulative as u32).cast_signed();
        self.cumulative.saturating_add_signed(i64::from(ahead))
    }

    /// Looks a TSN up. A duplicate is noted for the next SACK.
    pub(super) fn look_up(&mut self, tsn: u32) -> Verdict {
        let at = self.unwrap(tsn);
        if at <= self.cumulative || self.range_of(at).is_ok() {
            if self.duplicates.len() < MOST_DUPLICATES {
                self.duplicates.push(tsn);
            }
            return Verdict::Duplicate;
        }
        let makes_a_range = at != self.cumulative + 1;
        if at - self.cumulative > FARTHEST || (makes_a_range && self.ranges.len() >= MOST_RANGES) {
            return Verdict::TooFar;
        }
        Verdict::New(at)
    }

    /// Marks as received what [`look_up`](Self::look_up) found new.
    pub(super) fn insert(&mut self, at: u64) {
        if at == self.cumulative + 1 {
            self.cumulative = at;
            return self.close_up();
        }
        let Err(index) = self.range_of(at) else { return };
        let joins_before = index.checked_sub(1).filter(|before| self.end(*before) == Some(at - 1));
        let joins_after = self.ranges.get(index).is_some_and(|(start, _)| *start == at + 1);
        match (joins_before, joins_after) {
            (Some(before), true) => {
                let after = self.ranges.remove(index);
                if let (Some(range), Some((_, end))) = (self.ranges.get_mut(before), after) {
                    range.1 = end;
                }
            }
            (Some(before), false) => {
                if let Some(range) = self.ranges.get_mut(before) {
                    range.1 = at;
                }
            }
            (None, true) => {
                if let Some(range) = self.ranges.get_mut(index) {
                    range.0 = at;
                }
            }
            (None, false) => self.ranges.insert(index, (at, at)),
        }
    }

    /// Takes everything up to `to` as received (RFC 3758 3.6).
    pub(super) fn forward(&mut self, to: u64) {
        self.cumulative = self.cumulative.max(to);
        while self.ranges.front().is_some_and(|(_, end)| *end <= self.cumulative) {
            self.ranges.pop_front();
        }
        if let Some(range) = self.ranges.front_mut() {
            range.0 = range.0.max(self.cumulative + 1);
        }
        self.close_up();
    }

    /// Whether something is missing below the highest TSN received.
    pub(super) fn has_gaps(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// Gap blocks: first and last TSN as distances from the cumulative one.
    pub(super) fn gaps(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let distance = |tsn: u64| u16::try_from(tsn - self.cumulative).unwrap_or(u16::MAX);
        self.ranges.iter().map(move |(start, end)| (distance(*start), distance(*end)))
    }

    /// TSNs that came again since [`forget_duplicates`](Self::forget_duplicates).
    pub(super) fn duplicates(&self) -> &[u32] {
        &self.duplicates
    }

    /// They were told of.
    pub(super) fn forget_duplicates(&mut self) {
        self.duplicates.clear();
    }

    /// The range that holds it, or where one would be put.
    fn range_of(&self, at: u64) -> Result<usize, usize> {
        // Nearly always it comes behind all others.
        if self.ranges.back().is_none_or(|(_, end)| *end < at) {
            return Err(self.ranges.len());
        }
        let index = self.ranges.partition_point(|(_, end)| *end < at);
        let is_inside = self.ranges.get(index).is_some_and(|(start, _)| *start <= at);
        if is_inside { Ok(index) } else { Err(index) }
    }

    fn end(&self, index: usize) -> Option<u64> {
        self.ranges.get(index).map(|(_, end)| *end)
    }

    /// Lets the cumulative TSN swallow the range that it has reached.
    fn close_up(&mut self) {
        if let Some((start, end)) = self.ranges.front().copied()
            && start == self.cumulative + 1
        {
            self.cumulative = end;
            self.ranges.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn any_order_of_arrival_ends_with_everything_received_once() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let first = u32::MAX - 100;
            let mut received = Received::new(first);
            let mut left: Vec<u32> = (0..300).map(|n| first.wrapping_add(n)).collect();
            random.shuffle(&mut left);
            let mut model = BTreeSet::new();
            for tsn in left {
                let Verdict::New(at) = received.look_up(tsn) else { panic!("seed {seed}: {tsn} is not new") };
                received.insert(at);
                assert_eq!(received.look_up(tsn), Verdict::Duplicate, "seed {seed}");
                model.insert(tsn.wrapping_sub(first));
                let cumulative = (0..).find(|n| !model.contains(n)).unwrap();
                assert_eq!(received.cumulative() as u32, first.wrapping_add(cumulative).wrapping_sub(1));
                let told: BTreeSet<u32> = received
                    .gaps()
                    .flat_map(|(start, end)| start..=end)
                    .map(|distance| cumulative + u32::from(distance) - 1)
                    .collect();
                assert_eq!(told, model.iter().copied().filter(|n| *n >= cumulative).collect(), "seed {seed}");
            }
            assert!(!received.has_gaps());
        }
    }

    #[test]
    fn what_a_gap_block_cannot_tell_of_is_not_taken() {
        let mut received = Received::new(1);
        assert!(matches!(received.look_up(65_535), Verdict::New(_)));
        assert_eq!(received.look_up(65_536), Verdict::TooFar);
        assert_eq!(received.look_up(0), Verdict::Duplicate);
    }

    #[test]
    fn a_peer_that_leaves_gaps_everywhere_is_stopped() {
        let mut received = Received::new(1);
        let mut taken = 0;
        for tsn in (3..65_535).step_by(2) {
            if let Verdict::New(at) = received.look_up(tsn) {
                received.insert(at);
                taken += 1;
            }
        }
        assert_eq!(taken, MOST_RANGES);
        assert!(matches!(received.look_up(1), Verdict::New(_)), "the missing one is always taken");
    }

    #[test]
    fn a_forward_swallows_ranges_and_what_touches_them() {
        let mut received = Received::new(1);
        for tsn in [3, 4, 7, 9] {
            received.insert(received.unwrap(tsn));
        }
        received.forward(received.unwrap(6));
        assert_eq!(received.cumulative() as u32, 7);
        assert_eq!(received.gaps().collect::<Vec<_>>(), [(2, 2)]);
        received.forward(received.unwrap(5));
        assert_eq!(received.cumulative() as u32, 7, "never back");
    }
}
