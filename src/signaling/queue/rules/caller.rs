//! The rules for callers: offers, updates, giving up.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tonic::Code;

use super::{CallState, Log, Over, QueueError, Rules, Signal, Timer, failed};
use crate::signaling::queue::log::Pushed;
use crate::signaling::queue::{AnswererItem, CallerItem, MAX_HOST, Offer};

impl Rules {
    /// Puts an offer in the queue under a new uuid.
    pub(in super::super) fn offer(
        &mut self,
        now: Instant,
        uuid: Arc<str>,
        offer: Offer,
        caller: Signal,
    ) -> Result<(), QueueError> {
        if self.closed {
            return Err(QueueError::Closed);
        }
        if offer.host.len() > MAX_HOST {
            return Err(QueueError::HostTooLong);
        }
        let grace = self.limits.grace;
        let present = |state: &super::Host| {
            state.present > 0 || state.gone_since.is_some_and(|since| since + grace > now)
        };
        let room = self.room();
        let Some((host, _)) = self.hosts.get_key_value(offer.host.as_str()) else {
            return Err(QueueError::Offline);
        };
        let host = host.clone();
        let Some(state) = self.hosts.get_mut(&host).filter(|state| present(state)) else {
            return Err(QueueError::Offline);
        };
        let full = state.callers >= self.limits.callers_per_host || self.calls.len() >= self.limits.calls;
        if full || offer.cost() > room {
            return Err(QueueError::TooManyCalls);
        }
        state.callers += 1;
        state.pending.push_back(uuid.clone());
        let deadline = now + offer.lifetime;
        self.timers.insert((deadline, Timer::Deadline(uuid.clone())));
        let mut call = CallState {
            host: host.clone(),
            offer: Arc::new(offer),
            deadline,
            from_caller: Log::default(),
            from_answerer: Log::default(),
            caller,
            caller_open: true,
            claim: None,
            answered: false,
            delivered: false,
            over: None,
            counted: 0,
        };
        call.count(&mut self.bytes);
        self.calls.insert(uuid, call);
        self.match_host(now, &host);
        Ok(())
    }

    /// Adds what the caller says to its call.
    pub(in super::super) fn update(
        &mut self,
        now: Instant,
        host: &str,
        uuid: &str,
        item: CallerItem,
    ) -> Result<(), QueueError> {
        if self.closed {
            return Err(QueueError::Closed);
        }
        let room = self.room();
        let Some(call) = self.calls.get_mut(uuid).filter(|call| *call.host == *host) else {
            let ended = self.ended.get(uuid).is_some_and(|ended| **ended == *host);
            return if ended { Ok(()) } else { Err(QueueError::no_active_offer(uuid)) };
        };
        if call.over.is_some() {
            return Ok(());
        }
        if !call.from_caller.fits(&item, room) {
            return Err(QueueError::TooManyCalls);
        }
        let error = matches!(item, CallerItem::Error(_));
        match call.from_caller.push(item, self.limits.candidates, self.limits.candidate_bytes) {
            Pushed::AfterEnd => return Ok(()),
            Pushed::Full => return Err(QueueError::TooManyCandidates),
            Pushed::Yes => {}
        }
        call.count(&mut self.bytes);
        let done = call.from_caller.has_ended() && call.from_answerer.has_ended();
        let claim = call.claim;
        if error {
            self.end(now, uuid, Over::CallerFailed);
        } else if done {
            self.end(now, uuid, Over::Finished);
        } else if let Some(answerer) = claim.and_then(|id| self.answerers.get(&id)) {
            answerer.signal.notify_one();
        }
        Ok(())
    }

    /// What the answerer has said at this place of the log.
    pub(in super::super) fn read_answerer(
        &mut self,
        uuid: &str,
        place: usize,
    ) -> Poll<Result<Option<AnswererItem>, QueueError>> {
        let Some(call) = self.calls.get_mut(uuid) else { return Poll::Ready(Ok(None)) };
        if let Some(item) = call.from_answerer.read(place) {
            call.delivered |= matches!(item, AnswererItem::Answer(_));
            return Poll::Ready(Ok(Some(item)));
        }
        // Whoever reads past the end of the log, has read that the answerer is done.
        match call.over {
            _ if call.from_answerer.has_ended() => Poll::Ready(Ok(None)),
            None => Poll::Pending,
            Some(Over::Finished) => Poll::Ready(Ok(None)),
            Some(Over::Deadline(waited)) => Poll::Ready(Err(QueueError::Deadline(waited))),
            Some(Over::Offline) => Poll::Ready(Err(QueueError::Offline)),
            Some(Over::CallerFailed | Over::Abandoned) => Poll::Ready(Err(QueueError::CallerFailed)),
            Some(Over::Closed) => Poll::Ready(Err(QueueError::Closed)),
        }
    }

    /// The caller let go of its end.
    ///
    /// That is the normal end when the answerer was done, and may be one when the caller has its answer and
    /// was done itself: many cancel the stream once they are connected. Else it gave up, and the answerer
    /// shall not waste its time.
    pub(in super::super) fn abandon(&mut self, now: Instant, uuid: &str) {
        let Some(call) = self.calls.get_mut(uuid) else { return };
        call.caller_open = false;
        let host = call.host.clone();
        let live = call.over.is_none() && !call.from_answerer.has_ended();
        if live && !(call.from_caller.has_ended() && call.delivered) {
            let error = failed(Code::Cancelled, "caller went away");
            call.from_caller.push(CallerItem::Error(error), 0, 0);
            self.end(now, uuid, Over::Abandoned);
        }
        self.tidy_call(uuid);
        if let Some(state) = self.hosts.get_mut(&host) {
            state.callers = state.callers.saturating_sub(1);
        }
        self.tidy_host(&host);
    }
}
