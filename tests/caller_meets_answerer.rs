//! Caller and answerer against each other, through a signaling service that only passes messages on: over
//! the memory stack, and over real WebRTC on loopback.

mod signaling_fakes;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farlink::peer::memory::MemoryStack;
use farlink::peer::{Peer, PeerConfig, Role, Stack};
use farlink::proto::webrtc::{
    AnswerRequest, AnswerRequestDoneStage, AnswerRequestErrorStage, AnswerRequestInitStage,
    AnswerRequestUpdateStage, CallResponse, CallResponseInitStage, CallResponseUpdateStage, WebRtcConfig,
    answer_request, answer_response, call_response, call_update_request,
};
use farlink::signaling::SignalingClient;
use farlink::signaling::answerer::{Answered, Answerer, AnswererConfig, Connect};
use farlink::signaling::caller::{CallConfig, call};
use futures_util::StreamExt as _;
use signaling_fakes::{IncomingAnswer, IncomingCall, Signaling, soon};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

/// Joins each call to the next answerer and passes messages on, one call at a time, named `u1`, `u2` ...
async fn pass_on(mut signaling: Signaling) {
    for n in 1.. {
        let Some(call) = signaling.calls.recv().await else { return };
        let Some(answer) = signaling.answers.recv().await else { return };
        join(&mut signaling, &format!("u{n}"), call, answer).await;
    }
}

async fn join(signaling: &mut Signaling, uuid: &str, call: IncomingCall, mut answer: IncomingAnswer) {
    let to_answerer = |stage| {
        let _ = answer.requests.send(Ok(AnswerRequest { uuid: uuid.to_owned(), stage: Some(stage) }));
    };
    let disable_trickle = call.request.disable_trickle;
    let optional_config = Some(WebRtcConfig { disable_trickle, ..Default::default() });
    let sdp = call.request.sdp.clone();
    to_answerer(answer_request::Stage::Init(AnswerRequestInitStage { sdp, optional_config, deadline: None }));
    let mut respond = Some(call.respond);
    let mut caller_done = false;
    // Over when both have said their last word.
    while respond.is_some() || !caller_done {
        tokio::select! {
            Some(update) = signaling.updates.recv() => match update.update {
                call_update_request::Update::Candidate(candidate) => {
                    let candidate = Some(candidate);
                    to_answerer(answer_request::Stage::Update(AnswerRequestUpdateStage { candidate }));
                }
                call_update_request::Update::Done(_) => {
                    to_answerer(answer_request::Stage::Done(AnswerRequestDoneStage {}));
                    caller_done = true;
                }
                call_update_request::Update::Error(status) => {
                    let status = Some(status);
                    to_answerer(answer_request::Stage::Error(AnswerRequestErrorStage { status }));
                    return;
                }
            },
            response = answer.responses.next(), if respond.is_some() => {
                let Some(Ok(response)) = response else { return };
                assert_eq!(response.uuid, uuid);
                let stage = match response.stage.expect("a stage") {
                    answer_response::Stage::Init(init) => {
                        call_response::Stage::Init(CallResponseInitStage { sdp: init.sdp })
                    }
                    answer_response::Stage::Update(update) => {
                        call_response::Stage::Update(CallResponseUpdateStage { candidate: update.candidate })
                    }
                    answer_response::Stage::Done(_) => {
                        respond = None;
                        continue;
                    }
                    answer_response::Stage::Error(error) => {
                        let message = error.status.unwrap_or_default().message;
                        let error = Status::unknown(format!("error from answerer: {message}"));
                        let _ = respond.take().expect("live").send(Err(error));
                        return;
                    }
                };
                let response = CallResponse { uuid: uuid.to_owned(), stage: Some(stage) };
                let _ = respond.as_ref().expect("live").send(Ok(response));
            }
        }
    }
}

struct Scene {
    client: SignalingClient,
    caller: Arc<dyn Stack>,
    accepted: mpsc::Receiver<Answered>,
    _answerer: Answerer,
}

impl Scene {
    fn new(caller: Arc<dyn Stack>, answerer: Arc<dyn Stack>) -> Self {
        let signaling = Signaling::new();
        let client = signaling.client();
        tokio::spawn(pass_on(signaling));
        let through = client.clone();
        let connect: Connect = Arc::new(move || {
            let through = through.clone();
            Box::pin(async move { Ok(through) })
        });
        let (sender, accepted) = mpsc::channel(4);
        let config = AnswererConfig::new(["robot"], answerer).unwrap();
        Self { client, caller, accepted, _answerer: Answerer::spawn(connect, config, sender) }
    }

    async fn call(&self, trickle: bool) -> Peer {
        let peer = self.caller.open(PeerConfig::new(Role::Caller)).await.unwrap();
        let mut config = CallConfig::new("robot", Instant::now() + Duration::from_secs(10));
        config.trickle = trickle;
        soon(call(self.client.clone(), peer, config, |_| {})).await.expect("connected")
    }

    async fn connects(&mut self, trickle: bool) {
        let mut caller = self.call(trickle).await;
        let mut answered = soon(self.accepted.recv()).await.expect("answered");
        poll_fn(|cx| caller.channel.poll_ready(cx, 1 << 16)).await.unwrap();
        caller.channel.send(Bytes::from_static(b"first")).unwrap();
        // Some stacks send only when polled.
        let received = async {
            tokio::select! {
                message = poll_fn(|cx| answered.peer.channel.poll_recv(cx)) => message,
                _ = poll_fn(|cx| caller.channel.poll_recv(cx)) => None,
            }
        };
        assert_eq!(
            soon(received).await.as_deref(),
            Some(b"first".as_slice()),
            "the first message is not lost"
        );
    }
}

#[tokio::test]
async fn they_connect_over_the_memory_stack() {
    let stack = Arc::new(MemoryStack::new());
    let mut scene = Scene::new(stack.clone(), stack);
    scene.connects(true).await;
    scene.connects(false).await;
}

#[cfg(any(feature = "engine", feature = "webrtc"))]
#[tokio::test(flavor = "multi_thread")]
async fn they_connect_over_real_webrtc() {
    let stacks: Vec<Arc<dyn farlink::peer::Stack>> = vec![
        #[cfg(feature = "engine")]
        Arc::new(farlink::peer::engine::Engine::new()),
        #[cfg(feature = "webrtc")]
        Arc::new(farlink::peer::webrtc_rs::WebRtcRs::new()),
    ];
    for stack in stacks {
        let mut scene = Scene::new(Arc::clone(&stack), stack);
        scene.connects(true).await;
        scene.connects(false).await;
    }
}
