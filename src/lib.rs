//! farlink: you name a robot, you get a gRPC channel to it, wherever it is.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod address;
pub mod auth;
pub mod dial;
pub mod peer;
pub mod proto;
pub mod server;
pub mod signaling;
pub mod transport;
pub mod wire;
