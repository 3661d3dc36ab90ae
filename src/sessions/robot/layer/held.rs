//! The body of a response where both can get at it: whoever polls it, and the end of its session, which cannot
//! wait for a poll. Of a caller that is gone nobody may poll the response for a long time, and what its handler
//! left behind, a task that feeds the stream, ends only when the body is dropped.
//!
//! # Invariant
//! The body is dropped before the guard, which says that the handler is gone. Nobody's code runs under the lock:
//! who polls takes the body out, and if the session ends meanwhile, drops it instead of putting it back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::body::Body;

use super::guarded::CallGuard;
use crate::sessions::robot::calls::Response;

/// A response's body, and the guard of its call.
pub(super) struct Held {
    place: Mutex<Place>,
}

enum Place {
    /// In this order they are dropped.
    Here(Box<(Body, CallGuard)>),
    /// Somebody looks at it.
    Out,
    /// Dropped.
    Over,
}

impl Held {
    pub(super) fn new(body: Body, guard: CallGuard) -> Arc<Self> {
        Arc::new(Self { place: Mutex::new(Place::Here(Box::new((body, guard)))) })
    }

    /// Looks at the body; `None` if it is over by now.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Body) -> T) -> Option<T> {
        let mut both = self.take_out()?;
        let seen = look(&mut both.0);
        let mut place = self.lock();
        if matches!(*place, Place::Out) {
            *place = Place::Here(both);
            return Some(seen);
        }
        drop(place);
        drop(both);
        None
    }

    fn take_out(&self) -> Option<Box<(Body, CallGuard)>> {
        let mut place = self.lock();
        match std::mem::replace(&mut *place, Place::Out) {
            Place::Here(both) => Some(both),
            other => {
                *place = other;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Response for Held {
    fn cut(&self) {
        let before = std::mem::replace(&mut *self.lock(), Place::Over);
        drop(before);
    }
}
