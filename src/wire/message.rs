//! gRPC messages, cut into packets and put together again.
//!
//! Floor 0. An HTTP body carries messages with a five byte prefix, in chunks of any size; the data channel
//! carries them without prefix, in packets. [`Splitter`] goes from body to messages, [`Packets`] from a
//! message to packets, [`Assembler`] from packets back to a prefixed message.
//!
//! # Invariant
//! An [`Assembler`] never holds more than its limit plus one packet, whatever the peer sends.
//!
//! Contract: goutils `rpc/wrtc_base_stream.go`, with the difference that a message over the limit fails its
//! stream instead of being forgotten.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest message by default, in bytes: 32 MiB, as all implementations have it (goutils
/// `rpc/const.go`). tonic's clients and servers stop at 4 MiB unless `max_decoding_message_size` says more.
pub const MAX_MESSAGE: usize = 32 << 20;

/// Bytes of a message in one packet, at most. With it a frame stays below 16 KiB whatever the stream's id,
/// which every peer and browser takes, and one packet holds up others for 131 ms at 1 Mbit/s.
pub const MAX_PACKET_DATA: usize = 16 * 1024 - 64;

/// The prefix of a message in an HTTP body: one byte of flags, four of length.
const PREFIX: usize = 5;

/// Finds the messages in the chunks of a gRPC HTTP body.
#[derive(Debug)]
pub struct Splitter {
    whole: Bytes,
    partial: BytesMut,
    limit: usize,
}

impl Splitter {
    /// Messages of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { whole: Bytes::new(), partial: BytesMut::new(), limit }
    }

    /// Adds the body's next chunk. Take all messages with [`next`](Self::next) before adding another.
    pub fn push(&mut self, chunk: Bytes) {
        if self.partial.is_empty() && self.whole.is_empty() {
            self.whole = chunk;
        } else {
            self.partial.extend_from_slice(&std::mem::take(&mut self.whole));
            self.partial.extend_from_slice(&chunk);
        }
    }

    /// The next whole message, without its prefix; a view of the chunk where the chunk held all of it.
    ///
    /// # Errors
    /// [`SplitError`] when the body is not one that this wire can carry. Stop then.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Bytes>, SplitError> {
        let from_partial = !self.partial.is_empty();
        let available: &[u8] = if from_partial { &self.partial } else { &self.whole };
        let Some((flags, length)) = read_prefix(available) else { return Ok(None) };
        if flags != 0 {
            return Err(SplitError::Compressed);
        }
        if length > self.limit {
            return Err(SplitError::TooLarge { length, limit: self.limit });
        }
        if available.len() < PREFIX + length {
            if from_partial {
                let missing = PREFIX + length - self.partial.len();
                self.partial.reserve(missing);
            }
            return Ok(None);
        }
        let mut message = if from_partial {
            self.partial.split_to(PREFIX + length).freeze()
        } else {
            self.whole.split_to(PREFIX + length)
        };
        message.advance(PREFIX);
        Ok(Some(message))
    }

    /// Whether the body may end here.
    ///
    /// # Errors
    /// [`SplitError::Truncated`] inside a message.
    pub fn finish(&self) -> Result<(), SplitError> {
        if self.whole.is_empty() && self.partial.is_empty() { Ok(()) } else { Err(SplitError::Truncated) }
    }
}

fn read_prefix(mut from: &[u8]) -> Option<(u8, usize)> {
    (from.len() >= PREFIX).then(|| (from.get_u8(), from.get_u32() as usize))
}

/// Why a body cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The wire has no flag for compressed messages.
    #[error("compressed messages do not travel over WebRTC: do not set send_compressed")]
    Compressed,
    /// Longer than the limit.
    #[error("message of {length} bytes is longer than the limit of {limit}")]
    TooLarge {
        /// What the message would take.
        length: usize,
        /// What was allowed.
        limit: usize,
    },
    /// The body ended inside a message.
    #[error("body ended inside a message")]
    Truncated,
}

/// A piece of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// At most [`MAX_PACKET_DATA`] bytes.
    pub data: Bytes,
    /// Whether the message ends with it.
    pub eom: bool,
}

/// Cuts one message into packets. An empty message is one empty packet.
#[derive(Debug, Clone)]
pub struct Packets {
    rest: Bytes,
    done: bool,
}

impl Packets {
    /// The packets of this message.
    pub fn new(message: Bytes) -> Self {
        Self { rest: message, done: false }
    }

    /// Bytes that are still to be taken.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for Packets {
    type Item = Packet;

    fn next(&mut self) -> Option<Packet> {
        if self.done {
            return None;
        }
        let data = self.rest.split_to(self.rest.len().min(MAX_PACKET_DATA));
        self.done = self.rest.is_empty();
        Some(Packet { data, eom: self.done })
    }
}

/// Puts the packets of one stream together into messages, prefixed as an HTTP body wants them.
#[derive(Debug)]
pub struct Assembler {
    buffer: BytesMut,
    limit: usize,
    discarding: bool,
}

impl Assembler {
    /// Messages of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit, discarding: false }
    }

    /// Adds a packet; returns the message that it completes, prefix included.
    ///
    /// An empty packet with `eom` ends what is buffered, or is an empty message when nothing is: right for
    /// every sender in the field.
    ///
    /// # Errors
    /// [`TooLarge`] once, when the message grows over the limit. The rest of it is dropped up to its end.
    pub fn push(&mut self, data: &[u8], eom: bool) -> Result<Option<Bytes>, TooLarge> {
        if self.discarding {
            self.discarding = !eom;
            return Ok(None);
        }
        if self.buffered() + data.len() > self.limit {
            self.buffer = BytesMut::new();
            self.discarding = !eom;
            return Err(TooLarge { limit: self.limit });
        }
        if self.buffer.is_empty() {
            self.buffer.reserve(PREFIX + data.len());
            self.buffer.put_bytes(0, PREFIX);
        }
        self.buffer.extend_from_slice(data);
        if !eom {
            return Ok(None);
        }
        let length = u32::try_from(self.buffered()).map_err(|_| TooLarge { limit: self.limit })?;
        let mut message = std::mem::take(&mut self.buffer);
        if let Some(prefix) = message.get_mut(1..PREFIX) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
        Ok(Some(message.freeze()))
    }

    /// Bytes of the unfinished message.
    pub fn buffered(&self) -> usize {
        self.buffer.len().saturating_sub(PREFIX)
    }

    /// Whether a message has begun and not ended.
    pub fn is_inside_message(&self) -> bool {
        !self.buffer.is_empty() || self.discarding
    }
}

/// A message grew over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message is longer than the limit of {limit} bytes")]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixed(message: &[u8]) -> Vec<u8> {
        let mut body = vec![0];
        body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend_from_slice(message);
        body
    }

    fn split(chunks: &[Vec<u8>]) -> Result<Vec<Bytes>, SplitError> {
        let mut splitter = Splitter::new(MAX_MESSAGE);
        let mut messages = Vec::new();
        for chunk in chunks {
            splitter.push(chunk.clone().into());
            while let Some(message) = splitter.next()? {
                messages.push(message);
            }
        }
        splitter.finish()?;
        Ok(messages)
    }

    #[test]
    fn a_compressed_message_is_refused() {
        assert_eq!(split(&[vec![1, 0, 0, 0, 0]]), Err(SplitError::Compressed));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_held() {
        let mut splitter = Splitter::new(10);
        splitter.push(Bytes::from_static(&[0, 0, 0, 0, 11]));
        assert_eq!(splitter.next(), Err(SplitError::TooLarge { length: 11, limit: 10 }));
    }

    #[test]
    fn a_body_that_ends_inside_a_message_is_truncated() {
        assert_eq!(split(&[vec![0, 0, 0, 0, 2, 7]]), Err(SplitError::Truncated));
        assert_eq!(split(&[vec![0, 0]]), Err(SplitError::Truncated));
    }

    #[test]
    fn an_empty_message_is_one_empty_packet() {
        let packets: Vec<_> = Packets::new(Bytes::new()).collect();
        assert_eq!(packets, [Packet { data: Bytes::new(), eom: true }]);
        let mut assembler = Assembler::new(10);
        assert_eq!(assembler.push(b"", true).unwrap().unwrap(), prefixed(b""));
    }

    #[test]
    fn an_empty_final_packet_flushes_what_is_buffered() {
        let mut assembler = Assembler::new(10);
        assert_eq!(assembler.push(b"abc", false), Ok(None));
        assert!(assembler.is_inside_message());
        assert_eq!(assembler.push(b"", true).unwrap().unwrap(), prefixed(b"abc"));
        assert!(!assembler.is_inside_message());
    }

    #[test]
    fn a_message_over_the_limit_fails_once_and_its_tail_is_not_taken_for_a_message() {
        let mut assembler = Assembler::new(4);
        assert_eq!(assembler.push(b"abc", false), Ok(None));
        assert_eq!(assembler.push(b"de", false), Err(TooLarge { limit: 4 }));
        assert_eq!(assembler.buffered(), 0);
        assert_eq!(assembler.push(b"f", false), Ok(None));
        assert_eq!(assembler.push(b"g", true), Ok(None));
        assert_eq!(assembler.push(b"new", true).unwrap().unwrap(), prefixed(b"new"));
    }

    #[test]
    fn a_whole_message_over_the_limit_in_one_packet_does_not_eat_the_next() {
        let mut assembler = Assembler::new(2);
        assert_eq!(assembler.push(b"abc", true), Err(TooLarge { limit: 2 }));
        assert_eq!(assembler.push(b"ok", true).unwrap().unwrap(), prefixed(b"ok"));
    }

    proptest! {
        #[test]
        fn any_chunking_of_a_body_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            sizes in prop::collection::vec(1..400usize, 1..20),
        ) {
            let body: Vec<u8> = messages.iter().flat_map(|message| prefixed(message)).collect();
            let mut chunks = Vec::new();
            let mut rest = &body[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break }
                let (chunk, tail) = rest.split_at(rest.len().min(*size));
                chunks.push(chunk.to_vec());
                rest = tail;
            }
            prop_assert_eq!(split(&chunks).unwrap(), messages);
        }

        #[test]
        fn what_is_cut_into_packets_comes_back(length in 0..100_000usize) {
            let message = Bytes::from(vec![7; length]);
            let mut assembler = Assembler::new(MAX_MESSAGE);
            let mut out = None;
            for packet in Packets::new(message.clone()) {
                prop_assert!(packet.data.len() <= MAX_PACKET_DATA);
                prop_assert!(out.is_none());
                out = assembler.push(&packet.data, packet.eom).unwrap();
            }
            prop_assert_eq!(out.unwrap(), prefixed(&message));
        }
    }
}
