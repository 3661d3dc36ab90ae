//! The answer to a monitored call, until it is clear that its session was good.
//!
//! Over WebRTC robots send headers before everything, a refusal too (goutils `rpc/wrtc_server_stream.go`): what
//! happened to the session is only told by the trailers. As long as no message was seen the call is made again
//! here as it would be for a refusal in the headers; the caller has got the first answer's headers then.
//!
//! # Invariant
//! A call of which a message was seen is never made again.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

use super::service::{Answer, Carried};
use crate::transport::Transport;
use crate::wire::status;

/// The answer's body.
pub(super) struct Watched<T: Transport> {
    body: Body,
    /// What it takes to judge the trailers.
    about: Option<Carried<T>>,
    /// The call made once more.
    again: Option<Answer>,
}

impl<T: Transport> Watched<T> {
    /// The response, followed to its trailers if they are still to come.
    pub(super) fn follow(response: Response<Body>, about: Carried<T>) -> Response<Body> {
        let is_over =
            http_body::Body::is_end_stream(response.body()) || response.headers().contains_key("grpc-status");
        if is_over {
            return response;
        }
        response.map(|body| Body::new(Self { body, about: Some(about), again: None }))
    }

    /// What the trailers mean for the caller; `None` if the call is made again.
    fn judge(&mut self, frame: Frame<Bytes>) -> Option<Result<Frame<Bytes>, Status>> {
        let trailers = match frame.into_trailers() {
            Ok(trailers) => trailers,
            Err(data) => {
                if let Some(about) = &mut self.about {
                    about.message_seen();
                }
                return Some(Ok(data));
            }
        };
        let Some(about) = self.about.take() else { return Some(Ok(Frame::trailers(trailers))) };
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = trailers;
        match about.judge(Ok(response)) {
            Ok((Ok(response), _)) => Some(Ok(Frame::trailers(response.into_parts().0.headers))),
            Ok((Err(error), _)) => Some(Err(error.status().clone())),
            Err(again) => {
                self.again = Some(again);
                None
            }
        }
    }
}

impl<T: Transport> http_body::Body for Watched<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(again) = &mut self.again {
                let answer = ready!(again.as_mut().poll(cx));
                self.again = None;
                let response = match answer {
                    Ok(response) => response,
                    Err(error) => return Poll::Ready(Some(Err(error.status().clone()))),
                };
                let (parts, body) = response.into_parts();
                if status::from_headers(&parts.headers).is_some() {
                    self.body = Body::empty();
                    return Poll::Ready(Some(Ok(Frame::trailers(parts.headers))));
                }
                self.body = body;
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(status) => return Poll::Ready(Some(Err(status))),
            };
            if let Some(frame) = self.judge(frame) {
                return Poll::Ready(Some(frame));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_none() && self.body.is_end_stream()
    }
}

impl<T: Transport> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}
