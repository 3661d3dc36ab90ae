//! The rules of the queue, without I/O or clock: who gets which offer, what ends a call, what is forgotten.
//!
//! Floor 3. Everything that happens is a method with the time as an argument; what comes of it is read by
//! the two ends, each with its own place in the log, and woken by its [`Signal`]. [`Rules::tick`] does what
//! is due. Invariant: a host has a record only while somebody answers, calls or has just left; a call only
//! while somebody holds an end of it or its deadline lies ahead.

mod answerer;
mod caller;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tonic::Code;

pub(super) use self::answerer::Claimed;
use super::error::{QueueError, Waited};
use super::log::Log;
use super::{AnswererItem, CallerItem, Offer};
use crate::proto::google_rpc::Status;

/// Wakes the one reader of an end.
pub(super) type Signal = Arc<Notify>;

/// How long the uuid of an ended call is known after the call's deadline, so that late updates are not errors.
const REMEMBERED: Duration = Duration::from_secs(5);

/// What one process holds at most, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimits {
    /// Calls in flight per host. 50 (goutils: the same).
    pub callers_per_host: usize,
    /// Answerers per host, waiting and negotiating. 16; goutils allows 4, which is too few for robots that
    /// open a new stream as soon as one has an offer.
    pub answerers_per_host: usize,
    /// Calls in flight, and as many again just ended, over all hosts. 16384.
    pub calls: usize,
    /// Bytes that the calls in flight hold together, over all hosts: offers, answers and candidates. 256 MiB.
    /// What would be more is refused as a call too many; an answer or a candidate of the answerer that is
    /// refused ends its call. Statuses that end a call, of 16 KiB at most, are counted and not refused.
    pub bytes: usize,
    /// Candidates that each side of a call may send. 128.
    pub candidates: usize,
    /// Bytes that they may have together, per side. 64 KiB.
    pub candidate_bytes: usize,
    /// How long a host counts as present after its last answerer left. 3 s: robots open a new stream after
    /// each call, some after a pause of a second.
    pub grace: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            callers_per_host: 50,
            answerers_per_host: 16,
            calls: 16_384,
            bytes: 256 * 1024 * 1024,
            candidates: 128,
            candidate_bytes: 64 * 1024,
            grace: Duration::from_secs(3),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Rules {
    limits: QueueLimits,
    closed: bool,
    hosts: HashMap<Arc<str>, Host>,
    calls: HashMap<Arc<str>, CallState>,
    /// What they hold together.
    bytes: usize,
    answerers: HashMap<u64, AnswererState>,
    last_answerer: u64,
    /// Ended calls and their hosts.
    ended: HashMap<Arc<str>, Arc<str>>,
    timers: BTreeSet<(Instant, Timer)>,
}

#[derive(Debug, Default)]
struct Host {
    /// Answerers, waiting and negotiating.
    present: usize,
    /// Those that wait, the newest last.
    waiting: Vec<u64>,
    /// Offers that nobody has taken, the oldest first.
    pending: VecDeque<Arc<str>>,
    /// Ends that callers hold.
    callers: usize,
    /// When the last answerer left, for the length of the grace.
    gone_since: Option<Instant>,
}

#[derive(Debug)]
struct CallState {
    host: Arc<str>,
    offer: Arc<Offer>,
    deadline: Instant,
    from_caller: Log<CallerItem>,
    from_answerer: Log<AnswererItem>,
    caller: Signal,
    /// Whether the caller still holds its end.
    caller_open: bool,
    /// Who has the offer.
    claim: Option<u64>,
    /// The answer is in the log.
    answered: bool,
    /// The caller has read it.
    delivered: bool,
    over: Option<Over>,
    /// Its part of [`Rules::bytes`].
    counted: usize,
}

#[derive(Debug)]
struct AnswererState {
    hosts: Vec<Arc<str>>,
    signal: Signal,
    claim: Option<Arc<str>>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Both sides are done, or the answerer failed or left after its answer.
    Finished,
    Deadline(Waited),
    Offline,
    CallerFailed,
    Abandoned,
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Deadline(Arc<str>),
    Gone(Arc<str>),
    Forget(Arc<str>),
}

impl CallState {
    /// Brings the sum up to date after a change of the logs.
    fn count(&mut self, sum: &mut usize) {
        let held = self.offer.cost() + self.from_caller.held() + self.from_answerer.held();
        *sum = sum.saturating_sub(self.counted).saturating_add(held);
        self.counted = held;
    }
}

impl Offer {
    /// What it takes of memory.
    fn cost(&self) -> usize {
        self.host.len() + self.sdp.len() + size_of::<CallState>()
    }
}

impl Rules {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Does what is due: deadlines, hosts that stayed away, uuids to forget.
    pub(super) fn tick(&mut self, now: Instant) {
        while self.next_timer().is_some_and(|due| due <= now) {
            let Some((_, timer)) = self.timers.pop_first() else { return };
            match timer {
                Timer::Deadline(uuid) => self.deadline(now, &uuid),
                Timer::Gone(host) => self.gone(now, &host),
                Timer::Forget(uuid) => {
                    self.ended.remove(&uuid);
                }
            }
        }
    }

    /// Bytes that calls may still take.
    fn room(&self) -> usize {
        self.limits.bytes.saturating_sub(self.bytes)
    }

    /// Ends everything and refuses what comes later.
    pub(super) fn close(&mut self, now: Instant) {
        self.closed = true;
        let live: Vec<_> =
            self.calls.iter().filter(|(_, call)| call.over.is_none()).map(|(uuid, _)| uuid.clone()).collect();
        for uuid in live {
            self.end(now, &uuid, Over::Closed);
        }
        for answerer in self.answerers.values() {
            answerer.signal.notify_one();
        }
    }

    /// Hosts, calls, answerers, ended uuids and timers held.
    pub(super) fn counts(&self) -> [usize; 5] {
        [self.hosts.len(), self.calls.len(), self.answerers.len(), self.ended.len(), self.timers.len()]
    }

    fn deadline(&mut self, now: Instant, uuid: &str) {
        let Some(call) = self.calls.get_mut(uuid) else { return };
        let waited = match (call.claim, call.answered) {
            (None, _) => Waited::ForAnswerer,
            (_, false) => Waited::ForAnswer,
            (_, true) => Waited::ForEnd,
        };
        let text = "call was not negotiated in time";
        call.from_caller.push(CallerItem::Error(failed(Code::DeadlineExceeded, text)), 0, 0);
        self.end(now, uuid, Over::Deadline(waited));
    }

    fn gone(&mut self, now: Instant, host: &str) {
        let grace = self.limits.grace;
        let Some(state) = self.hosts.get_mut(host) else { return };
        // The timer of an earlier absence: the host came back, and may have left again since.
        if state.gone_since.is_none_or(|since| since + grace > now) {
            return;
        }
        state.gone_since = None;
        for uuid in std::mem::take(&mut state.pending) {
            self.end(now, &uuid, Over::Offline);
        }
        self.tidy_host(host);
    }

    /// Ends a call once. Its ends are woken, and read what is left before they hear of it.
    fn end(&mut self, now: Instant, uuid: &str, over: Over) {
        let Some((uuid, _)) = self.calls.get_key_value(uuid) else { return };
        let uuid = uuid.clone();
        let Some(call) = self.calls.get_mut(&uuid).filter(|call| call.over.is_none()) else { return };
        call.over = Some(over);
        call.caller.notify_one();
        if let Some(answerer) = call.claim.and_then(|id| self.answerers.get(&id)) {
            answerer.signal.notify_one();
        }
        if let Some(host) = self.hosts.get_mut(&call.host) {
            host.pending.retain(|pending| *pending != uuid);
        }
        self.timers.remove(&(call.deadline, Timer::Deadline(uuid.clone())));
        // Full only when somebody ends calls by the thousand: then the newest are not remembered.
        if self.ended.len() < self.limits.calls {
            self.ended.insert(uuid.clone(), call.host.clone());
            self.timers.insert((call.deadline.max(now) + REMEMBERED, Timer::Forget(uuid.clone())));
        }
        self.tidy_call(&uuid);
    }

    fn tidy_call(&mut self, uuid: &str) {
        let unused = |call: &CallState| call.over.is_some() && !call.caller_open && call.claim.is_none();
        if self.calls.get(uuid).is_some_and(unused) {
            let counted = self.calls.remove(uuid).map_or(0, |call| call.counted);
            self.bytes = self.bytes.saturating_sub(counted);
        }
    }

    fn tidy_host(&mut self, host: &str) {
        let unused = |state: &Host| state.present == 0 && state.callers == 0 && state.gone_since.is_none();
        if self.hosts.get(host).is_some_and(unused) {
            self.hosts.remove(host);
        }
    }
}

fn failed(code: Code, message: &str) -> Status {
    Status { code: code as i32, message: message.to_owned(), details: Vec::new() }
}
