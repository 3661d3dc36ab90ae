//! All transmissions in the order of sending.
//!
//! Floor 1, engine, part of `recovery`. RACK takes the oldest for lost, a probe sends it again. A long list of
//! gap blocks may have been cut off, by a peer that reports only some (20 are common) or at the packet's end: what
//! is beyond the last block may have arrived, so it is set aside until a report reaches it.
//!
//! # Invariant
//! Both queues are in the order of sending. Of a chunk under way exactly one entry of the first is not void,
//! its last transmission; of an unknown one, one of the second. Each transmission is moved and dropped at most once.

use std::collections::VecDeque;

use super::ledger::{Ledger, State};
use super::tsn::Tsn;

/// A transmission: its place in the order, and what was sent.
type Transmission = (u64, Tsn);

#[derive(Debug, Default)]
pub(super) struct Order {
    queue: VecDeque<Transmission>,
    /// Set aside, and the last chunk that is known about.
    beyond: VecDeque<Transmission>,
    horizon: Option<Tsn>,
}

impl Order {
    /// A transmission leaves; its place is after all others.
    pub(super) fn push(&mut self, serial: u64, tsn: Tsn) {
        self.queue.push_back((serial, tsn));
    }

    /// The last report told nothing about chunks after this one; none: it told of all.
    pub(super) fn set_horizon(&mut self, horizon: Option<Tsn>) {
        self.horizon = horizon;
    }

    /// The oldest transmission under way.
    pub(super) fn oldest<C>(&mut self, ledger: &Ledger<C>) -> Option<Transmission> {
        drop_void(&mut self.queue, ledger, State::UnderWay);
        self.queue.front().copied()
    }

    /// The oldest transmission of which nothing is known.
    pub(super) fn oldest_unknown<C>(&mut self, ledger: &Ledger<C>) -> Option<Transmission> {
        drop_void(&mut self.beyond, ledger, State::Unknown);
        self.beyond.front().copied()
    }

    /// Whether the last report would have told of this chunk.
    pub(super) fn is_known(&self, tsn: Tsn) -> bool {
        self.horizon.is_none_or(|horizon| !tsn.is_after(horizon))
    }

    /// Sets the oldest transmission under way aside.
    pub(super) fn set_aside(&mut self) {
        self.beyond.extend(self.queue.pop_front());
    }

    /// All transmissions that may be under way, void ones among them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Transmission> {
        self.queue.iter().copied()
    }
}

/// Drops from the front what is not the last transmission of a chunk in this state.
fn drop_void<C>(queue: &mut VecDeque<Transmission>, ledger: &Ledger<C>, state: State) {
    while let Some(&(serial, tsn)) = queue.front() {
        if ledger.get(tsn).is_some_and(|sent| sent.state == state && sent.serial == serial) {
            return;
        }
        queue.pop_front();
    }
}
