//! One call at the robot: an HTTP request for the service, and its response on the wire.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Uri, Version, header};
use http_body::Frame;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::RobotService;
use super::table::Table;
use crate::proto::webrtc::{Metadata, RequestHeaders};
use crate::transport::webrtc::inbox::{End, Inbox, Item};
use crate::transport::webrtc::pump::Pump;
use crate::transport::webrtc::urgent;
use crate::wire::{frame, metadata, status, timeout as wire_timeout};

/// Runs one call to its trailers.
pub(super) async fn run(
    service: RobotService,
    headers: RequestHeaders,
    inbox: Arc<Inbox>,
    extensions: Extensions,
    mut reply: Reply,
) {
    let is_urgent = urgent::is_urgent(&headers.method);
    let (request, left) = match request(headers, inbox, extensions) {
        Ok(request) => request,
        Err(status) => return reply.end(&status, None),
    };
    let answer = answer(service, request, &reply, is_urgent);
    let (status, trailers) = match left {
        None => answer.await,
        Some(left) => {
            let answered = timeout(left, answer).await;
            let Ok(answered) = answered else {
                let status =
                    Status::deadline_exceeded("the call's deadline passed before the robot was done");
                return reply.cut(&status);
            };
            answered
        }
    };
    reply.end(&status, trailers);
}

/// Calls the service and sends what it says, up to its trailers.
async fn answer(
    service: RobotService,
    request: Request<Body>,
    reply: &Reply,
    urgent: bool,
) -> (Status, Option<HeaderMap>) {
    let response = match service.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (parts, body) = response.into_parts();
    if let Some(status) = status::from_headers(&parts.headers) {
        // A trailers-only response: its headers are its trailers.
        return (status, Some(parts.headers));
    }
    if let Err(status) = reply.head(&parts.headers) {
        return (status, None);
    }
    let outbox = &reply.table.outbox;
    let max_message = reply.table.limits.max_message;
    let pump = Pump { outbox, stream: reply.stream, max_message, urgent, half_close: None };
    match pump.run(body).await {
        Err(status) => (status, None),
        Ok(None) => (Status::internal("the handler ended without a status"), None),
        Ok(Some(trailers)) => {
            let status = status::from_headers(&trailers)
                .unwrap_or_else(|| Status::internal("the handler ended without a status"));
            (status, Some(trailers))
        }
    }
}

/// The HTTP request that tonic's services expect, and the time that the caller allows.
fn request(
    headers: RequestHeaders,
    inbox: Arc<Inbox>,
    extensions: Extensions,
) -> Result<(Request<Body>, Option<std::time::Duration>), Status> {
    let RequestHeaders { method, metadata, timeout } = headers;
    let uri = Uri::try_from(method.as_str())
        .ok()
        .filter(|uri| method.starts_with('/') && uri.query().is_none())
        .ok_or_else(|| Status::unimplemented("Unimplemented"))?;
    // Some callers' `grpc-timeout` leaks into their metadata: it says the same.
    let leaked =
        metadata.as_ref().and_then(|metadata| metadata.md.get(wire_timeout::GRPC_TIMEOUT)).and_then(|v| {
            let mut headers = HeaderMap::new();
            headers.insert(wire_timeout::GRPC_TIMEOUT, v.values.first()?.parse().ok()?);
            wire_timeout::from_headers(&headers)
        });
    let left = wire_timeout::decode(timeout.as_ref()).or(leaked);

    let mut request = Request::new(Body::new(RequestBody { inbox, ended: false }));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.extensions_mut() = extensions;
    metadata::decode(metadata, request.headers_mut())
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    Ok((request, left))
}

/// The way back of one call. Dropped without an end (a handler that panics), it ends the call as INTERNAL.
pub(super) struct Reply {
    table: Arc<Table>,
    stream: u64,
    ended: bool,
}

impl Reply {
    pub(super) fn new(table: Arc<Table>, stream: u64) -> Self {
        Self { table, stream, ended: false }
    }

    fn head(&self, headers: &HeaderMap) -> Result<(), Status> {
        let internal = |error: &dyn std::error::Error| Status::internal(error.to_string());
        let metadata = metadata::encode(headers).map_err(|error| internal(&error))?;
        let frame = frame::response_headers(self.stream, metadata).map_err(|error| internal(&error))?;
        self.table.outbox.push_head(self.stream, frame);
        Ok(())
    }

    /// Ends the call and drops what it has not sent: nobody waits for it any more.
    fn cut(&mut self, status: &Status) {
        self.ended = true;
        self.table.end(self.stream, status);
    }

    fn end(&mut self, status: &Status, trailers: Option<HeaderMap>) {
        self.ended = true;
        let trailers = trailers.unwrap_or_default();
        match metadata::encode(&trailers) {
            Ok(metadata) => self.table.complete(self.stream, status, metadata),
            Err(error) => {
                let status = Status::internal(error.to_string());
                self.table.complete(self.stream, &status, Metadata::default());
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.ended {
            self.table.end(self.stream, &Status::internal("the handler did not finish"));
        }
    }
}

/// The caller's messages, as an HTTP body.
#[derive(Debug)]
struct RequestBody {
    inbox: Arc<Inbox>,
    ended: bool,
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // A handler that has read enough must not have its call fail for what it leaves.
        self.inbox.abandon();
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.inbox.poll_item(cx).map(|item| match item {
            Item::Message(message) => Some(Ok(Frame::data(message))),
            Item::End(end) => {
                self.ended = true;
                match end {
                    End::HalfClose | End::Trailers { .. } => None,
                    End::Failed(status) => Some(Err(status)),
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
