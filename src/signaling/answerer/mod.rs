//! The answerer: keeps a robot reachable through one signaling server, and answers who calls.
//!
//! Floor 3. `pool` has the rules of the whole (connections, how many streams), `machine` those of one
//! `Answer` stream; `driver` and `stream` carry their inputs and outputs; `ending` and `backoff` are the
//! words between them.
//!
//! # Invariant
//! While signaling lets us, idle streams are open, however many calls are being negotiated (up to the
//! limit) and however slow their callers are. Nothing that a server does makes us open streams in a hot
//! loop, and each call is over within 12 s.

mod bucket;
mod driver;
mod ending;
mod machine;
mod pool;
mod stream;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};

use super::{BoxError, SignalingClient, host_value};
use crate::peer::{IceServer, Peer, Stack};

/// The most names that one answerer answers for. Contract: goutils `rpc/wrtc_signaling_server.go`.
pub const MAX_HOSTS: usize = 5;

/// Makes a client of the signaling server: connects and, where needed, authenticates. Called again when
/// the connection is lost; each call has 30 s.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, Result<SignalingClient, BoxError>> + Send + Sync>;

/// What an answerer needs to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AnswererConfig {
    hosts: Vec<(String, MetadataValue<Ascii>)>,
    /// What makes peer connections.
    pub stack: Arc<dyn Stack>,
    /// ICE servers to use beside those that signaling hands out with each offer. Default none.
    pub ice_servers: Vec<IceServer>,
    /// Use relays only. Default no.
    pub relay_only: bool,
    /// How many idle streams to hold open. Default 2, as robots of today do; at least 1.
    pub spare_streams: usize,
    /// How many streams to have at all, idle ones included, and so how many calls can be negotiated at
    /// once. Default 16; at least 1. Servers may allow fewer: the cloud's allows 4 per host.
    pub max_negotiations: usize,
    /// Room for connections, one permit each; answerers may share it. An offer takes a permit before anything
    /// is opened for it, and [`Answered::permit`] hands it on; without one the caller is told at once, with
    /// RESOURCE_EXHAUSTED. Default `None`: as many as come.
    pub permits: Option<Arc<Semaphore>>,
    /// A name for the signaling server, for logs and for [`Answered::signaling`]. Default empty.
    pub label: String,
}

impl AnswererConfig {
    /// For these names, with the defaults.
    ///
    /// # Errors
    /// [`AnswererConfigError`] when there are no names, more than [`MAX_HOSTS`], or one that metadata
    /// cannot carry.
    pub fn new(
        hosts: impl IntoIterator<Item = impl Into<String>>,
        stack: Arc<dyn Stack>,
    ) -> Result<Self, AnswererConfigError> {
        let hosts: Vec<String> = hosts.into_iter().map(Into::into).collect();
        if hosts.is_empty() || hosts.len() > MAX_HOSTS {
            return Err(AnswererConfigError::HowMany(hosts.len()));
        }
        let value = |host: String| match host_value(&host) {
            Some(value) => Ok((host, value)),
            None => Err(AnswererConfigError::Host(host)),
        };
        Ok(Self {
            hosts: hosts.into_iter().map(value).collect::<Result<_, _>>()?,
            stack,
            ice_servers: Vec::new(),
            relay_only: false,
            spare_streams: 2,
            max_negotiations: 16,
            permits: None,
            label: String::new(),
        })
    }

    /// The names that are answered for.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|(host, _)| host.as_str())
    }
}

/// Names that cannot be answered for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswererConfigError {
    /// None, or too many.
    #[error("{0} host names given, an answerer needs 1 to {MAX_HOSTS}")]
    HowMany(usize),
    /// Empty, or with characters outside visible ASCII.
    #[error("{0:?} cannot be a robot's name: use visible ASCII only")]
    Host(String),
}

/// A caller that got through: its data channel is open.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The connection to it.
    pub peer: Peer,
    /// The call's name in signaling.
    pub uuid: String,
    /// The names of the answerer that was called. Signaling does not say which of them the caller used.
    pub host_names: Vec<String>,
    /// The [`label`](AnswererConfig::label) of the signaling server that it came through.
    pub signaling: String,
    /// Its place among [`AnswererConfig::permits`], if there are any: keep it as long as the connection.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// How an answerer stands with its signaling server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswererState {
    /// Not reachable now; it keeps trying for as long as it lives.
    Connecting {
        /// How often it failed since it last worked, this try included.
        attempt: u32,
        /// Why it failed last.
        last_error: Option<String>,
    },
    /// Streams are open and the server answers.
    Online,
    /// Stopped or dropped.
    Stopped,
}

/// Answers for a robot at one signaling server, until dropped or [stopped](Self::stop).
pub struct Answerer {
    state: watch::Receiver<AnswererState>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Answerer {
    /// Starts answering. Callers that got through are sent to `accepted`; when it is full or gone, the
    /// caller is told so and its connection is closed. Must be called inside a tokio runtime.
    pub fn spawn(connect: Connect, config: AnswererConfig, accepted: mpsc::Sender<Answered>) -> Self {
        let cancel = CancellationToken::new();
        let (state_sender, state) =
            watch::channel(AnswererState::Connecting { attempt: 1, last_error: None });
        let context = Arc::new(stream::Context { config, accepted, cancel: cancel.clone() });
        let task = tokio::spawn(driver::run(connect, context, state_sender));
        Self { state, cancel, task }
    }

    /// How it stands, now and later.
    pub fn state(&self) -> watch::Receiver<AnswererState> {
        self.state.clone()
    }

    /// Stops answering, tells the callers in negotiation, and waits (1 s at most) for all tasks to end.
    /// Connections that were handed over live on. Dropping the future, like dropping the answerer, stops as
    /// well, but waits for nothing.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl fmt::Debug for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answerer").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}
