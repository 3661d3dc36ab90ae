//! `SignalingService`: the call queue on gRPC, for callers and for answerers.
//!
//! Floor 3, above [`queue`](super::queue). Here are the options and the four methods; `hosts` reads
//! `rpc-host`, `call` and `answer` are the two streams. Works behind any tonic server, and in process:
//! `SignalingServiceClient::new(service.into_server())` is a client without a socket.
//!
//! # Invariant
//! A stream is polled by the one who writes it out and owns its end of the call: when the client goes, the
//! stream is dropped, and with it the end. There is no task and no buffer in between.
//!
//! Contract: goutils `rpc/wrtc_signaling_server.go`. Where it tells apart, this service is quicker to end things: a call
//! that its caller abandons frees the answerer at once.

mod answer;
mod call;
mod hosts;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_core::stream::BoxStream;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status, Streaming, async_trait};

use super::queue::{CallQueue, CallerItem, OFFER_LIFETIME, Offer};
use crate::peer::{IceServer, Role};
use crate::proto::google_rpc;
use crate::proto::webrtc::call_update_request::Update;
use crate::proto::webrtc::signaling_service_server as rpc;
use crate::proto::webrtc::{
    AnswerRequest, AnswerResponse, CallRequest, CallResponse, CallUpdateRequest, CallUpdateResponse,
    OptionalWebRtcConfigRequest, OptionalWebRtcConfigResponse, WebRtcConfig,
};

/// The longest `sdp` that is taken, in bytes of its encoded form. With all candidates of a machine with
/// many networks one is about 10 kB.
pub const MAX_SDP: usize = 256 * 1024;

/// The largest message that is decoded, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// How often answerers that allow it are sent a heartbeat: 15 s. Some give a stream up after 30 s of silence.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Decides whether a request may go on. Runs on every request, before the queue hears of it: be quick.
pub type Authorize = Arc<dyn Fn(&Access<'_>) -> Result<(), Status> + Send + Sync>;

/// Who wants what of the service, for [`Authorize`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Access<'a> {
    /// The request's metadata. Has the credentials: do not log it.
    pub metadata: &'a MetadataMap,
    /// The request's extensions, with what the layers before have found out.
    pub extensions: &'a Extensions,
    /// What it wants to be. Reading the ICE servers needs either role.
    pub role: Role,
    /// Whom it wants to call or to answer for. An answerer is asked for each of its hosts.
    pub host: &'a str,
}

/// The signaling service over a [`CallQueue`]. Clones share everything.
#[derive(Clone)]
pub struct SignalingService {
    queue: Arc<dyn CallQueue>,
    hosts: Arc<HashSet<String>>,
    ice_servers: Arc<[IceServer]>,
    heartbeat_interval: Duration,
    offer_lifetime: Duration,
    authorize: Option<Authorize>,
}

impl SignalingService {
    /// A service that takes any host and any caller and hands out no ICE servers.
    pub fn new(queue: Arc<dyn CallQueue>) -> Self {
        Self {
            queue,
            hosts: Arc::default(),
            ice_servers: Arc::from([]),
            heartbeat_interval: HEARTBEAT_INTERVAL,
            offer_lifetime: OFFER_LIFETIME,
            authorize: None,
        }
    }

    /// Takes these hosts only, compared byte by byte, port included. None means any.
    #[must_use]
    pub fn with_hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.hosts = Arc::new(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Hands these ICE servers, credentials included, to whoever may call or answer.
    #[must_use]
    pub fn with_ice_servers(mut self, servers: impl IntoIterator<Item = IceServer>) -> Self {
        self.ice_servers = servers.into_iter().collect();
        self
    }

    /// How often answerers that allow it are sent a heartbeat. [`HEARTBEAT_INTERVAL`] by default; zero
    /// means never.
    #[must_use]
    pub fn with_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// How long a call may take from offer to end. [`OFFER_LIFETIME`] by default.
    #[must_use]
    pub fn with_offer_lifetime(mut self, lifetime: Duration) -> Self {
        self.offer_lifetime = lifetime;
        self
    }

    /// Asks before each request. By default everybody may call and answer for everything: a server that
    /// others reach must ask, for who may answer for a host gets its callers.
    #[must_use]
    pub fn with_authorize(mut self, authorize: Authorize) -> Self {
        self.authorize = Some(authorize);
        self
    }

    /// The tonic service, with its limits set.
    pub fn into_server(self) -> rpc::SignalingServiceServer<Self> {
        rpc::SignalingServiceServer::new(self).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Ends all streams with UNAVAILABLE and refuses new ones. Answer streams do not end by themselves: a
    /// server that shuts down calls this first. Closes the queue, also for others that use it.
    pub fn close(&self) {
        self.queue.close();
    }

    fn hosts_of<T>(&self, request: &Request<T>) -> Result<Vec<String>, Status> {
        let hosts = hosts::read(request.metadata())?;
        if !self.hosts.is_empty() && !hosts.iter().all(|host| self.hosts.contains(host)) {
            // Callers know by code and text that there is no signaling for the host here.
            return Err(Status::invalid_argument("host not preconfigured"));
        }
        Ok(hosts)
    }

    fn authorize<T>(&self, request: &Request<T>, role: Role, hosts: &[String]) -> Result<(), Status> {
        let Some(authorize) = &self.authorize else { return Ok(()) };
        let (metadata, extensions) = (request.metadata(), request.extensions());
        hosts.iter().try_for_each(|host| authorize(&Access { metadata, extensions, role, host }))
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let hosts = self.hosts_of(request)?;
        self.authorize(request, Role::Caller, &hosts)?;
        hosts::one(hosts)
    }

    fn config(&self, disable_trickle: bool) -> WebRtcConfig {
        let additional_ice_servers = self.ice_servers.iter().map(IceServer::to_wire).collect();
        WebRtcConfig { additional_ice_servers, disable_trickle }
    }
}

impl fmt::Debug for SignalingService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalingService")
            .field("queue", &self.queue)
            .field("hosts", &self.hosts)
            .field("ice_servers", &self.ice_servers)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl rpc::SignalingService for SignalingService {
    type CallStream = BoxStream<'static, Result<CallResponse, Status>>;
    type AnswerStream = BoxStream<'static, Result<AnswerRequest, Status>>;

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<Self::CallStream>, Status> {
        let host = self.caller(&request)?;
        let CallRequest { sdp, disable_trickle } = request.into_inner();
        if sdp.len() > MAX_SDP {
            return Err(too_long());
        }
        let mut offer = Offer::new(host, sdp);
        offer.disable_trickle = disable_trickle;
        offer.lifetime = self.offer_lifetime;
        let call = self.queue.call(offer).await?;
        Ok(Response::new(call::stream(call)))
    }

    async fn call_update(
        &self,
        request: Request<CallUpdateRequest>,
    ) -> Result<Response<CallUpdateResponse>, Status> {
        let host = self.caller(&request)?;
        let CallUpdateRequest { uuid, update } = request.into_inner();
        let item = match update {
            Some(Update::Candidate(candidate)) => CallerItem::Candidate(candidate),
            Some(Update::Done(_)) => CallerItem::Done,
            Some(Update::Error(status)) => CallerItem::Error(status),
            // A kind of update that this version does not know.
            None => return Ok(Response::new(CallUpdateResponse {})),
        };
        self.queue.update(&host, &uuid, item).await?;
        Ok(Response::new(CallUpdateResponse {}))
    }

    async fn answer(
        &self,
        request: Request<Streaming<AnswerResponse>>,
    ) -> Result<Response<Self::AnswerStream>, Status> {
        let hosts = self.hosts_of(&request)?;
        self.authorize(&request, Role::Answerer, &hosts)?;
        let heartbeats = hosts::heartbeats_allowed(request.metadata()).then_some(self.heartbeat_interval);
        let waiting = self.queue.answer(hosts).await?;
        let stream = answer::stream(self.clone(), request.into_inner(), waiting, heartbeats);
        Ok(Response::new(stream))
    }

    async fn optional_web_rtc_config(
        &self,
        request: Request<OptionalWebRtcConfigRequest>,
    ) -> Result<Response<OptionalWebRtcConfigResponse>, Status> {
        let hosts = self.hosts_of(&request)?;
        self.authorize(&request, Role::Caller, &hosts)
            .or_else(|refused| self.authorize(&request, Role::Answerer, &hosts).map_err(|_| refused))?;
        Ok(Response::new(OptionalWebRtcConfigResponse { config: Some(self.config(false)) }))
    }
}

fn too_long() -> Status {
    Status::invalid_argument(format!("sdp is too long: at most {MAX_SDP} bytes"))
}

/// A gRPC status as the messages carry it.
fn to_wire(status: &Status) -> google_rpc::Status {
    google_rpc::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    }
}
