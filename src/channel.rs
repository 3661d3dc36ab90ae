//! What a user holds: a gRPC channel to a robot that knows how it got there.
//!
//! Floor 4. A [`Channel`] is any [`Transport`] with its type erased, plus what the dial found out. Data goes
//! through it as through any tonic channel; control is its methods.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use http::{Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower_service::Service;

use crate::auth::Authorized;
use crate::dial::{self, DialError, DialOptions, DialReport, Dialed, Failure, Stage, StageReport};
use crate::event::Events;
use crate::transport::direct::DirectTransport;
use crate::transport::webrtc::WebRtcTransport;
use crate::transport::{CloseReason, LinkWatch, Stats, Transport, TransportError, TransportKind};

/// Dials a robot: WebRTC through signaling first, directly to its own address otherwise.
///
/// `address` is the robot's name (`robot-main.abc.viam.cloud`), `host:port`, or `unix:path`. Must be called
/// inside a tokio runtime. Dropping the future ends the dial and closes what it had opened.
///
/// # Errors
/// [`DialError`]: [`DialError::Config`] before any I/O, else within `options.timeout` with a report of
/// everything that was tried.
pub async fn dial(address: impl AsRef<str>, options: DialOptions) -> Result<Channel, DialError> {
    let (dialed, report) = dial::dial(address.as_ref(), &options).await?;
    let carrier = match dialed {
        Dialed::WebRtc(transport) => Carrier::WebRtc(transport),
        Dialed::Direct(transport) => Carrier::Direct(transport),
    };
    Ok(Channel { carrier, about: Arc::new(About { report: Some(report), first_use: OnceLock::new() }) })
}

/// A gRPC channel to a robot. Works with every client that tonic generates; clones are cheap and share the
/// connection, which closes when the last clone and the last open call are dropped.
///
/// A lost connection is not dialed again by itself: every call then fails with UNAVAILABLE, and
/// [`closed`](Self::closed) says why. [`Redial`](crate::redial::Redial) makes one that is. tonic's clients take messages of 4 MiB unless
/// `max_decoding_message_size` says more; the wire carries 32 MiB.
#[derive(Clone)]
pub struct Channel {
    carrier: Carrier,
    about: Arc<About>,
}

/// The two transports of the house without a box around them, and anybody else's.
#[derive(Clone)]
enum Carrier {
    WebRtc(WebRtcTransport),
    Direct(Authorized<DirectTransport>),
    Other { rpc: Rpc, control: Arc<dyn Control> },
}

type Rpc = BoxCloneSyncService<Request<Body>, Response<Body>, TransportError>;

#[derive(Debug)]
struct About {
    report: Option<DialReport>,
    first_use: OnceLock<StageReport>,
}

impl Channel {
    /// A channel over a transport of your own.
    pub fn from_transport<T: Transport>(transport: T) -> Self {
        Self::with_report(transport, None)
    }

    /// The same, and what a dial found out on the way to it.
    pub(crate) fn with_report<T: Transport>(transport: T, report: Option<DialReport>) -> Self {
        let control: Arc<dyn Control> = Arc::new(transport.clone());
        let rpc = BoxCloneSyncService::new(transport);
        let about = About { report, first_use: OnceLock::new() };
        Self { carrier: Carrier::Other { rpc, control }, about: Arc::new(about) }
    }

    /// Which transport carries it.
    pub fn transport(&self) -> TransportKind {
        self.control().kind()
    }

    /// Its counters; over WebRTC also the path, whether it is relayed, and its round trip time. Cancel safe.
    pub async fn stats(&self) -> Stats {
        self.control().stats().await
    }

    /// Why this is not WebRTC, when it could have been: how the WebRTC attempt failed. `None` over WebRTC,
    /// or when WebRTC was not tried.
    pub fn fallback_reason(&self) -> Option<&Failure> {
        self.about.report.as_ref().and_then(DialReport::fallback_reason)
    }

    /// Everything that the dial tried, with stages and times; once a call was made, the time of the first
    /// one too. `None` for a transport that was not dialed by farlink.
    pub fn report(&self) -> Option<DialReport> {
        let mut report = self.about.report.clone()?;
        if let (Some(attempt), Some(stage)) = (report.attempts.last_mut(), self.about.first_use.get()) {
            attempt.stages.push(stage.clone());
        }
        Some(report)
    }

    /// What happens to the channel from now on, beginning with how it stands. Each call begins anew.
    pub fn events(&self) -> Events {
        Events::new(self.transport(), self.fallback_reason().cloned(), self.control().watch())
    }

    /// Waits until the connection is gone and says why. Cancel safe; does not keep the channel alive.
    pub fn closed(&self) -> impl Future<Output = CloseReason> + Send + 'static {
        let mut watch = self.control().watch();
        async move { watch.closed().await }
    }

    /// Closes the connection for all clones. Calls in flight fail with UNAVAILABLE. Idempotent, does not
    /// wait.
    pub fn close(&self) {
        self.control().close();
    }

    fn control(&self) -> &dyn Control {
        match &self.carrier {
            Carrier::WebRtc(transport) => transport,
            Carrier::Direct(transport) => transport,
            Carrier::Other { control, .. } => &**control,
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("transport", &self.transport()).finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        match &mut self.carrier {
            Carrier::WebRtc(transport) => transport.poll_ready(cx),
            Carrier::Direct(transport) => transport.poll_ready(cx),
            Carrier::Other { rpc, .. } => rpc.poll_ready(cx),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = match &mut self.carrier {
            Carrier::WebRtc(transport) => transport.call(request),
            Carrier::Direct(transport) => transport.call(request),
            Carrier::Other { rpc, .. } => rpc.call(request),
        };
        if self.about.first_use.get().is_some() {
            return call;
        }
        let about = Arc::clone(&self.about);
        let began = Instant::now();
        Box::pin(async move {
            let response = call.await;
            if response.is_ok() {
                let elapsed = began.elapsed();
                let _ = about.first_use.set(StageReport::new(Stage::FirstUse, elapsed));
            }
            response
        })
    }
}

impl Transport for Channel {
    fn kind(&self) -> TransportKind {
        self.transport()
    }

    fn stats(&self) -> impl Future<Output = Stats> + Send {
        Self::stats(self)
    }

    fn watch(&self) -> LinkWatch {
        self.control().watch()
    }

    fn close(&self) {
        Self::close(self);
    }
}

/// The control half of a [`Transport`], object safe.
trait Control: Send + Sync {
    fn kind(&self) -> TransportKind;
    fn stats(&self) -> BoxFuture<'_, Stats>;
    fn watch(&self) -> LinkWatch;
    fn close(&self);
}

impl<T: Transport> Control for T {
    fn kind(&self) -> TransportKind {
        Transport::kind(self)
    }

    fn stats(&self) -> BoxFuture<'_, Stats> {
        Box::pin(Transport::stats(self))
    }

    fn watch(&self) -> LinkWatch {
        Transport::watch(self)
    }

    fn close(&self) {
        Transport::close(self);
    }
}

/// Any tonic client takes a channel, and tasks may share it.
const _: fn() = || {
    fn is_grpc_service<T: tonic::client::GrpcService<Body> + Clone + Send + Sync + 'static>() {}
    is_grpc_service::<Channel>();
};
