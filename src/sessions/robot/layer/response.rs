//! Responses of protected services: passed on as they are, or cut when their session ends.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;

use super::end::SessionEnd;
use super::held::Held;
use crate::sessions::robot::calls::Response as _;
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

/// The body of a monitored call, which ends when its session does, polled or not.
pub(super) struct GuardedBody {
    held: Arc<Held>,
    /// `None` if the call has no session.
    session: Option<(SessionEnd, Pin<Box<WaitForCancellationFutureOwned>>)>,
    over: bool,
}

impl GuardedBody {
    pub(super) fn new(held: Arc<Held>, end: Option<SessionEnd>) -> Self {
        let session = end.map(|end| {
            let ended = end.wait();
            (end, ended)
        });
        Self { held, session, over: false }
    }

    /// Drops the handler, and then says so.
    fn over(&mut self) {
        self.over = true;
        self.held.cut();
    }
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        // First, because the body of a busy stream is always ready.
        let ended = self.session.as_mut().is_some_and(|(_, ended)| ended.as_mut().poll(cx).is_ready());
        let polled = if ended { None } else { self.held.with(|body| Pin::new(body).poll_frame(cx)) };
        let Some(polled) = polled else {
            self.over();
            let trailers = self.session.as_ref().map(|(end, _)| {
                let mut trailers = HeaderMap::new();
                status::to_headers(&end.status(), &mut trailers);
                Ok(Frame::trailers(trailers))
            });
            return Poll::Ready(trailers);
        };
        let frame = ready!(polled);
        if frame.as_ref().is_none_or(|frame| frame.as_ref().map_or(true, Frame::is_trailers)) {
            self.over();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // One that was cut has its trailers left.
        self.over || self.held.with(|body| http_body::Body::is_end_stream(body)).unwrap_or(false)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
