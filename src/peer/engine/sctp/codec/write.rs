//! Appends chunks to a packet.

use super::packet::COMMON_HEADER;
use super::sack::SackChunk;
use super::{Data, DataFlags, kind};

/// `length` rounded up to the 4 bytes that chunks and parameters begin at.
pub(crate) const fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A packet in the making, within a limit of bytes. Every chunk begins at a multiple of four bytes.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    packet: &'a mut Vec<u8>,
    limit: usize,
}

impl<'a> Writer<'a> {
    /// Begins a packet: clears the buffer and writes the common header, its checksum still 0.
    pub(crate) fn new(
        packet: &'a mut Vec<u8>,
        limit: usize,
        source: u16,
        destination: u16,
        tag: u32,
    ) -> Self {
        packet.clear();
        packet.extend_from_slice(&source.to_be_bytes());
        packet.extend_from_slice(&destination.to_be_bytes());
        packet.extend_from_slice(&tag.to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        Self { packet, limit: limit - limit % 4 }
    }

    /// Bytes that are left below the limit, a multiple of four.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.packet.len())
    }

    /// Whether no chunk was written yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.packet.len() <= COMMON_HEADER
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.packet.len()
    }

    /// A chunk whose value `fill` appends. The length and the padding are seen to here.
    pub(crate) fn chunk(&mut self, kind: u8, flags: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        let at = self.packet.len();
        self.packet.extend_from_slice(&[kind, flags, 0, 0]);
        fill(self.packet);
        set_length(self.packet, at);
        pad(self.packet);
    }

    /// A chunk that was encoded before, with header and padding.
    pub(crate) fn encoded(&mut self, chunk: &[u8]) {
        self.packet.extend_from_slice(chunk);
    }

    /// DATA (RFC 9260 3.3.1) or I-DATA (RFC 8260 2.1), as `data` says. Returns where its flags are, for
    /// [`ask_immediate`](Self::ask_immediate).
    pub(crate) fn data(&mut self, data: &Data<'_>) -> usize {
        let at = self.packet.len();
        let length = data.header() + data.payload.len();
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        let kind = if data.interleaved { kind::I_DATA } else { kind::DATA };
        self.packet.extend_from_slice(&[kind, data.flags.bits(), length[0], length[1]]);
        self.packet.extend_from_slice(&data.tsn.to_be_bytes());
        self.packet.extend_from_slice(&data.stream.to_be_bytes());
        if data.interleaved {
            let last = if data.flags.begin { data.ppid } else { data.fragment };
            self.packet.extend_from_slice(&[0; 2]);
            self.packet.extend_from_slice(&data.message.to_be_bytes());
            self.packet.extend_from_slice(&last.to_be_bytes());
        } else {
            // An SSN is the low half of the message's number.
            let [_, _, high, low] = data.message.to_be_bytes();
            self.packet.extend_from_slice(&[high, low]);
            self.packet.extend_from_slice(&data.ppid.to_be_bytes());
        }
        self.packet.extend_from_slice(data.payload);
        pad(self.packet);
        at + 1
    }

    /// Sets the I bit (RFC 7053) in the flags at `at`.
    pub(crate) fn ask_immediate(&mut self, at: usize) {
        if let Some(flags) = self.packet.get_mut(at) {
            *flags |= DataFlags::IMMEDIATE;
        }
    }

    /// SACK with as many of the gap blocks and duplicates as there is room for.
    pub(crate) fn sack(
        &mut self,
        cumulative: u32,
        window: u32,
        gaps: impl Iterator<Item = (u16, u16)>,
        duplicates: &[u32],
    ) {
        let mut room = (self.room() / 4).saturating_sub(SackChunk::HEADER / 4);
        self.chunk(kind::SACK, 0, |value| {
            value.extend_from_slice(&cumulative.to_be_bytes());
            value.extend_from_slice(&window.to_be_bytes());
            let counts = value.len();
            value.extend_from_slice(&[0; 4]);
            let mut blocks = 0u16;
            for (start, end) in gaps.take(room) {
                value.extend_from_slice(&start.to_be_bytes());
                value.extend_from_slice(&end.to_be_bytes());
                blocks = blocks.saturating_add(1);
            }
            room = room.saturating_sub(usize::from(blocks));
            let mut copies = 0u16;
            for duplicate in duplicates.iter().take(room) {
                value.extend_from_slice(&duplicate.to_be_bytes());
                copies = copies.saturating_add(1);
            }
            let ([a, b], [c, d]) = (blocks.to_be_bytes(), copies.to_be_bytes());
            if let Some(counts) = value.get_mut(counts..counts + 4) {
                counts.copy_from_slice(&[a, b, c, d]);
            }
        });
    }
}

/// Sets the length of the chunk or parameter that begins at `at` and goes to the end.
pub(super) fn set_length(packet: &mut [u8], at: usize) {
    let length = u16::try_from(packet.len().saturating_sub(at)).unwrap_or(u16::MAX);
    if let Some(field) = packet.get_mut(at + 2..at + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Fills up to a multiple of four bytes.
pub(super) fn pad(packet: &mut Vec<u8>) {
    packet.resize(padded(packet.len()), 0);
}
