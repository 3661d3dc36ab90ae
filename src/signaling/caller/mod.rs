//! The caller: makes the offer, and takes the call to an open data channel.
//!
//! Floor 3. `machine` has the rules, `driver` carries its inputs and outputs, `line` is the signaling half
//! of a call and what is left of it when the call is over.
//!
//! # Invariant
//! Success or not, finished or dropped: the answerer is told once (done or error), and nothing of the
//! call is left after its deadline plus 5 s.

mod driver;
mod error;
mod ice_config;
mod line;
mod machine;

use tokio::time::Instant;

pub use self::driver::call;
pub use self::error::{CallError, CallErrorKind, CallStage, CallViolation};
pub(crate) use self::ice_config::usable_servers;
pub use self::ice_config::{IceConfig, ice_config};

/// What a call needs to know.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CallConfig {
    /// The robot's name in signaling (`rpc-host`), word for word.
    pub host: String,
    /// Send candidates as they are found (default). Without it the offer waits for all of them, 3 s and
    /// half of the time left at most, and says that none will follow; micro-rdk refuses that.
    pub trickle: bool,
    /// When the call gives up. Robots and signaling servers of today give up after 10 s.
    pub deadline: Instant,
}

impl CallConfig {
    /// To this robot until this time, with trickle.
    pub fn new(host: impl Into<String>, deadline: Instant) -> Self {
        Self { host: host.into(), trickle: true, deadline }
    }
}

/// The stages of a call, as they are passed. Each is told once, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CallProgress {
    /// The offer is made and on its way to signaling.
    Offered,
    /// The answer is here and taken.
    Answered,
    /// ICE has found a path.
    Connected,
    /// The data channel is open.
    Open,
}

impl CallProgress {
    const ALL: [Self; 4] = [Self::Offered, Self::Answered, Self::Connected, Self::Open];
}
