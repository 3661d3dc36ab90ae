//! The robot's side: who moves what, and what is stopped when they go silent.
//!
//! ```text
//!  Server ─▶ your auth layer ─▶ Protected ─▶ your services      book: the rules, pure
//!                           └─▶ RobotService                    core: the book under its lock, timers
//!                                                               stopping: a task for each stop
//! ```
//!
//! [`SessionManager::protect`] puts it around the robot's services; [`Resources`] is what the robot's own code
//! tells it. Callers start a session and send heartbeats; each monitored call ties what it moves to the
//! caller's session. When a session's heartbeats stay away for longer than its window, its calls are cancelled
//! and what it moved last is stopped.
//!
//! # Invariant
//! No stop begins before the deadline; the timer makes it at most 2 ms after. A heartbeat that was acknowledged
//! is never overruled, and what another session has taken since is never stopped.
//!
//! Contract: rdk `session/`, `robot/session_web.go`, `robot/server/server.go`; where those are wrong, the
//! differences are in the words of each type.

mod book;
mod builder;
mod calls;
mod core;
mod event;
mod layer;
mod manager;
mod monitor;
mod operations;
mod owner;
mod refusal;
mod resources;
mod service;
mod stats;
mod stopping;

pub use self::builder::{
    Heartbeats, Listing, OnDisconnect, SessionConfigError, SessionManagerBuilder, Sessionless,
};
pub use self::event::{NotAssociated, SessionEvent, SessionEvents, SessionId};
pub use self::layer::{ProtectLayer, Protected, ResponseFuture};
pub use self::manager::SessionManager;
pub use self::monitor::Monitor;
pub use self::resources::{Resources, full_name, named_by};
pub use self::service::RobotSessions;
pub use self::stats::SessionStats;

/// The rules of this side, for the model of both.
#[cfg(test)]
pub(super) mod model {
    pub(in crate::sessions) use super::book::{Book, Rules, Stop};
    pub(in crate::sessions) use super::owner::{Caller, Owner, Transport};
}
