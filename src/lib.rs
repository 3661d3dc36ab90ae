//! farlink: you name a robot, you get a gRPC channel to it, wherever it is.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod address;
pub mod auth;
mod channel;
pub mod dial;
mod event;
pub mod peer;
pub mod proto;
pub mod server;
pub mod signaling;
pub mod transport;
pub mod wire;

pub use self::auth::Credentials;
pub use self::channel::{Channel, dial};
pub use self::dial::{ConfigError, DialError, DialOptions, DialReport, Fallback};
pub use self::event::{Event, Events};
pub use self::peer::IceServer;
