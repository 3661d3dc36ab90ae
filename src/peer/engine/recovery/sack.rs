//! What a SACK says, and what came of it.
//!
//! Floor 1, engine, part of `recovery`.
//!
//! # Invariant
//! Nothing here trusts the peer: blocks may overlap, run backwards or reach beyond what was sent.

use super::tsn::Tsn;

/// A SACK chunk, RFC 9260 3.3.4, as the codec read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sack<'a> {
    /// Everything up to this number has arrived.
    pub(crate) cumulative: Tsn,
    /// The peer's room, in bytes of user data.
    pub(crate) window: u32,
    /// What arrived beyond, as first and last offset from `cumulative`.
    pub(crate) gaps: &'a [(u16, u16)],
    /// What arrived more than once.
    pub(crate) duplicates: &'a [Tsn],
}

/// What a SACK changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SackOutcome {
    /// Bytes of user data newly acknowledged.
    pub(crate) acknowledged: usize,
    /// Whether the cumulative number moved on.
    pub(crate) advanced: bool,
    /// Chunks found lost.
    pub(crate) lost: usize,
    /// Whether it came after a newer one and said nothing new.
    pub(crate) stale: bool,
}

/// A SACK that no honest peer sends; the association is to be aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SackError {
    /// It acknowledges a chunk that was never sent, RFC 9260 6.2.1.
    #[error("the peer acknowledged data that was never sent")]
    NeverSent,
}
