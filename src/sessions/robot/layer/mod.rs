//! Around the robot's services: which calls may move something, and for whom.
//!
//! ```text
//!  headers ─▶ session's id checked ─▶ first message ─▶ resources taken ─▶ handler ─▶ response
//!                  └─ SESSION_EXPIRED          session ends: handler dropped ─▶ SESSION_EXPIRED
//! ```
//!
//! What a handler leaves behind, a task that feeds its response, can tell the end of the session from the drop of
//! the response and from the end of the request.
//!
//! # Invariant
//! A session's id is checked before anything of the call's body is read, and a resource is its session's before
//! the handler sees the call; a call under a session that hides what it moves is refused. Of an unmonitored call nothing is looked at but its path.

mod end;
mod first;
mod guarded;
mod held;
mod request;
mod response;

use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

pub use self::response::ResponseFuture;
use super::manager::SessionManager;
use crate::sessions::Monitoring;

/// Puts [`Protected`] around services; from [`SessionManager::layer`].
#[derive(Clone)]
pub struct ProtectLayer {
    manager: SessionManager,
}

impl ProtectLayer {
    pub(super) fn new(manager: SessionManager) -> Self {
        Self { manager }
    }
}

impl<S> Layer<S> for ProtectLayer {
    type Service = Protected<S>;

    fn layer(&self, inner: S) -> Protected<S> {
        Protected { inner, manager: self.manager.clone() }
    }
}

impl fmt::Debug for ProtectLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectLayer").finish_non_exhaustive()
    }
}

/// Services whose monitored calls are under sessions.
#[derive(Clone)]
pub struct Protected<S> {
    inner: S,
    manager: SessionManager,
}

impl<S> fmt::Debug for Protected<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protected").finish_non_exhaustive()
    }
}

impl<S, A, B> Service<Request<A>> for Protected<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>
        + Service<Request<Body>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    <S as Service<Request<Body>>>::Future: Send,
    A: http_body::Body<Data = Bytes> + Send + 'static,
    A::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<<S as Service<Request<A>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <S as Service<Request<A>>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let core = self.manager.core();
        let path = request.uri().path();
        let listed = core.operations.begin(path);
        if core.monitored.lookup(path) != Monitoring::Monitored {
            return ResponseFuture::passing(self.inner.call(request), listed);
        }
        let call = guarded::guarded(core.clone(), self.inner.clone(), request.map(Body::new), listed);
        ResponseFuture::guarded(call.boxed())
    }
}
