//! SCTP packets and their chunks, as bytes (RFC 9260 section 3).
//!
//! Floor 1, engine, below the association. Reading borrows from the datagram and allocates nothing; writing
//! appends to a packet that the caller owns.
//!
//! ```text
//!  packet     common header (ports, tag, checksum) │ chunk │ chunk │ ...
//!  chunk      kind, flags, length │ value │ up to 3 bytes of padding
//!  parameter  kind, length        │ value │ up to 3 bytes of padding      within some chunks, as are causes
//! ```
//!
//! # Invariant
//! No length of the peer's is trusted: whatever the bytes, reading ends with a value or an error, never with
//! a panic, and takes time in proportion to the packet.

mod cause;
mod chunk;
mod data;
mod init;
mod packet;
mod parameter;
mod read;
mod reset;
mod sack;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use self::cause::{Causes, code, write_cause};
pub(crate) use self::chunk::{Chunk, ChunkError, RawChunk, kind};
pub(crate) use self::data::{Data, DataFlags};
pub(crate) use self::init::{Abilities, Init, write_cookie, write_unrecognized};
pub(crate) use self::packet::{COMMON_HEADER, Checksum, Packet, seal};
pub(crate) use self::parameter::{ParameterWriter, Parameters};
pub(crate) use self::reset::{Reset, ResetResult, Streams};
pub(crate) use self::sack::{ForwardTsn, SackChunk};
pub(crate) use self::write::{Writer, padded};
