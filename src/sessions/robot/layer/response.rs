//! Responses of protected services: passed on as they are, or cut when their session ends.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;

use super::guarded::CallGuard;
use crate::sessions::robot::operations::Listed;
use crate::wire::status;

pin_project! {
    /// The response of a [`Protected`](super::Protected) service.
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F> {
        Passing { #[pin] response: F, listed: Option<Listed> },
        Guarded { response: BoxFuture<'static, Response<Body>> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn passing(response: F, listed: Listed) -> Self {
        Self { kind: Kind::Passing { response, listed: Some(listed) } }
    }

    pub(super) fn guarded(response: BoxFuture<'static, Response<Body>>) -> Self {
        Self { kind: Kind::Guarded { response } }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Guarded { response } => response.as_mut().poll(cx).map(Ok),
            KindProjection::Passing { response, listed } => {
                let response = ready!(response.poll(cx))?;
                let listed = listed.take();
                Poll::Ready(Ok(response.map(|body| Body::new(Passing { body, listed }))))
            }
        }
    }
}

pin_project! {
    /// A body that is listed while it lasts.
    struct Passing<B> {
        #[pin]
        body: B,
        listed: Option<Listed>,
    }
}

impl<B: http_body::Body> http_body::Body for Passing<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a monitored call, which ends when its session does.
pub(super) struct GuardedBody {
    /// Dropped when it is over, before the guard is, which says that the handler is gone.
    body: Option<Body>,
    ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    guard: Option<CallGuard>,
}

impl GuardedBody {
    pub(super) fn new(body: Body, guard: CallGuard) -> Self {
        let ended = guard.ended().map(|ended| Box::pin(ended.cancelled_owned()));
        Self { body: Some(body), ended, guard: Some(guard) }
    }

    /// Drops the handler, and then says so.
    fn over(&mut self) -> Option<CallGuard> {
        self.body = None;
        self.ended = None;
        self.guard.take()
    }
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // First, because the body of a busy stream is always ready.
        let ended = self.ended.as_mut().is_some_and(|ended| ended.as_mut().poll(cx).is_ready());
        if ended {
            let Some(guard) = self.over() else { return Poll::Ready(None) };
            let mut trailers = HeaderMap::new();
            status::to_headers(&guard.cut(), &mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if frame.as_ref().is_none_or(|frame| frame.as_ref().map_or(true, Frame::is_trailers)) {
            self.over();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
