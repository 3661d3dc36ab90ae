//! Chunks: split, told apart, and what to do with the unknown ones (RFC 9260 3.2).

use super::cause::Causes;
use super::data::Data;
use super::init::Init;
use super::parameter::Parameters;
use super::read::{take_padded, take_u8, take_u16, take_u32};
use super::sack::{ForwardTsn, SackChunk};

/// Chunk types (IANA, "SCTP parameters").
pub(crate) mod kind {
    #![allow(missing_docs)]
    pub(crate) const DATA: u8 = 0;
    pub(crate) const INIT: u8 = 1;
    pub(crate) const INIT_ACK: u8 = 2;
    pub(crate) const SACK: u8 = 3;
    pub(crate) const HEARTBEAT: u8 = 4;
    pub(crate) const HEARTBEAT_ACK: u8 = 5;
    pub(crate) const ABORT: u8 = 6;
    pub(crate) const SHUTDOWN: u8 = 7;
    pub(crate) const SHUTDOWN_ACK: u8 = 8;
    pub(crate) const ERROR: u8 = 9;
    pub(crate) const COOKIE_ECHO: u8 = 10;
    pub(crate) const COOKIE_ACK: u8 = 11;
    pub(crate) const SHUTDOWN_COMPLETE: u8 = 14;
    /// RFC 8260.
    pub(crate) const I_DATA: u8 = 64;
    /// RFC 6525.
    pub(crate) const RE_CONFIG: u8 = 130;
    /// RFC 4820.
    pub(crate) const PAD: u8 = 132;
    /// RFC 3758.
    pub(crate) const FORWARD_TSN: u8 = 192;
    /// RFC 8260.
    pub(crate) const I_FORWARD_TSN: u8 = 194;
}

/// A chunk of which only the header was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawChunk<'a> {
    /// One of [`kind`], or one that we do not know.
    pub(crate) kind: u8,
    /// What they mean depends on the kind.
    pub(crate) flags: u8,
    /// What stands between header and padding.
    pub(crate) value: &'a [u8],
}

/// Why a chunk cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    /// The packet ends inside a chunk, or a chunk is shorter than its own header.
    #[error("chunk length does not fit the packet")]
    Length,
    /// A chunk of this kind is too short for its fields.
    #[error("chunk of kind {0} is malformed")]
    Malformed(u8),
    /// DATA or I-DATA without a byte of user data; its TSN (RFC 9260 6.2: the association ends).
    #[error("data chunk {0} without user data")]
    NoUserData(u32),
}

/// A chunk, read.
#[derive(Debug, Clone)]
pub(crate) enum Chunk<'a> {
    /// DATA or I-DATA.
    Data(Data<'a>),
    /// INIT.
    Init(Init<'a>),
    /// INIT ACK.
    InitAck(Init<'a>),
    /// SACK.
    Sack(SackChunk<'a>),
    /// HEARTBEAT, with the value to send back as it is.
    Heartbeat(&'a [u8]),
    /// HEARTBEAT ACK: that it came is what counts.
    HeartbeatAck,
    /// ABORT, and why.
    Abort(Causes<'a>),
    /// SHUTDOWN, with the cumulative TSN that its sender has received.
    Shutdown(u32),
    /// SHUTDOWN ACK.
    ShutdownAck,
    /// ERROR.
    Error(Causes<'a>),
    /// COOKIE ECHO, with the cookie.
    CookieEcho(&'a [u8]),
    /// COOKIE ACK.
    CookieAck,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete,
    /// RE-CONFIG (RFC 6525).
    ReConfig(Parameters<'a>),
    /// FORWARD-TSN (RFC 3758) or I-FORWARD-TSN (RFC 8260).
    ForwardTsn(ForwardTsn<'a>),
    /// PAD (RFC 4820), thrown away.
    Pad,
    /// Not one of ours.
    Unknown(Unknown),
}

/// What the two upper bits of an unknown chunk or parameter ask for (RFC 9260 3.2 and 3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Go on with what follows, rather than leave the rest of the packet (or chunk) unread.
    pub(crate) skip: bool,
    /// Tell the sender.
    pub(crate) report: bool,
}

impl Unknown {
    /// From the highest byte of the type.
    pub(super) fn from_bits(kind: u8) -> Self {
        Self { skip: kind & 0x80 != 0, report: kind & 0x40 != 0 }
    }
}

impl<'a> RawChunk<'a> {
    /// Every chunk of a packet, given the bytes behind the common header. Ends after the first error.
    pub(super) fn all(bytes: &'a [u8]) -> impl Iterator<Item = Result<Self, ChunkError>> + Clone + use<'a> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some((chunk, after)) = Self::split(rest) else {
                rest = &[];
                return Some(Err(ChunkError::Length));
            };
            rest = after;
            Some(Ok(chunk))
        })
    }

    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (kind, bytes) = take_u8(bytes)?;
        let (flags, bytes) = take_u8(bytes)?;
        let (length, bytes) = take_u16(bytes)?;
        let (value, rest) = take_padded(bytes, usize::from(length).checked_sub(4)?)?;
        Some((Self { kind, flags, value }, rest))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`ChunkError`]. A chunk with more bytes than its fields need is taken: RFC 9260 allows for such
    /// extensions, and nothing of ours reads them.
    pub(crate) fn parse(&self) -> Result<Chunk<'a>, ChunkError> {
        let malformed = ChunkError::Malformed(self.kind);
        let Self { flags, value, .. } = *self;
        Ok(match self.kind {
            kind::DATA => Chunk::Data(Data::parse(flags, value)?),
            kind::I_DATA => Chunk::Data(Data::parse_interleaved(flags, value)?),
            kind::INIT => Chunk::Init(Init::parse(value).ok_or(malformed)?),
            kind::INIT_ACK => Chunk::InitAck(Init::parse(value).ok_or(malformed)?),
            kind::SACK => Chunk::Sack(SackChunk::parse(value).ok_or(malformed)?),
            kind::HEARTBEAT => Chunk::Heartbeat(value),
            kind::HEARTBEAT_ACK => Chunk::HeartbeatAck,
            kind::ABORT => Chunk::Abort(Causes::new(value)),
            kind::SHUTDOWN => Chunk::Shutdown(take_u32(value).ok_or(malformed)?.0),
            kind::SHUTDOWN_ACK => Chunk::ShutdownAck,
            kind::ERROR => Chunk::Error(Causes::new(value)),
            kind::COOKIE_ECHO => Chunk::CookieEcho(value),
            kind::COOKIE_ACK => Chunk::CookieAck,
            kind::SHUTDOWN_COMPLETE => Chunk::ShutdownComplete,
            kind::RE_CONFIG => Chunk::ReConfig(Parameters::new(value)),
            kind::FORWARD_TSN => Chunk::ForwardTsn(ForwardTsn::parse(value, false).ok_or(malformed)?),
            kind::I_FORWARD_TSN => Chunk::ForwardTsn(ForwardTsn::parse(value, true).ok_or(malformed)?),
            kind::PAD => Chunk::Pad,
            unknown => Chunk::Unknown(Unknown::from_bits(unknown)),
        })
    }

    /// Appends header and value, without padding: what an ERROR about this chunk carries.
    pub(crate) fn copy_to(&self, to: &mut Vec<u8>) {
        let length = u16::try_from(self.value.len() + 4).unwrap_or(u16::MAX).to_be_bytes();
        to.extend_from_slice(&[self.kind, self.flags, length[0], length[1]]);
        to.extend_from_slice(self.value);
    }
}
