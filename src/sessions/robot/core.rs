//! The book under its lock, the task that asks it at the right times, and what is done about its answers.
//!
//! Floor 4. Invariant: the lock is held for look-ups only: never across an await, never while a task is
//! spawned or anybody's code runs. No timer fires before its deadline.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use uuid::Uuid;

use super::book::{Book, Ended, NotTaken, Rules, Started};
use super::builder::{Heartbeats, Listing, OnDisconnect, SessionManagerBuilder, Sessionless, Version};
use super::calls::{Admitted, Calls, Cut, Response};
use super::event::{KEPT, SessionEvent, SessionId};
use super::operations::Operations;
use super::owner::{Addresses, Caller};
use super::refusal::{self, Sid};
use super::resources::Resources;
use super::stats::{Counters, SessionStats, count};
use super::stopping;
use crate::server::{CallInfo, ConnectionHandle};
use crate::sessions::Monitored;

pub(super) struct Core {
    state: Mutex<State>,
    pub(super) resources: Arc<dyn Resources>,
    pub(super) monitored: Monitored,
    pub(super) window: Duration,
    pub(super) stop_timeout: Duration,
    sessionless: Sessionless,
    on_disconnect: OnDisconnect,
    pub(super) listing: Listing,
    pub(super) version: Version,
    pub(super) operations: Operations,
    pub(super) counters: Counters,
    pub(super) events: broadcast::Sender<SessionEvent>,
    /// Cancelled when nobody holds the manager any more, or it is closed.
    pub(super) closing: CancellationToken,
    /// The tasks that stop resources.
    pub(super) stops: TaskTracker,
    /// A deadline may be earlier than the one that the task sleeps for.
    sooner: Notify,
    /// A stop is over: whoever waits for its resource may try again.
    stop_over: Notify,
    runtime: Handle,
}

struct State {
    book: Book,
    calls: Calls,
    /// Connections whose end a task waits for.
    watched: BTreeSet<u64>,
    /// What the expiry task sleeps for.
    armed: Option<Instant>,
    closed: Option<Instant>,
}

/// Ends sessions at their deadlines, until the manager is closed; then ends them all.
pub(super) async fn keep(core: Arc<Core>) {
    loop {
        let next = core.arm();
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = core.closing.cancelled() => break,
            () = core.sooner.notified() => {}
            () = due => core.expire(),
        }
    }
    core.end_all();
}

impl Core {
    pub(super) fn new(builder: SessionManagerBuilder, runtime: Handle) -> Self {
        let rules = Rules {
            window: builder.window,
            max_sessions: builder.max_sessions,
            max_per_owner: builder.max_per_owner,
            max_resources: builder.max_resources,
            same_host: builder.heartbeats == Heartbeats::SameHost,
        };
        let state = State {
            book: Book::new(rules),
            calls: Calls::default(),
            watched: BTreeSet::new(),
            armed: None,
            closed: None,
        };
        Self {
            state: Mutex::new(state),
            resources: builder.resources,
            monitored: builder.monitored,
            window: builder.window,
            stop_timeout: builder.stop_timeout,
            sessionless: builder.sessionless,
            on_disconnect: builder.on_disconnect,
            listing: builder.listing,
            version: builder.version,
            operations: Operations::default(),
            counters: Counters::default(),
            events: broadcast::Sender::new(KEPT),
            closing: CancellationToken::new(),
            stops: TaskTracker::new(),
            sooner: Notify::new(),
            stop_over: Notify::new(),
            runtime,
        }
    }

    /// Starts or resumes a session.
    pub(super) fn start(
        self: &Arc<Self>,
        caller: &Caller,
        info: Option<&CallInfo>,
        resume: Option<&Sid>,
        arrived: Instant,
    ) -> Result<Started, Status> {
        let fresh = Uuid::new_v4();
        let addresses = info.map(Addresses::of).unwrap_or_default();
        let mut state = self.lock();
        if state.closed.is_some() {
            return Err(refusal::shutting_down());
        }
        let now = Instant::now();
        let resumes = resume.map(|sid| sid.id);
        let started = state.book.start(caller, resumes, fresh, arrived.min(now), now);
        let sooner = state.is_sooner();
        if let Ok(started) = &started {
            state.book.locate(started.id, addresses);
        }
        let unwatched = started.is_ok() && info.is_some() && state.watched.insert(caller.connection);
        drop(state);
        let started = started.map_err(|why| {
            count(&self.counters.refused);
            refusal::not_started(why, resume)
        })?;
        if sooner {
            self.sooner.notify_one();
        }
        if let Some(info) = info.filter(|_| unwatched) {
            self.runtime.spawn(watch(Arc::clone(self), info.connection.clone()));
        }
        let session = SessionId::new(started.id);
        tracing::debug!(%session, resumed = started.resumed, "session started");
        if started.resumed {
            count(&self.counters.resumed);
            self.emit(SessionEvent::Resumed { session });
        } else {
            count(&self.counters.started);
            self.emit(SessionEvent::Started { session });
        }
        Ok(started)
    }

    /// A heartbeat that arrived at this time.
    pub(super) fn heartbeat(&self, sid: &Sid, caller: &Caller, arrived: Instant) -> Result<(), Status> {
        let mut state = self.lock();
        let now = Instant::now();
        let beat = state.book.heartbeat(sid.id, caller, arrived.min(now), now);
        drop(state);
        match beat {
            Ok(gap) => {
                self.counters.heartbeat(gap, self.window);
                Ok(())
            }
            Err(why) => {
                count(&self.counters.refused);
                Err(sid.refused(why))
            }
        }
    }

    /// A monitored call. With a session's id it runs under that session until [`Self::call_ended`].
    pub(super) fn admit(
        &self,
        sid: Option<&Sid>,
        caller: &Caller,
        arrived: Instant,
    ) -> Result<Option<Admitted>, Status> {
        let mut state = self.lock();
        if state.closed.is_some() {
            return Err(refusal::shutting_down());
        }
        let Some(sid) = sid else { return Ok(None) };
        let now = Instant::now();
        if let Err(why) = state.book.admit(sid.id, caller, arrived.min(now), now) {
            drop(state);
            count(&self.counters.refused);
            return Err(sid.refused(why));
        }
        Ok(Some(state.calls.begin(sid.id)))
    }

    /// The call's handler has answered. False if its session has ended by now: then its response is to be cut.
    pub(super) fn call_answers(&self, session: Uuid, number: u64, response: Weak<dyn Response>) -> bool {
        self.lock().calls.answers(session, number, response)
    }

    pub(super) fn call_ended(&self, session: Uuid, number: u64) {
        self.lock().calls.end(session, number);
    }

    /// The call is about to move this resource. Waits while it is being stopped, for a `stop_timeout` or so.
    /// Cancel safe.
    pub(super) async fn take(&self, resource: &str, call: Option<(Uuid, u64)>) -> Result<(), NotTaken> {
        loop {
            let mut over = std::pin::pin!(self.stop_over.notified());
            // From here on no end of a stop is missed.
            over.as_mut().enable();
            match self.try_take(resource, call) {
                Err(NotTaken::Stopping) => over.await,
                taken => return taken,
            }
        }
    }

    fn try_take(&self, resource: &str, call: Option<(Uuid, u64)>) -> Result<(), NotTaken> {
        let mut state = self.lock();
        let before = match call {
            Some((session, number)) => {
                let before = state.book.associate(resource, session, Instant::now())?;
                state.calls.moves(session, number, resource);
                before
            }
            None if state.book.is_stopping(resource) => return Err(NotTaken::Stopping),
            None if self.sessionless == Sessionless::KeepOwner => None,
            // Handlers of ended sessions may go on moving it, and the stop that follows them is not called off.
            None if state.calls.lingers(resource) => None,
            None => state.book.release(resource)?,
        };
        drop(state);
        if let Some(from) = before.map(SessionId::new) {
            let by = call.map(|(session, _)| SessionId::new(session));
            self.emit(SessionEvent::TakenOver { resource: resource.to_owned(), from, by });
        }
        Ok(())
    }

    /// Looks at the sessions' book.
    pub(super) fn with_book<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut self.lock().book)
    }

    /// For each call of an ended session that may go on moving this resource, a token that is cancelled when its
    /// handler is gone.
    pub(super) fn lingering(&self, resource: &str) -> Vec<CancellationToken> {
        self.lock().calls.lingering(resource)
    }

    /// Since when the manager is closed.
    pub(super) fn closed(&self) -> Option<Instant> {
        let mut state = self.lock();
        if self.closing.is_cancelled() {
            state.closed.get_or_insert_with(Instant::now);
        }
        state.closed
    }

    /// Until when a stop that begins now may take; `None`: longer than there is time. All that begins before the
    /// manager is closed, or up to a `stop_timeout` later, is over by then.
    pub(super) fn stop_until(&self) -> Option<Instant> {
        let now = Instant::now();
        let last = self.closed().and_then(|closed| closed.checked_add(self.stop_timeout));
        last.filter(|last| now < *last).or_else(|| now.checked_add(self.stop_timeout))
    }

    pub(super) fn stop_is_over(&self) {
        self.stop_over.notify_waiters();
    }

    pub(super) fn emit(&self, event: SessionEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    pub(super) fn stats(&self) -> SessionStats {
        self.counters.read(self.lock().book.len())
    }

    /// Ends all sessions, for good. Idempotent.
    pub(super) fn end_all(self: &Arc<Self>) {
        let _not_over = self.stops.token();
        let mut state = self.lock();
        state.closed.get_or_insert_with(Instant::now);
        let State { book, calls, .. } = &mut *state;
        let ended = book.end_all(|session| calls.moved_by(session));
        let ended = state.with_calls(ended);
        drop(state);
        self.carry_out(ended);
        self.stops.close();
    }

    fn expire(self: &Arc<Self>) {
        // Whoever closes the manager meanwhile waits for these stops too.
        let _not_over = self.stops.token();
        let mut state = self.lock();
        let State { book, calls, .. } = &mut *state;
        let ended = book.expire(Instant::now(), |session| calls.moved_by(session));
        let ended = state.with_calls(ended);
        drop(state);
        self.carry_out(ended);
    }

    /// Cancels the calls of ended sessions, and stops what they moved: each in a task of its own.
    fn carry_out(self: &Arc<Self>, ended: Vec<(Ended, Cut)>) {
        for (Ended { id, stops, underway }, cut) in ended {
            for response in cut.tell() {
                self.stops.spawn_on(async move { response.cut() }, &self.runtime);
            }
            let session = SessionId::new(id);
            tracing::debug!(%session, stops = stops.len(), "session expired");
            count(&self.counters.expired);
            let mut resources = stops.iter().map(|stop| stop.resource.clone()).collect::<Vec<_>>();
            resources.extend(underway);
            self.emit(SessionEvent::Expired { session, resources });
            for stop in stops {
                let task = stopping::carry_out(Arc::clone(self), session, stop);
                self.stops.spawn_on(task, &self.runtime);
            }
        }
    }

    fn arm(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.armed = state.book.next_deadline();
        state.armed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the expiry task sleeps too long.
    fn is_sooner(&self) -> bool {
        let next = self.book.next_deadline();
        next.is_some_and(|next| self.armed.is_none_or(|armed| next < armed))
    }

    fn with_calls(&mut self, ended: Vec<Ended>) -> Vec<(Ended, Cut)> {
        let with_calls = |ended: Ended| {
            let cut = self.calls.cut(ended.id);
            (ended, cut)
        };
        ended.into_iter().map(with_calls).collect()
    }
}

/// Waits for the end of a connection and lets its sessions know.
async fn watch(core: Arc<Core>, connection: ConnectionHandle) {
    tokio::select! {
        () = connection.closed() => {}
        () = core.closing.cancelled() => return,
    }
    let grace = match core.on_disconnect {
        OnDisconnect::WaitForWindow => None,
        OnDisconnect::StopAfter(grace) => Some(grace),
    };
    let mut state = core.lock();
    state.watched.remove(&connection.id());
    let lost = state.book.disconnected(connection.id(), grace, Instant::now());
    let sooner = state.is_sooner();
    drop(state);
    if sooner {
        core.sooner.notify_one();
    }
    for session in lost.into_iter().map(SessionId::new) {
        tracing::debug!(%session, "a session's connection is gone");
        core.emit(SessionEvent::Disconnected { session });
    }
}
