//! What may follow what on one stream: the life of a call, as each end sees the other.
//!
//! Floor 0. [`RequestStream`] reads what a caller sends, [`ResponseStream`] what a robot sends. Both are
//! fed frames and say what happened; neither knows of time, tasks or queues. Their owner answers a
//! [`Violation`] by ending the stream with the status it names.
//!
//! ```text
//!  caller:  headers ─▶ message* ─▶ half-close         reset ends it anywhere
//!  robot:   headers ─▶ message* ─▶ trailers           or trailers alone
//! ```
//!
//! # Invariant
//! No sequence of frames panics, and none makes a stream hold more than its message limit and a packet.
//!
//! Contract: goutils `rpc/wrtc_server_stream.go`, `rpc/wrtc_client_stream.go`; every half-close habit of
//! the field is read (on each packet, on the last, alone with a packet, alone without one, never).

use bytes::Bytes;
use http::HeaderMap;
use tonic::Status;

use super::frame::{RequestKind, ResponseKind};
use super::message::{Assembler, TooLarge};
use super::metadata::TooManyValues;
use super::{metadata, status};
use crate::proto::webrtc::{RequestMessage, ResponseMessage, request, response};

/// What a caller's frame means on a stream whose headers have been read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestEvent {
    /// A message came to its end; prefixed as an HTTP body wants it.
    pub message: Option<Bytes>,
    /// The caller sends no more messages.
    pub half_close: bool,
    /// The caller gave the call up.
    pub reset: bool,
}

/// What a caller sends after its headers.
#[derive(Debug)]
pub struct RequestStream {
    assembler: Assembler,
    half_closed: bool,
}

impl RequestStream {
    /// A stream whose headers have just come. Messages of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { assembler: Assembler::new(limit), half_closed: false }
    }

    /// Takes the next frame of this stream.
    ///
    /// # Errors
    /// [`Violation`]: end the stream with its status.
    pub fn step(&mut self, kind: RequestKind) -> Result<RequestEvent, Violation> {
        match kind {
            Some(request::Type::Headers(_)) => Err(Violation::HeadersTwice),
            Some(request::Type::RstStream(_)) => Ok(RequestEvent { reset: true, ..RequestEvent::default() }),
            Some(request::Type::Message(message)) => self.message(message),
            // Something newer than this version: not ours to judge.
            None => Ok(RequestEvent::default()),
        }
    }

    fn message(&mut self, frame: RequestMessage) -> Result<RequestEvent, Violation> {
        if self.half_closed {
            return Ok(RequestEvent::default());
        }
        let RequestMessage { has_message, packet_message, eos } = frame;
        let message = if has_message {
            let packet = packet_message.ok_or(Violation::MessageWithoutPacket)?;
            self.assembler.push(&packet.data, packet.eom)?
        } else {
            None
        };
        // goutils sets `eos` on every packet of a last message: it counts once the message is whole.
        let half_close = eos && (message.is_some() || !has_message);
        if half_close && self.assembler.is_inside_message() {
            return Err(Violation::HalfCloseInsideMessage);
        }
        self.half_closed = half_close;
        Ok(RequestEvent { message, half_close, reset: false })
    }

    /// Bytes of the unfinished message.
    pub fn buffered(&self) -> usize {
        self.assembler.buffered()
    }
}

/// What a robot's frame means.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResponseEvent {
    /// The response has begun.
    Headers(HeaderMap),
    /// A message came to its end; prefixed as an HTTP body wants it.
    Message(Bytes),
    /// The call has ended.
    Trailers {
        /// How.
        status: Status,
        /// The trailers' metadata.
        metadata: HeaderMap,
        /// Whether there were no headers before: the whole response is these trailers.
        only: bool,
    },
}

/// What a robot sends.
#[derive(Debug)]
pub struct ResponseStream {
    assembler: Assembler,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitingHeaders,
    Open,
    Ended,
}

impl ResponseStream {
    /// A stream on which the robot has said nothing yet. Messages of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { assembler: Assembler::new(limit), state: State::AwaitingHeaders }
    }

    /// Takes the next frame of this stream. `None`: nothing to tell yet.
    ///
    /// # Errors
    /// [`Violation`]: end the call with its status, and reset the stream.
    pub fn step(&mut self, kind: ResponseKind) -> Result<Option<ResponseEvent>, Violation> {
        match (self.state, kind) {
            (State::Ended, _) | (_, None) => Ok(None),
            (State::AwaitingHeaders, Some(response::Type::Headers(wire))) => {
                self.state = State::Open;
                let mut headers = HeaderMap::new();
                metadata::decode(wire.metadata, &mut headers)?;
                Ok(Some(ResponseEvent::Headers(headers)))
            }
            (State::Open, Some(response::Type::Headers(_))) => Err(Violation::HeadersTwice),
            (State::AwaitingHeaders, Some(response::Type::Message(_))) => {
                Err(Violation::MessageBeforeHeaders)
            }
            (State::Open, Some(response::Type::Message(ResponseMessage { packet_message }))) => {
                let packet = packet_message.ok_or(Violation::MessageWithoutPacket)?;
                Ok(self.assembler.push(&packet.data, packet.eom)?.map(ResponseEvent::Message))
            }
            (state, Some(response::Type::Trailers(wire))) => {
                let status = status::decode(wire.status);
                if status.code() == tonic::Code::Ok && self.assembler.is_inside_message() {
                    return Err(Violation::EndInsideMessage);
                }
                self.state = State::Ended;
                let mut trailers = HeaderMap::new();
                metadata::decode(wire.metadata, &mut trailers)?;
                let only = state == State::AwaitingHeaders;
                Ok(Some(ResponseEvent::Trailers { status, metadata: trailers, only }))
            }
        }
    }

    /// Bytes of the unfinished message.
    pub fn buffered(&self) -> usize {
        self.assembler.buffered()
    }
}

/// A peer broke the rules of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// OK trailers came before the end of a message.
    #[error("trailers came inside a message")]
    EndInsideMessage,
    /// The caller half-closed before the end of a message.
    #[error("half-closed inside a message")]
    HalfCloseInsideMessage,
    /// Headers came a second time. The text is goutils'.
    #[error("headers already received")]
    HeadersTwice,
    /// A response must begin with headers. The text is goutils'.
    #[error("headers not yet received")]
    MessageBeforeHeaders,
    /// A frame says that it has a message and has none.
    #[error("message without a packet")]
    MessageWithoutPacket,
    /// A message grew over the limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A block of metadata has too many values.
    #[error(transparent)]
    TooManyValues(#[from] TooManyValues),
}

impl Violation {
    /// The status that ends a robot's stream on which its caller did this.
    pub fn request_status(&self) -> Status {
        match self {
            Self::TooLarge(_) => Status::resource_exhausted(self.to_string()),
            _ => Status::invalid_argument(self.to_string()),
        }
    }

    /// The status that ends a caller's call whose robot did this.
    pub fn response_status(&self) -> Status {
        match self {
            Self::TooLarge(_) => Status::resource_exhausted(self.to_string()),
            _ => Status::internal(format!("the robot broke the protocol: {self}")),
        }
    }
}

#[cfg(test)]
mod tests;
