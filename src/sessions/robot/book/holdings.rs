//! Which session moved which resource last, and which resources are to be stopped.
//!
//! Every association has a number of its own. A stop that was decided upon carries the number that it is for:
//! if somebody else has moved the resource since, the number differs and the stop is not carried out.
//!
//! # Invariant
//! Here are only resources that a live session holds and those whose stop is not over. While a resource is
//! being stopped nobody takes it.

use std::collections::BTreeMap;

use uuid::Uuid;

/// A resource that must be stopped, unless somebody has taken it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Its full name.
    pub(crate) resource: String,
    /// Which association it is for.
    pub(crate) generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// A session that lives.
    Session(Uuid),
    /// Nobody: it is to be stopped.
    Condemned,
    /// Nobody: it is being stopped, and then another time if it was condemned `anew` meanwhile.
    Stopping { anew: bool },
}

/// What the end of a session means for a resource that it moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is to be stopped.
    Stop(Stop),
    /// It is being stopped, and will be once more.
    Underway,
    /// Another session holds it: nothing.
    Spared,
}

#[derive(Debug, Clone, Copy)]
struct Holding {
    holder: Holder,
    generation: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Holdings {
    resources: BTreeMap<String, Holding>,
    generation: u64,
}

impl Holdings {
    pub(super) fn len(&self) -> usize {
        self.resources.len()
    }

    pub(super) fn knows(&self, resource: &str) -> bool {
        self.resources.contains_key(resource)
    }

    pub(super) fn is_stopping(&self, resource: &str) -> bool {
        self.resources.get(resource).is_some_and(|holding| matches!(holding.holder, Holder::Stopping { .. }))
    }

    pub(super) fn holder(&self, resource: &str) -> Option<Uuid> {
        match self.resources.get(resource)?.holder {
            Holder::Session(id) => Some(id),
            Holder::Condemned | Holder::Stopping { .. } => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<Uuid>)> {
        self.resources.keys().map(|resource| (resource.as_str(), self.holder(resource)))
    }

    /// The session holds the resource from now on; returns who held it.
    pub(super) fn take(&mut self, resource: &str, session: Uuid) -> Option<Uuid> {
        let before = self.holder(resource);
        self.generation += 1;
        let holding = Holding { holder: Holder::Session(session), generation: self.generation };
        self.resources.insert(resource.to_owned(), holding);
        before
    }

    /// Nobody holds the resource from now on, and a stop that has not begun is off; returns who held it.
    pub(super) fn release(&mut self, resource: &str) -> Option<Uuid> {
        let before = self.holder(resource);
        self.resources.remove(resource);
        before
    }

    /// A session is gone that moved it: it is to be stopped, now, unless another session holds it.
    pub(super) fn condemn(&mut self, resource: &str, session: Uuid) -> Verdict {
        match self.resources.get_mut(resource).map(|holding| &mut holding.holder) {
            Some(Holder::Session(holder)) if *holder != session => return Verdict::Spared,
            Some(Holder::Stopping { anew }) => {
                *anew = true;
                return Verdict::Underway;
            }
            // A stop that was decided upon before may be waiting for something: this one does not.
            Some(Holder::Session(_) | Holder::Condemned) | None => {}
        }
        self.generation += 1;
        let holding = Holding { holder: Holder::Condemned, generation: self.generation };
        self.resources.insert(resource.to_owned(), holding);
        Verdict::Stop(Stop { resource: resource.to_owned(), generation: self.generation })
    }

    /// Whether the stop is still wanted; if so it has begun.
    pub(super) fn begin(&mut self, stop: &Stop) -> bool {
        match self.resources.get_mut(&stop.resource) {
            Some(holding) if holding.generation == stop.generation => {
                holding.holder = Holder::Stopping { anew: false };
                true
            }
            _ => false,
        }
    }

    /// The stop is over; if `again`, there will be another one unless somebody takes the resource first. Returns
    /// whether there must be one at once.
    pub(super) fn end(&mut self, stop: &Stop, again: bool) -> bool {
        let holding = self.resources.get_mut(&stop.resource);
        let Some(holding) = holding.filter(|holding| holding.generation == stop.generation) else {
            return false;
        };
        let anew = holding.holder == Holder::Stopping { anew: true };
        if again || anew {
            holding.holder = Holder::Condemned;
        } else {
            self.resources.remove(&stop.resource);
        }
        anew
    }
}
