//! A robot of other people's, as far as sessions go: scripted, and it remembers what it saw. And a transport
//! that is a delay.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use farlink::proto::robot::robot_service_server::{RobotService, RobotServiceServer};
use farlink::proto::robot::*;
use farlink::server::CallInfo;
use farlink::sessions::{Monitored, Policy, SESSION_METADATA_KEY, SessionOptions};
use farlink::transport::{
    CloseReason, LinkState, LinkWatch, Reconnecting, Stats, Transport, TransportError, TransportKind,
};
use http::{Extensions, Request as HttpRequest, Response as HttpResponse};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tower::ServiceExt as _;
use tower_service::Service;

use super::Probe;
use super::probe::probe_server::ProbeServer;

/// The window of the fake robot, unless a test says otherwise.
pub const WINDOW: Duration = Duration::from_secs(2);

/// Monitored as far as the tests' callers know.
pub const UNARY: &str = "/farlink.test.v1.Probe/Unary";
/// The same, of two streams.
pub const BOTH: &str = "/farlink.test.v1.Probe/Both";
/// Not monitored, but known.
pub const SPREAD: &str = "/farlink.test.v1.Probe/Spread";

/// Options under which [`UNARY`] and [`BOTH`] are monitored.
pub fn options() -> SessionOptions {
    let table = Monitored::new().with_method(UNARY).with_method(BOTH);
    SessionOptions::new().policy(Policy::Descriptor(table))
}

/// A call that the fake saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub sids: Vec<String>,
    pub at: Instant,
}

/// What the fake does and what it saw.
#[derive(Debug)]
pub struct Script {
    /// What starts answer as the window: seconds and nanoseconds.
    pub window: Option<(i64, i32)>,
    /// What the next starts fail with.
    pub start_errors: VecDeque<Status>,
    pub start_delay: Duration,
    /// What the next heartbeats fail with; they do not count.
    pub beat_errors: VecDeque<Status>,
    pub beat_delay: Duration,
    /// What the next monitored calls fail with.
    pub call_errors: VecDeque<Status>,
    /// Resumptions of what is not there are refused, as another owner's.
    pub strict: bool,
    /// Resumptions are answered with a new session.
    pub forgetful: bool,
    /// What `resume` starts asked for.
    pub starts: Vec<String>,
    pub beats: Vec<(String, Instant)>,
    pub calls: Vec<Seen>,
    /// Which connections anything came over.
    pub connections: BTreeSet<u64>,
    /// Every session: its deadline.
    pub live: BTreeMap<String, Instant>,
    /// Sessions that ran out, and when.
    pub expired: Vec<(String, Instant)>,
}

/// The fake. Clones share it.
#[derive(Clone)]
pub struct FakeRobot(Arc<Mutex<Script>>);

impl fmt::Debug for FakeRobot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeRobot")
    }
}

impl FakeRobot {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Script {
            window: Some((2, 0)),
            start_errors: VecDeque::new(),
            start_delay: Duration::ZERO,
            beat_errors: VecDeque::new(),
            beat_delay: Duration::ZERO,
            call_errors: VecDeque::new(),
            forgetful: false,
            strict: false,
            starts: Vec::new(),
            beats: Vec::new(),
            calls: Vec::new(),
            connections: BTreeSet::new(),
            live: BTreeMap::new(),
            expired: Vec::new(),
        })))
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    /// What a new one has, for starting over.
    pub fn take(self) -> Script {
        Arc::into_inner(self.0).unwrap().into_inner().unwrap()
    }

    /// The session ids of the calls of this method, in order.
    pub fn sids(&self, path: &str) -> Vec<Vec<String>> {
        let script = self.script();
        script.calls.iter().filter(|seen| seen.path == path).map(|seen| seen.sids.clone()).collect()
    }

    /// How many sessions have run out by now, and how many starts there were.
    pub fn expired_and_started(&self) -> (usize, usize) {
        let mut script = self.script();
        script.expire(Some(Instant::now()));
        (script.expired.len(), script.starts.len())
    }

    /// Forgets all sessions, as after their expiry.
    pub fn expire_all(&self) {
        self.script().expire(None);
    }

    pub fn routes(&self) -> Routes {
        let probe = Guarded { inner: Probe, fake: self.clone() };
        Routes::new(RobotServiceServer::new(self.clone())).add_service(probe)
    }
}

impl Script {
    fn window(&self) -> Duration {
        let (seconds, nanos) = self.window.unwrap_or_default();
        Duration::new(seconds.try_into().unwrap_or(0), nanos.try_into().unwrap_or(0))
    }

    /// Ends what has run out by now, or everything.
    pub fn expire(&mut self, now: Option<Instant>) {
        let over = |deadline: &Instant| now.is_none_or(|now| *deadline <= now);
        let ended: Vec<_> =
            self.live.iter().filter(|(_, deadline)| over(deadline)).map(|(id, _)| id.clone()).collect();
        for id in ended {
            let deadline = self.live.remove(&id).unwrap();
            self.expired.push((id, deadline));
        }
    }

    fn came_over(&mut self, extensions: &Extensions) {
        self.connections.extend(extensions.get::<CallInfo>().map(|info| info.connection.id()));
    }

    /// A sign of life. False if it came too late.
    fn alive(&mut self, id: &str) -> bool {
        let now = Instant::now();
        self.expire(Some(now));
        let window = self.window();
        self.live.get_mut(id).map(|deadline| *deadline = now + window).is_some()
    }
}

/// The probe behind a check of sessions, as robots make it: on headers, before the handler.
#[derive(Clone)]
struct Guarded {
    inner: Probe,
    fake: FakeRobot,
}

impl NamedService for Guarded {
    const NAME: &'static str = <ProbeServer<Probe> as NamedService>::NAME;
}

impl Service<HttpRequest<Body>> for Guarded {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let sids = request.headers().get_all(SESSION_METADATA_KEY).iter();
        let sids: Vec<String> = sids.map(|sid| sid.to_str().unwrap().to_owned()).collect();
        let path = request.uri().path().to_owned();
        let refusal = {
            let mut script = self.fake.script();
            script.came_over(request.extensions());
            script.calls.push(Seen { path, sids: sids.clone(), at: Instant::now() });
            let known = sids.first().is_none_or(|sid| script.alive(sid));
            let expired = || Status::invalid_argument("SESSION_EXPIRED");
            script.call_errors.pop_front().or_else(|| (!known).then(expired))
        };
        if let Some(status) = refusal {
            return Box::pin(async move { Ok(status.into_http()) });
        }
        let service = ProbeServer::new(self.inner);
        Box::pin(service.oneshot(request))
    }
}

#[tonic::async_trait]
impl RobotService for FakeRobot {
    async fn start_session(
        &self,
        request: Request<StartSessionRequest>,
    ) -> Result<Response<StartSessionResponse>, Status> {
        self.script().came_over(request.extensions());
        let resume = request.into_inner().resume;
        let delay = self.script().start_delay;
        tokio::time::sleep(delay).await;
        let mut script = self.script();
        script.starts.push(resume.clone());
        if let Some(status) = script.start_errors.pop_front() {
            return Err(status);
        }
        let goes_on = !script.forgetful && script.alive(&resume);
        if script.strict && !goes_on && !resume.is_empty() {
            return Err(Status::invalid_argument("not yours"));
        }
        let id = if goes_on { resume } else { format!("sid-{}", script.starts.len()) };
        let deadline = Instant::now() + script.window();
        script.live.insert(id.clone(), deadline);
        let heartbeat_window = script.window.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos });
        Ok(Response::new(StartSessionResponse { id, heartbeat_window }))
    }

    async fn send_session_heartbeat(
        &self,
        request: Request<SendSessionHeartbeatRequest>,
    ) -> Result<Response<SendSessionHeartbeatResponse>, Status> {
        self.script().came_over(request.extensions());
        let id = request.into_inner().id;
        let delay = {
            let mut script = self.script();
            script.beats.push((id.clone(), Instant::now()));
            if let Some(status) = script.beat_errors.pop_front() {
                return Err(status);
            }
            if !script.alive(&id) {
                return Err(Status::invalid_argument("SESSION_EXPIRED"));
            }
            script.beat_delay
        };
        tokio::time::sleep(delay).await;
        Ok(Response::new(SendSessionHeartbeatResponse {}))
    }

    async fn get_operations(
        &self,
        _: Request<GetOperationsRequest>,
    ) -> Result<Response<GetOperationsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_sessions(
        &self,
        _: Request<GetSessionsRequest>,
    ) -> Result<Response<GetSessionsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn resource_names(
        &self,
        _: Request<ResourceNamesRequest>,
    ) -> Result<Response<ResourceNamesResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn resource_rpc_subtypes(
        &self,
        _: Request<ResourceRpcSubtypesRequest>,
    ) -> Result<Response<ResourceRpcSubtypesResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn cancel_operation(
        &self,
        _: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn block_for_operation(
        &self,
        _: Request<BlockForOperationRequest>,
    ) -> Result<Response<BlockForOperationResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn stop_all(&self, _: Request<StopAllRequest>) -> Result<Response<StopAllResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_cloud_metadata(
        &self,
        _: Request<GetCloudMetadataRequest>,
    ) -> Result<Response<GetCloudMetadataResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_tunnels(
        &self,
        _: Request<ListTunnelsRequest>,
    ) -> Result<Response<ListTunnelsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type TunnelStream = tokio_stream::Empty<Result<TunnelResponse, Status>>;

    async fn tunnel(
        &self,
        _: Request<tonic::Streaming<TunnelRequest>>,
    ) -> Result<Response<Self::TunnelStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A transport that is a delay each way, and can be cut. Clones share it.
#[derive(Clone)]
pub struct Local(Arc<Wire>);

type Delay = dyn FnMut(&str) -> Option<(Duration, Duration)> + Send;

struct Wire {
    routes: Routes,
    link: watch::Sender<LinkState>,
    /// How long a call takes there, and its answer back; `None`: it never arrives.
    delay: Mutex<Box<Delay>>,
}

impl Local {
    pub fn new(routes: Routes) -> Self {
        let link = watch::Sender::new(LinkState::default());
        let delay = Mutex::new(Box::new(|_: &str| Some((Duration::ZERO, Duration::ZERO))) as Box<_>);
        Self(Arc::new(Wire { routes: routes.prepare(), link, delay }))
    }

    /// From now on calls take this long there and back.
    pub fn delay(&self, delay: impl FnMut(&str) -> Option<(Duration, Duration)> + Send + 'static) {
        *self.0.delay.lock().unwrap() = Box::new(delay);
    }

    /// The connection is lost, and another one being made.
    pub fn lose(&self) {
        let lost = CloseReason::Lost("a test cut it".to_owned());
        self.0.link.send_modify(|state| {
            state.change += 1;
            state.reconnecting = Some(Reconnecting::new(1, lost, None));
        });
    }

    /// There is another connection.
    pub fn reconnect(&self) {
        self.0.link.send_modify(|state| {
            state.change += 1;
            state.connection += 1;
            state.reconnecting = None;
        });
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}

impl Service<HttpRequest<Body>> for Local {
    type Response = HttpResponse<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse<Body>, TransportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let delay = (self.0.delay.lock().unwrap())(request.uri().path());
        let (wire, mut link) = (Arc::clone(&self.0), self.0.link.subscribe());
        Box::pin(async move {
            // As `Redial` does it.
            if link.borrow().reconnecting.is_some() {
                if request.headers().contains_key(SESSION_METADATA_KEY) {
                    return Err(TransportError::not_sent(Status::unavailable("reconnecting")));
                }
                let _ = link.wait_for(|state| state.reconnecting.is_none()).await;
            }
            let connection = link.borrow().connection;
            let gone = |state: &LinkState| state.closed.is_some() || state.connection != connection;
            let call = async {
                let Some((there, back)) = delay else { return std::future::pending().await };
                tokio::time::sleep(there).await;
                let response = wire.routes.clone().oneshot(request).await.unwrap();
                tokio::time::sleep(back).await;
                response.map(Body::new)
            };
            tokio::select! {
                response = call => Ok(response),
                _ = link.wait_for(gone) => Err(Status::unavailable("the connection was lost").into()),
            }
        })
    }
}

impl Transport for Local {
    fn kind(&self) -> TransportKind {
        TransportKind::Direct
    }

    async fn stats(&self) -> Stats {
        Stats::new(TransportKind::Direct)
    }

    fn watch(&self) -> LinkWatch {
        LinkWatch::new(self.0.link.subscribe())
    }

    fn close(&self) {
        self.0.link.send_modify(|state| state.closed = Some(CloseReason::Local));
    }
}
