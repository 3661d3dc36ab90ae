//! The receiving half of an end: takes chunks in and says so.

use std::time::{Duration, Instant};

use super::end::Chunk;
use crate::peer::engine::recovery::Tsn;

/// How a receiver acknowledges.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiverConfig {
    pub(super) delay: Duration,
    /// For packets with the I bit; none: it is not known here.
    pub(super) immediate: Option<Duration>,
    pub(super) window: usize,
    /// Tells of its window when it opens again, not only when asked.
    pub(super) updates: bool,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            immediate: Some(Duration::from_millis(1)),
            window: 16 << 20,
            updates: true,
        }
    }
}

/// A SACK on its way.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) cumulative: Tsn,
    pub(super) window: u32,
    pub(super) gaps: Vec<(u16, u16)>,
    pub(super) duplicates: Vec<Tsn>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    config: ReceiverConfig,
    first: Tsn,
    /// Runs of what has arrived, as offsets from `first`; the first run is what is complete.
    runs: Vec<(u32, u32)>,
    duplicates: Vec<Tsn>,
    unacknowledged: u32,
    pub(super) sack_at: Option<Instant>,
    /// Taken in and not read.
    pub(super) buffered: usize,
    pub(super) is_reading: bool,
    told: usize,
}

impl Receiver {
    pub(super) fn new(config: ReceiverConfig, first: Tsn) -> Self {
        Self {
            config,
            first,
            runs: Vec::new(),
            duplicates: Vec::new(),
            unacknowledged: 0,
            sack_at: None,
            buffered: 0,
            is_reading: true,
            told: config.window,
        }
    }

    /// A packet's chunks arrive. Returns those that are new.
    pub(super) fn on_packet(&mut self, now: Instant, chunks: &[(Tsn, Chunk)], immediate: bool) -> Vec<Chunk> {
        let mut fresh = Vec::new();
        let mut at_once = false;
        for &(tsn, chunk) in chunks {
            let offset = tsn.distance(self.first) as u32;
            if !self.is_reading && self.buffered + chunk.bytes > self.config.window {
                at_once = true;
            } else if self.insert(offset) {
                fresh.push(chunk);
                if !self.is_reading {
                    self.buffered += chunk.bytes;
                }
            } else {
                at_once = true;
                if self.duplicates.len() < 32 {
                    self.duplicates.push(tsn);
                }
            }
        }
        self.unacknowledged += 1;
        at_once |= self.unacknowledged >= 2 || self.gap_runs().next().is_some();
        let wait = match (at_once, immediate, self.config.immediate) {
            (true, ..) => Duration::ZERO,
            (_, true, Some(wait)) => wait,
            _ => self.config.delay,
        };
        self.sack_at = Some(self.sack_at.map_or(now + wait, |at| at.min(now + wait)));
        fresh
    }

    /// The application reads again.
    pub(super) fn resume(&mut self, now: Instant) {
        (self.is_reading, self.buffered) = (true, 0);
        if self.config.updates && self.told < self.config.window / 2 {
            self.sack_at = Some(now);
        }
    }

    pub(super) fn report(&mut self) -> Report {
        (self.unacknowledged, self.sack_at) = (0, None);
        let complete = self.complete();
        let window = self.config.window - self.buffered.min(self.config.window);
        self.told = window;
        let gaps =
            self.gap_runs().map(|(start, end)| ((start + 1 - complete) as u16, (end - complete) as u16));
        Report {
            cumulative: self.first.add(complete).previous(),
            window: window as u32,
            gaps: gaps.take(280).collect(),
            duplicates: std::mem::take(&mut self.duplicates),
        }
    }

    /// How many chunks are complete from the first on.
    fn complete(&self) -> u32 {
        self.runs.first().filter(|run| run.0 == 0).map_or(0, |run| run.1)
    }

    fn gap_runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.runs.iter().copied().filter(|run| run.0 != 0)
    }

    fn insert(&mut self, offset: u32) -> bool {
        let at = self.runs.partition_point(|run| run.1 < offset);
        match self.runs.get_mut(at) {
            Some(run) if (run.0..run.1).contains(&offset) => return false,
            Some(run) if run.1 == offset => {
                run.1 += 1;
                if self.runs.get(at + 1).is_some_and(|next| next.0 == offset + 1) {
                    self.runs[at].1 = self.runs[at + 1].1;
                    self.runs.remove(at + 1);
                }
            }
            Some(run) if run.0 == offset + 1 => run.0 = offset,
            _ => self.runs.insert(at, (offset, offset + 1)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_together_and_duplicates_are_reported() {
        let mut receiver = Receiver::new(ReceiverConfig::default(), Tsn(u32::MAX));
        let now = Instant::now();
        let chunk = Chunk { message: 0, bytes: 10, of: 10 };
        for offset in [0, 3, 4, 2, 6, 3] {
            receiver.on_packet(now, &[(Tsn(u32::MAX).add(offset), chunk)], false);
        }
        let report = receiver.report();
        assert_eq!((report.cumulative, report.gaps), (Tsn(u32::MAX), vec![(2, 4), (6, 6)]));
        assert_eq!(report.duplicates, [Tsn(2)]);
        receiver.on_packet(now, &[(Tsn(0), chunk)], false);
        assert_eq!(receiver.report().cumulative, Tsn(3));
    }
}
