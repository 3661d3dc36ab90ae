//! The monitored calls in flight under each session: what they move, how to end them, when they are gone.
//!
//! Floor 4. Invariant: a call is here from its admission until its handler and its response's body are dropped,
//! or until its session ends; whoever ends a session gets all of its calls in the same step.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The calls of all sessions. A session without calls takes no room.
#[derive(Debug, Default)]
pub(super) struct Calls {
    sessions: BTreeMap<Uuid, Flight>,
    next: u64,
}

/// The calls of one session.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Cancelled when the session ends.
    ended: CancellationToken,
    calls: BTreeMap<u64, Call>,
}

#[derive(Debug, Default)]
struct Call {
    moves: Vec<String>,
    gone: CancellationToken,
}

/// What a call gets when it is let in.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) number: u64,
    /// Cancelled when its session ends: drop the handler.
    pub(super) ended: CancellationToken,
    /// To be cancelled when the handler is gone.
    pub(super) gone: CancellationToken,
}

impl Calls {
    pub(super) fn begin(&mut self, session: Uuid) -> Admitted {
        self.next += 1;
        let flight = self.sessions.entry(session).or_default();
        let call = flight.calls.entry(self.next).or_default();
        Admitted { number: self.next, ended: flight.ended.clone(), gone: call.gone.clone() }
    }

    /// The call moves this resource.
    pub(super) fn moves(&mut self, session: Uuid, number: u64, resource: &str) {
        let call = self.sessions.get_mut(&session).and_then(|flight| flight.calls.get_mut(&number));
        if let Some(call) = call.filter(|call| !call.moves.iter().any(|moved| moved == resource)) {
            call.moves.push(resource.to_owned());
        }
    }

    /// The call is gone.
    pub(super) fn end(&mut self, session: Uuid, number: u64) {
        let Some(flight) = self.sessions.get_mut(&session) else { return };
        flight.calls.remove(&number);
        if flight.calls.is_empty() {
            self.sessions.remove(&session);
        }
    }

    /// The session is gone: its calls, to be cancelled.
    pub(super) fn take(&mut self, session: Uuid) -> Flight {
        self.sessions.remove(&session).unwrap_or_default()
    }
}

impl Flight {
    /// Tells its calls to drop their handlers.
    pub(super) fn cancel(&self) {
        self.ended.cancel();
    }

    /// For each call that moves this resource, a token that is cancelled when its handler is gone.
    pub(super) fn gone(&self, resource: &str) -> Vec<CancellationToken> {
        let moving = |call: &&Call| call.moves.iter().any(|moved| moved == resource);
        self.calls.values().filter(moving).map(|call| call.gone.clone()).collect()
    }
}
