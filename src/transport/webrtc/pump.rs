//! Sends a body: chunks of an HTTP body become messages, one at a time, as there is room.
//!
//! Both ends use it: the caller for requests, the robot for responses.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use std::pin::Pin;
use tonic::Status;
use tonic::body::Body;

use super::outbox::Outbox;
use crate::wire::message::{SplitError, Splitter};

/// What a pump sends, and where.
#[derive(Debug)]
pub(super) struct Pump<'a> {
    pub(super) outbox: &'a Outbox,
    pub(super) stream: u64,
    pub(super) max_message: usize,
    pub(super) urgent: bool,
    /// How this end says that no more messages come, when it could not say so with the last one.
    pub(super) half_close: Option<fn(u64) -> Bytes>,
}

impl Pump<'_> {
    /// Adds the whole body to the outbox; returns its trailers. Returns early, without an error, when the stream has
    /// ended meanwhile. Flushes before it waits; what it added last is the caller's to flush, who has more to say
    /// mostly.
    ///
    /// # Errors
    /// The body's own, or RESOURCE_EXHAUSTED, UNIMPLEMENTED or INTERNAL for what the wire cannot carry.
    pub(super) async fn run(self, mut body: Body) -> Result<Option<HeaderMap>, Status> {
        let mut splitter = Splitter::new(self.max_message);
        // The newest message waits until it is known whether it is the last: then it half-closes too.
        let mut newest: Option<Bytes> = None;
        loop {
            let frame = match poll_once(&mut body).await {
                Some(frame) => frame,
                None => {
                    if !self.send(newest.take(), false).await {
                        return Ok(None);
                    }
                    self.outbox.flush();
                    poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
                }
            };
            let trailers = match frame {
                None => None,
                Some(Err(status)) => return Err(status),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => {
                        splitter.push(chunk);
                        while let Some(message) = splitter.next().map_err(refused)? {
                            if !self.send(newest.replace(message), false).await {
                                return Ok(None);
                            }
                        }
                        continue;
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
            };
            splitter.finish().map_err(refused)?;
            match (newest, self.half_close) {
                (Some(message), _) => {
                    self.send(Some(message), true).await;
                }
                (None, Some(half_close)) => self.outbox.push_frame(self.stream, half_close(self.stream)),
                (None, None) => {}
            }
            return Ok(trailers);
        }
    }

    /// Waits for room and adds. False when the stream has ended.
    async fn send(&self, message: Option<Bytes>, last: bool) -> bool {
        let Some(message) = message else { return true };
        let room = poll_fn(|cx| {
            let room = self.outbox.poll_room(self.stream, cx);
            if room.is_pending() {
                self.outbox.flush();
            }
            room
        });
        if room.await.is_err() {
            return false;
        }
        self.outbox.push_message(self.stream, message, last, self.urgent);
        true
    }
}

/// The body's next frame if it is there already.
async fn poll_once(body: &mut Body) -> Option<Option<Result<Frame<Bytes>, Status>>> {
    poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn refused(error: SplitError) -> Status {
    match error {
        SplitError::Compressed => Status::unimplemented(error.to_string()),
        SplitError::TooLarge { .. } => Status::resource_exhausted(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}
