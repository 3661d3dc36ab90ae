//! One call: its request goes out, its response comes back, and whatever ends it is told to both sides.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::Handle as Connection;
use crate::transport::Urgent;
use crate::transport::deadline::no_runtime;
use crate::transport::webrtc::inbox::{End, Inbox, Item};
use crate::transport::webrtc::pump::Pump;
use crate::transport::webrtc::urgent;
use crate::wire::{frame, metadata, status};

/// Runs the call up to its response's headers; `left` is how long it may take. Dropping the future, or the
/// body that it returns, cancels the call.
pub(super) async fn run(
    handle: Connection,
    request: Request<Body>,
    left: Option<Duration>,
) -> Result<Response<Body>, Status> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let metadata =
        metadata::encode(&parts.headers).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let method = parts.uri.path();
    let is_urgent = parts.extensions.get::<Urgent>().is_some() || urgent::is_urgent(method);

    // What is urgent does not wait behind calls that stay open.
    let permit = if is_urgent { None } else { handle.table().permit().await };
    let left = left.map(|left| left.saturating_sub(began.elapsed()));

    let (stream, inbox) = handle.table().open()?;
    let mut guard = Guard { handle, stream, inbox, upload: None, permit };
    let head = frame::request_headers(stream, method, metadata, left)
        .map_err(|error| Status::resource_exhausted(error.to_string()))?;
    guard.handle.table().outbox.push_head(stream, head);
    guard.upload = upload(&guard, body, is_urgent)?;
    guard.handle.table().outbox.flush();

    match poll_fn(|cx| guard.inbox.poll_head(cx)).await {
        Ok(headers) => Ok(response(headers, Body::new(ResponseBody { guard, ended: false }))),
        Err(End::Trailers { status, metadata }) => Ok(response(trailers(&status, metadata), Body::empty())),
        Err(End::Failed(status)) => Err(status),
        Err(End::HalfClose) => Err(Status::internal("a response cannot half-close")),
    }
}

/// Sends the request's messages: at once what is there already (all of a unary call), the rest in a task.
fn upload(guard: &Guard, body: Body, urgent: bool) -> Result<Option<AbortHandle>, Status> {
    let table = Arc::clone(guard.handle.table());
    let stream = guard.stream;
    let max_message = guard.handle.limits().max_message;
    let mut pump = Box::pin(async move {
        let outbox = &table.outbox;
        let half_close = Some(frame::request_half_close as fn(u64) -> Bytes);
        let pump = Pump { outbox, stream, max_message, urgent, half_close };
        match pump.run(body).await {
            Ok(_) => outbox.flush(),
            Err(status) => table.fail(stream, status),
        }
    });
    let waker = futures_util::task::noop_waker_ref();
    match pump.as_mut().poll(&mut Context::from_waker(waker)) {
        Poll::Ready(()) => Ok(None),
        Poll::Pending => match Handle::try_current() {
            Ok(runtime) => Ok(Some(runtime.spawn(pump).abort_handle())),
            Err(_) => Err(no_runtime("a call whose request is a stream")),
        },
    }
}

/// What a call holds: dropping it cancels the call, if it has not ended.
struct Guard {
    handle: Connection,
    stream: u64,
    inbox: Arc<Inbox>,
    upload: Option<AbortHandle>,
    /// Given back when the call has ended, though its body may live on.
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
        self.handle.table().cancel(self.stream);
    }
}

/// The response's messages and trailers, as an HTTP body.
struct ResponseBody {
    guard: Guard,
    ended: bool,
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("stream", &self.guard.stream).finish_non_exhaustive()
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.guard.inbox.poll_item(cx));
        if matches!(item, Item::End(_)) {
            self.ended = true;
            self.guard.permit = None;
        }
        Poll::Ready(Some(match item {
            Item::Message(message) => Ok(Frame::data(message)),
            Item::End(End::Trailers { status, metadata }) => Ok(Frame::trailers(trailers(&status, metadata))),
            Item::End(End::Failed(status)) => Err(status),
            Item::End(End::HalfClose) => Err(Status::internal("a response cannot half-close")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

fn response(headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn trailers(status: &Status, mut metadata: HeaderMap) -> HeaderMap {
    status::to_headers(status, &mut metadata);
    metadata
}
