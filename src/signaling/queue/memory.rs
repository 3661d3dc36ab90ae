//! The queue of one process: the rules behind a lock, and one task for their timers.
//!
//! Floor 3. The lock is held for a step of the rules and never across an await. The task runs only while
//! there is something to wait for, so that an idle queue costs nothing.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use futures_core::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::rules::{Claimed, QueueLimits, Rules, Signal};
use super::{AnswererItem, Call, CallQueue, CallerItem, Exchange, Offer, QueueError, Waiting};

/// A [`CallQueue`] that lives in this process's memory. Clones share it.
///
/// Its methods must be called inside a tokio runtime with timers.
#[derive(Clone, Default)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

/// What a [`MemoryQueue`] holds at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Hosts with answerers or callers, or that had some seconds ago.
    pub hosts: usize,
    /// Calls, in flight or not yet let go of.
    pub calls: usize,
    /// Answerers, waiting and negotiating.
    pub answerers: usize,
    /// Calls that ended seconds ago and whose late updates are ignored.
    pub ended: usize,
    /// Deadlines set.
    pub timers: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Tells the task that an earlier timer was set, or that the queue is gone.
    timers_changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    rules: Rules,
    /// What the task sleeps until; `None` while there is no task.
    sleeps_until: Option<std::time::Instant>,
}

impl MemoryQueue {
    /// An empty queue.
    pub fn new(limits: QueueLimits) -> Self {
        let state = State { rules: Rules::new(limits), sleeps_until: None };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), timers_changed: Arc::default() }) }
    }

    /// What it holds at the moment.
    pub fn counts(&self) -> Counts {
        let [hosts, calls, answerers, ended, timers] = self.shared.lock().rules.counts();
        Counts { hosts, calls, answerers, ended, timers }
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryQueue").field(&self.counts()).finish()
    }
}

impl CallQueue for MemoryQueue {
    fn call(&self, offer: Offer) -> BoxFuture<'_, Result<Box<dyn Call>, QueueError>> {
        Box::pin(async move {
            let uuid: Arc<str> = Uuid::new_v4().to_string().into();
            let signal = Signal::default();
            self.shared.step(|rules, now| rules.offer(now, uuid.clone(), offer, signal.clone()))?;
            Ok(Box::new(MemoryCall { shared: self.shared.clone(), uuid, signal, place: 0 }) as Box<dyn Call>)
        })
    }

    fn update<'a>(
        &'a self,
        host: &'a str,
        uuid: &'a str,
        item: CallerItem,
    ) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move { self.shared.step(|rules, now| rules.update(now, host, uuid, item)) })
    }

    fn answer(&self, hosts: Vec<String>) -> BoxFuture<'_, Result<Box<dyn Waiting>, QueueError>> {
        Box::pin(async move {
            let signal = Signal::default();
            let id = self.shared.step(|rules, now| rules.wait(now, hosts, signal.clone()))?;
            let presence = Presence { shared: self.shared.clone(), id, signal };
            Ok(Box::new(MemoryWaiting { presence }) as Box<dyn Waiting>)
        })
    }

    fn close(&self) {
        self.shared.step(Rules::close);
    }
}

impl Shared {
    /// A panic elsewhere cannot leave the rules half done: they do not call out.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of the rules, and a task for the timers it set.
    fn step<R>(self: &Arc<Self>, step: impl FnOnce(&mut Rules, std::time::Instant) -> R) -> R {
        let (result, needs_task) = {
            let mut state = self.lock();
            let result = step(&mut state.rules, Instant::now().into_std());
            let needs_task = match (state.rules.next_timer(), state.sleeps_until) {
                (Some(due), None) => {
                    state.sleeps_until = Some(due);
                    true
                }
                (Some(due), Some(asleep)) if due < asleep => {
                    self.timers_changed.notify_one();
                    false
                }
                _ => false,
            };
            (result, needs_task)
        };
        if needs_task {
            let running = Running(Arc::downgrade(self));
            let task = run_timers(running, self.timers_changed.clone());
            // Ends are dropped anywhere, also where no runtime is any more, or one that is going down and
            // drops the task at once, which is why the lock is free here. Then no timer runs until a step
            // inside another runtime.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(task);
            }
        }
        result
    }

    /// Waits on a signal until a step has a result.
    async fn wait<R>(
        self: &Arc<Self>,
        signal: &Notify,
        mut step: impl FnMut(&mut Rules, std::time::Instant) -> Poll<R>,
    ) -> R {
        loop {
            if let Poll::Ready(result) = self.step(&mut step) {
                return result;
            }
            signal.notified().await;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.timers_changed.notify_one();
    }
}

/// Says that the timer task runs, and takes it back however the task ends.
struct Running(Weak<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.lock().sleeps_until = None;
        }
    }
}

async fn run_timers(mut running: Running, changed: Arc<Notify>) {
    loop {
        let due = {
            let Some(shared) = running.0.upgrade() else { return };
            let mut state = shared.lock();
            state.rules.tick(Instant::now().into_std());
            state.sleeps_until = state.rules.next_timer();
            state.sleeps_until
        };
        let Some(due) = due else {
            // Already said above, under the lock; another task may run by now.
            running.0 = Weak::new();
            return;
        };
        tokio::select! {
            () = sleep_until(Instant::from_std(due)) => {}
            () = changed.notified() => {}
        }
    }
}

struct MemoryCall {
    shared: Arc<Shared>,
    uuid: Arc<str>,
    signal: Signal,
    place: usize,
}

impl Call for MemoryCall {
    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<AnswererItem>, QueueError>> {
        Box::pin(async move {
            let (uuid, place) = (&self.uuid, self.place);
            let item = self.shared.wait(&self.signal, |rules, _| rules.read_answerer(uuid, place)).await?;
            self.place += usize::from(item.is_some());
            Ok(item.filter(|item| *item != AnswererItem::Done))
        })
    }
}

impl fmt::Debug for MemoryCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCall").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

impl Drop for MemoryCall {
    fn drop(&mut self) {
        self.shared.step(|rules, now| rules.abandon(now, &self.uuid));
    }
}

/// An answerer's place in the queue, from waiting to the end of its call.
struct Presence {
    shared: Arc<Shared>,
    id: u64,
    signal: Signal,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.shared.step(|rules, now| rules.leave(now, self.id));
    }
}

struct MemoryWaiting {
    presence: Presence,
}

impl Waiting for MemoryWaiting {
    fn offer(self: Box<Self>) -> BoxFuture<'static, Result<Box<dyn Exchange>, QueueError>> {
        Box::pin(async move {
            let Presence { shared, id, signal } = &self.presence;
            let claimed = shared.wait(signal, |rules, now| rules.claimed(now, *id)).await?;
            Ok(Box::new(MemoryExchange { presence: self.presence, claimed, place: 0 }) as Box<dyn Exchange>)
        })
    }
}

impl fmt::Debug for MemoryWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryWaiting").finish_non_exhaustive()
    }
}

struct MemoryExchange {
    presence: Presence,
    claimed: Claimed,
    place: usize,
}

impl Exchange for MemoryExchange {
    fn uuid(&self) -> &str {
        &self.claimed.uuid
    }

    fn offer(&self) -> &Offer {
        &self.claimed.offer
    }

    fn deadline(&self) -> Instant {
        Instant::from_std(self.claimed.deadline)
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<CallerItem>, QueueError>> {
        Box::pin(async move {
            let Presence { shared, signal, .. } = &self.presence;
            let (uuid, place) = (&self.claimed.uuid, self.place);
            let item = shared.wait(signal, |rules, _| rules.read_caller(uuid, place)).await?;
            self.place += usize::from(item.is_some());
            Ok(item)
        })
    }

    fn send(&self, item: AnswererItem) -> BoxFuture<'_, Result<(), QueueError>> {
        let Presence { shared, id, .. } = &self.presence;
        Box::pin(async move { shared.step(|rules, now| rules.send(now, *id, item)) })
    }
}

impl fmt::Debug for MemoryExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryExchange").field("uuid", &self.claimed.uuid).finish_non_exhaustive()
    }
}
