//! How much may be under way, and how fast it leaves.
//!
//! Floor 1, engine; `recovery` tells it what was sent, acknowledged and lost. Bytes are those of whole packets
//! here, headers included, because that is what a link carries.
//!
//! # Invariant
//! A controller is pure: the same events at the same times make the same decisions. Its window is never below
//! one packet, so something is always let go.

use std::fmt::Debug;
use std::time::{Duration, Instant};

mod cubic;
mod hystart;
mod model;
mod pacer;

pub(crate) use cubic::Cubic;
pub(crate) use model::Model;
pub(crate) use pacer::Pacer;

/// The first window, in packets. RFC 6928 has 10, large sites have 32 with QUIC; ours is paced after the first ten,
/// and a message of 32 KiB arrives within one round trip. An upload that begins on 1 Mbit/s pays with 326 ms of queue
/// for its first round trips; 16 packets would make it 168 ms, and messages of more than 16 KiB slower everywhere.
pub(crate) const INITIAL_PACKETS: usize = 32;

/// The least window after a loss, in packets.
pub(crate) const LEAST_PACKETS: usize = 2;

/// How much may be under way on a path, and who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// A model of the path's rate and delay: bears random loss, keeps queues short, leaves others their share.
    #[default]
    Model,
    /// CUBIC (RFC 9438), what TCP uses. A tenth of the rate of a path with 1 % random loss.
    Cubic,
}

impl Algorithm {
    /// A controller for a path of which nothing is known but perhaps its round-trip time. `seed` should differ
    /// between flows: it spreads the times at which they ask for more.
    pub(crate) fn controller(
        self,
        max_packet: usize,
        rtt: Option<Duration>,
        now: Instant,
        seed: u64,
    ) -> Box<dyn Controller> {
        match self {
            Self::Model => Box::new(Model::new(max_packet, rtt, now, seed)),
            Self::Cubic => Box::new(Cubic::new(max_packet)),
        }
    }
}

/// Decides how much may be under way on a path.
pub(crate) trait Controller: Debug + Send {
    /// A packet of `bytes` left; `in_flight` counts it already.
    fn on_sent(&mut self, now: Instant, bytes: usize, in_flight: usize);
    /// A SACK acknowledged something new. Comes after `on_loss` of the same SACK.
    fn on_ack(&mut self, ack: &Ack);
    /// Something was found to be lost.
    fn on_loss(&mut self, loss: &Loss);
    /// What the last `on_loss` told was not lost but late.
    fn on_spurious(&mut self, now: Instant);
    /// How many bytes may be under way.
    fn window(&self) -> usize;
    /// Bytes a second at which packets should leave; none: as they come.
    fn pacing_rate(&self) -> Option<u64>;
}

/// What a SACK acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) now: Instant,
    /// Bytes newly acknowledged.
    pub(crate) bytes: usize,
    /// Under way before this SACK.
    pub(crate) before: usize,
    /// Under way now, without what is lost.
    pub(crate) in_flight: usize,
    /// When the newest acknowledged packet left.
    pub(crate) sent_at: Instant,
    /// The round-trip time that this SACK measured, if it did.
    pub(crate) rtt: Option<Duration>,
    /// Smoothed round-trip time.
    pub(crate) smoothed: Duration,
    /// What was delivered since the newest acknowledged packet left.
    pub(crate) sample: Option<RateSample>,
    /// Bytes delivered on this path so far; counts rounds.
    pub(crate) delivered: u64,
    /// The same when the newest acknowledged packet left.
    pub(crate) prior_delivered: u64,
    /// Whether the sender, not the path, was the limit when the newest acknowledged packet left.
    pub(crate) limited: bool,
}

/// A measurement of the rate at which the path delivers, draft-ietf-ccwg-bbr 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateSample {
    /// Bytes delivered in `interval`.
    pub(crate) bytes: u64,
    pub(crate) interval: Duration,
    /// Bytes found lost in that interval.
    pub(crate) lost: u64,
    /// Bytes under way when the interval began.
    pub(crate) in_flight: usize,
}

impl RateSample {
    /// Bytes a second.
    pub(crate) fn rate(&self) -> u64 {
        let nanos = self.interval.as_nanos().max(1);
        u64::try_from(u128::from(self.bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
    }
}

/// What was found to be lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) now: Instant,
    /// Bytes found lost.
    pub(crate) bytes: usize,
    /// When the newest of them left.
    pub(crate) sent_at: Instant,
    /// Several probes in a row were lost with it: the path as it was known is gone, RFC 9002 7.6.
    pub(crate) persistent: bool,
}
