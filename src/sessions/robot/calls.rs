//! The monitored calls in flight under each session: what they move, how to end them, when they are gone.
//!
//! Floor 4. Invariant: a call is here from its admission until its handler and its response's body are dropped,
//! whether its session lives or not; whoever ends a session gets all of its calls in the same step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The calls of all sessions. A session without calls takes no room.
#[derive(Debug, Default)]
pub(super) struct Calls {
    live: BTreeMap<Uuid, Flight>,
    /// Of sessions that have ended: cancelled, and not gone yet.
    ended: BTreeMap<Uuid, Flight>,
    next: u64,
}

/// The calls of one session.
#[derive(Debug, Default)]
struct Flight {
    /// Cancelled when the session ends.
    ended: CancellationToken,
    calls: BTreeMap<u64, Call>,
}

#[derive(Default)]
struct Call {
    moves: Vec<String>,
    gone: CancellationToken,
    /// Once its handler has answered.
    response: Option<Weak<dyn Response>>,
}

/// A response that is being sent.
pub(super) trait Response: Send + Sync {
    /// Drops it, and what its handler left in it, whether anybody polls it or not. Idempotent.
    fn cut(&self);
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

/// The calls of a session that has ended, to be told so.
#[derive(Default)]
#[must_use]
pub(super) struct Cut {
    ended: CancellationToken,
    responses: Vec<Weak<dyn Response>>,
}

impl Calls {
    pub(super) fn begin(&mut self, session: Uuid) -> Admitted {
        self.next += 1;
        let flight = self.live.entry(session).or_default();
        let call = flight.calls.entry(self.next).or_default();
        Admitted { number: self.next, ended: flight.ended.clone(), gone: call.gone.clone() }
    }

    /// The call moves this resource.
    pub(super) fn moves(&mut self, session: Uuid, number: u64, resource: &str) {
        let call = self.live.get_mut(&session).and_then(|flight| flight.calls.get_mut(&number));
        if let Some(call) = call.filter(|call| !call.moves(resource)) {
            call.moves.push(resource.to_owned());
        }
    }

    /// The call's handler has answered. False if its session has ended by now: then it is to be cut at once.
    pub(super) fn answers(&mut self, session: Uuid, number: u64, response: Weak<dyn Response>) -> bool {
        let call = self.live.get_mut(&session).and_then(|flight| flight.calls.get_mut(&number));
        call.map(|call| call.response = Some(response)).is_some()
    }

    /// What the session's calls move, whoever holds it now.
    pub(super) fn moved_by(&self, session: Uuid) -> BTreeSet<String> {
        let calls = self.live.get(&session).into_iter().flat_map(|flight| flight.calls.values());
        calls.flat_map(|call| call.moves.iter().cloned()).collect()
    }

    /// The call is gone.
    pub(super) fn end(&mut self, session: Uuid, number: u64) {
        for flights in [&mut self.live, &mut self.ended] {
            let Some(flight) = flights.get_mut(&session) else { continue };
            flight.calls.remove(&number);
            if flight.calls.is_empty() {
                flights.remove(&session);
            }
        }
    }

    /// The session is gone.
    pub(super) fn cut(&mut self, session: Uuid) -> Cut {
        let Some(flight) = self.live.remove(&session) else { return Cut::default() };
        let responses = flight.calls.values().filter_map(|call| call.response.clone()).collect();
        let cut = Cut { ended: flight.ended.clone(), responses };
        self.ended.insert(session, flight);
        cut
    }

    /// For each call of an ended session that has moved this resource and may go on, a token that is cancelled
    /// when its handler is gone.
    pub(super) fn lingering(&self, resource: &str) -> Vec<CancellationToken> {
        self.ended_and_moving(resource).map(|call| call.gone.clone()).collect()
    }

    /// Whether there are such calls.
    pub(super) fn lingers(&self, resource: &str) -> bool {
        self.ended_and_moving(resource).next().is_some()
    }

    fn ended_and_moving(&self, resource: &str) -> impl Iterator<Item = &Call> {
        let calls = self.ended.values().flat_map(|flight| flight.calls.values());
        calls.filter(move |call| call.moves(resource))
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("moves", &self.moves).finish_non_exhaustive()
    }
}

impl Call {
    fn moves(&self, resource: &str) -> bool {
        self.moves.iter().any(|moved| moved == resource)
    }
}

impl Cut {
    /// Tells the calls to drop their handlers. What is returned is to be cut, each outside of all locks and where
    /// a panic does no harm.
    pub(super) fn tell(self) -> impl Iterator<Item = Arc<dyn Response>> {
        self.ended.cancel();
        self.responses.into_iter().filter_map(|response| response.upgrade())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_until_its_handler_is_gone_whether_its_session_lives_or_not() {
        let (mut calls, session) = (Calls::default(), Uuid::from_u128(1));
        let (first, second) = (calls.begin(session), calls.begin(session));
        calls.moves(session, first.number, "m1");
        calls.moves(session, second.number, "m2");
        assert_eq!(calls.moved_by(session), ["m1", "m2"].map(str::to_owned).into());
        assert!(calls.lingering("m1").is_empty(), "its session lives");
        assert_eq!(calls.cut(session).tell().count(), 0, "none has answered");
        assert!(first.ended.is_cancelled() && second.ended.is_cancelled());
        assert_eq!((calls.lingering("m1").len(), calls.lingering("m3").len()), (1, 0));
        calls.end(session, first.number);
        assert_eq!((calls.lingering("m1").len(), calls.lingering("m2").len()), (0, 1));
        calls.end(session, second.number);
        assert!(calls.live.is_empty() && calls.ended.is_empty());
    }
}
