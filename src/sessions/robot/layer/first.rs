//! Looks at the first message of a request without taking it away from the handler.
//!
//! # Invariant
//! At most [`MAX`] bytes of the message are waited for, and no more than one frame beyond them is held. The
//! handler gets every byte, in order.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

/// What is looked at of a message, in bytes.
const MAX: usize = 64 * 1024;

/// A gRPC message's prefix: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A request's first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The message, or what can be seen of it.
    Message(Bytes),
    /// It cannot be read here.
    Compressed,
    /// There is none: the request ended, or failed.
    Missing,
}

/// Waits for the first message; returns it, and the body with nothing missing. When it is dropped, the request
/// is lost.
pub(super) async fn first_message(mut body: Body) -> (First, Body) {
    let mut ahead = Bytes::new();
    let mut tail = None;
    while ahead.len() < wanted(&ahead) {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if ahead.is_empty() => ahead = data,
                Ok(data) => {
                    let mut both = BytesMut::from(ahead);
                    both.extend_from_slice(&data);
                    ahead = both.freeze();
                }
                Err(trailers) => {
                    tail = Some(Ok(trailers));
                    break;
                }
            },
            Some(Err(status)) => {
                tail = Some(Err(status));
                break;
            }
        }
    }
    let whole = wanted(&ahead);
    let first = match ahead.first() {
        _ if ahead.len() < whole => First::Missing,
        Some(0) => First::Message(ahead.slice(PREFIX..whole)),
        _ => First::Compressed,
    };
    let rest = Some(body);
    (first, Body::new(Replayed { ahead: Some(ahead).filter(|ahead| !ahead.is_empty()), tail, rest }))
}

/// How many bytes must be there before the message can be looked at.
fn wanted(ahead: &Bytes) -> usize {
    match ahead.get(1..PREFIX).and_then(|length| <[u8; 4]>::try_from(length).ok()) {
        None => PREFIX,
        Some(length) => {
            PREFIX + usize::try_from(u32::from_be_bytes(length)).map_or(MAX, |length| length.min(MAX))
        }
    }
}

/// A body of which something has been read.
struct Replayed {
    ahead: Option<Bytes>,
    tail: Option<Result<Frame<Bytes>, Status>>,
    /// Not polled again after a tail.
    rest: Option<Body>,
}

impl http_body::Body for Replayed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(Some(Ok(Frame::data(ahead))));
        }
        if let Some(tail) = self.tail.take() {
            self.rest = None;
            return Poll::Ready(Some(tail));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_ahead = self.ahead.is_none() && self.tail.is_none();
        nothing_ahead && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Body as _;
    use http_body_util::StreamBody;

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(u32::try_from(length).unwrap().to_be_bytes());
        message.extend((0..length).map(|place| u8::try_from(place % 251).unwrap()));
        message
    }

    fn body(chunks: Vec<Vec<u8>>) -> Body {
        let frames = chunks.into_iter().map(|chunk| Ok::<_, Status>(Frame::data(Bytes::from(chunk))));
        Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())))
    }

    async fn look(bytes: &[u8], chunk: usize) -> First {
        let chunks = bytes.chunks(chunk).map(<[u8]>::to_vec).collect();
        let (first, replayed) = first_message(body(chunks)).await;
        assert_eq!(replayed.collect().await.unwrap().to_bytes(), bytes, "the handler gets every byte");
        first
    }

    #[tokio::test]
    async fn the_first_message_is_seen_and_the_handler_gets_every_byte() {
        for length in [0, 1, 300, MAX] {
            let whole = message(length);
            let mut more = whole.clone();
            more.extend(message(7));
            for chunk in [usize::MAX, 4096, 7, 3] {
                let expected = First::Message(Bytes::copy_from_slice(&whole[PREFIX..]));
                assert_eq!(look(&more, chunk.min(more.len())).await, expected, "{length} by {chunk}");
            }
        }
    }

    #[tokio::test]
    async fn of_a_long_message_the_beginning_is_seen() {
        let long = message(3 * MAX);
        let First::Message(seen) = look(&long, 10_000).await else { panic!("not seen") };
        assert_eq!(seen, long[PREFIX..PREFIX + MAX]);
    }

    #[tokio::test]
    async fn what_is_compressed_or_missing_is_left_to_the_handler() {
        let mut compressed = message(10);
        compressed[0] = 1;
        assert_eq!(look(&compressed, 4).await, First::Compressed);
        assert_eq!(look(&message(10)[..9], 4).await, First::Missing);
        assert_eq!(look(&[0, 0], 4).await, First::Missing);
        let (first, empty) = first_message(Body::empty()).await;
        assert_eq!(first, First::Missing);
        assert!(empty.is_end_stream());
    }

    #[tokio::test]
    async fn a_request_that_fails_fails_for_the_handler_too() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"\0\0"))), Err(Status::data_loss("cut"))];
        let (first, body) = first_message(Body::new(StreamBody::new(stream::iter(frames)))).await;
        assert_eq!(first, First::Missing);
        assert_eq!(body.collect().await.unwrap_err().code(), tonic::Code::DataLoss);
    }
}
