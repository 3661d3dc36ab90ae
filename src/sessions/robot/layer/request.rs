//! The request of a call under a session, as its handler reads it: it fails when the session ends, also for a task
//! that the handler left behind.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;

use super::end::SessionEnd;

/// A request's body that ends when its session does.
pub(super) struct GuardedRequest {
    /// `None` when it is over.
    body: Option<Body>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    end: SessionEnd,
}

impl GuardedRequest {
    pub(super) fn new(body: Body, end: SessionEnd) -> Self {
        Self { body: Some(body), ended: end.wait(), end }
    }
}

impl http_body::Body for GuardedRequest {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body: place, ended, end } = &mut *self;
        let Some(body) = place else { return Poll::Ready(None) };
        // Not a message more, however many are there.
        if ended.as_mut().poll(cx).is_ready() {
            *place = None;
            return Poll::Ready(Some(Err(end.status())));
        }
        Pin::new(body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
