//! Carries events to the caller's machine and does what it says.
//!
//! Floor 3.

use std::future::poll_fn;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::error::{CallError, CallErrorKind, CallStage};
use super::line::Line;
use super::machine::{Input, Machine, Output};
use super::{CallConfig, CallProgress};
use crate::peer::{Peer, Phase};
use crate::signaling::{SignalingClient, host_value};

/// Calls a robot: makes the offer, exchanges candidates, and returns the peer once its data channel is
/// open. `peer` is fresh from [`Stack::open`](crate::peer::Stack::open) as caller. `progress` is told of
/// each stage as it is passed; it must not block.
///
/// `done` is sent when the channel is open, in the background, and not at the end of gathering: goutils
/// lets a call say either `done` or an error, and an answerer that can be told about a failure is free
/// again at once.
///
/// Must be called inside a tokio runtime. Dropping the future closes the peer and tells the answerer.
///
/// # Errors
/// [`CallError`], after which the peer is closed and the answerer has been told, or is being told in the
/// background. Comes as soon as the call cannot succeed any more, at the deadline at the latest.
pub async fn call(
    client: SignalingClient,
    peer: Peer,
    config: CallConfig,
    mut progress: impl FnMut(CallProgress) + Send,
) -> Result<Peer, CallError> {
    let Some(host) = host_value(&config.host) else {
        peer.connection.close();
        return Err(CallError::new(CallStage::Offer, CallErrorKind::Host(config.host)));
    };
    let line = Line::new(client, host, Arc::clone(&peer.connection));
    let mut driver = Driver::new(line, peer, Machine::new(&config, Instant::now()));
    loop {
        let input = driver.next().await;
        for output in driver.machine.step(input, Instant::now()) {
            match output {
                Output::Progress(stage) => progress(stage),
                Output::Finish(Ok(())) => {
                    driver.line.succeed(config.deadline);
                    return Ok(driver.peer);
                }
                Output::Finish(Err(error)) => {
                    driver.line.fail(&error.kind);
                    return Err(error);
                }
                output => driver.perform(output),
            }
        }
    }
}

struct Driver {
    machine: Machine,
    line: Line,
    peer: Peer,
    /// What the stack is doing for us.
    work: FuturesUnordered<BoxFuture<'static, Option<Input>>>,
    gathering: bool,
    watching: bool,
}

impl Driver {
    fn new(line: Line, mut peer: Peer, machine: Machine) -> Self {
        // A phase that is already there is news to the machine.
        peer.state.mark_changed();
        let connection = Arc::clone(&peer.connection);
        let work = FuturesUnordered::new();
        work.push(Box::pin(async move { Some(Input::OfferMade(connection.create_offer().await)) }) as _);
        Self { machine, line, peer, work, gathering: true, watching: true }
    }

    /// The next event. Cancel safe. The timer comes first, so that no flood of messages outlives the
    /// deadline; signaling comes before the state, because its words say more than "closed".
    async fn next(&mut self) -> Input {
        let Self { machine, line: Line { responses, updates, .. }, peer, work, .. } = self;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(machine.wake_at()) => return Input::Tick,
                opened = poll_fn(|cx| peer.channel.poll_open(cx)), if self.watching => {
                    return match opened {
                        Ok(()) => Input::ChannelOpen,
                        Err(_) => channel_closed(peer),
                    };
                }
                Some(done) = work.next(), if !work.is_empty() => {
                    if let Some(input) = done {
                        return input;
                    }
                }
                response = next_response(responses), if responses.is_some() => {
                    return match response {
                        Some(Ok(response)) => Input::Response(response),
                        Some(Err(status)) => {
                            *responses = None;
                            Input::StreamFailed(status)
                        }
                        None => {
                            *responses = None;
                            Input::StreamEnded
                        }
                    };
                }
                Some(()) = updates.next(), if !updates.is_empty() => return Input::CandidateSent,
                changed = peer.state.changed(), if self.watching => {
                    self.watching = changed.is_ok();
                    return match changed {
                        Ok(()) => Input::Phase(peer.state.borrow_and_update().phase.clone()),
                        Err(_) => Input::Phase(Phase::Closed),
                    };
                }
                candidate = peer.candidates.recv(), if self.gathering => {
                    self.gathering = candidate.is_some();
                    return candidate.map_or(Input::GatheringEnded, Input::Candidate);
                }
            }
        }
    }

    fn perform(&mut self, output: Output) {
        let connection = Arc::clone(&self.peer.connection);
        match output {
            Output::Call { offer, disable_trickle } => self.line.open(offer, disable_trickle),
            Output::Named(uuid) => self.line.name(uuid),
            Output::SendCandidate(candidate) => self.line.send(candidate),
            Output::SetAnswer(answer) => self
                .work
                .push(Box::pin(async move { Some(Input::AnswerTaken(connection.set_answer(answer).await)) })),
            Output::AddCandidate(candidate) => self.work.push(Box::pin(async move {
                if let Err(error) = connection.add_remote_candidate(candidate).await {
                    tracing::debug!(%error, "candidate of the answerer ignored");
                }
                None
            })),
            Output::Progress(_) | Output::Finish(_) => {}
        }
    }
}

/// A channel that will never open: the connection's phase says why, if it knows.
fn channel_closed(peer: &Peer) -> Input {
    let phase = peer.state.borrow().phase.clone();
    if phase.is_final() { Input::Phase(phase) } else { Input::ChannelClosed }
}

async fn next_response(
    responses: &mut Option<super::line::Responses>,
) -> Option<Result<crate::proto::webrtc::CallResponse, tonic::Status>> {
    match responses {
        Some(responses) => responses.next().await,
        None => None,
    }
}
