//! The task that keeps one session alive: starts it, beats, follows the lease, resumes, and says when it is
//! over.
//!
//! Heartbeats are sent on schedule, whatever became of those before: what counts for the robot is the gap
//! between arrivals, not the round trip. One that fails proves nothing; only the lease, or the robot's word,
//! ends a session.
//!
//! # Invariant
//! There is one keeper for each client at most, and a session that is shown as active has one.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Status};

use super::core::Core;
use super::heartbeat::{Beat, beat, is_down, start, up};
use super::lease::Lease;
use super::state::{Conclusion, Session};
use super::{EndReason, SessionError, SessionId};
use crate::transport::{LinkWatch, Transport};

/// The nominal share of the window between two heartbeats: a fifth, as in every SDK.
const BEATS_PER_WINDOW: u32 = 5;

/// How much earlier than nominal a heartbeat may come, so that many callers do not beat together.
const JITTER: f64 = 0.2;

/// A heartbeat that is not answered within this many windows is given up, and so is a session of which nothing
/// was acknowledged for as long. Far longer than one window: where only the way back is blocked, or slow,
/// heartbeats arrive all the same, and ending them would stop the robot.
const PATIENCE: u32 = 10;

/// Ends the session in the eyes of its client when the task ends, whatever ends it.
pub(super) struct Guard<T: Transport> {
    core: Arc<Core<T>>,
    generation: u64,
}

impl<T: Transport> Guard<T> {
    pub(super) fn new(core: Arc<Core<T>>, generation: u64) -> Self {
        Self { core, generation }
    }
}

impl<T: Transport> Drop for Guard<T> {
    fn drop(&mut self) {
        self.core.end(self.generation, EndReason::Abandoned);
    }
}

/// Starts a session and keeps it.
pub(super) async fn run<T: Transport>(guard: Guard<T>, conclusion: Conclusion, resume: Option<SessionId>) {
    let (core, generation) = (Arc::clone(&guard.core), guard.generation);
    let link = core.transport.watch();
    let (connection, started) = loop {
        // The number of the connection that is asked, not of the one before it.
        up(link.clone()).await;
        let connection = link.state().connection;
        // In a box: it takes much more than what follows, which is there for as long as the session.
        let started = Box::pin(start(&core.transport, resume.as_ref(), core.start_timeout())).await;
        let now = link.state();
        // A connection that was lost meanwhile is no reason to fail those who wait for the next.
        if started.is_ok() || (now.connection == connection && !is_down(&now)) {
            break (connection, started);
        }
    };
    match started {
        Err(error) => core.refuse(generation, error, &conclusion, connection),
        Ok((session, lease)) => {
            let session = Arc::new(session);
            if core.adopt(generation, &session, lease, Some(conclusion)) {
                let mut keeper = Keeper::new(Arc::clone(&core), generation, session, link);
                // Lost while it was being made: it may belong to a connection that is gone.
                keeper.connection = connection;
                let reason = keeper.keep().await;
                core.end(generation, reason);
            }
        }
    }
    drop(guard);
}

type Starting = Pin<Box<dyn Future<Output = Result<(Session, Lease), SessionError>> + Send>>;
type Beats = FuturesUnordered<Pin<Box<dyn Future<Output = (Instant, Beat)> + Send>>>;

struct Keeper<T> {
    core: Arc<Core<T>>,
    generation: u64,
    session: Arc<Session>,
    link: LinkWatch,
    /// The connection that the robot knows the session on.
    connection: u64,
    beats: Beats,
    next: Instant,
    resuming: Option<(Starting, u64)>,
    /// When to ask again whether the session goes on, after the robot could not be bothered.
    again: Instant,
    /// A heartbeat was refused for want of a token; those sent from now on have another.
    refused: Option<Instant>,
}

impl<T: Transport> Keeper<T> {
    fn new(core: Arc<Core<T>>, generation: u64, session: Arc<Session>, link: LinkWatch) -> Self {
        let connection = link.state().connection;
        let now = Instant::now();
        Self {
            core,
            generation,
            session,
            link,
            connection,
            beats: Beats::new(),
            next: now,
            resuming: None,
            again: now,
            refused: None,
        }
    }

    /// Returns when the session is over, with the reason.
    async fn keep(&mut self) -> EndReason {
        let mut link = self.link.state();
        loop {
            if link.closed.is_some() {
                return EndReason::Disconnected;
            }
            let down = is_down(&link);
            let on_this_connection = link.connection == self.connection && !down;
            if !on_this_connection {
                // Heartbeats of the old connection prove nothing on the next.
                self.beats.clear();
            }
            let resuming = self.resuming.is_some();
            let now = Instant::now();
            let Some((change, gap)) = self.core.update(self.generation, |live| {
                live.bound &= on_this_connection;
                (live.lease.next_change(now), live.lease.gap(now))
            }) else {
                return EndReason::Reset;
            };
            if gap >= self.session.window * PATIENCE && !down && !resuming {
                return EndReason::LeaseRanOut;
            }
            let must_ask = !on_this_connection && !down && !resuming;
            if must_ask && now >= self.again {
                self.resume(link.connection);
                continue;
            }

            let resumed = OptionFuture::from(self.resuming.as_mut().map(|(start, _)| start));
            tokio::select! {
                biased;
                changed = self.link.changed() => match changed {
                    Some(state) => link = state,
                    None => return EndReason::Disconnected,
                },
                Some(result) = resumed => {
                    if let Some(reason) = self.resumed(result) {
                        return reason;
                    }
                }
                () = self.core.wake.notified() => {
                    let wanted = self.core.update(self.generation, |live| live.wanted.is_some());
                    if wanted == Some(true) && self.resuming.is_none() && !down {
                        self.resume(link.connection);
                    }
                }
                Some((sent, beat)) = self.beats.next() => {
                    if let Some(reason) = self.answered(sent, beat) {
                        return reason;
                    }
                }
                () = sleep_until(self.next), if on_this_connection => self.tick(),
                () = sleep_until(self.again), if must_ask => {}
                () = until(change) => {}
            }
        }
    }

    fn resume(&mut self, connection: u64) {
        let (core, id) = (Arc::clone(&self.core), self.session.id.clone());
        let work = async move { start(&core.transport, Some(&id), core.start_timeout()).await };
        self.resuming = Some((Box::pin(work), connection));
    }

    /// The robot has said whether the session goes on.
    fn resumed(&mut self, result: Result<(Session, Lease), SessionError>) -> Option<EndReason> {
        let connection = self.resuming.take().map_or(self.connection, |(_, connection)| connection);
        let conclusion = self.core.update(self.generation, |live| live.wanted.take());
        let conclusion = conclusion.flatten();
        match result {
            Ok((session, lease)) => {
                let session = Arc::new(session);
                if !self.core.adopt(self.generation, &session, lease, conclusion) {
                    return Some(EndReason::Reset);
                }
                if session.id != self.session.id {
                    self.beats.clear();
                }
                self.session = session;
                self.connection = connection;
                self.next = Instant::now();
                self.again = self.next;
                None
            }
            Err(_) if self.link.state().connection != connection || is_down(&self.link.state()) => {
                // The connection went meanwhile: those who wait are told on the next.
                self.core.update(self.generation, |live| live.wanted = conclusion);
                None
            }
            Err(error) => self.not_resumed(error, conclusion, connection),
        }
    }

    /// The robot has not said whether the session goes on. Unless it never will, it is asked again.
    fn not_resumed(
        &mut self,
        error: SessionError,
        conclusion: Option<Conclusion>,
        connection: u64,
    ) -> Option<EndReason> {
        let reason = match &error {
            SessionError::StartTimeout => None,
            SessionError::Start(status) => match status.code() {
                Code::Unauthenticated => Some(EndReason::Unauthenticated),
                Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented => {
                    Some(EndReason::Expired)
                }
                _ => None,
            },
            _ => Some(EndReason::Expired),
        };
        let conclusion = conclusion.unwrap_or_else(|| watch::channel(None).0);
        self.core.refuse(self.generation, error, &conclusion, connection);
        self.core.update(self.generation, |live| live.doubted = false);
        self.again = Instant::now() + self.session.window / BEATS_PER_WINDOW;
        reason
    }

    /// It is time for a heartbeat.
    fn tick(&mut self) {
        let now = Instant::now();
        let window = self.session.window;
        if now.saturating_duration_since(self.next) > window {
            // The host slept, or its executor was blocked: the robot has not waited.
            self.core.update(self.generation, |live| live.lease.lose());
        }
        let (transport, session) = (self.core.transport.clone(), Arc::clone(&self.session));
        self.core.counters.sent();
        self.beats.push(Box::pin(async move {
            let answer = timeout(window * PATIENCE, beat(transport, &session)).await;
            let late = || Beat::Failed(Status::deadline_exceeded("the heartbeat was not answered"));
            (now, answer.unwrap_or_else(|_| late()))
        }));
        let nominal = (window / BEATS_PER_WINDOW).max(Duration::from_millis(1));
        let interval = nominal.mul_f64(1.0 - JITTER * fastrand::f64());
        // On schedule, but never in a burst to make up for what was missed.
        self.next = (self.next + interval).max(now + interval / 2);
    }

    /// A heartbeat came back. Returns why the session is over, if it is.
    fn answered(&mut self, sent: Instant, beat: Beat) -> Option<EndReason> {
        let now = Instant::now();
        match beat {
            Beat::Acknowledged => {
                self.refused = self.refused.filter(|since| sent < *since);
                let rtt = now.saturating_duration_since(sent);
                self.core.counters.acknowledged(rtt, self.session.window);
                self.core.update(self.generation, |live| live.lease.acknowledge(sent, now));
                return None;
            }
            // Being asked about already: the answer will tell.
            Beat::Expired if self.resuming.is_some() => {}
            Beat::Expired => return Some(EndReason::Expired),
            Beat::Unsupported => {
                let error = SessionError::Start(Status::unimplemented("the robot takes no heartbeats"));
                let (conclusion, _attempt) = watch::channel(None);
                self.core.refuse(self.generation, error, &conclusion, self.connection);
                return Some(EndReason::Abandoned);
            }
            Beat::Unauthenticated => match self.refused {
                Some(since) if sent >= since => return Some(EndReason::Unauthenticated),
                // Those under way have the old token too.
                Some(_) => {}
                None => {
                    // A transport with credentials gets a new token for the next one.
                    self.refused = Some(now);
                    self.next = now;
                }
            },
            Beat::Failed(status) => {
                tracing::debug!(target: super::LOGGER, session = %self.session.id, %status, "a heartbeat failed");
            }
        }
        self.core.counters.failed();
        None
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
