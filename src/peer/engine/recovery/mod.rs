//! What is under way on a path, what of it is lost, and when something must be sent again.
//!
//! Floor 1, engine, between `congestion`, which it asks how much may be under way, and `sctp`, whose chunks it
//! keeps until they are acknowledged. [`Flight`] is the whole of it to others; the parts are one idea each:
//! the ledger of chunks, [round-trip times](rtt), [losses by time](rack), [probes](probe),
//! [early copies](copies), [retransmissions that were not needed](spurious), [delivery rate](rate),
//! [another path](path).
//!
//! # Invariant
//! While a chunk is under way, a timer is set that ends in its acknowledgement, its retransmission or
//! [`PathDead`]. A chunk leaves the ledger only by a cumulative acknowledgement. Work per SACK is in proportion
//! to its blocks and to what it newly acknowledges, not to what is under way; but for a peer that takes back what it
//! had acknowledged, which is believed eight times, and one whose closed window opens.

use std::time::Duration;

use crate::peer::engine::congestion::Algorithm;

mod acknowledging;
mod copies;
mod flight;
mod ledger;
mod order;
mod path;
mod probe;
mod rack;
mod rate;
mod rtt;
mod sack;
#[cfg(test)]
mod simulation;
mod spurious;
#[cfg(test)]
mod tests;
mod timers;
mod tsn;

pub use copies::EarlyCopies;
pub(crate) use flight::{Flight, Stats};
pub(crate) use sack::{Sack, SackError, SackOutcome};
pub(crate) use tsn::Tsn;

/// How a path's losses are found and answered.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryConfig {
    /// How long a peer may hold back an acknowledgement that was asked for at once.
    pub(crate) sack_delay: Duration,
    /// When small flights are sent twice.
    pub(crate) early_copies: EarlyCopies,
    /// Who decides how much may be under way.
    pub(crate) congestion: Algorithm,
    /// The largest packet on the wire, in bytes.
    pub(crate) max_packet: usize,
    /// How long the peer may be silent while something is under way.
    pub(crate) max_silence: Duration,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            sack_delay: Duration::from_millis(10),
            early_copies: EarlyCopies::default(),
            congestion: Algorithm::default(),
            max_packet: 1200,
            max_silence: Duration::from_secs(30),
        }
    }
}
