//! Carries events to the machine of one `Answer` stream and does what it says.
//!
//! Floor 3. The stream has one writer: what the machine sends goes into one queue, in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt as _, TryStreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::ending::Ending;
use super::machine::{Input, Machine, Output};
use super::{Answered, AnswererConfig, pool};
use crate::peer::{IceServer, Peer, PeerConfig, Phase, Role};
use crate::proto::webrtc::{AnswerRequest, AnswerResponse};
use crate::signaling::{RPC_HOST, SignalingClient};

/// How long a stream that was half-closed is heard out, so that what was written last gets through: to
/// drop it is to reset it, and a reset overtakes the data.
const LINGER: Duration = Duration::from_secs(5);
/// The same when everything is being stopped.
const SHORT_LINGER: Duration = Duration::from_millis(250);

/// What all streams of an answerer share.
pub(super) struct Context {
    pub(super) config: AnswererConfig,
    pub(super) accepted: mpsc::Sender<Answered>,
    pub(super) cancel: CancellationToken,
}

impl Context {
    /// A request with the names that are answered for.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (_, host) in &self.config.hosts {
            request.metadata_mut().append(RPC_HOST, host.clone());
        }
        request
    }
}

/// The stream's place in the pool. Given back exactly once, if need be by a panic.
pub(super) struct Place {
    id: u64,
    events: mpsc::UnboundedSender<pool::Input>,
    returned: bool,
}

impl Place {
    /// `events` holds at most five messages per stream.
    pub(super) fn new(id: u64, events: mpsc::UnboundedSender<pool::Input>) -> Self {
        Self { id, events, returned: false }
    }

    fn tell(&self, event: pool::Input) {
        // The pool may be gone already.
        let _ = self.events.send(event);
    }

    fn give_back(&mut self, ending: Ending) {
        if !std::mem::replace(&mut self.returned, true) {
            self.tell(pool::Input::Ended(self.id, ending));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back(Ending::Violation);
    }
}

/// One `Answer` stream, from opening it to its end.
pub(super) async fn run(
    context: Arc<Context>,
    client: SignalingClient,
    place: Place,
    heartbeats: bool,
    cancel: CancellationToken,
) {
    let mut stream = Stream::open(&context, client, place, Machine::new(heartbeats, Instant::now()));
    let mut cancelled = false;
    while stream.writer.is_some() {
        let input = tokio::select! {
            biased;
            () = cancel.cancelled(), if !cancelled => {
                cancelled = true;
                Input::Stop
            }
            input = stream.next() => input,
        };
        stream.step(input);
    }
    stream.peer.close();
    let linger = if cancel.is_cancelled() { SHORT_LINGER } else { LINGER };
    if let Some(mut requests) = stream.requests.take() {
        let hear_out = timeout(linger, async { while let Some(Ok(_)) = requests.next().await {} });
        tokio::select! {
            _ = hear_out => {}
            () = async {
                context.cancel.cancelled().await;
                tokio::time::sleep(SHORT_LINGER).await;
            } => {}
        }
    }
}

struct Stream<'a> {
    context: &'a Context,
    machine: Machine,
    place: Place,
    uuid: String,
    /// Gone once the stream's work is over. Unbounded, but the machine writes 259 messages at most.
    writer: Option<mpsc::UnboundedSender<AnswerResponse>>,
    requests: Option<BoxStream<'static, Result<AnswerRequest, Status>>>,
    peer: Held,
    /// The peer's place among all connections, from the offer on.
    permit: Option<OwnedSemaphorePermit>,
    /// What the stack is doing for us.
    work: FuturesUnordered<BoxFuture<'static, Work>>,
}

/// What the stack did for us.
enum Work {
    Opened(Result<Peer, crate::peer::PeerError>),
    Input(Input),
    Nothing,
}

/// A peer that is closed with the stream unless it is taken out.
#[derive(Default)]
struct Held {
    peer: Option<Peer>,
    gathering: bool,
    watching: bool,
}

impl Held {
    fn close(&mut self) {
        if let Some(peer) = self.peer.take() {
            peer.connection.close();
        }
    }

    /// The next event of the peer; never without one. Cancel safe.
    async fn next(&mut self) -> Input {
        let Some(peer) = &mut self.peer else { return std::future::pending().await };
        tokio::select! {
            biased;
            opened = poll_fn(|cx| peer.channel.poll_open(cx)), if self.watching => {
                // Either way it is settled; a second look would find the same again.
                self.watching = false;
                let phase = peer.state.borrow().phase.clone();
                match opened {
                    Ok(()) => Input::ChannelOpen,
                    Err(_) if phase.is_final() => Input::Phase(phase),
                    Err(_) => Input::ChannelClosed,
                }
            }
            changed = peer.state.changed(), if self.watching => match changed {
                Ok(()) => Input::Phase(peer.state.borrow_and_update().phase.clone()),
                Err(_) => {
                    self.watching = false;
                    Input::Phase(Phase::Closed)
                }
            },
            candidate = peer.candidates.recv(), if self.gathering => {
                self.gathering = candidate.is_some();
                candidate.map_or(Input::GatheringEnded, Input::Candidate)
            }
            else => std::future::pending().await,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.close();
    }
}

impl<'a> Stream<'a> {
    /// Nothing is waited for: goutils' server holds its response headers back until there is an offer.
    fn open(context: &'a Context, mut client: SignalingClient, place: Place, machine: Machine) -> Self {
        let (writer, responses) = mpsc::unbounded_channel();
        let mut request = context.request(UnboundedReceiverStream::new(responses));
        request.metadata_mut().insert("heartbeats-allowed", MetadataValue::from_static("true"));
        let opening = async move { Ok::<_, Status>(client.answer(request).await?.into_inner()) };
        Self {
            context,
            machine,
            place,
            uuid: String::new(),
            writer: Some(writer),
            requests: Some(futures_util::stream::once(opening).try_flatten().boxed()),
            peer: Held::default(),
            permit: None,
            work: FuturesUnordered::new(),
        }
    }

    /// The next event. Cancel safe. The timer comes first, so that no flood of messages outlives the
    /// deadline, and the server last, so that none keeps us from the peer.
    async fn next(&mut self) -> Input {
        loop {
            let wake_at = self.machine.wake_at();
            let wake = async {
                match wake_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = wake => return Input::Tick,
                Some(work) = self.work.next(), if !self.work.is_empty() => match work {
                    Work::Opened(Ok(mut peer)) => {
                        // A phase that is already there is news to the machine.
                        peer.state.mark_changed();
                        self.peer = Held { peer: Some(peer), gathering: true, watching: true };
                        return Input::PeerOpened(Ok(()));
                    }
                    Work::Opened(Err(error)) => return Input::PeerOpened(Err(error)),
                    Work::Input(input) => return input,
                    Work::Nothing => {}
                },
                input = self.peer.next() => return input,
                request = next_request(&mut self.requests), if self.requests.is_some() => {
                    if !matches!(request, Some(Ok(_))) {
                        self.requests = None;
                    }
                    return match request {
                        Some(Ok(request)) => Input::Request(request, SystemTime::now()),
                        Some(Err(status)) => Input::StreamFailed(status),
                        None => Input::StreamEnded,
                    };
                }
            }
        }
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for output in self.machine.step(input, Instant::now()) {
                inputs.extend(self.perform(output));
            }
        }
    }

    /// Does it; what comes of it at once is returned.
    fn perform(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Heard => self.place.tell(pool::Input::Heard),
            Output::Heartbeats => self.place.tell(pool::Input::Heartbeats),
            Output::Claimed { uuid } => {
                self.uuid = uuid;
                self.place.tell(pool::Input::Claimed(self.place.id));
            }
            Output::Open(servers) => return self.open_peer(servers),
            Output::Send(response) => {
                if let Some(writer) = &self.writer {
                    // The stream may have ended; then there is nobody to read it.
                    let _ = writer.send(response);
                }
            }
            Output::Deliver => return Some(Input::Delivered(self.deliver())),
            Output::Finish(ending) => {
                tracing::debug!(uuid = self.uuid, ?ending, "answer stream is over");
                self.peer.close();
                self.work.clear();
                self.permit = None;
                self.writer = None;
                self.place.give_back(ending);
            }
            Output::Accept(_) | Output::Describe(_) | Output::AddCandidate(_) => self.use_peer(output),
        }
        None
    }

    fn open_peer(&mut self, servers: Vec<IceServer>) -> Option<Input> {
        let config = &self.context.config;
        if let Some(permits) = &config.permits {
            let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { return Some(Input::NoRoom) };
            self.permit = Some(permit);
        }
        let mut peer = PeerConfig::new(Role::Answerer);
        peer.ice_servers = config.ice_servers.iter().cloned().chain(servers).collect();
        peer.relay_only = config.relay_only;
        let opening = config.stack.open(peer);
        self.work.push(Box::pin(async move { Work::Opened(opening.await) }));
        None
    }

    fn use_peer(&self, output: Output) {
        let Some(peer) = &self.peer.peer else { return };
        let connection = Arc::clone(&peer.connection);
        self.work.push(Box::pin(async move {
            match output {
                Output::Accept(offer) => Work::Input(Input::AnswerMade(connection.accept_offer(offer).await)),
                Output::Describe(made) => {
                    let now = connection.local_description().await;
                    Work::Input(Input::Described(now.unwrap_or(made)))
                }
                Output::AddCandidate(candidate) => {
                    if let Err(error) = connection.add_remote_candidate(candidate).await {
                        tracing::debug!(%error, "candidate of the caller ignored");
                    }
                    Work::Nothing
                }
                _ => Work::Nothing,
            }
        }));
    }

    fn deliver(&mut self) -> Result<(), &'static str> {
        let Some(peer) = self.peer.peer.take() else { return Err("the connection is gone") };
        let answered = Answered {
            peer,
            uuid: self.uuid.clone(),
            host_names: self.context.config.hosts().map(str::to_owned).collect(),
            signaling: self.context.config.label.clone(),
            permit: self.permit.take(),
        };
        self.context.accepted.try_send(answered).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(answered) => {
                answered.peer.connection.close();
                "the robot has too many connections waiting; try again later"
            }
            mpsc::error::TrySendError::Closed(answered) => {
                answered.peer.connection.close();
                "the robot takes no more connections"
            }
        })
    }
}

async fn next_request(
    requests: &mut Option<BoxStream<'static, Result<AnswerRequest, Status>>>,
) -> Option<Result<AnswerRequest, Status>> {
    match requests {
        Some(requests) => requests.next().await,
        None => None,
    }
}
