//! SACK (RFC 9260 3.3.4), FORWARD-TSN (RFC 3758 3.2) and I-FORWARD-TSN (RFC 8260 2.3.1).

use super::read::{all_u16, take_u16, take_u32};

/// SACK: what the peer has received, and how much more it can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SackChunk<'a> {
    /// All TSNs up to this one were received.
    pub(crate) cumulative: u32,
    /// Advertised receiver window credit, in bytes.
    pub(crate) window: u32,
    gaps: &'a [u8],
    duplicates: &'a [u8],
}

impl<'a> SackChunk<'a> {
    /// Bytes of a SACK without blocks.
    pub(super) const HEADER: usize = 16;

    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (cumulative, value) = take_u32(value)?;
        let (window, value) = take_u32(value)?;
        let (gaps, value) = take_u16(value)?;
        let (duplicates, value) = take_u16(value)?;
        let (gaps, value) = value.split_at_checked(usize::from(gaps) * 4)?;
        let duplicates = value.get(..usize::from(duplicates) * 4)?;
        Some(Self { cumulative, window, gaps, duplicates })
    }

    /// Gap ack blocks, first and last TSN as distances from the cumulative one; as the peer wrote them,
    /// which may be in any order and nonsense.
    pub(crate) fn gaps(&self) -> impl ExactSizeIterator<Item = (u16, u16)> + use<'a> {
        let blocks: &'a [[u8; 4]] = self.gaps.as_chunks().0;
        blocks.iter().map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
    }

    /// TSNs that came more than once since the SACK before.
    pub(crate) fn duplicates(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        let tsns: &'a [[u8; 4]] = self.duplicates.as_chunks().0;
        tsns.iter().map(|tsn| u32::from_be_bytes(*tsn))
    }
}

/// FORWARD-TSN or I-FORWARD-TSN: the sender has given up on messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForwardTsn<'a> {
    /// Take everything up to this TSN as received.
    pub(crate) cumulative: u32,
    /// Whether it is I-FORWARD-TSN.
    pub(crate) interleaved: bool,
    skips: &'a [u8],
}

/// The last message of a stream that was given up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skip {
    /// Stream identifier.
    pub(crate) stream: u16,
    /// Whether it speaks of the stream's unordered messages (I-FORWARD-TSN only).
    pub(crate) unordered: bool,
    /// SSN or MID.
    pub(crate) message: u32,
}

impl<'a> ForwardTsn<'a> {
    pub(super) fn parse(value: &'a [u8], interleaved: bool) -> Option<Self> {
        let (cumulative, skips) = take_u32(value)?;
        Some(Self { cumulative, interleaved, skips })
    }

    /// The streams to which it matters.
    pub(crate) fn skips(&self) -> impl Iterator<Item = Skip> + use<'a> {
        let size = if self.interleaved { 8 } else { 4 };
        let interleaved = self.interleaved;
        self.skips.chunks_exact(size).filter_map(move |skip| {
            let mut words = all_u16(skip);
            let (stream, second) = (words.next()?, words.next()?);
            if !interleaved {
                return Some(Skip { stream, unordered: false, message: u32::from(second) });
            }
            let message = u32::from(words.next()?) << 16 | u32::from(words.next()?);
            Some(Skip { stream, unordered: second & 1 != 0, message })
        })
    }
}
