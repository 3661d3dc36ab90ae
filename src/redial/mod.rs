//! A channel that is dialed again when its connection is lost.
//!
//! Floor 4, between [`Channel`] and sessions. [`Redial`] is a [`Transport`] over connections
//! that come and go. `machine` has the rules, `driver` does what they say, `gate` lets calls pass.
//!
//! ```no_run
//! use farlink::proto::robot::GetVersionRequest;
//! use farlink::proto::robot::robot_service_client::RobotServiceClient;
//! use farlink::redial::Redial;
//! use farlink::{DialOptions, Event};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = DialOptions::new().max_reconnect_attempts(0u32); // for ever
//! let channel = Redial::dial("robot-main.abc.viam.cloud", options).await?.into_channel();
//! let mut events = channel.events();
//! tokio::spawn(async move {
//!     while let Some(event) = events.next().await {
//!         println!("{event}"); // reconnecting, attempt 1: the connection was lost: ...
//!     }
//! });
//! let mut robot = RobotServiceClient::new(channel);
//! println!("{}", robot.get_version(GetVersionRequest {}).await?.into_inner().version);
//! # Ok(())
//! # }
//! ```
//!
//! # What happens to calls
//! - A call that was handed to a connection is never made again by farlink. If that connection is lost, it
//!   fails with UNAVAILABLE, and whether the robot has heard it is not known.
//! - A call that is made while there is no connection waits in its own future, or fails, as [`WhileDown`]
//!   says. Dropping it is always safe: it has not left. When there is a connection again, starts of sessions
//!   go first.
//! - A call that belongs to one connection never waits. It carries a session's id (`viam-sid`), is a heartbeat,
//!   or says [`OnConnection`](crate::transport::OnConnection). While that connection is gone it fails at once
//!   as not sent ([`TransportError::is_not_sent`]), so that sessions can go on first.
//!
//! # When it is dialed
//! At once when the connection is lost, for whatever reason but its own [`close`](Redial::close). After a
//! failure, later and later: 1 s, doubling to 10 s, of which a random half to whole. After
//! `max_reconnect_attempts` failures in a row it gives up for good, and after a failure that trying again does
//! not mend (refused credentials) at once. A connection that is lost within 5 s does not end the back-off, so
//! one that flaps is dialed later and later too; but it is no failed attempt, because the robot was reached.
//!
//! # Invariant
//! One connection at a time, one dial at a time, and after the end neither.

mod builder;
mod driver;
mod gate;
mod machine;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use futures_util::task::noop_waker_ref;
use http::{Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tower_service::Service;

pub use self::builder::{Dialer, RedialBuilder, WhileDown};
use self::gate::{Gate, Nature, Passage};
use crate::channel::Channel;
use crate::dial::{DialError, DialOptions, DialReport};
use crate::transport::{CloseReason, LinkWatch, Stats, Transport, TransportError, TransportKind, deadline};
use crate::wire::timeout;

/// A [`Transport`] over connections that come and go. Clones share it.
///
/// It ends when it is closed, when it gives up, or when the last clone and the last waiting call are dropped;
/// calls under way then go on to their end.
#[derive(Clone)]
pub struct Redial {
    handle: Arc<Handle>,
}

impl Redial {
    /// Dials, and dials again whenever the connection is lost: [`RedialBuilder::dial`] with the default
    /// settings.
    ///
    /// # Errors
    /// [`DialError`] of the first dial, which is not repeated.
    pub async fn dial(address: impl Into<String>, options: DialOptions) -> Result<Self, DialError> {
        Self::builder().dial(address, options).await
    }

    /// Takes over a channel that was dialed with this address and these options: [`RedialBuilder::build`]
    /// with the default settings.
    pub fn new(channel: Channel, address: impl Into<String>, options: DialOptions) -> Self {
        Self::builder().build(channel, address, options)
    }

    /// With settings.
    pub fn builder() -> RedialBuilder {
        RedialBuilder::default()
    }

    /// The channel that users hold. Its report and its fallback reason are those of the first dial, for ever;
    /// its kind and its counters those of the present connection, or of the last.
    pub fn into_channel(self) -> Channel {
        let report = self.handle.first_dial.clone();
        Channel::with_report(self, report)
    }

    /// The report of the dial that made the present connection, or the last. `None` for a connection that was
    /// not dialed by farlink.
    pub fn report(&self) -> Option<DialReport> {
        self.handle.gate.channel().as_ref().and_then(Channel::report)
    }

    /// Ends it for all clones: the connection is closed, a dial under way ends, waiting calls and calls under
    /// way fail with UNAVAILABLE. Idempotent, does not wait.
    pub fn close(&self) {
        self.handle.gate.end(CloseReason::Local);
    }
}

impl fmt::Debug for Redial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.watch().state();
        f.debug_struct("Redial")
            .field("connection", &state.connection)
            .field("reconnecting", &state.reconnecting)
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Redial {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Response<Body>, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let nature = Nature::of(request.uri().path(), request.headers(), request.extensions());
        match self.handle.gate.pass(nature) {
            Passage::Refused(error) => Box::pin(std::future::ready(Err(error))),
            Passage::Wait => Box::pin(wait(Arc::clone(&self.handle), nature, request)),
            Passage::Go(mut channel) => {
                match channel.poll_ready(&mut Context::from_waker(noop_waker_ref())) {
                    Poll::Ready(Ok(())) => channel.call(request),
                    _ => Box::pin(hand_over(channel, request, ())),
                }
            }
        }
    }
}

impl Transport for Redial {
    fn kind(&self) -> TransportKind {
        self.handle.gate.kind()
    }

    async fn stats(&self) -> Stats {
        match self.handle.gate.channel() {
            Some(channel) => channel.stats().await,
            None => Stats::new(self.kind()),
        }
    }

    fn watch(&self) -> LinkWatch {
        self.handle.gate.watch()
    }

    fn close(&self) {
        Self::close(self);
    }
}

/// Keeps it going: held by clones and by waiting calls.
struct Handle {
    gate: Arc<Gate>,
    first_dial: Option<DialReport>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.gate.abandon();
    }
}

/// Waits for a connection, and makes the call on it with the time that is left.
async fn wait(
    handle: Arc<Handle>,
    nature: Nature,
    mut request: Request<Body>,
) -> Result<Response<Body>, TransportError> {
    let began = Instant::now();
    let left = timeout::from_headers(request.headers());
    let place = handle.gate.place(nature);
    let channel = deadline::within(left, handle.gate.wait(nature)).await?;
    if let Some(left) = left {
        let left = timeout::to_header(left.saturating_sub(began.elapsed()));
        request.headers_mut().insert(timeout::GRPC_TIMEOUT, left);
    }
    drop(handle);
    hand_over(channel, request, place).await
}

/// Makes the call; drops `place` when it is on its way.
async fn hand_over<P>(
    mut channel: Channel,
    request: Request<Body>,
    place: P,
) -> Result<Response<Body>, TransportError> {
    poll_fn(|cx| channel.poll_ready(cx)).await?;
    let mut call: Pin<_> = channel.call(request);
    drop(channel);
    let first = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
    drop(place);
    match first {
        Poll::Ready(result) => result,
        Poll::Pending => call.await,
    }
}

#[cfg(test)]
mod tests;
