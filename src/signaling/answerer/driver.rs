//! Carries events to the answerer's pool and does what it says: connects, opens streams, asks.
//!
//! Floor 3.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, OptionFuture};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::ending::{is_local, whole_text};
use super::pool::{Input, Output, Pool};
use super::stream::{self, Context, Place};
use super::{AnswererState, Connect};
use crate::proto::webrtc::OptionalWebRtcConfigRequest;
use crate::signaling::SignalingClient;

/// How long making a client may take. goutils' 10 s, and time to authenticate over bad networks.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the server may take to answer a question.
const ASK: Duration = Duration::from_secs(10);
/// How long the streams may take to end when the answerer is stopped.
const STOP: Duration = Duration::from_secs(1);

/// Runs an answerer until it is cancelled.
pub(super) async fn run(connect: Connect, context: Arc<Context>, state: watch::Sender<AnswererState>) {
    let mut driver = Driver::new(connect, Arc::clone(&context), state);
    driver.step(Input::Tick);
    loop {
        let input = tokio::select! {
            biased;
            () = context.cancel.cancelled() => break,
            input = driver.next() => input,
        };
        driver.step(input);
    }
    let mut streams = driver.streams;
    let _ = timeout(STOP, async { while streams.join_next().await.is_some() {} }).await;
    streams.shutdown().await;
    driver.state.send_replace(AnswererState::Stopped);
}

struct Driver {
    context: Arc<Context>,
    connect: Connect,
    state: watch::Sender<AnswererState>,
    pool: Pool,
    client: Option<SignalingClient>,
    events: mpsc::UnboundedReceiver<Input>,
    events_sender: mpsc::UnboundedSender<Input>,
    streams: JoinSet<()>,
    tokens: HashMap<u64, CancellationToken>,
    connecting: OptionFuture<BoxFuture<'static, Result<SignalingClient, String>>>,
    asking: OptionFuture<BoxFuture<'static, Input>>,
}

impl Driver {
    fn new(connect: Connect, context: Arc<Context>, state: watch::Sender<AnswererState>) -> Self {
        let (events_sender, events) = mpsc::unbounded_channel();
        let config = &context.config;
        let pool =
            Pool::new(config.spare_streams, config.max_negotiations, fastrand::Rng::new(), Instant::now());
        Self {
            context,
            connect,
            state,
            pool,
            client: None,
            events,
            events_sender,
            streams: JoinSet::new(),
            tokens: HashMap::new(),
            connecting: None.into(),
            asking: None.into(),
        }
    }

    /// The next event. Cancel safe.
    async fn next(&mut self) -> Input {
        loop {
            let wake_at = self.pool.wake_at();
            let wake = async {
                match wake_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => {
                    if let Input::Ended(id, _) = &event {
                        self.tokens.remove(id);
                    }
                    return event;
                }
                Some(connected) = &mut self.connecting => {
                    self.connecting = None.into();
                    return match connected {
                        Ok(client) => {
                            self.client = Some(client);
                            Input::Connected
                        }
                        Err(why) => Input::ConnectFailed(why),
                    };
                }
                Some(answer) = &mut self.asking => {
                    self.asking = None.into();
                    return answer;
                }
                Some(_) = self.streams.join_next(), if !self.streams.is_empty() => {}
                () = wake => return Input::Tick,
            }
        }
    }

    fn step(&mut self, input: Input) {
        for output in self.pool.step(input, Instant::now()) {
            match output {
                Output::Connect => self.connect(),
                Output::Open { id, heartbeats } => self.open(id, heartbeats),
                Output::Close(id) => {
                    if let Some(token) = self.tokens.remove(&id) {
                        token.cancel();
                    }
                }
                Output::Ask => self.ask(),
                Output::State(state) => {
                    let signaling = &self.context.config.label;
                    tracing::debug!(signaling, ?state, "answerer");
                    self.state.send_replace(state);
                }
            }
        }
    }

    fn connect(&mut self) {
        self.client = None;
        self.asking = None.into();
        let connecting = (self.connect)();
        let connecting = async move {
            match timeout(CONNECT, connecting).await {
                Ok(connected) => connected.map_err(|error| error.to_string()),
                Err(_) => Err("no connection to the signaling server in time".to_owned()),
            }
        };
        self.connecting = Some(Box::pin(connecting) as _).into();
    }

    fn open(&mut self, id: u64, heartbeats: bool) {
        let Some(client) = self.client.clone() else { return };
        let token = self.context.cancel.child_token();
        self.tokens.insert(id, token.clone());
        let place = Place::new(id, self.events_sender.clone());
        self.streams.spawn(stream::run(Arc::clone(&self.context), client, place, heartbeats, token));
    }

    /// Any answer of the server will do, a refusal too.
    fn ask(&mut self) {
        let Some(mut client) = self.client.clone() else { return };
        let request = self.context.request(OptionalWebRtcConfigRequest {});
        let asking = async move {
            // Lets the streams that were opened just now go first.
            tokio::task::yield_now().await;
            match timeout(ASK, client.optional_web_rtc_config(request)).await {
                Ok(Err(status)) if is_local(&status) => Input::Unreached(whole_text(&status)),
                Ok(_) => Input::Reached,
                Err(_) => Input::Unreached("the signaling server does not answer".to_owned()),
            }
        };
        self.asking = Some(Box::pin(asking) as _).into();
    }
}
