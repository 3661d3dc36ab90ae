//! A transport that is a call of a function, and a robot that answers at once.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use farlink::proto::robot::StartSessionResponse;
use farlink::server::CallInfo;
use farlink::transport::{
    CloseReason, LinkState, LinkWatch, Stats, Transport, TransportError, TransportKind,
};
use futures_util::TryFutureExt as _;
use futures_util::future::MapErr;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::body::Body;
use tower_service::Service;

pub(crate) const WINDOW: Duration = Duration::from_secs(2);

/// Monitored.
pub(crate) const SET_POWER: &str = "/viam.component.motor.v1.MotorService/SetPower";
/// The sign of life.
pub(crate) const HEARTBEAT: &str = "/viam.robot.v1.RobotService/SendSessionHeartbeat";

/// A request with this message, as tonic's clients make it.
pub(crate) fn request(path: &'static str, message: &impl prost::Message) -> Request<Body> {
    let mut request = Request::post(path).body(Body::new(Full::new(frame(message)))).expect("a request");
    for (key, value) in [("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "tonic")] {
        request.headers_mut().insert(key, HeaderValue::from_static(value));
    }
    request
}

fn frame(message: &impl prost::Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len().try_into().expect("a short message"));
    message.encode(&mut bytes).expect("room");
    bytes.freeze()
}

/// A transport to a service in the same process, on a connection of its own. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Wire<S> {
    service: S,
    info: Option<CallInfo>,
    link: Arc<watch::Sender<LinkState>>,
}

impl<S> Wire<S> {
    pub(crate) fn new(service: S, info: Option<CallInfo>) -> Self {
        Self { service, info, link: Arc::default() }
    }
}

impl<S> Service<Request<Body>> for Wire<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = MapErr<S::Future, fn(Infallible) -> TransportError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(info) = &self.info {
            request.extensions_mut().insert(info.clone());
        }
        self.service.call(request).map_err(|never| match never {})
    }
}

impl<S> Transport for Wire<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + fmt::Debug
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    fn kind(&self) -> TransportKind {
        TransportKind::Direct
    }

    async fn stats(&self) -> Stats {
        Stats::new(TransportKind::Direct)
    }

    fn watch(&self) -> LinkWatch {
        LinkWatch::new(self.link.subscribe())
    }

    fn close(&self) {
        self.link.send_modify(|state| state.closed = Some(CloseReason::Local));
    }
}

/// What the robots that answer at once have seen.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) starts: AtomicU64,
    pub(crate) beats: AtomicU64,
    /// Heartbeats that came later than a window after the sign of life before.
    pub(crate) expired: AtomicU64,
}

/// Gives a session, takes heartbeats, and has nothing to say to other calls. One for each session.
#[derive(Debug, Clone)]
pub(crate) struct AtOnce {
    book: Arc<Book>,
    seen: Arc<Mutex<Instant>>,
}

impl AtOnce {
    pub(crate) fn new(book: &Arc<Book>) -> Self {
        Self { book: Arc::clone(book), seen: Arc::new(Mutex::new(Instant::now())) }
    }

    /// How long there has been no sign of life; and there is one now.
    fn sign(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        now - std::mem::replace(&mut *seen, now)
    }
}

impl Service<Request<Body>> for AtOnce {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if !path.starts_with("/viam.robot") {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            return ready(Ok(response));
        }
        let gap = self.sign();
        let body = if path == HEARTBEAT {
            self.book.beats.fetch_add(1, Ordering::Relaxed);
            self.book.expired.fetch_add(u64::from(gap >= WINDOW), Ordering::Relaxed);
            Body::empty()
        } else {
            self.book.starts.fetch_add(1, Ordering::Relaxed);
            let id = uuid::Uuid::new_v4().to_string();
            let heartbeat_window = prost_types::Duration::try_from(WINDOW).ok();
            Body::new(Full::new(frame(&StartSessionResponse { id, heartbeat_window })))
        };
        let mut response = Response::new(body);
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
        ready(Ok(response))
    }
}
