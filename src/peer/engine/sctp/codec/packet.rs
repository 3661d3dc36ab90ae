//! The common header and its checksum (RFC 9260 3.1 and 6.8, RFC 9653).

use super::chunk::{ChunkError, RawChunk};
use super::read::{take_u16, take_u32};

/// Bytes of the header in front of the chunks.
pub(crate) const COMMON_HEADER: usize = 12;

/// Where the checksum is.
const CHECKSUM: std::ops::Range<usize> = 8..12;

/// A packet of the peer's: header read, checksum not yet looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// The peer's port.
    pub(crate) source: u16,
    /// Ours.
    pub(crate) destination: u16,
    /// Verification tag.
    pub(crate) tag: u32,
    bytes: &'a [u8],
}

/// Whether a packet's bytes are what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// CRC32c, and it fits.
    Right,
    /// The field is 0 and the CRC32c is not (RFC 9653): right between those who agreed on it.
    Zero,
    /// Neither.
    Wrong,
}

/// Why a packet cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PacketError {
    /// Shorter than the common header.
    #[error("packet is shorter than its header")]
    Short,
}

impl<'a> Packet<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`PacketError::Short`].
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let header = |bytes| {
            let (source, bytes) = take_u16(bytes)?;
            let (destination, bytes) = take_u16(bytes)?;
            let (tag, bytes) = take_u32(bytes)?;
            take_u32(bytes)?;
            Some((source, destination, tag))
        };
        let (source, destination, tag) = header(bytes).ok_or(PacketError::Short)?;
        Ok(Self { source, destination, tag, bytes })
    }

    /// Compares the checksum. A pass over the whole packet, unless the field is 0 and `zero_is_fine`.
    pub(crate) fn checksum(&self, zero_is_fine: bool) -> Checksum {
        let field = self.bytes.get(CHECKSUM).unwrap_or(&[]);
        let is_zero = field == [0; 4];
        if is_zero && zero_is_fine {
            Checksum::Zero
        } else if crc(self.bytes).to_le_bytes() == field {
            Checksum::Right
        } else if is_zero {
            Checksum::Zero
        } else {
            Checksum::Wrong
        }
    }

    /// The chunks, in order. Ends after the first error.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Result<RawChunk<'a>, ChunkError>> + Clone + use<'a> {
        RawChunk::all(self.bytes.get(COMMON_HEADER..).unwrap_or(&[]))
    }
}

/// Writes the CRC32c of a finished packet into its header.
pub(crate) fn seal(packet: &mut [u8]) {
    let checksum = crc(packet);
    if let Some(field) = packet.get_mut(CHECKSUM) {
        field.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// CRC32c over the packet as if its checksum were 0.
fn crc(packet: &[u8]) -> u32 {
    let (before, rest) = packet.split_at_checked(CHECKSUM.start).unwrap_or((packet, &[]));
    let after = rest.get(CHECKSUM.len()..).unwrap_or(&[]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    crc32c::crc32c_append(crc, after)
}
