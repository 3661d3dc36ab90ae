//! The `Answer` stream: an answerer waits, is given one call, and says its part.
//!
//! Floor 3. What the answerer may say when is in [`Part`], which knows no I/O. Invariant: one call per
//! stream, and the init stage comes before every other but the heartbeat, which has no uuid.

use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::stream;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Code, Status, Streaming};

use super::{MAX_SDP, SignalingService, to_wire, too_long};
use crate::proto::google_rpc;
use crate::proto::webrtc::answer_request::Stage;
use crate::proto::webrtc::answer_response::Stage as Said;
use crate::proto::webrtc::{
    AnswerRequest, AnswerRequestDoneStage, AnswerRequestErrorStage, AnswerRequestHeartbeatStage,
    AnswerRequestInitStage, AnswerRequestUpdateStage, AnswerResponse,
};
use crate::signaling::queue::{AnswererItem, CallerItem, Exchange, QueueError, Waiting};

type Offered = BoxFuture<'static, Result<Box<dyn Exchange>, QueueError>>;

pub(super) fn stream(
    service: SignalingService,
    inbound: Streaming<AnswerResponse>,
    waiting: Box<dyn Waiting>,
    heartbeats: Option<Duration>,
) -> BoxStream<'static, Result<AnswerRequest, Status>> {
    let heartbeats = heartbeats.filter(|every| !every.is_zero()).map(|every| {
        let mut interval = tokio::time::interval_at(Instant::now() + every, every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    });
    let answer = Answer { service, inbound, heartbeats, phase: Phase::Waiting(waiting.offer()) };
    Box::pin(stream::unfold(answer, |mut answer| async move {
        let next = answer.next().await;
        if !matches!(next, Some(Ok(_))) {
            answer.phase = Phase::Ended;
        }
        next.map(|item| (item, answer))
    }))
}

struct Answer {
    service: SignalingService,
    inbound: Streaming<AnswerResponse>,
    heartbeats: Option<Interval>,
    phase: Phase,
}

enum Phase {
    Waiting(Offered),
    Talking(Box<Talk>),
    /// The caller failed: its done stage is still to be said.
    SayDone(String),
    Ended,
}

struct Talk {
    exchange: Box<dyn Exchange>,
    part: Part,
    /// The answerer may still say something.
    listening: bool,
}

impl Answer {
    /// What goes out next; `None` at the end.
    async fn next(&mut self) -> Option<Result<AnswerRequest, Status>> {
        match &mut self.phase {
            Phase::Waiting(offered) => {
                let exchange = tokio::select! {
                    () = beat(&mut self.heartbeats) => return Some(Ok(heartbeat())),
                    exchange = offered => exchange,
                    said = early(&mut self.inbound) => return said.map(Err),
                };
                let exchange = match exchange {
                    Ok(exchange) => exchange,
                    Err(error) => return Some(Err(error.into())),
                };
                let init = init(&self.service, &*exchange);
                let part = Part::default();
                self.phase = Phase::Talking(Box::new(Talk { exchange, part, listening: true }));
                Some(Ok(init))
            }
            Phase::Talking(talk) => {
                let next = talk.next(&mut self.inbound, &mut self.heartbeats).await;
                if let Some(Ok(AnswerRequest { uuid, stage: Some(Stage::Error(_)) })) = &next {
                    self.phase = Phase::SayDone(uuid.clone());
                }
                next
            }
            Phase::SayDone(uuid) => {
                let done = request(std::mem::take(uuid), Stage::Done(AnswerRequestDoneStage {}));
                self.phase = Phase::Ended;
                Some(Ok(done))
            }
            Phase::Ended => None,
        }
    }
}

impl Talk {
    async fn next(
        &mut self,
        inbound: &mut Streaming<AnswerResponse>,
        heartbeats: &mut Option<Interval>,
    ) -> Option<Result<AnswerRequest, Status>> {
        loop {
            tokio::select! {
                () = beat(heartbeats) => return Some(Ok(heartbeat())),
                item = self.exchange.next() => return self.tell(item),
                said = inbound.message(), if self.listening => match said {
                    Ok(Some(said)) => {
                        if let Some(end) = self.hear(said).await {
                            return end;
                        }
                    }
                    // It will say no more. Without an answer the offer goes to somebody else.
                    Ok(None) if !self.part.answered => return None,
                    Ok(None) => {
                        self.listening = false;
                        if let Err(error) = self.exchange.send(AnswererItem::Done).await {
                            return Some(Err(error.into()));
                        }
                    }
                    Err(_) => return None,
                },
            }
        }
    }

    /// What the answerer is told of what the caller said.
    fn tell(&self, item: Result<Option<CallerItem>, QueueError>) -> Option<Result<AnswerRequest, Status>> {
        let stage = match item {
            Ok(Some(CallerItem::Candidate(candidate))) => {
                Stage::Update(AnswerRequestUpdateStage { candidate: Some(candidate) })
            }
            Ok(Some(CallerItem::Done)) => Stage::Done(AnswerRequestDoneStage {}),
            Ok(Some(CallerItem::Error(status))) => {
                Stage::Error(AnswerRequestErrorStage { status: Some(status) })
            }
            Ok(None) => return None,
            Err(error) => return Some(Err(error.into())),
        };
        Some(Ok(request(self.exchange.uuid().to_owned(), stage)))
    }

    /// Takes what the answerer said; what ends the stream comes back.
    async fn hear(&mut self, said: AnswerResponse) -> Option<Option<Result<AnswerRequest, Status>>> {
        let uuid = self.exchange.uuid();
        let item = match self.part.hear(uuid, said) {
            Ok(item) => item?,
            Err(violation) => {
                // Before its answer the caller gets the reason; later, what it has may be enough.
                if !self.part.answered {
                    let _ = self.exchange.send(AnswererItem::Error(to_wire(&violation))).await;
                }
                return Some(Some(Err(violation)));
            }
        };
        let failed = matches!(item, AnswererItem::Error(_));
        match self.exchange.send(item).await {
            Ok(()) if failed => Some(None),
            // One candidate too many is not worth a call.
            Ok(()) | Err(QueueError::TooManyCandidates) => None,
            Err(error) => Some(Some(Err(error.into()))),
        }
    }
}

/// What an answerer may say when.
#[derive(Debug, Default)]
struct Part {
    answered: bool,
}

impl Part {
    /// What it says to the caller, if that is something; or how it broke the rules.
    fn hear(&mut self, uuid: &str, said: AnswerResponse) -> Result<Option<AnswererItem>, Status> {
        // A stage that this version does not know.
        let Some(stage) = said.stage else { return Ok(None) };
        if said.uuid != uuid {
            let got: String = said.uuid.chars().take(64).collect();
            return Err(Status::unknown(format!("uuid mismatch: expected {uuid:?}, got {got:?}")));
        }
        match stage {
            Said::Init(_) if self.answered => Err(Status::unknown("got the init stage a second time")),
            Said::Init(init) if init.sdp.len() > MAX_SDP => Err(too_long()),
            Said::Init(init) => {
                self.answered = true;
                Ok(Some(AnswererItem::Answer(init.sdp)))
            }
            Said::Update(_) if !self.answered => {
                Err(Status::unknown("got an update stage before the init stage"))
            }
            Said::Update(update) => Ok(update.candidate.map(AnswererItem::Candidate)),
            Said::Done(_) if !self.answered => {
                Err(Status::unknown("got the done stage before the init stage"))
            }
            Said::Done(_) => Ok(Some(AnswererItem::Done)),
            Said::Error(error) => {
                let status = error.status.unwrap_or_else(|| google_rpc::Status {
                    code: Code::Unknown as i32,
                    message: "answerer gave no reason".to_owned(),
                    details: Vec::new(),
                });
                Ok(Some(AnswererItem::Error(status)))
            }
        }
    }
}

/// Ready at the next heartbeat, never without an interval.
async fn beat(heartbeats: &mut Option<Interval>) {
    match heartbeats {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Ready when an answerer that has no call ends its stream, or says what it cannot mean.
async fn early(inbound: &mut Streaming<AnswerResponse>) -> Option<Status> {
    loop {
        match inbound.message().await {
            Ok(Some(AnswerResponse { stage: None, .. })) => {}
            Ok(Some(_)) => return Some(Status::unknown("there is no call to answer yet")),
            Ok(None) | Err(_) => return None,
        }
    }
}

fn init(service: &SignalingService, exchange: &dyn Exchange) -> AnswerRequest {
    let offer = exchange.offer();
    let left = exchange.deadline().saturating_duration_since(Instant::now());
    let init = AnswerRequestInitStage {
        sdp: offer.sdp.clone(),
        optional_config: Some(service.config(offer.disable_trickle)),
        deadline: Some((SystemTime::now() + left).into()),
    };
    request(exchange.uuid().to_owned(), Stage::Init(init))
}

fn request(uuid: String, stage: Stage) -> AnswerRequest {
    AnswerRequest { uuid, stage: Some(stage) }
}

fn heartbeat() -> AnswerRequest {
    request(String::new(), Stage::Heartbeat(AnswerRequestHeartbeatStage {}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::webrtc::{
        AnswerResponseDoneStage, AnswerResponseErrorStage, AnswerResponseInitStage, AnswerResponseUpdateStage,
    };

    fn say(part: &mut Part, uuid: &str, stage: Said) -> Result<Option<AnswererItem>, String> {
        part.hear("u", AnswerResponse { uuid: uuid.into(), stage: Some(stage) })
            .map_err(|status| status.message().to_owned())
    }

    fn init() -> Said {
        Said::Init(AnswerResponseInitStage { sdp: "s".into() })
    }

    #[test]
    fn the_init_stage_comes_first_and_once() {
        let part = &mut Part::default();
        let update = || Said::Update(AnswerResponseUpdateStage { candidate: Some(Default::default()) });
        let done = || Said::Done(AnswerResponseDoneStage {});
        assert!(say(part, "u", update()).unwrap_err().contains("before"));
        assert!(say(part, "u", done()).unwrap_err().contains("before"));
        assert!(say(part, "x", init()).unwrap_err().contains("uuid"));
        assert_eq!(say(part, "u", init()), Ok(Some(AnswererItem::Answer("s".into()))));
        assert!(say(part, "u", init()).unwrap_err().contains("second"));
        assert_eq!(say(part, "u", update()), Ok(Some(AnswererItem::Candidate(Default::default()))));
        assert_eq!(say(part, "u", done()), Ok(Some(AnswererItem::Done)));
    }

    #[test]
    fn an_error_may_come_any_time_and_unknown_stages_are_ignored() {
        let part = &mut Part::default();
        let status = google_rpc::Status { code: 8, message: "full".into(), details: vec![] };
        let error = Said::Error(AnswerResponseErrorStage { status: Some(status.clone()) });
        assert_eq!(say(part, "u", error), Ok(Some(AnswererItem::Error(status))));
        assert!(matches!(part.hear("u", AnswerResponse::default()), Ok(None)));
    }

    #[test]
    fn an_answer_that_is_too_long_is_refused() {
        let sdp = "x".repeat(MAX_SDP + 1);
        let error = say(&mut Part::default(), "u", Said::Init(AnswerResponseInitStage { sdp })).unwrap_err();
        assert!(error.contains("too long"), "{error}");
    }
}
