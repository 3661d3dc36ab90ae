//! A call's deadline, enforced where the call is made.
//!
//! Servers are told the deadline too, but a robot that is gone cannot keep it. When it passes, the call is
//! dropped (which tells the robot, where the wire can) and fails with DEADLINE_EXCEEDED, never with
//! CANCELLED: that is for callers who changed their mind. Servers that say CANCELLED when the deadline has
//! passed (tonic's and goutils' do) mean the same, and are quoted as such.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::wire::status;

/// Runs the call, and lets its response's body be read, for this long.
pub(crate) async fn enforce<E: From<Status>>(
    left: Option<Duration>,
    call: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    // A time too long for the clock is no deadline.
    let Some(deadline) = left.and_then(|left| Instant::now().checked_add(left)) else { return call.await };
    if Handle::try_current().is_err() {
        return Err(no_runtime("a call with a deadline").into());
    }
    let mut expiry = Box::pin(sleep_until(deadline));
    let response = match select(std::pin::pin!(call), &mut expiry).await {
        Either::Left((response, _)) => response?,
        Either::Right(_) => return Err(exceeded().into()),
    };
    if Instant::now() >= deadline && is_cancelled(response.headers()) {
        return Err(exceeded().into());
    }
    Ok(response.map(|body| {
        if body.is_end_stream() { body } else { Body::new(DeadlineBody { body: Some(body), expiry }) }
    }))
}

/// Waits for what a call needs before it can be made, at most this long.
pub(crate) async fn within<T, E: From<Status>>(
    left: Option<Duration>,
    wait: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match left {
        None => wait.await,
        Some(left) => timeout(left, wait).await.unwrap_or_else(|_| Err(exceeded().into())),
    }
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
        match Pin::new(body).poll_frame(cx) {
            // By the clock: the timer is not run while a reader finds data every time and never waits.
            Poll::Ready(Some(Ok(frame))) if frame.is_data() && Instant::now() >= self.expiry.deadline() => {}
            Poll::Ready(Some(Ok(frame)))
                if frame.trailers_ref().is_some_and(is_cancelled)
                    && Instant::now() >= self.expiry.deadline() => {}
            // What ends the call wins when it is there.
            Poll::Ready(frame) => return Poll::Ready(frame),
            Poll::Pending => ready!(self.expiry.as_mut().poll(cx)),
        }
        self.body = None;
        Poll::Ready(Some(Err(exceeded())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }
}

fn is_cancelled(trailers: &HeaderMap) -> bool {
    status::from_headers(trailers).is_some_and(|status| status.code() == Code::Cancelled)
}

/// What to tell who makes such a call where tokio has no timers and no tasks for it.
pub(crate) fn no_runtime(what: &str) -> Status {
    Status::failed_precondition(format!("{what} has to be made inside a tokio runtime"))
}

fn exceeded() -> Status {
    Status::deadline_exceeded("the call's deadline passed before the robot answered")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::time::advance;

    use super::*;

    /// A body that has so many pieces of data and then trailers, all of them ready.
    struct Ready(usize);

    impl http_body::Body for Ready {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let Some(left) = self.0.checked_sub(1) else {
                return Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new()))));
            };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    async fn read(frames: usize) -> Body {
        let call = async move { Ok::<_, Status>(Response::new(Body::new(Ready(frames)))) };
        enforce(Some(Duration::from_secs(1)), call).await.unwrap().into_body()
    }

    #[tokio::test(start_paused = true)]
    async fn data_that_is_always_ready_does_not_outlive_the_deadline() {
        let mut body = read(usize::MAX).await;
        // More than a task may poll before it has to yield: nobody runs the timer meanwhile.
        for _ in 0..1000 {
            assert!(body.frame().await.unwrap().unwrap().is_data());
        }
        advance(Duration::from_millis(999)).await;
        assert!(body.frame().await.unwrap().unwrap().is_data());
        advance(Duration::from_millis(1)).await;
        let status = body.frame().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_cancels_at_the_deadline_means_the_deadline() {
        let cancelled_after = |time| async move {
            let call = async move {
                tokio::time::sleep(time).await;
                Ok::<_, Status>(Status::cancelled("Timeout expired").into_http::<Body>())
            };
            enforce(Some(Duration::from_secs(1)), call).await
        };
        // Both timers are due at once, and the call's is looked at first.
        let late = cancelled_after(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        let early = cancelled_after(Duration::from_millis(999)).await.unwrap();
        assert!(is_cancelled(early.headers()));
    }

    #[tokio::test(start_paused = true)]
    async fn trailers_that_are_ready_win() {
        let mut body = read(1).await;
        assert!(body.frame().await.unwrap().unwrap().is_data());
        advance(Duration::from_secs(2)).await;
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
    }
}
