//! The rules of one call, from the offer to the open channel.
//!
//! Floor 3, pure: `step(input, now)` returns what is to be done; `wake_at` says when to step with
//! [`Input::Tick`]. The driver beside it does the rest.
//!
//! Contract: goutils `rpc/wrtc_client.go`. Where farlink differs, the reason stands at the place.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use super::error::{CallError, CallErrorKind, CallStage, CallViolation};
use super::{CallConfig, CallProgress};
use crate::peer::{Candidate, Description, DescriptionKind, PeerError, Phase};
use crate::proto::webrtc::{CallResponse, IceCandidate, call_response};
use crate::signaling::MAX_CANDIDATES;

/// How long a trickling caller waits for its first candidate before it sends the offer. Answerers that
/// only read candidates out of descriptions then have one; host candidates are there within a millisecond,
/// so the wait costs nothing.
const FIRST_CANDIDATE: Duration = Duration::from_millis(20);

/// The longest that a caller without trickle gathers, so that one dead STUN server does not eat the dial.
const GATHERING: Duration = Duration::from_secs(3);

/// Candidates on their way to signaling at once. They start in order.
const IN_FLIGHT: usize = 4;

const NO_CANDIDATES: &str = "found no local candidate: see that this machine has a network, and with relays \
    only that a TURN server answers and takes its credentials";

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// The stack made the offer, or could not.
    OfferMade(Result<Description, PeerError>),
    /// A local candidate.
    Candidate(Candidate),
    /// There are no more local candidates.
    GatheringEnded,
    /// A message on `Call`.
    Response(CallResponse),
    /// `Call` ended without an error.
    StreamEnded,
    /// `Call` ended with an error.
    StreamFailed(Status),
    /// One [`Output::SendCandidate`] is done, well or not.
    CandidateSent,
    /// The stack took the answer, or could not.
    AnswerTaken(Result<(), PeerError>),
    /// The peer connection's phase.
    Phase(Phase),
    /// The data channel is open.
    ChannelOpen,
    /// The data channel never will be.
    ChannelClosed,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Output {
    /// Open `Call` with the offer as it now stands; this is the offer as it was made.
    Call { offer: Description, disable_trickle: bool },
    /// The call has this name from now on.
    Named(String),
    /// Give the answer to the stack.
    SetAnswer(Description),
    /// Give the answerer's candidate to the stack.
    AddCandidate(Candidate),
    /// Send a local candidate to signaling.
    SendCandidate(Candidate),
    /// Tell the user.
    Progress(CallProgress),
    /// The call is over.
    Finish(Result<(), CallError>),
}

/// One call.
#[derive(Debug)]
pub(super) struct Machine {
    started: Instant,
    deadline: Instant,
    trickle: bool,
    passed: Option<CallProgress>,
    /// The offer, made and not sent.
    offer: Option<Description>,
    send_offer_by: Option<Instant>,
    found_any: bool,
    gathered: bool,
    uuid: Option<String>,
    local: VecDeque<Candidate>,
    local_seen: usize,
    remote_seen: usize,
    in_flight: usize,
    over: bool,
}

impl Machine {
    pub(super) fn new(config: &CallConfig, now: Instant) -> Self {
        Self {
            started: now,
            deadline: config.deadline,
            trickle: config.trickle,
            passed: None,
            offer: None,
            send_offer_by: None,
            found_any: false,
            gathered: false,
            uuid: None,
            local: VecDeque::new(),
            local_seen: 0,
            remote_seen: 0,
            in_flight: 0,
            over: false,
        }
    }

    /// When to step with [`Input::Tick`] if nothing happens before.
    pub(super) fn wake_at(&self) -> Instant {
        match self.send_offer_by {
            Some(by) if self.offer.is_some() => by.min(self.deadline),
            _ => self.deadline,
        }
    }

    /// What a call that stops here was doing.
    pub(super) fn stage(&self) -> CallStage {
        match self.passed {
            None => CallStage::Offer,
            Some(CallProgress::Offered) => CallStage::Answer,
            Some(CallProgress::Answered) => CallStage::Connectivity,
            Some(CallProgress::Connected | CallProgress::Open) => CallStage::DataChannel,
        }
    }

    /// Takes what happened; returns what is to be done, in order.
    pub(super) fn step(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        if self.over {
            return out;
        }
        if let Err(kind) = self.apply(input, now, &mut out) {
            self.over = true;
            out.push(Output::Finish(Err(CallError::new(self.stage(), kind))));
        }
        out
    }

    fn apply(&mut self, input: Input, now: Instant, out: &mut Vec<Output>) -> Result<(), CallErrorKind> {
        match input {
            Input::OfferMade(made) => {
                self.offer = Some(made.map_err(CallErrorKind::Peer)?);
                let left = self.deadline.saturating_duration_since(now);
                let wait = if self.trickle { FIRST_CANDIDATE } else { GATHERING.min(left / 2) };
                self.send_offer_by = Some(now + wait);
                self.send_offer(now, out);
            }
            Input::Candidate(candidate) => {
                self.found_any = true;
                self.send_offer(now, out);
                self.keep_candidate(candidate);
                self.send_candidates(out);
            }
            Input::GatheringEnded => {
                self.gathered = true;
                if !self.found_any {
                    // Nothing to try from: no relay answered, or this machine has no network.
                    return Err(CallErrorKind::Peer(PeerError::new(NO_CANDIDATES)));
                }
                self.send_offer(now, out);
            }
            Input::Response(response) => self.respond(response, out)?,
            Input::StreamEnded if self.uuid.is_none() => {
                return Err(CallErrorKind::Protocol(CallViolation::EndedBeforeAnswer));
            }
            // The answerer has no more to say. The channel may still open.
            Input::StreamEnded => {}
            Input::StreamFailed(status) => self.stream_failed(status)?,
            Input::CandidateSent => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.send_candidates(out);
            }
            Input::AnswerTaken(taken) => {
                taken.map_err(CallErrorKind::Peer)?;
                self.pass(CallProgress::Answered, out);
            }
            Input::Phase(phase) => self.phase(phase, out)?,
            Input::ChannelOpen => {
                self.pass(CallProgress::Open, out);
                self.over = true;
                out.push(Output::Finish(Ok(())));
            }
            Input::ChannelClosed => {
                return Err(CallErrorKind::Peer(PeerError::new("the data channel closed before it opened")));
            }
            Input::Tick if now >= self.deadline => {
                let (stage, elapsed) = (self.stage(), now.saturating_duration_since(self.started));
                return Err(CallErrorKind::Timeout { stage, elapsed });
            }
            Input::Tick => self.send_offer(now, out),
        }
        Ok(())
    }

    /// Sends the offer once it has what it waits for.
    fn send_offer(&mut self, now: Instant, out: &mut Vec<Output>) {
        let enough = self.gathered || (self.trickle && self.found_any);
        let late = self.send_offer_by.is_some_and(|by| now >= by);
        if !enough && !late {
            return;
        }
        if let Some(offer) = self.offer.take() {
            out.push(Output::Call { offer, disable_trickle: !self.trickle });
            self.pass(CallProgress::Offered, out);
        }
    }

    fn respond(&mut self, response: CallResponse, out: &mut Vec<Output>) -> Result<(), CallErrorKind> {
        match response.stage {
            Some(call_response::Stage::Init(_)) if self.uuid.is_some() => {
                Err(CallErrorKind::Protocol(CallViolation::SecondInit))
            }
            Some(call_response::Stage::Init(init)) => {
                // The name comes first: whatever goes wrong from here on, the answerer can be told.
                self.uuid = Some(response.uuid.clone());
                out.push(Output::Named(response.uuid));
                let answer = Description::decode(&init.sdp)
                    .map_err(|cause| CallErrorKind::Protocol(CallViolation::Description(cause)))?;
                if answer.kind != DescriptionKind::Answer {
                    return Err(CallErrorKind::Protocol(CallViolation::NotAnAnswer));
                }
                out.push(Output::SetAnswer(answer));
                self.send_candidates(out);
                Ok(())
            }
            Some(call_response::Stage::Update(_)) if self.uuid.is_none() => {
                Err(CallErrorKind::Protocol(CallViolation::UpdateBeforeInit))
            }
            Some(_) if self.uuid.as_ref() != Some(&response.uuid) => {
                Err(CallErrorKind::Protocol(CallViolation::WrongUuid))
            }
            // Used without trickle too: the cloud's queue forgets the flag and robots trickle anyway.
            Some(call_response::Stage::Update(update)) => {
                self.take_remote(update.candidate, out);
                Ok(())
            }
            None => Err(CallErrorKind::Protocol(CallViolation::NoStage)),
        }
    }

    fn take_remote(&mut self, candidate: Option<IceCandidate>, out: &mut Vec<Output>) {
        self.remote_seen = self.remote_seen.saturating_add(1);
        match candidate {
            Some(candidate) if self.remote_seen <= MAX_CANDIDATES => {
                out.push(Output::AddCandidate(candidate.into()));
            }
            _ => tracing::debug!(seen = self.remote_seen, "candidate of the answerer ignored"),
        }
    }

    fn stream_failed(&self, status: Status) -> Result<(), CallErrorKind> {
        let lost = status.code() == Code::Unavailable;
        match CallErrorKind::from_status(status) {
            // With the answer in hand, losing signaling is no reason to lose the robot.
            CallErrorKind::Status(status) if lost && self.uuid.is_some() => {
                tracing::debug!(%status, "signaling was lost after the answer");
                Ok(())
            }
            kind => Err(kind),
        }
    }

    fn phase(&mut self, phase: Phase, out: &mut Vec<Output>) -> Result<(), CallErrorKind> {
        let error = match phase {
            Phase::Connected => {
                self.pass(CallProgress::Connected, out);
                return Ok(());
            }
            Phase::Failed(why) => PeerError::because("cannot connect to the robot", why),
            Phase::ClosedByPeer => PeerError::new("the robot closed the connection"),
            Phase::Closed => PeerError::new("the peer connection was closed on this side"),
            _ => return Ok(()),
        };
        Err(CallErrorKind::Peer(error))
    }

    /// Every candidate is trickled, those in the offer too: micro-rdk does not read the offer's.
    fn keep_candidate(&mut self, candidate: Candidate) {
        self.local_seen = self.local_seen.saturating_add(1);
        if self.trickle && self.local_seen <= MAX_CANDIDATES {
            self.local.push_back(candidate);
        }
    }

    fn send_candidates(&mut self, out: &mut Vec<Output>) {
        while self.uuid.is_some() && self.in_flight < IN_FLIGHT {
            let Some(candidate) = self.local.pop_front() else { return };
            self.in_flight += 1;
            out.push(Output::SendCandidate(candidate));
        }
    }

    /// Tells of each stage up to this one, each once and in order, whatever the order of events was.
    fn pass(&mut self, to: CallProgress, out: &mut Vec<Output>) {
        for stage in CallProgress::ALL {
            if Some(stage) > self.passed && stage <= to {
                self.passed = Some(stage);
                out.push(Output::Progress(stage));
            }
        }
    }
}

#[cfg(test)]
mod tests;
