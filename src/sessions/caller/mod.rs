//! The caller's side: a session that begins with the first monitored call, is kept alive over the connection
//! that the calls use, and never ends without a word.
//!
//! `policy` says which calls carry it; `service` puts it on them and makes a call again whose session has
//! expired, from what `kept` has of it (`watched`: where only the trailers tell); `core` and `state` are what all calls share; `keeper` is the one task,
//! with `heartbeat` for what it sends and `lease` for what it may believe.
//!
//! ```text
//!  call ─▶ policy ─▶ glance (atomic) ─▶ transport      keeper: start ▸ heartbeats ▸ lease ▸ resume ─▶ transport
//!                       │ no session                      ▲  │
//!                       └──▶ core (lock) ── wants one ────┘  └── Glance, SessionEvent
//! ```
//!
//! # Invariant
//! While calls carry a session, heartbeats are being sent for it.

mod client;
mod core;
mod error;
mod event;
mod heartbeat;
mod id;
mod keeper;
mod kept;
mod layer;
mod lease;
mod policy;
mod service;
mod state;
mod stats;
mod watched;

pub use self::client::{SessionsClient, SessionsClientBuilder};
pub use self::error::SessionError;
pub use self::event::{EndReason, ReplaceReason, SessionEvent, SessionEvents, SessionState};
pub use self::id::SessionId;
pub use self::layer::SessionsLayer;
pub use self::lease::LeaseState;
pub use self::policy::{OnExpiry, OnStartFailure, Policy, SessionOptions};
pub use self::service::{SessionCall, Sessions};
pub use self::stats::SessionStats;

/// The `tracing` target of all that sessions say, at debug level and never with a whole id:
/// `RUST_LOG=farlink::sessions=debug` shows it.
pub const LOGGER: &str = "farlink::sessions";

/// The rules of this side, for the model of both.
#[cfg(test)]
pub(super) mod model {
    pub(in crate::sessions) use super::lease::Lease;
    pub(in crate::sessions) use super::state::is_usable;
}
