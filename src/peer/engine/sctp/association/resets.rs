//! Reset of streams (RFC 6525): a stream starts anew, so that its number can serve another data channel
//! (RFC 8831 6.7).
//!
//! Each side resets its own outgoing streams and may ask the other to reset its own. One request of ours is
//! under way at a time; requests have numbers, so that one that comes again is not carried out twice.

use std::collections::VecDeque;
use std::time::Instant;

use super::retry::{Retry, Ring};
use super::{Association, Transfer};
use crate::peer::engine::recovery::Tsn;
use crate::peer::engine::sctp::Event;
use crate::peer::engine::sctp::codec::{Parameters, Reset, ResetResult, Streams, kind};

/// Streams in one request of ours; the others follow in the next.
const MOST_STREAMS: usize = 128;

/// Requests of the peer's that wait for data at a time, and of which it is known what became of them. RFC 6525 5.1.1
/// allows a peer one at a time.
const MOST_REQUESTS: usize = 8;

/// How far ahead of the next one a request's number is believed to have overtaken others.
const MOST_AHEAD: u32 = 64;

/// Resets under way.
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// The number of our next request.
    next: u32,
    asked: Option<Asked>,
    retry: Retry,
    /// The number of the peer's next request.
    expected: u32,
    /// What became of those before, the last one at the end.
    answered: VecDeque<(u32, ResetResult)>,
    /// Requests of the peer's that wait for data from before them, in order.
    deferred: VecDeque<Deferred>,
    /// The number of the peer's request that made us reset streams of ours.
    answers: Option<u32>,
}

/// Our request.
#[derive(Debug)]
struct Asked {
    number: u32,
    /// What it answers, see [`Reset::Outgoing`].
    response: u32,
    /// Our last TSN before it.
    last: Tsn,
    streams: Vec<u16>,
}

/// The peer's request.
#[derive(Debug)]
struct Deferred {
    number: u32,
    last: u32,
    /// Sorted, each once.
    streams: Vec<u16>,
}

impl Resets {
    /// Requests are numbered from each side's first TSN (RFC 6525 4.1).
    pub(super) fn start(&mut self, local: u32, peer: u32) {
        *self = Self { next: local, expected: peer, ..Self::default() };
    }

    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry.deadline()
    }
}

impl Association {
    /// Starts a stream of ours anew, once all that it took was acknowledged; until [`Event::Reset`] it takes
    /// no more. A peer that cannot do resets is not asked: then it goes on as it was.
    pub(crate) fn reset_stream(&mut self, now: Instant, stream: u16) {
        self.outbound.drain(stream);
        self.progress(now);
    }

    /// RE-CONFIG: one or two parameters.
    pub(super) fn on_reconfig(&mut self, now: Instant, parameters: Parameters<'_>) {
        if !self.agreed.reset || !self.state.is_connected() {
            self.stats.chunks_ignored += 1;
            return;
        }
        for parameter in parameters.take(2) {
            match Reset::parse(&parameter) {
                Some(Reset::Outgoing { request, last, streams, .. }) => {
                    self.on_outgoing(request, last, &streams)
                }
                Some(Reset::Incoming { request, streams }) => self.on_incoming(request, &streams),
                Some(Reset::Response { request, result }) => self.on_response(now, request, result),
                Some(Reset::Other { request }) => self.answer(request, |_| Some(ResetResult::DENIED)),
                None => self.stats.chunks_ignored += 1,
            }
        }
    }

    /// The peer starts streams of its own anew (5.2.2).
    fn on_outgoing(&mut self, request: u32, last: u32, streams: &Streams<'_>) {
        if request == self.resets.expected && self.resets.deferred.len() >= MOST_REQUESTS {
            return self.respond(request, ResetResult::BUSY); // it may ask again
        }
        self.answer(request, |association| {
            let mut streams: Vec<u16> = streams.iter().collect();
            streams.sort_unstable();
            streams.dedup();
            association.resets.deferred.push_back(Deferred { number: request, last, streams });
            Some(ResetResult::IN_PROGRESS)
        });
        self.perform_deferred_resets();
    }

    /// The peer wants streams of ours to start anew (5.2.3). The answer is our own request.
    fn on_incoming(&mut self, request: u32, streams: &Streams<'_>) {
        self.answer(request, |association| {
            let mut wanted: Vec<u16> =
                streams.iter().filter(|stream| *stream < association.streams).collect();
            if streams.iter().len() == 0 {
                wanted = association.outbound.known();
            }
            // What never sent anything, or is on its way to a reset already, needs none.
            wanted.retain(|stream| association.outbound.drain_used(*stream));
            if wanted.is_empty() {
                return Some(ResetResult::NOTHING_TO_DO);
            }
            association.resets.answers = Some(request);
            None
        });
    }

    /// Carries out a request if its number is the next one; tells what became of it. One that overtook others
    /// gets no answer: it comes again.
    fn answer(&mut self, request: u32, carry_out: impl FnOnce(&mut Self) -> Option<ResetResult>) {
        let ahead = request.wrapping_sub(self.resets.expected);
        if ahead == 0 {
            self.resets.expected = request.wrapping_add(1);
            let result = carry_out(self);
            if self.resets.answered.len() >= MOST_REQUESTS {
                self.resets.answered.pop_front();
            }
            self.resets.answered.push_back((request, result.unwrap_or(ResetResult::IN_PROGRESS)));
            if let Some(result) = result.filter(|result| *result != ResetResult::IN_PROGRESS) {
                self.respond(request, result);
            }
        } else if ahead > MOST_AHEAD {
            let known = self.resets.answered.iter().find(|(number, _)| *number == request);
            let result = known.map_or(ResetResult::BAD_NUMBER, |(_, result)| *result);
            self.respond(request, result);
        }
    }

    fn respond(&mut self, request: u32, result: ResetResult) {
        let mut value = Vec::new();
        Reset::write_response(&mut value, request, result);
        self.due.chunk(kind::RE_CONFIG, &value);
    }

    /// Carries out the peer's requests, each as soon as all data from before it has come (5.2.2 E).
    pub(super) fn perform_deferred_resets(&mut self) {
        while let Some(Transfer { inbound, .. }) = &mut self.transfer
            && self.resets.deferred.front().is_some_and(|one| inbound.has_all_up_to(one.last))
            && let Some(Deferred { number, streams, .. }) = self.resets.deferred.pop_front()
        {
            let streams = if streams.is_empty() {
                inbound.reset_all()
            } else {
                inbound.reset(&streams);
                streams
            };
            for stream in streams {
                self.events.push_back(Event::Reset { stream, by_peer: true });
            }
            if let Some((_, result)) = self.resets.answered.iter_mut().find(|(known, _)| *known == number) {
                *result = ResetResult::PERFORMED;
            }
            self.respond(number, ResetResult::PERFORMED);
        }
    }

    /// The peer has answered our request.
    fn on_response(&mut self, now: Instant, request: u32, result: ResetResult) {
        let Some(asked) = self.resets.asked.take_if(|asked| asked.number == request) else { return };
        if matches!(result, ResetResult::IN_PROGRESS | ResetResult::BUSY) {
            self.resets.asked = Some(asked);
            return; // the timer asks again
        }
        self.resets.retry.stop();
        let performed = matches!(result, ResetResult::PERFORMED | ResetResult::NOTHING_TO_DO);
        self.end_resets(&asked.streams, performed);
        self.progress(now);
    }

    /// Asks the peer for the resets that are ready (5.1.2).
    pub(super) fn ask_resets(&mut self, now: Instant) {
        if self.resets.asked.is_some() || !self.outbound.is_draining() || !self.state.is_connected() {
            return;
        }
        let Some(transfer) = &self.transfer else { return };
        let last = transfer.flight.next_tsn().previous();
        let streams = self.outbound.resettable(MOST_STREAMS);
        if streams.is_empty() {
            return;
        }
        if !self.agreed.reset {
            return self.end_resets(&streams, false);
        }
        let number = self.resets.next;
        self.resets.next = number.wrapping_add(1);
        let response = self.resets.answers.take().unwrap_or_else(|| self.resets.expected.wrapping_sub(1));
        self.resets.asked = Some(Asked { number, response, last, streams });
        let patience = self.config.recovery.max_silence;
        self.resets.retry.start(now, self.rtt_hint(), patience);
        self.write_request();
    }

    /// Asks again if it is time to.
    pub(super) fn repeat_reset(&mut self, now: Instant) {
        match self.resets.retry.ring(now) {
            Ring::Quiet => {}
            Ring::Again => self.write_request(),
            Ring::GiveUp => {
                // A peer that is there and does not answer. Nobody knows which message it expects next, so the
                // streams take no more.
                for stream in self.resets.asked.take().into_iter().flat_map(|asked| asked.streams) {
                    self.events.push_back(Event::Reset { stream, by_peer: false });
                }
            }
        }
    }

    fn write_request(&mut self) {
        let Some(Asked { number, response, last, streams }) = &self.resets.asked else { return };
        let mut value = Vec::new();
        Reset::write_outgoing(&mut value, *number, *response, last.0, streams);
        self.due.chunk(kind::RE_CONFIG, &value);
    }

    fn end_resets(&mut self, streams: &[u16], performed: bool) {
        for stream in streams {
            self.outbound.end_reset(*stream, performed);
            self.events.push_back(Event::Reset { stream: *stream, by_peer: false });
        }
    }
}
