//! The rules of sessions at the robot: who lives, until when, who moved what, and what must be stopped.
//!
//! Floor 4, pure: no clock, no lock, no I/O, no randomness. `manager` holds one of these under a lock, asks it
//! at the right times and does what it says.
//!
//! # Invariant
//! A session lives as long as now is before its deadline, and at the deadline it does not (as rdk's). Every
//! sign of life moves the deadline to one window after its arrival, never back. A session that is gone never
//! comes back: what it held is condemned in the same step, and so is what its calls in flight move and nobody
//! else holds.

mod deadlines;
mod expired;
mod holdings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use self::deadlines::Deadlines;
use self::expired::Expired;
pub(crate) use self::holdings::Stop;
use self::holdings::{Holdings, Verdict};
use super::owner::{Addresses, Caller, Payer};

/// The numbers that the rules go by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// How long a session lives after a sign of life.
    pub(crate) window: Duration,
    /// Live sessions at once.
    pub(crate) max_sessions: usize,
    /// Those of one owner, or of one host for callers who have proven nothing.
    pub(crate) max_per_owner: usize,
    /// Resources that are held or being stopped at once.
    pub(crate) max_resources: usize,
    /// Whether a heartbeat may come over another connection of the same owner on the same host.
    pub(crate) same_host: bool,
}

/// All sessions of a robot.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    rules: Rules,
    sessions: BTreeMap<Uuid, Session>,
    deadlines: Deadlines,
    holdings: Holdings,
    payers: BTreeMap<Payer, usize>,
    connections: BTreeMap<u64, BTreeSet<Uuid>>,
    expired: Expired,
}

/// One session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Who may use it, and from where its calls come.
    pub(crate) caller: Caller,
    /// When it is gone, but for another sign of life.
    pub(crate) deadline: Instant,
    /// When the last sign of life arrived.
    pub(crate) seen: Instant,
    /// The connection was lost at this time, and there was no other since.
    pub(crate) disconnected: Option<Instant>,
    /// Where its caller is, for people.
    pub(crate) addresses: Addresses,
    held: BTreeSet<String>,
    payer: Payer,
}

/// A session that is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) id: Uuid,
    /// It was there before.
    pub(crate) resumed: bool,
}

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotStarted {
    /// The robot has as many as it takes.
    Full,
    /// This caller has as many as one may.
    FullForOwner,
    /// It is another owner's.
    Foreign,
}

/// Why an id is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The caller had this session, and must start anew or resume.
    Expired,
    /// The caller never had such a session, as far as anybody may know.
    Unknown,
}

/// Why a resource cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The session is gone.
    Expired,
    /// It is being stopped: wait for the end of that.
    Stopping,
    /// Too many are held.
    Full,
}

/// A session that has ended, and what must be stopped for it: what it held, and what its calls in flight move
/// and no other session holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: Uuid,
    pub(crate) stops: Vec<Stop>,
    /// What is being stopped already, and will be once more.
    pub(crate) underway: Vec<String>,
}

impl Book {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            sessions: BTreeMap::new(),
            deadlines: Deadlines::default(),
            holdings: Holdings::default(),
            payers: BTreeMap::new(),
            connections: BTreeMap::new(),
            expired: Expired::default(),
        }
    }

    /// Starts a session with the id `fresh`, or goes on with `resume`. A session that is resumed belongs to
    /// the caller's connection from now on. One that is gone, or never was, is no error.
    pub(crate) fn start(
        &mut self,
        caller: &Caller,
        resume: Option<Uuid>,
        fresh: Uuid,
        arrived: Instant,
        now: Instant,
    ) -> Result<Started, NotStarted> {
        if let Some(id) = resume
            && let Some(session) = self.sessions.get_mut(&id)
            && session.lives(caller.connection, arrived, now, self.rules.window)
        {
            if session.caller.owner != caller.owner {
                return Err(NotStarted::Foreign);
            }
            session.disconnected = None;
            session.sign(caller.connection, arrived, self.rules.window);
            let before = std::mem::replace(&mut session.caller, caller.clone()).connection;
            self.unbind(before, id);
            self.connections.entry(caller.connection).or_default().insert(id);
            return Ok(Started { id, resumed: true });
        }
        if self.sessions.len() >= self.rules.max_sessions {
            return Err(NotStarted::Full);
        }
        let payer = caller.payer();
        let paid = self.payers.entry(payer.clone()).or_default();
        if *paid >= self.rules.max_per_owner {
            return Err(NotStarted::FullForOwner);
        }
        *paid += 1;
        let deadline = now + self.rules.window;
        let session = Session {
            caller: caller.clone(),
            deadline,
            seen: now,
            disconnected: None,
            addresses: Addresses::default(),
            held: BTreeSet::new(),
            payer,
        };
        self.connections.entry(caller.connection).or_default().insert(fresh);
        self.sessions.insert(fresh, session);
        self.deadlines.no_later(fresh, deadline);
        Ok(Started { id: fresh, resumed: false })
    }

    /// Where the session's caller is.
    pub(crate) fn locate(&mut self, id: Uuid, addresses: Addresses) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.addresses = addresses;
        }
    }

    /// A heartbeat that arrived at this time; returns how long after the sign of life before it.
    pub(crate) fn heartbeat(
        &mut self,
        id: Uuid,
        caller: &Caller,
        arrived: Instant,
        now: Instant,
    ) -> Result<Duration, Refused> {
        let session = self.find(id, caller, arrived, now)?;
        let same_host = caller.host.is_some() && session.caller.host == caller.host;
        let may = session.caller.connection == caller.connection || (self.rules.same_host && same_host);
        if !may {
            return Err(session.elsewhere());
        }
        let gap = arrived.saturating_duration_since(session.seen);
        self.sign(id, caller, arrived);
        Ok(gap)
    }

    /// A monitored call under this session, whose headers arrived at this time: a sign of life too, as in rdk.
    pub(crate) fn admit(
        &mut self,
        id: Uuid,
        caller: &Caller,
        arrived: Instant,
        now: Instant,
    ) -> Result<(), Refused> {
        let session = self.find(id, caller, arrived, now)?;
        if session.caller.connection != caller.connection {
            return Err(session.elsewhere());
        }
        self.sign(id, caller, arrived);
        Ok(())
    }

    /// The session moves the resource from now on, and nobody else does; returns who did before.
    pub(crate) fn associate(
        &mut self,
        resource: &str,
        session: Uuid,
        now: Instant,
    ) -> Result<Option<Uuid>, NotTaken> {
        if self.holdings.is_stopping(resource) {
            return Err(NotTaken::Stopping);
        }
        if self.sessions.get(&session).is_none_or(|session| session.deadline <= now) {
            return Err(NotTaken::Expired);
        }
        if !self.holdings.knows(resource) && self.holdings.len() >= self.rules.max_resources {
            return Err(NotTaken::Full);
        }
        let before = self.holdings.take(resource, session).filter(|before| *before != session);
        if let Some(before) = before.and_then(|before| self.sessions.get_mut(&before)) {
            before.held.remove(resource);
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            session.held.insert(resource.to_owned());
        }
        Ok(before)
    }

    /// A caller without a session moves the resource: whoever held it no longer does. Returns who did.
    pub(crate) fn release(&mut self, resource: &str) -> Result<Option<Uuid>, NotTaken> {
        if self.holdings.is_stopping(resource) {
            return Err(NotTaken::Stopping);
        }
        let before = self.holdings.release(resource);
        if let Some(before) = before.and_then(|before| self.sessions.get_mut(&before)) {
            before.held.remove(resource);
        }
        Ok(before)
    }

    /// The connection is gone. With a grace its sessions have no more time than that, but for another sign of
    /// life. Returns which they are.
    pub(crate) fn disconnected(
        &mut self,
        connection: u64,
        grace: Option<Duration>,
        now: Instant,
    ) -> Vec<Uuid> {
        let ids = self.connections.get(&connection).into_iter().flatten().copied().collect::<Vec<_>>();
        let cut = grace.and_then(|grace| now.checked_add(grace));
        for id in &ids {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            session.disconnected = Some(now);
            if let Some(cut) = cut {
                session.deadline = session.deadline.min(cut);
                self.deadlines.no_later(*id, session.deadline);
            }
        }
        ids
    }

    /// Ends the sessions whose deadline has come. `in_flight`: what the calls of a session that are not over
    /// have moved, and may move on though it is not held any more.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        in_flight: impl Fn(Uuid) -> BTreeSet<String>,
    ) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Some(id) = self.deadlines.pop(now) {
            match self.sessions.get(&id).map(|session| session.deadline) {
                Some(deadline) if deadline > now => self.deadlines.no_later(id, deadline),
                Some(_) => ended.extend(self.end(id, in_flight(id))),
                None => {}
            }
        }
        ended
    }

    /// Ends all sessions, as [`expire`](Self::expire) does.
    pub(crate) fn end_all(&mut self, in_flight: impl Fn(Uuid) -> BTreeSet<String>) -> Vec<Ended> {
        let ids = self.sessions.keys().copied().collect::<Vec<_>>();
        ids.into_iter().filter_map(|id| self.end(id, in_flight(id))).collect()
    }

    /// When [`expire`](Self::expire) must be called: never later than the first deadline, at times before it.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first()
    }

    /// Whether the stop is still wanted, which nobody can change from now until [`end_stop`](Self::end_stop).
    pub(crate) fn begin_stop(&mut self, stop: &Stop) -> bool {
        self.holdings.begin(stop)
    }

    /// A stop that had begun is over. If `again`, it will begin another time unless somebody takes the resource.
    /// Returns whether it must begin at once: another session has ended meanwhile that moved the resource.
    #[must_use]
    pub(crate) fn end_stop(&mut self, stop: &Stop, again: bool) -> bool {
        self.holdings.end(stop, again)
    }

    /// Whether the resource is being stopped.
    pub(crate) fn is_stopping(&self, resource: &str) -> bool {
        self.holdings.is_stopping(resource)
    }

    /// The sessions that have not ended.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = (Uuid, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// One of them.
    pub(crate) fn session(&self, id: Uuid) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// The resources that are held, with their session, and those whose stop is not over, with none.
    #[cfg_attr(not(test), expect(dead_code, reason = "for those who check the rules"))]
    pub(crate) fn resources(&self) -> impl Iterator<Item = (&str, Option<Uuid>)> {
        self.holdings.iter()
    }

    /// How many sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// A session that this owner may go on with.
    fn find(&self, id: Uuid, caller: &Caller, arrived: Instant, now: Instant) -> Result<&Session, Refused> {
        let Some(session) = self.sessions.get(&id) else {
            let had_it = self.expired.was_of(id, &caller.owner);
            return Err(if had_it { Refused::Expired } else { Refused::Unknown });
        };
        if session.caller.owner != caller.owner {
            return Err(Refused::Unknown);
        }
        if !session.lives(caller.connection, arrived, now, self.rules.window) {
            return Err(Refused::Expired);
        }
        Ok(session)
    }

    fn sign(&mut self, id: Uuid, caller: &Caller, arrived: Instant) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.sign(caller.connection, arrived, self.rules.window);
        }
    }

    fn end(&mut self, id: Uuid, in_flight: BTreeSet<String>) -> Option<Ended> {
        let mut session = self.sessions.remove(&id)?;
        self.deadlines.remove(id);
        self.unbind(session.caller.connection, id);
        if let Some(paid) = self.payers.get_mut(&session.payer) {
            *paid -= 1;
            if *paid == 0 {
                self.payers.remove(&session.payer);
            }
        }
        let (mut stops, mut underway) = (Vec::new(), Vec::new());
        session.held.extend(in_flight);
        for resource in session.held {
            match self.holdings.condemn(&resource, id) {
                Verdict::Stop(stop) => stops.push(stop),
                Verdict::Underway => underway.push(resource),
                Verdict::Spared => {}
            }
        }
        self.expired.remember(id, session.caller.owner);
        Some(Ended { id, stops, underway })
    }

    fn unbind(&mut self, connection: u64, id: Uuid) {
        if let Some(ids) = self.connections.get_mut(&connection) {
            ids.remove(&id);
            if ids.is_empty() {
                self.connections.remove(&connection);
            }
        }
    }
}

impl Session {
    /// Whether a sign of life that arrived then keeps it alive now. One whose window is over already is none: it
    /// would be acknowledged, and the session gone.
    fn lives(&self, connection: u64, arrived: Instant, now: Instant, window: Duration) -> bool {
        arrived < self.deadline && now < self.deadline_after(connection, arrived, window)
    }

    fn sign(&mut self, connection: u64, arrived: Instant, window: Duration) {
        self.deadline = self.deadline_after(connection, arrived, window);
        self.seen = self.seen.max(arrived);
    }

    /// What was under way on the session's connection when that was lost does not make up for the loss. What came
    /// over another one counts, before the loss was noticed too.
    fn deadline_after(&self, connection: u64, arrived: Instant, window: Duration) -> Instant {
        let in_time = self.disconnected.is_none_or(|lost| arrived > lost);
        let counts = in_time || connection != self.caller.connection;
        if counts { self.deadline.max(arrived + window) } else { self.deadline }
    }

    /// What its owner is told who comes over another connection. If the session's own is gone, the owner must
    /// resume, and this is the word that makes every client do so.
    fn elsewhere(&self) -> Refused {
        if self.disconnected.is_some() { Refused::Expired } else { Refused::Unknown }
    }
}
