//! The rules for answerers: waiting, being given an offer, answering, leaving.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::{AnswererState, Log, Over, QueueError, Rules, Signal, Timer, failed};
use crate::signaling::queue::log::Pushed;
use crate::signaling::queue::{AnswererItem, CallerItem, MAX_HOST, Offer};

/// An offer that an answerer was given.
#[derive(Debug, Clone)]
pub(in super::super) struct Claimed {
    pub(in super::super) uuid: Arc<str>,
    pub(in super::super) offer: Arc<Offer>,
    pub(in super::super) deadline: Instant,
}

impl Rules {
    /// Lets an answerer wait on its hosts. The number names it from now on.
    pub(in super::super) fn wait(
        &mut self,
        now: Instant,
        hosts: Vec<String>,
        signal: Signal,
    ) -> Result<u64, QueueError> {
        if self.closed {
            return Err(QueueError::Closed);
        }
        let mut names: Vec<Arc<str>> = Vec::with_capacity(hosts.len());
        for host in hosts {
            if host.len() > MAX_HOST {
                return Err(QueueError::HostTooLong);
            }
            let known = self.hosts.get_key_value(host.as_str());
            if known.is_some_and(|(_, state)| state.present >= self.limits.answerers_per_host) {
                return Err(QueueError::TooManyAnswerers);
            }
            let name = known.map_or_else(|| Arc::from(host.as_str()), |(name, _)| name.clone());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        self.last_answerer += 1;
        let id = self.last_answerer;
        for name in &names {
            let state = self.hosts.entry(name.clone()).or_default();
            state.present += 1;
            if let Some(since) = state.gone_since.take() {
                self.timers.remove(&(since + self.limits.grace, Timer::Gone(name.clone())));
            }
        }
        self.answerers.insert(id, AnswererState { hosts: names, signal, claim: None });
        self.line_up(now, id);
        Ok(id)
    }

    /// The offer that this answerer was given, if any.
    pub(in super::super) fn claimed(&mut self, now: Instant, id: u64) -> Poll<Result<Claimed, QueueError>> {
        if self.closed {
            return Poll::Ready(Err(QueueError::Closed));
        }
        loop {
            let Some(answerer) = self.answerers.get_mut(&id) else { return Poll::Pending };
            let Some(uuid) = answerer.claim.clone() else { return Poll::Pending };
            if let Some(call) = self.calls.get_mut(&uuid) {
                if call.over.is_none() {
                    let (offer, deadline) = (call.offer.clone(), call.deadline);
                    return Poll::Ready(Ok(Claimed { uuid, offer, deadline }));
                }
                call.claim = None;
            }
            // The caller left before the answerer saw the offer: wait on.
            answerer.claim = None;
            self.tidy_call(&uuid);
            self.line_up(now, id);
        }
    }

    /// The answerer let go of its end, before, during or after a call.
    pub(in super::super) fn leave(&mut self, now: Instant, id: u64) {
        let Some(answerer) = self.answerers.remove(&id) else { return };
        for name in &answerer.hosts {
            let Some(state) = self.hosts.get_mut(name) else { continue };
            state.waiting.retain(|waiting| *waiting != id);
            state.present = state.present.saturating_sub(1);
            if state.present == 0 {
                state.gone_since = Some(now);
                self.timers.insert((now + self.limits.grace, Timer::Gone(name.clone())));
            }
        }
        if let Some(uuid) = answerer.claim {
            self.release(now, &uuid);
        }
    }

    /// Adds what the answerer says to its call.
    pub(in super::super) fn send(
        &mut self,
        now: Instant,
        id: u64,
        item: AnswererItem,
    ) -> Result<(), QueueError> {
        if self.closed {
            return Err(QueueError::Closed);
        }
        let Some(uuid) = self.answerers.get(&id).and_then(|answerer| answerer.claim.clone()) else {
            return Ok(());
        };
        let room = self.room();
        let Some(call) = self.calls.get_mut(&uuid).filter(|call| call.over.is_none()) else { return Ok(()) };
        let (answer, error) =
            (matches!(item, AnswererItem::Answer(_)), matches!(item, AnswererItem::Error(_)));
        if answer && call.answered {
            return Ok(());
        }
        if !call.from_answerer.fits(&item, room) {
            // Without it the call may come to nothing. Another answerer would not fare better.
            let (code, text) = (QueueError::TooManyCalls.code(), QueueError::TooManyCalls.to_string());
            call.from_answerer.push(AnswererItem::Error(failed(code, &text)), 0, 0);
            call.count(&mut self.bytes);
            self.end(now, &uuid, Over::Finished);
            return Err(QueueError::TooManyCalls);
        }
        match call.from_answerer.push(item, self.limits.candidates, self.limits.candidate_bytes) {
            Pushed::AfterEnd => return Ok(()),
            Pushed::Full => return Err(QueueError::TooManyCandidates),
            Pushed::Yes => {}
        }
        call.count(&mut self.bytes);
        call.answered |= answer;
        call.caller.notify_one();
        if error || (call.from_answerer.has_ended() && call.from_caller.has_ended()) {
            self.end(now, &uuid, Over::Finished);
        }
        Ok(())
    }

    /// What the caller has said at this place of the log.
    pub(in super::super) fn read_caller(
        &self,
        uuid: &str,
        place: usize,
    ) -> Poll<Result<Option<CallerItem>, QueueError>> {
        let Some(call) = self.calls.get(uuid) else { return Poll::Ready(Ok(None)) };
        if let Some(item) = call.from_caller.read(place) {
            return Poll::Ready(Ok(Some(item)));
        }
        match call.over {
            None => Poll::Pending,
            Some(Over::Closed) => Poll::Ready(Err(QueueError::Closed)),
            Some(_) => Poll::Ready(Ok(None)),
        }
    }

    /// Gives waiting offers to waiting answerers of a host.
    ///
    /// The oldest offer goes to the newest answerer: of two streams of one robot the newer is the one that
    /// surely lives, while the older may be left over from a network that is gone.
    pub(super) fn match_host(&mut self, now: Instant, host: &str) {
        while let Some(state) = self.hosts.get_mut(host).filter(|state| !state.waiting.is_empty()) {
            let Some(uuid) = state.pending.pop_front() else { return };
            let Some(call) = self.calls.get_mut(&uuid) else { continue };
            let left = call.deadline.saturating_duration_since(now);
            if call.over.is_some() || left < call.offer.lifetime / 5 {
                continue;
            }
            let Some(id) = state.waiting.pop() else { return };
            let Some(answerer) = self.answerers.get_mut(&id) else { continue };
            call.claim = Some(id);
            answerer.claim = Some(uuid);
            answerer.signal.notify_one();
            for name in answerer.hosts.iter().filter(|name| ***name != *host) {
                if let Some(other) = self.hosts.get_mut(name) {
                    other.waiting.retain(|waiting| *waiting != id);
                }
            }
        }
    }

    /// Puts an answerer without an offer in line on all its hosts.
    fn line_up(&mut self, now: Instant, id: u64) {
        let Some(hosts) = self.answerers.get(&id).map(|answerer| answerer.hosts.clone()) else { return };
        for name in &hosts {
            if let Some(state) = self.hosts.get_mut(name) {
                state.waiting.push(id);
            }
        }
        for name in &hosts {
            self.match_host(now, name);
        }
    }

    /// The claimer of a call has gone.
    fn release(&mut self, now: Instant, uuid: &Arc<str>) {
        let Some(call) = self.calls.get_mut(uuid) else { return };
        call.claim = None;
        if call.over.is_some() {
            self.tidy_call(uuid);
        } else if call.answered || call.from_answerer.has_ended() {
            // What it had to say may be enough. Its end is the end of its candidates.
            call.from_answerer.push(AnswererItem::Done, 0, 0);
            self.end(now, uuid, Over::Finished);
        } else {
            call.from_answerer = Log::default();
            call.count(&mut self.bytes);
            let host = call.host.clone();
            if let Some(state) = self.hosts.get_mut(&host) {
                state.pending.push_front(uuid.clone());
            }
            self.match_host(now, &host);
        }
    }
}
