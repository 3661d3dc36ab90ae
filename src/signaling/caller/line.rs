//! The signaling half of a call: the `Call` stream, the `CallUpdate`s, and what is left of them when the
//! call is over.
//!
//! Floor 3. Dropping a [`Line`] is how every call ends, so that a dropped future cleans up as well as a
//! finished one: either the channel is open and the answerer hears `done`, or the peer connection is closed
//! and the answerer hears why. Both happen in a task of their own, in bounded time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};

use super::error::CallErrorKind;
use crate::peer::{Candidate, Description, PeerConnection};
use crate::proto::google_rpc;
use crate::proto::webrtc::call_update_request::Update;
use crate::proto::webrtc::{CallRequest, CallResponse, CallUpdateRequest};
use crate::signaling::{RPC_HOST, SignalingClient};

/// How often a `CallUpdate` is tried.
const ATTEMPTS: u32 = 3;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long the last word may take. It has its own time because the call's deadline may be what ended it.
const LAST_WORD: Duration = Duration::from_secs(5);
/// How long candidates that are on their way may delay `done`.
const IN_FLIGHT_GRACE: Duration = Duration::from_millis(100);

/// Messages of the answerer, as signaling passes them on.
pub(super) type Responses = BoxStream<'static, Result<CallResponse, Status>>;

/// See the module.
pub(super) struct Line {
    runtime: Handle,
    client: SignalingClient,
    host: MetadataValue<Ascii>,
    connection: Arc<dyn PeerConnection>,
    uuid: Option<String>,
    ending: Ending,
    /// The `Call` stream while it lives.
    pub(super) responses: Option<Responses>,
    /// The `CallUpdate`s on their way.
    pub(super) updates: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// How the call ended.
enum Ending {
    /// It did not: the future was dropped.
    Dropped,
    /// The channel is open. The stream is heard out until this time.
    Open(Instant),
    /// It failed; the answerer is told this, if it is to be told.
    Failed(Option<google_rpc::Status>),
}

impl Line {
    /// Must be called inside a tokio runtime.
    pub(super) fn new(
        client: SignalingClient,
        host: MetadataValue<Ascii>,
        connection: Arc<dyn PeerConnection>,
    ) -> Self {
        Self {
            runtime: Handle::current(),
            client,
            host,
            connection,
            uuid: None,
            ending: Ending::Dropped,
            responses: None,
            updates: FuturesUnordered::new(),
        }
    }

    /// Sends the offer, with the candidates that it has by now. Servers may hold their response headers
    /// back until there is an answer, so the RPC is part of the stream.
    pub(super) fn open(&mut self, made: Description, disable_trickle: bool) {
        let connection = Arc::clone(&self.connection);
        let mut client = self.client.clone();
        let host = self.host.clone();
        let opening = async move {
            let offer = connection.local_description().await.unwrap_or(made);
            let request = CallRequest { sdp: offer.encode(), disable_trickle };
            Ok::<_, Status>(client.call(for_host(&host, request)).await?.into_inner())
        };
        self.responses = Some(futures_util::stream::once(opening).try_flatten().boxed());
    }

    /// From now on the answerer can be told things.
    pub(super) fn name(&mut self, uuid: String) {
        self.uuid = Some(uuid);
    }

    /// Puts a candidate on its way.
    pub(super) fn send(&self, candidate: Candidate) {
        let Some(uuid) = self.uuid.clone() else { return };
        let update = Update::Candidate(candidate.into());
        self.updates.push(Box::pin(update_call(self.client.clone(), self.host.clone(), uuid, update)));
    }

    /// The channel is open.
    pub(super) fn succeed(&mut self, deadline: Instant) {
        self.ending = Ending::Open(deadline);
    }

    /// The call failed.
    pub(super) fn fail(&mut self, kind: &CallErrorKind) {
        self.ending = Ending::Failed(kind.to_wire());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let responses = self.responses.take();
        let updates = std::mem::take(&mut self.updates);
        let error = match std::mem::replace(&mut self.ending, Ending::Dropped) {
            Ending::Open(deadline) => {
                let Some(uuid) = self.uuid.take() else { return };
                let done = update_call(self.client.clone(), self.host.clone(), uuid, Update::Done(true));
                self.runtime.spawn(hear_out(responses, updates, done, deadline));
                return;
            }
            Ending::Failed(error) => error,
            Ending::Dropped => Some(google_rpc::Status {
                code: Code::Cancelled as i32,
                message: "the caller went away".to_owned(),
                ..Default::default()
            }),
        };
        self.connection.close();
        // Without a name there is nobody to tell; signaling sees the stream break.
        if let (Some(uuid), Some(error)) = (self.uuid.take(), error) {
            let update = update_call(self.client.clone(), self.host.clone(), uuid, Update::Error(error));
            self.runtime.spawn(async move {
                let _ = timeout(LAST_WORD, update).await;
                // Only now: breaking the stream first would replace our word by "cancelled".
                drop(responses);
            });
        }
    }
}

/// Says `done`, then listens until the answerer's end. A stream dropped earlier counts as an abort, and a
/// robot that has not yet seen its end of the channel open would close it.
async fn hear_out(
    responses: Option<Responses>,
    mut updates: FuturesUnordered<BoxFuture<'static, ()>>,
    done: impl Future<Output = ()>,
    deadline: Instant,
) {
    let _ = timeout(IN_FLIGHT_GRACE, async { while updates.next().await.is_some() {} }).await;
    drop(updates);
    let _ = timeout(LAST_WORD, done).await;
    if let Some(mut responses) = responses {
        let _ = timeout_at(deadline, async { while let Some(Ok(_)) = responses.next().await {} }).await;
    }
}

/// One `CallUpdate`. Tried again when signaling was out of reach or busy; never more than a log line,
/// because a call may work without it, and micro-rdk and the cloud's queue refuse late ones.
async fn update_call(mut client: SignalingClient, host: MetadataValue<Ascii>, uuid: String, update: Update) {
    let request = CallUpdateRequest { uuid, update: Some(update) };
    for attempt in 1..=ATTEMPTS {
        let sent = timeout(ATTEMPT, client.call_update(for_host(&host, request.clone()))).await;
        let status = match sent {
            Ok(Ok(_)) => return,
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no response to CallUpdate"),
        };
        tracing::debug!(attempt, %status, "CallUpdate failed");
        let transient =
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted);
        if !transient {
            return;
        }
        if attempt < ATTEMPTS {
            sleep(Duration::from_millis(fastrand::u64(25..=50) << attempt)).await;
        }
    }
}

/// A request with exactly one `rpc-host`.
fn for_host<T>(host: &MetadataValue<Ascii>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(RPC_HOST, host.clone());
    request
}
