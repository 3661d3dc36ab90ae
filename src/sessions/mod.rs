//! Sessions: the robot stops what an operator moved when the operator's heartbeats stop.
//!
//! Floor 4, above everything else. `caller` keeps a session alive over any transport and says in time when it
//! no longer can; [`robot`] is the other end: it knows who moves what, and stops it.

pub mod names;
pub mod robot;

mod caller;
mod monitored;
mod shares;
#[cfg(test)]
mod tests;

pub use self::caller::{
    EndReason, LeaseState, OnExpiry, OnStartFailure, Policy, ReplaceReason, SessionCall, SessionError,
    SessionEvent, SessionEvents, SessionId, SessionOptions, SessionState, SessionStats, Sessions,
    SessionsClient, SessionsClientBuilder, SessionsLayer,
};
pub use self::monitored::{Monitored, Monitoring};
pub use self::names::{
    DialOptions, EXEMPT_METADATA_METHODS, LOGGER, RobotServiceStub, SESSION_METADATA_KEY,
    SendSessionHeartbeatRequest, StartSessionRequest, StartSessionResponse, dial,
};
