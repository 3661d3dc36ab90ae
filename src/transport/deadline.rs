//! A call's deadline, enforced where the call is made.
//!
//! Servers are told the deadline too, but a robot that is gone cannot keep it. When it passes, the call is
//! dropped (which tells the robot, where the wire can) and fails with DEADLINE_EXCEEDED, never with
//! CANCELLED: that is for callers who changed their mind.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::Response;
use http_body::{Body as _, Frame};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

/// Runs the call, and lets its response's body be read, for this long.
pub(super) async fn enforce(
    left: Option<Duration>,
    call: impl Future<Output = Result<Response<Body>, Status>>,
) -> Result<Response<Body>, Status> {
    // A time too long for the clock is no deadline.
    let Some(deadline) = left.and_then(|left| Instant::now().checked_add(left)) else { return call.await };
    let mut expiry = Box::pin(sleep_until(deadline));
    let response = match select(std::pin::pin!(call), &mut expiry).await {
        Either::Left((response, _)) => response?,
        Either::Right(_) => return Err(exceeded()),
    };
    Ok(response.map(|body| {
        if body.is_end_stream() { body } else { Body::new(DeadlineBody { body: Some(body), expiry }) }
    }))
}

struct DeadlineBody {
    /// Dropped when the deadline has passed.
    body: Option<Body>,
    expiry: Pin<Box<Sleep>>,
}

impl http_body::Body for DeadlineBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        ready!(self.expiry.as_mut().poll(cx));
        self.body = None;
        Poll::Ready(Some(Err(exceeded())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }
}

fn exceeded() -> Status {
    Status::deadline_exceeded("the call's deadline passed before the robot answered")
}
