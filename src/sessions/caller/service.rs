//! A transport whose monitored calls carry a session.
//!
//! # Invariant
//! A call carries one `viam-sid` at most: its own, or the session's. Unmonitored calls pass as they came.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::future::BoxFuture;
use http::{HeaderName, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::body::Body;
use tower_service::Service;

use super::core::{Core, Glance};
use super::heartbeat::{Expiry, expiry, has};
use super::kept::Kept;
use super::state::{Ready, Session};
use super::watched::Watched;
use super::{EndReason, OnExpiry, OnStartFailure, SessionError, SessionEvent, SessionOptions};
use crate::sessions::monitored::Monitoring;
use crate::transport::{LinkWatch, Stats, Transport, TransportError, TransportKind, deadline};
use crate::wire::session::{EXPIRED_SESSION_KEY, SESSION_METADATA_KEY};
use crate::wire::{status, timeout};

const SESSION_ID: HeaderName = HeaderName::from_static(SESSION_METADATA_KEY);

/// A transport whose monitored calls carry a session, which is started with the first of them and kept alive
/// over the same connection. Clones share it.
///
/// Heartbeats end when the last clone is dropped, also while a call's stream is still open: keep one for as
/// long as you move things.
pub struct Sessions<T: Transport> {
    owner: Arc<Owner<T>>,
    inner: T,
}

/// Held by clones and by calls until they are answered, not by the keeper: when the last is dropped, heartbeats
/// end.
pub(super) struct Owner<T: Transport> {
    pub(super) core: Arc<Core<T>>,
}

impl<T: Transport> Drop for Owner<T> {
    fn drop(&mut self) {
        self.core.reset(false, EndReason::Closed);
    }
}

impl<T: Transport> Sessions<T> {
    /// Sessions over this transport. Nothing is sent before the first monitored call.
    pub fn new(transport: T, options: SessionOptions) -> Self {
        let core = Arc::new(Core::new(transport.clone(), options));
        Self { owner: Arc::new(Owner { core }), inner: transport }
    }

    pub(super) fn core(&self) -> &Arc<Core<T>> {
        &self.owner.core
    }

    /// The transport below, whose calls carry no session.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// What a call of this request has to do for a session.
    fn decide(&self, request: &Request<Body>) -> Decision {
        let core = self.core();
        match core.policy.load().decide(request.uri().path()) {
            Monitoring::Monitored => {}
            Monitoring::Unmonitored => return Decision::Pass,
            Monitoring::Unknown => {
                core.unknown.fetch_add(1, Ordering::Relaxed);
                return Decision::Pass;
            }
        }
        if has(request.headers(), SESSION_METADATA_KEY) {
            return Decision::Pass;
        }
        match &**core.glance.load() {
            Glance::Alive(session) => Decision::Carry(Arc::clone(session)),
            Glance::Ask => Decision::Wait,
        }
    }
}

enum Decision {
    Pass,
    Carry(Arc<Session>),
    Wait,
}

impl<T: Transport> Service<Request<Body>> for Sessions<T> {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = SessionCall<T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> SessionCall<T> {
        match self.decide(&request) {
            Decision::Pass => SessionCall::of(Stage::Passing { call: self.inner.call(request) }),
            Decision::Carry(session) => {
                let carried = Carried::send(&self.owner, session, request, &mut self.inner);
                SessionCall::of(carried)
            }
            Decision::Wait => {
                // The clone that is ready makes the call.
                let fresh = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, fresh);
                let left = timeout::from_headers(request.headers());
                let work = when_ready(Arc::clone(&self.owner), inner, request);
                SessionCall::of(Stage::Asking { call: Box::pin(deadline::enforce(left, work)) })
            }
        }
    }
}

/// Waits for a session, then makes the call.
async fn when_ready<T: Transport>(
    owner: Arc<Owner<T>>,
    mut inner: T,
    request: Request<Body>,
) -> Result<Response<Body>, TransportError> {
    let core = &owner.core;
    match core.ready(None).await {
        Ok(Ready { session: None, .. }) => inner.call(request).await,
        Ok(Ready { replaces: Some(session), .. }) => {
            core.told(&session);
            Err(SessionError::Expired { session }.into())
        }
        Ok(Ready { session: Some(session), .. }) => {
            SessionCall::of(Carried::send(&owner, session, request, &mut inner)).await
        }
        Err(error) if core.options.on_start_failure == OnStartFailure::Degrade => {
            core.announcer.announce(SessionEvent::Degraded { error });
            inner.call(request).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a call once more that was refused for its session, or that did not leave.
async fn once_more<T: Transport>(
    owner: Arc<Owner<T>>,
    refused: Arc<Session>,
    kept: Kept,
    answer: Result<Response<Body>, TransportError>,
) -> Result<Response<Body>, TransportError> {
    let core = &owner.core;
    let expired = answer.is_ok();
    // By its id: who refused it is the robot that has it, and not one further on. It was on another connection.
    let named = answer.as_ref().is_ok_and(|response| has(response.headers(), EXPIRED_SESSION_KEY));
    let ready = core.ready(expired.then_some(&refused.id)).await?;
    let session = match ready.session {
        // The robot goes on with it: whoever says that it has expired means another one, further on.
        Some(session) if expired && !named && session.id == refused.id => return answer,
        session => session,
    };
    let Some(mut request) = kept.again() else {
        // Too long to keep: what the transport said has to do, or that it has expired.
        answer?;
        return Err(SessionError::Expired { session: refused.id.clone() }.into());
    };
    core.counters.retried();
    let Some(session) = session else { return core.transport.clone().call(request).await };
    request.headers_mut().insert(SESSION_ID, session.header.clone());
    let answer = core.transport.clone().call(request).await;
    let about = Carried { owner: Arc::clone(&owner), session, again: None };
    match about.judge(answer) {
        Ok((Ok(response), Some(about))) => Ok(Watched::follow(response, about)),
        Ok((answer, _)) => answer,
        // Nothing is kept, so that it is not made a third time.
        Err(again) => again.await,
    }
}

pin_project! {
    /// One call of [`Sessions`]. Dropping it cancels the call; a start that it waits for goes on for others.
    pub struct SessionCall<T: Transport> {
        #[pin]
        stage: Stage<T>,
    }
}

impl<T: Transport> SessionCall<T> {
    fn of(stage: Stage<T>) -> Self {
        Self { stage }
    }
}

impl<T: Transport> fmt::Debug for SessionCall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCall").finish_non_exhaustive()
    }
}

pub(super) type Answer = BoxFuture<'static, Result<Response<Body>, TransportError>>;

pin_project! {
    #[project = StageProj]
    enum Stage<T: Transport> {
        // Carries no session.
        Passing { #[pin] call: T::Future },
        // Carries one, and is on its way.
        Carrying { #[pin] call: T::Future, about: Option<Carried<T>> },
        // Waits for one, or is made again.
        Asking { call: Answer },
    }
}

/// What is known about a call on its way.
pub(super) struct Carried<T: Transport> {
    owner: Arc<Owner<T>>,
    session: Arc<Session>,
    /// `None` where an expiry is surfaced. In a box: calls that carry no session have room for it too.
    again: Option<Box<Again>>,
}

/// For making a call again.
struct Again {
    kept: Kept,
    /// When the caller's patience ends.
    deadline: Option<Instant>,
}

impl<T: Transport> Carried<T> {
    /// Sends it.
    fn send(
        owner: &Arc<Owner<T>>,
        session: Arc<Session>,
        mut request: Request<Body>,
        inner: &mut T,
    ) -> Stage<T> {
        let again = (owner.core.options.on_expiry == OnExpiry::Retry).then(|| {
            let hurried = has(request.headers(), timeout::GRPC_TIMEOUT);
            let left = if hurried { timeout::from_headers(request.headers()) } else { None };
            let deadline = left.and_then(|left| Instant::now().checked_add(left));
            let (fresh, kept) = Kept::new(std::mem::take(&mut request));
            request = fresh;
            Box::new(Again { kept, deadline })
        });
        request.headers_mut().insert(SESSION_ID, session.header.clone());
        let about = Some(Self { owner: Arc::clone(owner), session, again });
        Stage::Carrying { call: inner.call(request), about }
    }

    /// A message of the answer was seen: the call is not made again, whatever comes.
    pub(super) fn message_seen(&mut self) {
        self.again.take().iter().for_each(|again| again.kept.release());
    }

    /// What follows from the answer: it is the caller's, or the call is made again.
    #[allow(clippy::type_complexity, reason = "what is left to judge goes with an answer that is not over")]
    pub(super) fn judge(
        self,
        answer: Result<Response<Body>, TransportError>,
    ) -> Result<(Result<Response<Body>, TransportError>, Option<Self>), Answer> {
        let expiry = answer.as_ref().ok().and_then(|response| expiry(response.headers(), &self.session));
        let not_sent = answer.as_ref().is_err_and(TransportError::is_not_sent);
        if not_sent {
            self.owner.core.unbind(&self.session.id);
        }
        let refused = expiry == Some(Expiry::Refused);
        if expiry.is_none() && !not_sent {
            return Ok((answer, Some(self)));
        }
        let Self { owner, session, again } = self;
        match again {
            Some(again) if refused || not_sent => {
                let Again { kept, deadline } = *again;
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                let left = left.map(|left| left.max(Duration::from_micros(1)));
                let work = once_more(owner, session, kept, answer);
                Err(Box::pin(deadline::enforce(left, work)))
            }
            _ if expiry.is_some() => {
                owner.core.surfaced(&session.id);
                let reason = SessionError::Expired { session: session.id.clone() };
                let said = answer.ok().and_then(|response| status::from_headers(response.headers()));
                Ok((Err(reason.in_words_of(said).into()), None))
            }
            _ => Ok((answer, None)),
        }
    }
}

impl<T: Transport> Future for SessionCall<T> {
    type Output = Result<Response<Body>, TransportError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let again = match self.as_mut().project().stage.project() {
                StageProj::Passing { call } => return call.poll(cx),
                StageProj::Asking { call } => return call.as_mut().poll(cx),
                StageProj::Carrying { call, about } => {
                    let answer = ready!(call.poll(cx));
                    let Some(about) = about.take() else { return Poll::Ready(answer) };
                    match about.judge(answer) {
                        Ok((Ok(response), Some(about))) => {
                            return Poll::Ready(Ok(Watched::follow(response, about)));
                        }
                        Ok((answer, _)) => return Poll::Ready(answer),
                        Err(again) => again,
                    }
                }
            };
            self.as_mut().project().stage.set(Stage::Asking { call: again });
        }
    }
}

impl<T: Transport> Transport for Sessions<T> {
    fn kind(&self) -> TransportKind {
        self.inner.kind()
    }

    fn stats(&self) -> impl Future<Output = Stats> + Send {
        self.inner.stats()
    }

    fn watch(&self) -> LinkWatch {
        self.inner.watch()
    }

    fn close(&self) {
        self.core().reset(false, EndReason::Closed);
        self.inner.close();
    }
}

impl<T: Transport> Clone for Sessions<T> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner), inner: self.inner.clone() }
    }
}

impl<T: Transport> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("inner", &self.inner)
            .field("state", &self.core().session_state())
            .finish_non_exhaustive()
    }
}
