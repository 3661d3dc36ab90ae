//! DATA (RFC 9260 3.3.1, RFC 7053) and I-DATA (RFC 8260 2.1): one fragment of a message.

use super::chunk::{ChunkError, kind};
use super::read::{take_u16, take_u32};

/// One fragment of a message. DATA and I-DATA differ only in how its place is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data<'a> {
    /// Begin, end, order, haste.
    pub(crate) flags: DataFlags,
    /// Whether it is I-DATA.
    pub(crate) interleaved: bool,
    /// Transmission sequence number.
    pub(crate) tsn: u32,
    /// Stream identifier.
    pub(crate) stream: u16,
    /// The message's number in its stream: of DATA 16 bits (SSN), of I-DATA 32 bits (MID).
    pub(crate) message: u32,
    /// The fragment's number in the message (FSN). Of DATA always 0: its TSNs follow each other.
    pub(crate) fragment: u32,
    /// Payload protocol identifier. Of I-DATA only the first fragment has it; 0 in the others.
    pub(crate) ppid: u32,
    /// User data, at least one byte.
    pub(crate) payload: &'a [u8],
}

/// The flags of DATA and I-DATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DataFlags {
    /// B: the message's first fragment.
    pub(crate) begin: bool,
    /// E: the message's last fragment.
    pub(crate) end: bool,
    /// U: the message need not wait for others of its stream.
    pub(crate) unordered: bool,
    /// I: acknowledge without delay (RFC 7053).
    pub(crate) immediate: bool,
}

impl DataFlags {
    const END: u8 = 1;
    const BEGIN: u8 = 2;
    const UNORDERED: u8 = 4;
    /// The I bit.
    pub(super) const IMMEDIATE: u8 = 8;

    fn from_bits(bits: u8) -> Self {
        Self {
            begin: bits & Self::BEGIN != 0,
            end: bits & Self::END != 0,
            unordered: bits & Self::UNORDERED != 0,
            immediate: bits & Self::IMMEDIATE != 0,
        }
    }

    /// As they stand in the chunk's header.
    pub(super) fn bits(self) -> u8 {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        bit(self.begin, Self::BEGIN)
            | bit(self.end, Self::END)
            | bit(self.unordered, Self::UNORDERED)
            | bit(self.immediate, Self::IMMEDIATE)
    }
}

impl<'a> Data<'a> {
    /// Bytes of a DATA chunk in front of its user data.
    const HEADER: usize = 16;
    /// Bytes of an I-DATA chunk in front of its user data.
    const INTERLEAVED_HEADER: usize = 20;

    /// Bytes in front of the user data.
    pub(crate) fn header(&self) -> usize {
        Self::header_of(self.interleaved)
    }

    /// Bytes in front of the user data of such a chunk.
    pub(crate) const fn header_of(interleaved: bool) -> usize {
        if interleaved { Self::INTERLEAVED_HEADER } else { Self::HEADER }
    }

    pub(super) fn parse(flags: u8, value: &'a [u8]) -> Result<Self, ChunkError> {
        let fields = |value| {
            let (tsn, value) = take_u32(value)?;
            let (stream, value) = take_u16(value)?;
            let (message, value) = take_u16(value)?;
            let (ppid, payload) = take_u32(value)?;
            let (message, fragment) = (u32::from(message), 0);
            let flags = DataFlags::from_bits(flags);
            Some(Self { flags, interleaved: false, tsn, stream, message, fragment, ppid, payload })
        };
        fields(value).ok_or(ChunkError::Malformed(kind::DATA))?.with_user_data()
    }

    pub(super) fn parse_interleaved(flags: u8, value: &'a [u8]) -> Result<Self, ChunkError> {
        let fields = |value| {
            let (tsn, value) = take_u32(value)?;
            let (stream, value) = take_u16(value)?;
            let (_reserved, value) = take_u16(value)?;
            let (message, value) = take_u32(value)?;
            let (last, payload) = take_u32(value)?;
            let flags = DataFlags::from_bits(flags);
            let (ppid, fragment) = if flags.begin { (last, 0) } else { (0, last) };
            Some(Self { flags, interleaved: true, tsn, stream, message, fragment, ppid, payload })
        };
        fields(value).ok_or(ChunkError::Malformed(kind::I_DATA))?.with_user_data()
    }

    fn with_user_data(self) -> Result<Self, ChunkError> {
        if self.payload.is_empty() { Err(ChunkError::NoUserData(self.tsn)) } else { Ok(self) }
    }
}
