//! The robot's side: tonic services, reachable over data channels and directly.
//!
//! Floor 4. A [`Server`] takes tonic's `Routes` and serves them to callers who come through signaling
//! servers (each over a data channel of its own) and to callers who come to its [`listener`], which also
//! carries signaling of its own, so that a LAN needs no cloud. Every request says who is calling
//! ([`CallInfo`]).
//!
//! ```text
//!  signaling servers ◀─ answerers ─┐
//!  own signaling     ◀─ answerer  ─┼─▶ connections (data channels) ─┐
//!  listener ────────────────────────────────────────────────────────┴─▶ routes
//! ```
//!
//! # Invariant
//! Authentication and signaling are never served on a data channel: who got one could pose as the robot.
//!
//! [`listener`] is the one exception to the floors: it imports nothing of farlink above floor 2, so that the
//! signaling server can use it as well.

mod answering;
mod builder;
mod call_info;
mod connections;
pub mod listener;
mod local;
mod on_channels;
mod running;

pub use self::builder::{ServerBuilder, ServerError};
pub use self::call_info::{CallInfo, Identity};
pub use self::listener::{ConnectionGuard, ConnectionHandle};
pub use self::running::{Server, SignalingStatus};
