//! Notices retransmissions that were not needed, so that what their losses did can be undone.
//!
//! Floor 1, engine, part of `recovery`; after RFC 3708 (duplicate TSNs) and RFC 4015 (Eifel). A duplicate is what the
//! peer reports: a path that doubles packets, or an early copy that was late, looks the same. Then a recovery is undone
//! that was due, and the next loss begins another.
//!
//! # Invariant
//! A recovery is undone only if every chunk that it took for lost was reported as a duplicate, or acknowledged too soon
//! after it left again. At most [`MOST`] chunks are followed; a recovery with more is never undone.

use super::tsn::Tsn;

const MOST: usize = 64;

/// One recovery: from the first loss until everything that was under way then is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Ends when a transmission from here on is acknowledged; none: no recovery.
    until: Option<u64>,
    doubted: Vec<Tsn>,
    confirmed: bool,
}

impl Recovery {
    /// Taken for lost and to be sent again; `next_serial` is the number of the next transmission.
    pub(super) fn on_lost(&mut self, tsn: Tsn, next_serial: u64) {
        if self.until.is_none() {
            *self = Self {
                until: Some(next_serial),
                doubted: std::mem::take(&mut self.doubted),
                confirmed: false,
            };
            self.doubted.clear();
        }
        if self.doubted.len() < MOST {
            self.doubted.push(tsn);
        } else {
            self.confirmed = true;
        }
    }

    /// The original has arrived after all. `None`: it was not taken for lost lately. True: that was the last
    /// one, and the recovery should be undone.
    pub(super) fn on_not_lost(&mut self, tsn: Tsn) -> Option<bool> {
        let at = self.doubted.iter().position(|doubted| *doubted == tsn)?;
        self.doubted.swap_remove(at);
        Some(self.doubted.is_empty() && !self.confirmed)
    }

    /// The transmission `serial` has arrived. True: the recovery is over by it.
    pub(super) fn on_delivered(&mut self, serial: u64) -> bool {
        let is_over = self.until.is_some_and(|until| serial >= until);
        if is_over {
            self.until = None;
        }
        is_over
    }
}
