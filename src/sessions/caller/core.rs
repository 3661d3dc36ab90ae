//! What all clones of a client share: the session, for calls that need one.
//!
//! Calls read one atomic snapshot; only those that find no usable session take the lock and wait. Whoever
//! waits may be cancelled: starts run in a task of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::event::Announcer;
use super::keeper;
use super::lease::Lease;
use super::state::{Attempt, Conclusion, Last, Live, Outcome, Phase, Ready, Session, State};
use super::stats::Counters;
use super::{
    EndReason, LeaseState, OnExpiry, Policy, ReplaceReason, SessionError, SessionEvent, SessionId,
    SessionOptions, SessionState,
};
use crate::transport::Transport;

/// How long the start of a session may take, unless the options say otherwise.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// What calls see at a glance.
pub(super) enum Glance {
    /// Carry this one.
    Alive(Arc<Session>),
    /// Take the lock and look.
    Ask,
}

/// Shared by clones, calls and the keeper.
pub(super) struct Core<T> {
    pub(super) transport: T,
    pub(super) options: SessionOptions,
    pub(super) policy: ArcSwap<Policy>,
    pub(super) glance: ArcSwap<Glance>,
    pub(super) announcer: Announcer,
    pub(super) counters: Counters,
    /// Methods that no descriptor tells about.
    pub(super) unknown: AtomicU64,
    /// Wakes the keeper: a call wants the session resumed.
    pub(super) wake: Notify,
    runtime: Option<Handle>,
    state: Mutex<State>,
}

impl<T: Transport> Core<T> {
    pub(super) fn new(transport: T, options: SessionOptions) -> Self {
        let runtime = options.runtime.clone().or_else(|| Handle::try_current().ok());
        Self {
            transport,
            policy: ArcSwap::from_pointee(options.policy.clone()),
            options,
            glance: ArcSwap::from_pointee(Glance::Ask),
            announcer: Announcer::default(),
            counters: Counters::default(),
            unknown: AtomicU64::new(0),
            wake: Notify::new(),
            runtime,
            state: Mutex::new(State::new()),
        }
    }

    pub(super) fn start_timeout(&self) -> Duration {
        self.options.start_timeout.unwrap_or(START_TIMEOUT)
    }

    /// A session that calls may carry, started or resumed if need be; one start, however many ask. `refused`
    /// is the session that a call was told has expired. Cancel safe: the start goes on for the others.
    pub(super) async fn ready(self: &Arc<Self>, refused: Option<&SessionId>) -> Outcome {
        loop {
            let (mut attempt, generation, begin) = {
                let mut state = self.lock();
                match self.attempt(&mut state, refused) {
                    Found::Settled(outcome) => return outcome,
                    Found::Wait(attempt) => (attempt, state.generation, None),
                    Found::Begin(attempt, conclusion, resume) => {
                        (attempt, state.generation, Some((conclusion, resume)))
                    }
                }
            };
            if let Some((conclusion, resume)) = begin {
                self.spawn(generation, conclusion, resume);
            }
            if let Ok(outcome) = attempt.wait_for(Option::is_some).await {
                return outcome.clone().unwrap_or(Err(SessionError::Abandoned));
            }
            // Nobody will conclude it. The session ended meanwhile, and one begins anew; but without a runtime
            // there is no hope.
            let state = self.lock();
            if state.generation == generation && state.abandoned {
                return Err(SessionError::Abandoned);
            }
        }
    }

    fn attempt(&self, state: &mut State, refused: Option<&SessionId>) -> Found {
        match &mut state.phase {
            Phase::Closed => return Found::Settled(Err(SessionError::Abandoned)),
            Phase::Unsupported { connection } if *connection == self.transport.watch().state().connection => {
                return Found::Settled(Ok(Ready { session: None, replaces: None }));
            }
            Phase::Starting(attempt) => return Found::Wait(attempt.clone()),
            Phase::Live(live) => {
                let is_refused = refused == Some(&live.session.id);
                if live.is_usable() && !is_refused {
                    let session = Some(Arc::clone(&live.session));
                    let replaces = state.unsurfaced.clone();
                    return Found::Settled(Ok(Ready { session, replaces }));
                }
                live.doubted |= is_refused;
                let attempt = live.resuming.clone().unwrap_or_else(|| {
                    let (conclusion, attempt) = watch::channel(None);
                    live.wanted = Some(conclusion);
                    live.resuming = Some(attempt.clone());
                    self.wake.notify_one();
                    attempt
                });
                self.glance.store(Arc::new(Glance::Ask));
                return Found::Wait(attempt);
            }
            Phase::Idle | Phase::Unsupported { .. } => {}
        }
        let (conclusion, attempt) = watch::channel(None);
        state.generation += 1;
        state.abandoned = false;
        state.phase = Phase::Starting(attempt.clone());
        Found::Begin(attempt, conclusion, state.last.as_ref().map(|last| last.id.clone()))
    }

    fn spawn(self: &Arc<Self>, generation: u64, conclusion: Conclusion, resume: Option<SessionId>) {
        // Made here, so that a runtime which drops the task at once is noticed too.
        let guard = keeper::Guard::new(Arc::clone(self), generation);
        let Some(runtime) = self.runtime.clone().or_else(|| Handle::try_current().ok()) else { return };
        let task = runtime.spawn(keeper::run(guard, conclusion, resume)).abort_handle();
        let mut state = self.lock();
        if state.generation == generation {
            state.task = Some(task);
        } else {
            drop(state);
            task.abort();
        }
    }

    /// The keeper has a session from the robot. False when it is no longer in charge.
    pub(super) fn adopt(
        &self,
        generation: u64,
        session: &Arc<Session>,
        lease: Lease,
        conclude: Option<Conclusion>,
    ) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        if state.generation != generation {
            return false;
        }
        let mut conclusions = Vec::from_iter(conclude);
        if let Phase::Live(live) = &mut state.phase {
            let reason = match live {
                Live { doubted: true, .. } => ReplaceReason::Expired,
                Live { bound: false, .. } => ReplaceReason::Reconnected,
                _ => ReplaceReason::LeaseRanOut,
            };
            conclusions.extend(live.wanted.take());
            state.last = Some(live.last(reason, now));
        }
        let event = match state.last.take() {
            None => SessionEvent::Started { session: session.id.clone(), window: session.window },
            Some(last) if last.id == session.id => SessionEvent::Resumed { session: session.id.clone() },
            Some(Last { id: old, reason, seen, surfaced }) => {
                let gap = now.saturating_duration_since(seen);
                let told = surfaced || reason == ReplaceReason::Reset;
                if !told && self.options.on_expiry == OnExpiry::Surface {
                    state.unsurfaced = Some(old.clone());
                }
                SessionEvent::Replaced { old, new: session.id.clone(), reason, gap }
            }
        };
        self.counters.adopted(&event);
        let is = lease.state(now);
        state.phase = Phase::Live(Live {
            session: Arc::clone(session),
            lease,
            state: is,
            bound: true,
            doubted: false,
            resuming: None,
            wanted: None,
        });
        self.show(&state);
        self.announcer.announce(event);
        if is > LeaseState::Healthy {
            // Answered late: part of what the robot waits is over.
            self.announcer.announce(SessionEvent::Lease { session: session.id.clone(), state: is });
        }
        let ready = Ready { session: Some(Arc::clone(session)), replaces: state.unsurfaced.clone() };
        for conclusion in conclusions {
            conclusion.send_replace(Some(Ok(ready.clone())));
        }
        true
    }

    /// No session could be started, or the live one not be asked about.
    /// `connection` is the one that was asked.
    pub(super) fn refuse(
        &self,
        generation: u64,
        error: SessionError,
        conclusion: &Conclusion,
        connection: u64,
    ) {
        let mut state = self.lock();
        if state.generation != generation {
            return;
        }
        let unsupported =
            matches!(&error, SessionError::Start(status) if status.code() == tonic::Code::Unimplemented);
        match &mut state.phase {
            Phase::Live(live) if !unsupported => live.resuming = None,
            _ => state.phase = Phase::Idle,
        }
        let outcome = if unsupported {
            state.phase = Phase::Unsupported { connection };
            state.last = None;
            state.unsurfaced = None;
            self.announcer.announce(SessionEvent::Unsupported);
            Ok(Ready { session: None, replaces: None })
        } else {
            self.announcer.announce(SessionEvent::StartFailed { error: error.clone() });
            Err(error)
        };
        self.show(&state);
        conclusion.send_replace(Some(outcome));
    }

    /// Changes the live session, and tells when it will change by itself. `None` when the task is no longer
    /// in charge.
    pub(super) fn update<R>(&self, generation: u64, change: impl FnOnce(&mut Live) -> R) -> Option<R> {
        let mut state = self.lock();
        let now = Instant::now();
        let live = state.live(generation)?;
        let result = change(live);
        let is = live.lease.state(now);
        if is != live.state {
            live.state = is;
            let session = live.session.id.clone();
            self.announcer.announce(SessionEvent::Lease { session, state: is });
        }
        self.show(&state);
        Some(result)
    }

    /// The session is over; `generation` is the task's that says so.
    pub(super) fn end(&self, generation: u64, reason: EndReason) {
        let mut state = self.lock();
        if state.generation == generation && matches!(state.phase, Phase::Starting(_) | Phase::Live(_)) {
            state.abandoned = reason == EndReason::Abandoned;
            self.finish(&mut state, reason);
        }
    }

    /// A call found out that the session has expired, and fails with that.
    pub(super) fn surfaced(&self, id: &SessionId) {
        let mut state = self.lock();
        let is_live = matches!(&state.phase, Phase::Live(live) if live.session.id == *id);
        let task = if is_live { self.stop(&mut state, EndReason::Expired) } else { None };
        // A heartbeat may have found it out first: it is told once all the same.
        if let Some(last) = state.last.as_mut().filter(|last| last.id == *id) {
            last.surfaced = true;
        }
        state.unsurfaced = state.unsurfaced.take().filter(|unsurfaced| unsurfaced != id);
        self.show(&state);
        drop(state);
        task.inspect(AbortHandle::abort);
    }

    /// A call has failed with the end of this session: the next may go.
    pub(super) fn told(&self, id: &SessionId) {
        let mut state = self.lock();
        if state.unsurfaced.as_ref() == Some(id) {
            state.unsurfaced = None;
        }
        self.show(&state);
    }

    /// The connection that this session was made on is gone: calls carry it again when it is resumed.
    pub(super) fn unbind(&self, id: &SessionId) {
        let mut state = self.lock();
        if let Phase::Live(live) = &mut state.phase
            && live.session.id == *id
        {
            live.bound = false;
        }
        self.show(&state);
    }

    /// Forgets the session, now and without waiting; `forget` forgets its id too.
    pub(super) fn reset(&self, forget: bool, reason: EndReason) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Closed) {
            return;
        }
        let task = self.stop(&mut state, reason);
        if forget {
            state.last = None;
        }
        // Whoever resets it knows that it is over.
        state.unsurfaced = None;
        if reason == EndReason::Closed {
            state.phase = Phase::Closed;
        }
        drop(state);
        task.inspect(AbortHandle::abort);
    }

    pub(super) fn session_state(&self) -> SessionState {
        if matches!(**self.policy.load(), Policy::Disabled) {
            return SessionState::Disabled;
        }
        match &self.lock().phase {
            Phase::Idle | Phase::Closed => SessionState::Idle,
            Phase::Starting(_) => SessionState::Starting,
            Phase::Unsupported { .. } => SessionState::Unsupported,
            Phase::Live(live) => SessionState::Active {
                session: live.session.id.clone(),
                lease: live.lease.state(Instant::now()),
                window: live.session.window,
            },
        }
    }

    pub(super) fn unknown_methods(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Ends whatever there is, under a new generation; the task is for the caller to abort, without the lock.
    fn stop(&self, state: &mut State, reason: EndReason) -> Option<AbortHandle> {
        self.finish(state, reason);
        state.generation += 1;
        state.task.take()
    }

    fn finish(&self, state: &mut State, reason: EndReason) {
        let now = Instant::now();
        let why = match reason {
            EndReason::Expired => ReplaceReason::Expired,
            EndReason::Reset | EndReason::Closed => ReplaceReason::Reset,
            EndReason::Disconnected => ReplaceReason::Reconnected,
            EndReason::LeaseRanOut | EndReason::Unauthenticated | EndReason::Abandoned => {
                ReplaceReason::LeaseRanOut
            }
        };
        if let Phase::Live(live) = &state.phase {
            state.last = Some(live.last(why, now));
            let session = live.session.id.clone();
            self.announcer.announce(SessionEvent::Ended { session, reason });
        }
        if !matches!(state.phase, Phase::Closed) {
            state.phase = Phase::Idle;
        }
        self.show(state);
    }

    /// Lets calls see at a glance how it stands.
    fn show(&self, state: &State) {
        let alive = match &state.phase {
            Phase::Live(live) if live.is_usable() && state.unsurfaced.is_none() => Some(&live.session),
            _ => None,
        };
        let same = match (&**self.glance.load(), alive) {
            (Glance::Alive(shown), Some(session)) => Arc::ptr_eq(shown, session),
            (Glance::Ask, None) => true,
            _ => false,
        };
        if !same {
            let glance = alive.map_or(Glance::Ask, |session| Glance::Alive(Arc::clone(session)));
            self.glance.store(Arc::new(glance));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call finds that needs a session.
enum Found {
    Settled(Outcome),
    Wait(Attempt),
    /// Nobody is at it: a task must be spawned, once the lock is gone.
    Begin(Attempt, Conclusion, Option<SessionId>),
}
