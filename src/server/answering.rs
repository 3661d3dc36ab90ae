//! What a direct caller is owed when its handler cannot go on: a status, not a broken stream.
//!
//! Floor 4. Over a data channel the transport sees to it; over HTTP/2 a handler that panics or is cut would
//! reset its stream, which callers read as CANCELLED.
//!
//! # Invariant
//! Every response ends with a status.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower_layer::Layer;
use tower_service::Service;

use crate::wire::status;

/// Routes whose calls end with INTERNAL when they panic, and with UNAVAILABLE when the token is cancelled.
pub(super) fn always_answering(routes: Routes, over: CancellationToken) -> Routes {
    routes.into_axum_router().layer(AlwaysAnswering { over }).into()
}

#[derive(Clone)]
struct AlwaysAnswering {
    over: CancellationToken,
}

impl<S> Layer<S> for AlwaysAnswering {
    type Service = Answering<S>;

    fn layer(&self, inner: S) -> Answering<S> {
        Answering { inner, over: self.over.clone() }
    }
}

#[derive(Clone)]
struct Answering<S> {
    inner: S,
    over: CancellationToken,
}

impl<S, A, B> Service<Request<A>> for Answering<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let call = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        let mut over = Box::pin(self.over.clone().cancelled_owned());
        Box::pin(async move {
            let response = match select(pin!(call), &mut over).await {
                Either::Left((Ok(Ok(response)), _)) => response,
                Either::Left((Ok(Err(never)), _)) => match never {},
                Either::Left((Err(_), _)) => return Ok(panicked().into_http()),
                Either::Right(_) => return Ok(cut().into_http()),
            };
            let body = |body| Body::new(Answer { body: Some(Body::new(body)), over });
            Ok(response.map(body))
        })
    }
}

/// A response's body that always ends with trailers.
struct Answer {
    /// Dropped when it was cut short.
    body: Option<Body>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Answer {
    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.body = None;
        let mut trailers = HeaderMap::new();
        status::to_headers(status, &mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.body.is_none() {
            return Poll::Ready(None);
        }
        // First, because the body of a busy stream is always ready.
        if self.over.as_mut().poll(cx).is_ready() {
            return self.end(&cut());
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
            Ok(frame) => frame,
            Err(_) => self.end(&panicked()),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }
}

fn panicked() -> Status {
    Status::internal("the handler did not finish")
}

fn cut() -> Status {
    Status::unavailable("the robot is shutting down")
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Body as _;

    use super::*;

    /// A stream whose next message is always there.
    struct Endless;

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }

    #[tokio::test]
    async fn a_busy_stream_is_cut_with_a_status_as_well() {
        let over = CancellationToken::new();
        let waits = Box::pin(over.clone().cancelled_owned());
        let mut answer = Answer { body: Some(Body::new(Endless)), over: waits };
        let frame = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await.unwrap().unwrap();
        assert!(frame.is_data());
        over.cancel();
        let frame = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await.unwrap().unwrap();
        let trailers = frame.into_trailers().expect("still data");
        assert_eq!(trailers["grpc-status"], "14");
        assert!(poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await.is_none());
    }
}
