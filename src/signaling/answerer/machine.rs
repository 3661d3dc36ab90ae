//! The rules of one `Answer` stream: idle until an offer comes, then one negotiation, then over.
//!
//! Floor 3, pure: `step(input, now)` returns what is to be done; `wake_at` says when to step with
//! [`Input::Tick`]. The driver is `stream`.
//!
//! Contract: goutils `rpc/wrtc_signaling_answerer.go`. Where farlink differs, the reason stands at the place.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tonic::{Code, Status};

use super::ending::Ending;
use crate::peer::{Candidate, Description, DescriptionKind, IceServer, PeerError, Phase};
use crate::proto::google_rpc;
use crate::proto::webrtc::{
    AnswerRequest, AnswerRequestInitStage, AnswerResponse, AnswerResponseDoneStage, AnswerResponseErrorStage,
    AnswerResponseInitStage, AnswerResponseUpdateStage, answer_request, answer_response,
};
use crate::signaling::MAX_CANDIDATES;
use crate::signaling::caller::usable_servers;

/// A stream on which heartbeats were due and nothing came for so long is dead: three of goutils' intervals.
const SILENCE: Duration = Duration::from_secs(45);
/// The least time a negotiation gets, because the signaling server's clock may be ahead of ours.
const LEAST: Duration = Duration::from_secs(5);
/// The most it gets, because the clock may be behind: an offer lives for 10 s.
const MOST: Duration = Duration::from_secs(12);
/// What it gets when the offer does not say.
const USUAL: Duration = Duration::from_secs(10);
/// How long the answer waits for its first candidate. Callers that read nothing after the answer then have
/// one; host candidates are there within a millisecond, so the wait costs nothing.
const FIRST_CANDIDATE: Duration = Duration::from_millis(20);

/// How long the handshake on a path that works may take after the caller has hung up on signaling.
const LAST_STEPS: Duration = Duration::from_secs(2);
/// The longest that a caller without trickle is kept waiting for candidates.
const GATHERING: Duration = Duration::from_secs(3);

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// A message on the stream, and what the wall clock said when it came.
    Request(AnswerRequest, SystemTime),
    /// The server ended the stream without an error.
    StreamEnded,
    /// The stream broke, or the server ended it with an error.
    StreamFailed(Status),
    /// There is no room for what [`Output::Open`] asks for.
    NoRoom,
    /// [`Output::Open`] is done.
    PeerOpened(Result<(), PeerError>),
    /// [`Output::Accept`] is done.
    AnswerMade(Result<Description, PeerError>),
    /// [`Output::Describe`] is done: the answer with the candidates known by then.
    Described(Description),
    /// A local candidate.
    Candidate(Candidate),
    /// There are no more local candidates.
    GatheringEnded,
    /// The peer connection's phase.
    Phase(Phase),
    /// The data channel is open.
    ChannelOpen,
    /// The data channel never will be.
    ChannelClosed,
    /// [`Output::Deliver`] is done: taken, or refused for this reason.
    Delivered(Result<(), &'static str>),
    /// The answerer is being stopped.
    Stop,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Output {
    /// Something came on this stream for the first time: the server is there.
    Heard,
    /// The server sends heartbeats.
    Heartbeats,
    /// An offer came: this stream is no longer idle.
    Claimed { uuid: String },
    /// Open a peer connection with these ICE servers beside one's own.
    Open(Vec<IceServer>),
    /// Give the offer to it.
    Accept(Description),
    /// Ask it for the answer as it now stands; this is the answer as it was made.
    Describe(Description),
    /// Give the caller's candidate to it.
    AddCandidate(Candidate),
    /// Send this to the signaling server.
    Send(AnswerResponse),
    /// Hand the peer over.
    Deliver,
    /// The stream's work is over: close the peer unless it was handed over, and half-close.
    Finish(Ending),
}

/// One `Answer` stream.
#[derive(Debug)]
pub(super) struct Machine {
    heard: bool,
    heartbeats: bool,
    heard_at: Instant,
    call: Option<Call>,
    over: bool,
}

/// The negotiation on it.
#[derive(Debug)]
struct Call {
    uuid: String,
    deadline: Instant,
    trickle: bool,
    /// The offer, until the peer connection is open.
    offer: Option<Description>,
    /// The caller's candidates that came before it was.
    early: Vec<Candidate>,
    remote_seen: usize,
    /// The answer, made and waiting for candidates.
    answer: Option<Description>,
    send_by: Option<Instant>,
    sent: bool,
    /// Own candidates that came before the answer was sent.
    local: Vec<Candidate>,
    local_seen: usize,
    gathered: bool,
    /// A path works; the handshake on it may still be going on.
    connected: bool,
}

impl Machine {
    /// `heartbeats`: this server is known to send them.
    pub(super) fn new(heartbeats: bool, now: Instant) -> Self {
        Self { heard: false, heartbeats, heard_at: now, call: None, over: false }
    }

    /// When to step with [`Input::Tick`] if nothing happens before.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match &self.call {
            Some(call) => Some(match call.send_by {
                Some(by) if call.answer.is_some() => by.min(call.deadline),
                _ => call.deadline,
            }),
            None => self.heartbeats.then(|| self.heard_at + SILENCE),
        }
    }

    /// Takes what happened; returns what is to be done, in order.
    pub(super) fn step(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let mut out = Vec::new();
        if self.over {
            return out;
        }
        let stopped = match self.apply(input, now, &mut out) {
            Ok(()) => return out,
            Err(stopped) => stopped,
        };
        self.over = true;
        if let Some((code, message)) = stopped.tell {
            let uuid = self.call.as_ref().map(|call| call.uuid.clone()).unwrap_or_default();
            let status = google_rpc::Status { code: code as i32, message, ..Default::default() };
            let stage = answer_response::Stage::Error(AnswerResponseErrorStage { status: Some(status) });
            out.push(Output::Send(AnswerResponse { uuid, stage: Some(stage) }));
        }
        out.push(Output::Finish(stopped.ending));
        out
    }

    fn apply(&mut self, input: Input, now: Instant, out: &mut Vec<Output>) -> Result<(), Stopped> {
        if let Input::Request(request, wall) = input {
            return self.request(request, wall, now, out);
        }
        let silent = self.wake_at().is_some_and(|at| now >= at);
        match (&mut self.call, input) {
            (None, Input::Stop) => Err(Stopped::quietly(Ending::Stopped)),
            (Some(_), Input::Stop) => Err(Stopped {
                ending: Ending::Stopped,
                ..Stopped::failed(Code::Unavailable, "the robot is shutting down")
            }),
            (None, Input::StreamEnded) => Err(Stopped::quietly(Ending::Benign)),
            (None, Input::StreamFailed(status)) => Err(Stopped::quietly(Ending::of(&status))),
            (None, Input::Tick) if silent => Err(Stopped::quietly(Ending::Silent)),
            (None, _) => Ok(()),
            (Some(call), input) => call.step(input, now, out),
        }
    }

    fn request(
        &mut self,
        request: AnswerRequest,
        wall: SystemTime,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), Stopped> {
        self.heard_at = now;
        if !std::mem::replace(&mut self.heard, true) {
            out.push(Output::Heard);
        }
        // Left for the versions that know it.
        let Some(stage) = request.stage else { return Ok(()) };
        match (&mut self.call, stage) {
            (_, answer_request::Stage::Heartbeat(_)) => {
                if !std::mem::replace(&mut self.heartbeats, true) {
                    out.push(Output::Heartbeats);
                }
                Ok(())
            }
            (None, answer_request::Stage::Init(init)) => {
                out.push(Output::Claimed { uuid: request.uuid.clone() });
                let servers = init.optional_config.as_ref().map(|config| &config.additional_ice_servers);
                let servers = servers.map(|servers| usable_servers(servers)).unwrap_or_default();
                let call = self.call.insert(Call::new(request.uuid, &init, wall, now));
                call.offer = Some(read_offer(&init.sdp)?);
                out.push(Output::Open(servers));
                Ok(())
            }
            (None, _) => Err(Stopped {
                ending: Ending::Violation,
                ..Stopped::failed(Code::InvalidArgument, "expected init")
            }),
            // goutils ignores it without a look at its uuid.
            (Some(_), answer_request::Stage::Init(_)) => Ok(()),
            (Some(call), _) if call.uuid != request.uuid => {
                Err(Stopped::failed(Code::InvalidArgument, "uuid mismatch"))
            }
            (Some(call), stage) => call.request(stage, now, out),
        }
    }
}

impl Call {
    fn new(uuid: String, init: &AnswerRequestInitStage, wall: SystemTime, now: Instant) -> Self {
        Self {
            uuid,
            deadline: now + budget(init.deadline, wall),
            trickle: !init.optional_config.as_ref().is_some_and(|config| config.disable_trickle),
            offer: None,
            early: Vec::new(),
            remote_seen: 0,
            answer: None,
            send_by: None,
            sent: false,
            local: Vec::new(),
            local_seen: 0,
            gathered: false,
            connected: false,
        }
    }

    /// A stage of the caller's, `init` and heartbeats apart.
    fn request(
        &mut self,
        stage: answer_request::Stage,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), Stopped> {
        match stage {
            answer_request::Stage::Update(update) => {
                self.remote_seen = self.remote_seen.saturating_add(1);
                match update.candidate {
                    Some(candidate) if self.remote_seen <= MAX_CANDIDATES => {
                        if self.offer.is_some() {
                            self.early.push(candidate.into());
                        } else {
                            out.push(Output::AddCandidate(candidate.into()));
                        }
                    }
                    _ => tracing::debug!(seen = self.remote_seen, "candidate of the caller ignored"),
                }
                Ok(())
            }
            // A caller whose channel is open may hang up on signaling before this side has seen it open.
            answer_request::Stage::Error(_) if self.connected => {
                self.deadline = self.deadline.min(now + LAST_STEPS);
                Ok(())
            }
            // At once, where goutils lets the caller's abort hold the slot until the deadline.
            answer_request::Stage::Error(error) => {
                let message = error.status.map(|status| status.message).unwrap_or_default();
                Err(Stopped::failed(Code::Cancelled, format!("error from requester: {message}")))
            }
            // `done` says that no candidates follow, nothing about the outcome.
            _ => Ok(()),
        }
    }

    fn step(&mut self, input: Input, now: Instant, out: &mut Vec<Output>) -> Result<(), Stopped> {
        match input {
            Input::NoRoom => {
                let why = "the robot has no room for another connection";
                return Err(Stopped::failed(Code::ResourceExhausted, why));
            }
            Input::PeerOpened(opened) => {
                opened.map_err(|error| Stopped::peer(&error))?;
                out.extend(self.offer.take().map(Output::Accept));
                out.extend(self.early.drain(..).map(Output::AddCandidate));
            }
            Input::AnswerMade(made) => {
                self.answer = Some(made.map_err(|error| Stopped::peer(&error))?);
                let left = self.deadline.saturating_duration_since(now);
                let wait = if self.trickle { FIRST_CANDIDATE } else { GATHERING.min(left / 2) };
                self.send_by = Some(now + wait);
                self.describe(now, out);
            }
            Input::Described(answer) => {
                let init = AnswerResponseInitStage { sdp: answer.encode() };
                self.send(answer_response::Stage::Init(init), out);
                self.sent = true;
                for candidate in std::mem::take(&mut self.local) {
                    self.send_candidate(candidate, out);
                }
            }
            Input::Candidate(candidate) => {
                self.local_seen = self.local_seen.saturating_add(1);
                if self.trickle && self.local_seen <= MAX_CANDIDATES {
                    if self.sent { self.send_candidate(candidate, out) } else { self.local.push(candidate) }
                }
                self.describe(now, out);
            }
            Input::GatheringEnded => {
                self.gathered = true;
                self.describe(now, out);
            }
            Input::Phase(phase) => {
                self.connected |= phase == Phase::Connected;
                phase_error(phase).map_or(Ok(()), Err)?;
            }
            Input::ChannelOpen => out.push(Output::Deliver),
            Input::ChannelClosed => {
                return Err(Stopped::failed(Code::Unavailable, "the data channel closed before it opened"));
            }
            Input::Delivered(Ok(())) => {
                // Not before: `done` ends the call in signaling, and with it the only way to learn that the caller
                // has gone. Browsers, who wait for that end, have it as soon as the channel is open.
                self.send(answer_response::Stage::Done(AnswerResponseDoneStage {}), out);
                return Err(Stopped::quietly(Ending::Answered));
            }
            Input::Delivered(Err(why)) => return Err(Stopped::failed(Code::ResourceExhausted, why)),
            // Before the answer is on its way there is nothing to hope for; after it the channel may open.
            Input::StreamEnded | Input::StreamFailed(_) if !self.sent => {
                return Err(Stopped::quietly(Ending::Failed));
            }
            Input::Tick if now >= self.deadline => {
                return Err(Stopped::failed(Code::DeadlineExceeded, "no connection before the deadline"));
            }
            Input::Tick => self.describe(now, out),
            Input::StreamEnded | Input::StreamFailed(_) | Input::Stop | Input::Request(..) => {}
        }
        Ok(())
    }

    /// Takes the answer as it stands once it has what it waits for.
    fn describe(&mut self, now: Instant, out: &mut Vec<Output>) {
        let enough = self.gathered || (self.trickle && self.local_seen > 0);
        if enough || self.send_by.is_some_and(|by| now >= by) {
            out.extend(self.answer.take().map(Output::Describe));
        }
    }

    fn send_candidate(&self, candidate: Candidate, out: &mut Vec<Output>) {
        let update = AnswerResponseUpdateStage { candidate: Some(candidate.into()) };
        self.send(answer_response::Stage::Update(update), out);
    }

    fn send(&self, stage: answer_response::Stage, out: &mut Vec<Output>) {
        out.push(Output::Send(AnswerResponse { uuid: self.uuid.clone(), stage: Some(stage) }));
    }
}

/// Why the machine stops, and what the caller is told.
#[derive(Debug)]
struct Stopped {
    ending: Ending,
    tell: Option<(Code, String)>,
}

impl Stopped {
    fn quietly(ending: Ending) -> Self {
        Self { ending, tell: None }
    }

    fn failed(code: Code, message: impl Into<String>) -> Self {
        Self { ending: Ending::Failed, tell: Some((code, message.into())) }
    }

    fn peer(error: &PeerError) -> Self {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::failed(Code::Internal, format!("{error}{cause}"))
    }
}

fn read_offer(sdp: &str) -> Result<Description, Stopped> {
    match Description::decode(sdp) {
        Ok(offer) if offer.kind == DescriptionKind::Offer => Ok(offer),
        Ok(_) => Err(Stopped::failed(Code::InvalidArgument, "an answer came in place of the offer")),
        Err(error) => Err(Stopped::failed(Code::InvalidArgument, error.to_string())),
    }
}

fn phase_error(phase: Phase) -> Option<Stopped> {
    match phase {
        Phase::Failed(why) => Some(Stopped::failed(Code::Unavailable, format!("cannot connect: {why}"))),
        Phase::ClosedByPeer => Some(Stopped::failed(Code::Cancelled, "the caller closed the connection")),
        Phase::Closed => Some(Stopped::failed(Code::Unavailable, "the robot closed the connection")),
        _ => None,
    }
}

/// How long a negotiation may take. `deadline` is on the signaling server's clock, `wall` on ours.
fn budget(deadline: Option<prost_types::Timestamp>, wall: SystemTime) -> Duration {
    let Some(deadline) = deadline else { return USUAL };
    let Ok(deadline) = SystemTime::try_from(deadline) else { return USUAL };
    deadline.duration_since(wall).unwrap_or_default().clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests;
