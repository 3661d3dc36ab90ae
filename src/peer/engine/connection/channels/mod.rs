//! Data channels over streams of SCTP (RFC 8831): which are open, and what their messages look like.
//!
//! Stream 0 (`data`) and stream 1 (`negotiation`) need no words; others are opened by DCEP (RFC 8832), the
//! DTLS client's on even streams and the server's on odd ones.
//!
//! # Invariant
//! No message of a channel is told before the channel is. At most [`MAX_CHANNELS`] channels are open; what comes
//! on a stream without a channel is thrown away, and the stream reset.

mod dcep;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use self::dcep::Message as Dcep;
pub(crate) use self::dcep::Open;
use super::Event;
use crate::peer::engine::sctp::{Association, Event as Sctp, SendError as SctpError};

/// The channel of the RPCs.
pub(crate) const DATA: u16 = 0;
/// The channel of later offers.
pub(crate) const NEGOTIATION: u16 = 1;

/// The longest message sent, in bytes, to whoever takes more: what browsers take.
const MAX_MESSAGE: usize = 256 << 10;

/// The most channels besides the first two.
const MAX_CHANNELS: usize = 64;

/// A message of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Whether its sender called it text. It need not be UTF-8.
    pub(crate) text: bool,
    /// Its bytes.
    pub(crate) data: Bytes,
}

impl Message {
    /// A message of bytes.
    pub(crate) fn binary(data: impl Into<Bytes>) -> Self {
        Self { text: false, data: data.into() }
    }

    /// A message of text.
    pub(crate) fn text(data: impl Into<Bytes>) -> Self {
        Self { text: true, data: data.into() }
    }

    fn identified(self) -> (u32, Bytes) {
        match (self.text, self.data.is_empty()) {
            (true, false) => (dcep::TEXT, self.data),
            (false, false) => (dcep::BINARY, self.data),
            (true, true) => (dcep::TEXT_EMPTY, Bytes::from_static(&[0])),
            (false, true) => (dcep::BINARY_EMPTY, Bytes::from_static(&[0])),
        }
    }

    fn read(ppid: u32, data: Bytes) -> Option<Self> {
        match ppid {
            dcep::TEXT => Some(Self { text: true, data }),
            dcep::BINARY => Some(Self { text: false, data }),
            dcep::TEXT_EMPTY => Some(Self { text: true, data: Bytes::new() }),
            dcep::BINARY_EMPTY => Some(Self { text: false, data: Bytes::new() }),
            // Among them the parts of 52 and 54, which nobody sends any more (RFC 8831 6.6).
            _ => None,
        }
    }
}

/// Why a message was not taken, or a channel not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// The channel, or the connection, is not open: not yet, or not any more.
    #[error("the channel is not open")]
    NotOpen,
    /// The peer takes no message of this length.
    #[error("it is {length} bytes long, and to this peer at most {largest} can be sent")]
    TooLong {
        /// Bytes of the message.
        length: usize,
        /// The most that we send to this peer (`max-message-size` of its description, RFC 8841).
        largest: usize,
    },
    /// SCTP carries no empty messages.
    #[error("it is empty")]
    Empty,
    /// Longer than a message of DCEP can say.
    #[error("the channel's name is too long")]
    Name,
    /// There are too many channels, or no stream is left.
    #[error("there are too many channels")]
    TooMany,
}

fn why(error: SctpError) -> SendError {
    match error {
        SctpError::Closed | SctpError::Resetting(_) => SendError::NotOpen,
        SctpError::NoSuchStream(_) => SendError::TooMany,
        // Nobody does: an empty message is a byte with a name of its own.
        SctpError::Empty => SendError::Empty,
    }
}

#[derive(Debug)]
struct Channel {
    stream: u16,
    /// The peer has not said that it takes it.
    opening: bool,
}

/// The channels of a connection.
#[derive(Debug)]
pub(super) struct Channels {
    /// Messages may be sent at all.
    up: bool,
    first: u16,
    /// All but the first two.
    others: Vec<Channel>,
}

impl Channels {
    /// `client`: whether this side is the DTLS client.
    pub(super) fn new(client: bool) -> Self {
        Self { up: false, first: if client { 2 } else { 3 }, others: Vec::new() }
    }

    /// Follows what SCTP tells, for all streams but the negotiation's.
    pub(super) fn follow(
        &mut self,
        now: Instant,
        event: &Sctp,
        association: &mut Association,
        events: &mut VecDeque<Event>,
    ) {
        match *event {
            Sctp::Connected => {
                self.up = true;
                events.push_back(Event::Opened { stream: DATA });
            }
            Sctp::Readable { stream: DATA } => events.push_back(Event::Readable { stream: DATA }),
            Sctp::Readable { stream } => self.readable(now, stream, association, events),
            Sctp::Low { stream } => events.push_back(Event::Low { stream }),
            Sctp::Reset { stream, by_peer } => {
                let known = self.others.iter().position(|channel| channel.stream == stream);
                if let Some(index) = known {
                    self.others.swap_remove(index);
                    events.push_back(Event::Closed { stream });
                }
                // The other direction closes as well (RFC 8831 6.7).
                if by_peer && (known.is_some() || stream == DATA) {
                    association.reset_stream(now, stream);
                }
            }
            Sctp::Closed(_) => self.up = false,
        }
    }

    fn readable(
        &mut self,
        now: Instant,
        stream: u16,
        association: &mut Association,
        events: &mut VecDeque<Event>,
    ) {
        if let Some(channel) = self.others.iter_mut().find(|channel| channel.stream == stream) {
            if channel.opening {
                // Its first message on an ordered stream is the acknowledgement; if not, it is as good as one.
                channel.opening = false;
                events.push_back(Event::Opened { stream });
            }
            events.push_back(Event::Readable { stream });
            return;
        }
        while let Some((ppid, data)) = association.receive(stream) {
            let Some(Dcep::Open(open)) = (ppid == dcep::DCEP).then(|| Dcep::parse(&data)).flatten() else {
                continue;
            };
            if self.others.len() >= MAX_CHANNELS {
                break;
            }
            let Some(ack) = Dcep::Ack.encode() else { break };
            if association.send(now, stream, dcep::DCEP, ack).is_err() {
                break;
            }
            self.others.push(Channel { stream, opening: false });
            events.push_back(Event::Channel { stream, open });
            events.push_back(Event::Readable { stream });
            return;
        }
        association.reset_stream(now, stream);
    }

    /// Opens a channel; its messages may be sent at once.
    pub(super) fn open(
        &mut self,
        now: Instant,
        open: Open,
        association: &mut Association,
    ) -> Result<u16, SendError> {
        if !self.up {
            return Err(SendError::NotOpen);
        }
        if self.others.len() >= MAX_CHANNELS {
            return Err(SendError::TooMany);
        }
        let taken = |stream: &u16| self.others.iter().any(|channel| channel.stream == *stream);
        let stream = (self.first..).step_by(2).find(|stream| !taken(stream)).ok_or(SendError::TooMany)?;
        let words = Dcep::Open(open).encode().ok_or(SendError::Name)?;
        association.send(now, stream, dcep::DCEP, words).map_err(why)?;
        self.others.push(Channel { stream, opening: true });
        Ok(stream)
    }

    /// Sends a message to a peer that takes at most `largest` bytes.
    pub(super) fn send(
        &self,
        now: Instant,
        stream: u16,
        message: Message,
        largest: usize,
        association: &mut Association,
    ) -> Result<(), SendError> {
        if !self.up || !self.is_open(stream) {
            return Err(SendError::NotOpen);
        }
        let (length, largest) = (message.data.len(), largest.min(MAX_MESSAGE));
        if length > largest {
            return Err(SendError::TooLong { length, largest });
        }
        let (ppid, data) = message.identified();
        association.send(now, stream, ppid, data).map_err(why)
    }

    /// The next message of a stream, past what is none.
    pub(super) fn receive(stream: u16, association: &mut Association) -> Option<Message> {
        loop {
            let (ppid, data) = association.receive(stream)?;
            if let Some(message) = Message::read(ppid, data) {
                return Some(message);
            }
        }
    }

    fn is_open(&self, stream: u16) -> bool {
        stream <= NEGOTIATION || self.others.iter().any(|channel| channel.stream == stream)
    }
}
