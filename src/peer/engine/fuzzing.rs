//! What the fuzz targets call, and what the rooms of the engine share to be fuzzed.
//!
//! Floor 1, engine, in builds for fuzzing and in tests, which feed the same from seeds. Every room has its own
//! `fuzzing`, which reaches what is private there.
//!
//! # Invariant
//! The same bytes do the same, as far as the code under test lets them: here is neither a clock nor chance.

#[cfg(fuzzing)]
pub use super::gathering::fuzzing::*;
#[cfg(fuzzing)]
pub use super::sctp::fuzzing::*;

/// Bytes that say what happens next.
pub(super) struct Orders<'a>(pub(super) &'a [u8]);

impl<'a> Orders<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A byte, or 0 when there is none left.
    pub(super) fn number(&mut self) -> usize {
        usize::from(self.byte().unwrap_or(0))
    }

    /// So many bytes, or as many as there are.
    pub(super) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
