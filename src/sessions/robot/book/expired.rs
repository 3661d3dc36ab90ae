//! Ids that were good once: whoever comes with one of them is told that it has expired, and nobody else is told
//! anything.
//!
//! # Invariant
//! Bounded: the oldest are forgotten. A forgotten id is an unknown one.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use crate::sessions::robot::owner::Owner;

/// Ids that are remembered.
const MAX: usize = 4096;

#[derive(Debug, Clone, Default)]
pub(super) struct Expired {
    owners: BTreeMap<Uuid, Owner>,
    oldest_first: VecDeque<Uuid>,
}

impl Expired {
    pub(super) fn remember(&mut self, id: Uuid, owner: Owner) {
        self.owners.insert(id, owner);
        self.oldest_first.push_back(id);
        while self.oldest_first.len() > MAX {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.owners.remove(&oldest);
            }
        }
    }

    /// Whether this owner had a session of this id.
    pub(super) fn was_of(&self, id: Uuid, owner: &Owner) -> bool {
        self.owners.get(&id) == Some(owner)
    }
}
