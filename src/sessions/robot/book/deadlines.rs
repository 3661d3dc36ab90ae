//! When to look at which session.
//!
//! One entry per session. A heartbeat does not touch it: when the entry is due and the session's deadline has
//! moved on, it is put back at where the deadline is now. So a beat costs nothing here, and a session that
//! lives costs one look per window.
//!
//! # Invariant
//! A session's entry is never later than its deadline.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use uuid::Uuid;

#[derive(Debug, Clone, Default)]
pub(super) struct Deadlines {
    queue: BTreeSet<(Instant, Uuid)>,
    at: BTreeMap<Uuid, Instant>,
}

impl Deadlines {
    /// The session must be looked at no later than this.
    pub(super) fn no_later(&mut self, id: Uuid, deadline: Instant) {
        match self.at.get(&id) {
            Some(at) if *at <= deadline => return,
            Some(at) => {
                self.queue.remove(&(*at, id));
            }
            None => {}
        }
        self.at.insert(id, deadline);
        self.queue.insert((deadline, id));
    }

    /// The session is gone.
    pub(super) fn remove(&mut self, id: Uuid) {
        if let Some(at) = self.at.remove(&id) {
            self.queue.remove(&(at, id));
        }
    }

    /// When to look next.
    pub(super) fn first(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes a session that is due; whoever takes it puts it back, or it is gone.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Uuid> {
        let (at, id) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        self.at.remove(&id);
        Some(id)
    }
}
