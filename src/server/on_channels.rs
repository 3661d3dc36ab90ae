//! What is not served on a data channel, whatever the routes have: authentication and signaling.
//!
//! Floor 4. Invariant: such a call never reaches the routes; it ends with UNIMPLEMENTED.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service;

/// Who got one of these over a channel could pose as the robot. The first is a package, the second a service.
const NEVER: [&str; 2] = ["/proto.rpc.v1.", "/proto.rpc.webrtc.v1.SignalingService/"];

/// The routes as callers on data channels get them.
#[derive(Clone)]
pub(super) struct OnChannels {
    routes: Routes,
}

impl OnChannels {
    pub(super) fn new(routes: Routes) -> Self {
        Self { routes }
    }
}

impl Service<Request<Body>> for OnChannels {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<<Routes as Service<Request<Body>>>::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if NEVER.iter().any(|never| path.starts_with(never)) {
            let status = Status::unimplemented("not served on a data channel: call the robot's listener");
            return Either::Right(ready(Ok(status.into_http())));
        }
        Either::Left(self.routes.call(request))
    }
}
