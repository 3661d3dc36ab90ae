//! Stand-ins for what lies around caller and answerer: a signaling service that the test plays by hand,
//! and a peer connection that does what the test says.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use farlink::peer::{
    Candidate, ChannelClosed, DataChannel, Description, Peer, PeerConfig, PeerConnection, PeerError,
    PeerState, PeerStats, Phase, Stack,
};
use farlink::proto::google_rpc;
use farlink::proto::webrtc::call_update_request::Update;
use farlink::proto::webrtc::signaling_service_server::{SignalingService, SignalingServiceServer};
use farlink::proto::webrtc::*;
use farlink::signaling::{SignalingClient, client};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Fails the test rather than hanging it.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("in time")
}

pub(crate) fn candidate(name: &str) -> Candidate {
    Candidate { candidate: format!("candidate:{name}"), ..Candidate::default() }
}

// ---------------------------------------------------------------------------------------- signaling

/// `Call`, as the server sees it.
pub(crate) struct IncomingCall {
    pub(crate) hosts: Vec<String>,
    pub(crate) request: CallRequest,
    pub(crate) respond: mpsc::UnboundedSender<Result<CallResponse, Status>>,
}

impl IncomingCall {
    pub(crate) fn init(&self, uuid: &str) {
        let sdp = Description::answer("answer").encode();
        let stage = Some(call_response::Stage::Init(CallResponseInitStage { sdp }));
        self.respond.send(Ok(CallResponse { uuid: uuid.into(), stage })).expect("caller listens");
    }

    pub(crate) fn candidate(&self, uuid: &str, name: &str) {
        let candidate = Some(candidate(name).into());
        let stage = Some(call_response::Stage::Update(CallResponseUpdateStage { candidate }));
        self.respond.send(Ok(CallResponse { uuid: uuid.into(), stage })).expect("caller listens");
    }
}

/// `CallUpdate`, as the server sees it.
#[derive(Debug)]
pub(crate) struct IncomingUpdate {
    pub(crate) hosts: Vec<String>,
    pub(crate) uuid: String,
    pub(crate) update: Update,
}

/// `Answer`, as the server sees it.
pub(crate) struct IncomingAnswer {
    pub(crate) hosts: Vec<String>,
    pub(crate) heartbeats: bool,
    pub(crate) requests: mpsc::UnboundedSender<Result<AnswerRequest, Status>>,
    pub(crate) responses: Streaming<AnswerResponse>,
}

impl IncomingAnswer {
    pub(crate) fn send(&self, uuid: &str, stage: answer_request::Stage) {
        self.requests
            .send(Ok(AnswerRequest { uuid: uuid.into(), stage: Some(stage) }))
            .expect("answerer listens");
    }

    pub(crate) fn offer(&self, uuid: &str) {
        let sdp = Description::offer("offer").encode();
        self.send(uuid, answer_request::Stage::Init(AnswerRequestInitStage { sdp, ..Default::default() }));
    }

    pub(crate) fn heartbeat(&self) {
        self.send("", answer_request::Stage::Heartbeat(AnswerRequestHeartbeatStage {}));
    }

    pub(crate) fn caller_error(&self, uuid: &str) {
        let status = Some(google_rpc::Status { code: 1, message: "bored".into(), ..Default::default() });
        self.send(uuid, answer_request::Stage::Error(AnswerRequestErrorStage { status }));
    }

    /// The next message of the answerer, in words; `None` once it has half-closed or gone.
    pub(crate) async fn word(&mut self) -> Option<String> {
        let AnswerResponse { uuid, stage } = soon(self.responses.next()).await?.ok()?;
        Some(match stage? {
            answer_response::Stage::Init(_) => format!("{uuid} init"),
            answer_response::Stage::Update(update) => format!("{uuid} {}", update.candidate?.candidate),
            answer_response::Stage::Done(_) => format!("{uuid} done"),
            answer_response::Stage::Error(error) => {
                let status = error.status?;
                format!("{uuid} error {} {}", status.code, status.message)
            }
        })
    }
}

/// The scripted answers to unary RPCs, first come first served.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) updates: Vec<Status>,
    pub(crate) config: Option<Result<WebRtcConfig, Status>>,
    pub(crate) config_hangs: bool,
}

/// The test's side of the service.
pub(crate) struct Signaling {
    pub(crate) calls: mpsc::UnboundedReceiver<IncomingCall>,
    pub(crate) updates: mpsc::UnboundedReceiver<IncomingUpdate>,
    pub(crate) answers: mpsc::UnboundedReceiver<IncomingAnswer>,
    pub(crate) script: Arc<Mutex<Script>>,
    pub(crate) service: Fake,
}

impl Signaling {
    pub(crate) fn new() -> Self {
        let (calls_sender, calls) = mpsc::unbounded_channel();
        let (updates_sender, updates) = mpsc::unbounded_channel();
        let (answers_sender, answers) = mpsc::unbounded_channel();
        let script = Arc::<Mutex<Script>>::default();
        let service = Fake { calls_sender, updates_sender, answers_sender, script: Arc::clone(&script) };
        Self { calls, updates, answers, script, service }
    }

    pub(crate) fn server(&self) -> SignalingServiceServer<Fake> {
        SignalingServiceServer::new(self.service.clone())
    }

    /// A client that calls the service in this process.
    pub(crate) fn client(&self) -> SignalingClient {
        client(self.server())
    }

    pub(crate) async fn call(&mut self) -> IncomingCall {
        soon(self.calls.recv()).await.expect("service lives")
    }

    pub(crate) async fn update(&mut self) -> IncomingUpdate {
        soon(self.updates.recv()).await.expect("service lives")
    }

    pub(crate) async fn answer(&mut self) -> IncomingAnswer {
        soon(self.answers.recv()).await.expect("service lives")
    }
}

#[derive(Clone)]
pub(crate) struct Fake {
    calls_sender: mpsc::UnboundedSender<IncomingCall>,
    updates_sender: mpsc::UnboundedSender<IncomingUpdate>,
    answers_sender: mpsc::UnboundedSender<IncomingAnswer>,
    script: Arc<Mutex<Script>>,
}

fn hosts<T>(request: &Request<T>) -> Vec<String> {
    let values = request.metadata().get_all("rpc-host").iter();
    values.map(|value| value.to_str().expect("ascii").to_owned()).collect()
}

/// Holds the response headers back until there is a message, as goutils does.
async fn late<T: Send + 'static>(
    mut messages: mpsc::UnboundedReceiver<Result<T, Status>>,
) -> Result<Response<BoxStream<'static, Result<T, Status>>>, Status> {
    let first = messages.recv().await.transpose()?;
    let first = futures_util::stream::iter(first.map(Ok));
    Ok(Response::new(first.chain(UnboundedReceiverStream::new(messages)).boxed()))
}

#[tonic::async_trait]
impl SignalingService for Fake {
    type CallStream = BoxStream<'static, Result<CallResponse, Status>>;
    type AnswerStream = BoxStream<'static, Result<AnswerRequest, Status>>;

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<Self::CallStream>, Status> {
        let (respond, messages) = mpsc::unbounded_channel();
        let hosts = hosts(&request);
        let _ = self.calls_sender.send(IncomingCall { hosts, request: request.into_inner(), respond });
        late(messages).await
    }

    async fn call_update(
        &self,
        request: Request<CallUpdateRequest>,
    ) -> Result<Response<CallUpdateResponse>, Status> {
        let hosts = hosts(&request);
        let CallUpdateRequest { uuid, update } = request.into_inner();
        let update = update.ok_or_else(|| Status::invalid_argument("no update"))?;
        let _ = self.updates_sender.send(IncomingUpdate { hosts, uuid, update });
        match self.script.lock().unwrap().updates.pop() {
            Some(status) => Err(status),
            None => Ok(Response::new(CallUpdateResponse {})),
        }
    }

    async fn answer(
        &self,
        request: Request<Streaming<AnswerResponse>>,
    ) -> Result<Response<Self::AnswerStream>, Status> {
        let (requests, messages) = mpsc::unbounded_channel();
        let heartbeats = request.metadata().get("heartbeats-allowed").is_some_and(|value| value == "true");
        let hosts = hosts(&request);
        let responses = request.into_inner();
        let _ = self.answers_sender.send(IncomingAnswer { hosts, heartbeats, requests, responses });
        late(messages).await
    }

    async fn optional_web_rtc_config(
        &self,
        _: Request<OptionalWebRtcConfigRequest>,
    ) -> Result<Response<OptionalWebRtcConfigResponse>, Status> {
        if self.script.lock().unwrap().config_hangs {
            std::future::pending::<()>().await;
        }
        let config = self.script.lock().unwrap().config.clone().transpose()?;
        Ok(Response::new(OptionalWebRtcConfigResponse { config }))
    }
}

// --------------------------------------------------------------------------------------------- peer

/// What a peer connection was told to do, and the strings that move it.
#[derive(Debug)]
pub(crate) struct Puppet {
    pub(crate) config: PeerConfig,
    /// Dropped: the end of candidates.
    pub(crate) candidates: Option<mpsc::Sender<Candidate>>,
    pub(crate) state: watch::Sender<PeerState>,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    pub(crate) closed: watch::Receiver<bool>,
    channel: Arc<Mutex<ChannelState>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Offer(Description),
    Answer(Description),
    Candidate(String),
}

#[derive(Debug, Default)]
struct ChannelState {
    open: Option<Result<(), ChannelClosed>>,
    waker: Option<Waker>,
}

impl Puppet {
    pub(crate) fn candidate(&self, name: &str) {
        self.candidates.as_ref().expect("gathering").try_send(candidate(name)).expect("room");
    }

    pub(crate) fn end_candidates(&mut self) {
        self.candidates = None;
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.state.send_replace(PeerState { phase, path: None });
    }

    pub(crate) fn open(&self) {
        let mut channel = self.channel.lock().unwrap();
        channel.open = Some(Ok(()));
        channel.waker.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) async fn closed(&mut self) {
        soon(self.closed.wait_for(|closed| *closed)).await.expect("connection lives");
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(crate) async fn seen(&mut self) -> Seen {
        soon(self.seen.recv()).await.expect("connection lives")
    }
}

/// A peer and its strings.
pub(crate) fn peer(config: PeerConfig) -> (Peer, Puppet) {
    let (candidates_sender, candidates) = mpsc::channel(64);
    let (state_sender, state) = watch::channel(PeerState::default());
    let (seen_sender, seen) = mpsc::unbounded_channel();
    let (closed_sender, closed) = watch::channel(false);
    let channel = Arc::<Mutex<ChannelState>>::default();
    let connection = Connection { seen: seen_sender, closed: closed_sender };
    let peer = Peer::new(Arc::new(connection), candidates, state, Box::new(Channel(Arc::clone(&channel))));
    let candidates = Some(candidates_sender);
    (peer, Puppet { config, candidates, state: state_sender, seen, closed, channel })
}

/// Opens puppets, and hands their strings to the test.
#[derive(Debug)]
pub(crate) struct PuppetStack(mpsc::UnboundedSender<Puppet>);

impl PuppetStack {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Puppet>) {
        let (sender, puppets) = mpsc::unbounded_channel();
        (Arc::new(Self(sender)), puppets)
    }
}

impl Stack for PuppetStack {
    fn open(&self, config: PeerConfig) -> BoxFuture<'static, Result<Peer, PeerError>> {
        let (peer, puppet) = peer(config);
        let _ = self.0.send(puppet);
        Box::pin(async { Ok(peer) })
    }
}

#[derive(Debug)]
struct Connection {
    seen: mpsc::UnboundedSender<Seen>,
    closed: watch::Sender<bool>,
}

impl PeerConnection for Connection {
    fn create_offer(&self) -> BoxFuture<'_, Result<Description, PeerError>> {
        Box::pin(async { Ok(Description::offer("offer without candidates")) })
    }

    fn accept_offer(&self, offer: Description) -> BoxFuture<'_, Result<Description, PeerError>> {
        let _ = self.seen.send(Seen::Offer(offer));
        Box::pin(async { Ok(Description::answer("answer")) })
    }

    fn set_answer(&self, answer: Description) -> BoxFuture<'_, Result<(), PeerError>> {
        let _ = self.seen.send(Seen::Answer(answer));
        Box::pin(async { Ok(()) })
    }

    fn local_description(&self) -> BoxFuture<'_, Option<Description>> {
        Box::pin(async { Some(Description::offer("offer with candidates")) })
    }

    fn add_remote_candidate(&self, candidate: Candidate) -> BoxFuture<'_, Result<(), PeerError>> {
        let bad = candidate.candidate.contains("bad");
        let _ = self.seen.send(Seen::Candidate(candidate.candidate));
        Box::pin(async move { if bad { Err(PeerError::new("cannot use it")) } else { Ok(()) } })
    }

    fn stats(&self) -> BoxFuture<'_, PeerStats> {
        Box::pin(async { PeerStats::default() })
    }

    fn close(&self) {
        self.closed.send_replace(true);
    }
}

#[derive(Debug)]
struct Channel(Arc<Mutex<ChannelState>>);

impl DataChannel for Channel {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        let mut state = self.0.lock().unwrap();
        match state.open {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_ready(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Result<(), ChannelClosed>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, _: Bytes) -> Result<(), ChannelClosed> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Pending
    }

    fn buffered(&self) -> usize {
        0
    }
}
