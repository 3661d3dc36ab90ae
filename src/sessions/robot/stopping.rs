//! Stops one resource, for a session that has ended, again and again until it stands.
//!
//! Floor 4. In a task of its own, outside of all locks, with a time-out and a panic guard: one stop that hangs
//! delays no other, and no heartbeat.
//!
//! # Invariant
//! A resource that somebody has taken since is not stopped, and while it is being stopped nobody takes it. What
//! the handlers of ended sessions do to it before they are gone is followed by another stop. No hot loop: between
//! two tries that fail there are 100 ms or more, unless another session has ended.

mod tries;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::tries::Tries;
use super::book::Stop;
use super::core::Core;
use super::event::{SessionEvent, SessionId};
use super::stats::count;

/// Stops the resource unless it is somebody else's by now. A stop that fails is tried again, until it succeeds,
/// somebody takes the resource, or the manager is closed and has no more time.
pub(super) async fn carry_out(core: Arc<Core>, session: SessionId, stop: Stop) {
    let mut tries = Tries::default();
    let mut wait = true;
    for attempt in 1_u32.. {
        if !core.with_book(|book| book.begin_stop(&stop)) {
            tracing::debug!(%session, "a resource has another owner by now and is not stopped");
            return core.emit(SessionEvent::StopNotNeeded { resource: stop.resource, session });
        }
        let begun = Begun { core: &core, stop: Some(&stop) };
        let (began, until) = (Instant::now(), core.stop_until());
        let (stopped, linger) = stop_and_wait(&core, &stop.resource, until, wait).await;
        let (now, closed) = (Instant::now(), core.closed());
        let again = match &stopped {
            Ok(()) if linger => Some(tries.repeated(began, now, core.stop_timeout)),
            Ok(()) => None,
            Err(_) => tries.failed(now, closed, core.stop_timeout),
        };
        let anew = begun.over(again.is_some());
        let (resource, failed) = (stop.resource.clone(), stopped.is_err());
        match stopped {
            Ok(()) => core.emit(SessionEvent::Stopped { resource, session }),
            Err(why) => {
                count(&core.counters.failed_stops);
                tracing::info!(%session, %why, attempt, "a resource could not be stopped");
                core.emit(SessionEvent::StopFailed { resource, session, why, attempt });
            }
        }
        wait = anew;
        match again {
            _ if anew => {}
            None => return,
            // Those who have waited for the resource get it in between.
            Some(again) => tokio::select! {
                () = sleep_until(again) => {}
                () = all_gone(&core, &stop.resource), if linger && !failed => {}
                () = core.closing.cancelled(), if closed.is_none() => {}
            },
        }
    }
}

/// One stop; if handlers of ended sessions may have moved the resource after it, another one when they are gone.
/// If `wait`, that is waited for while nobody takes the resource. Returns whether they go on.
async fn stop_and_wait(
    core: &Core,
    resource: &str,
    until: Option<Instant>,
    wait: bool,
) -> (Result<(), String>, bool) {
    let handlers = core.lingering(resource);
    let stopped = stop_once(core, resource, until).await;
    let all_gone = || handlers.iter().all(CancellationToken::is_cancelled);
    if handlers.is_empty() {
        return (stopped, false);
    }
    if wait {
        within(until, timeout(tries::LONGEST, gone(&handlers))).await;
    }
    if all_gone() && until.is_none_or(|until| Instant::now() < until) {
        return (stop_once(core, resource, until).await, false);
    }
    (stopped, true)
}

/// A stop that has begun; over when dropped.
struct Begun<'a> {
    core: &'a Core,
    stop: Option<&'a Stop>,
}

impl Begun<'_> {
    /// It is over, and there will be another one if `again`. Returns whether there must be one at once.
    fn over(mut self, again: bool) -> bool {
        self.end(again)
    }

    fn end(&mut self, again: bool) -> bool {
        let Some(stop) = self.stop.take() else { return false };
        let anew = self.core.with_book(|book| book.end_stop(stop, again));
        self.core.stop_is_over();
        anew
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.end(false);
    }
}

async fn all_gone(core: &Core, resource: &str) {
    gone(&core.lingering(resource)).await;
}

async fn gone(handlers: &[CancellationToken]) {
    for handler in handlers {
        handler.cancelled().await;
    }
}

/// One try; returns what went wrong.
async fn stop_once(core: &Core, resource: &str, until: Option<Instant>) -> Result<(), String> {
    count(&core.counters.stops);
    // The call is inside as well: what looks like an async fn may panic before its first poll.
    let stop = AssertUnwindSafe(async { core.resources.stop(resource).await }).catch_unwind();
    match within(until, stop).await {
        Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(error.to_string()),
        Some(Err(panic)) => Err(format!("its stop panicked: {}", text(&*panic))),
        None => Err(format!("its stop took longer than {:?}", core.stop_timeout)),
    }
}

async fn within<T>(until: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => timeout_at(until, future).await.ok(),
        None => Some(future.await),
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
