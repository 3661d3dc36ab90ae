//! farlink: you name a robot, you get a gRPC channel to it, wherever it is.
//!
//! The entry point is [`dial`](fn@dial). It reaches the robot over a WebRTC data channel that is negotiated
//! through Viam signaling, or directly, and returns a [`Channel`]: any client that tonic generates works with
//! it. The robot's side is [`server::Server`]; the signaling server is the crate `farlink-signaling`.
//!
//! ```no_run
//! use farlink::DialOptions;
//! use farlink::proto::robot::GetVersionRequest;
//! use farlink::proto::robot::robot_service_client::RobotServiceClient;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = DialOptions::with_api_key("the key", "11111111-2222-3333-4444-555555555555")?;
//! let channel = farlink::dial("robot-main.abc.viam.cloud", options).await?;
//! let mut robot = RobotServiceClient::new(channel);
//! println!("{}", robot.get_version(GetVersionRequest {}).await?.into_inner().version);
//! # Ok(())
//! # }
//! ```
//!
//! # Structure
//! Floors; a module imports from those below. [`proto`], [`wire`], [`address`]: words. [`peer`]: one peer
//! connection, whoever implements it. [`transport`]: what carries RPCs. [`auth`], [`signaling`],
//! [`dial`](mod@dial): finding each other. [`Channel`], [`Event`], [`server`], [`redial`], [`sessions`]: what
//! users hold.
//!
//! # Features
//! - `engine` (default): our own WebRTC stack, [`peer::engine`]; the one that is used unless another is asked for.
//! - `webrtc` (default): the protocols of the `webrtc` crate as a WebRTC stack, [`peer::webrtc_rs`]; used unless
//!   another is asked for where `engine` is off.
//!
//! Without both farlink still dials and serves directly, and over any [`peer::Stack`] of your own.
//!
//! # Runtime
//! All of it runs on tokio, with time and I/O enabled. A channel lives in the runtime that dialed it, and ends with it;
//! its calls may be made from any thread, those with a deadline within some runtime.
//!
//! # Limits
//! Messages are up to 32 MiB, of which tonic's clients and servers take 4 MiB unless
//! `max_decoding_message_size` says more. What one connection may cost is in
//! [`transport::webrtc::Limits`].

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod address;
pub mod auth;
mod backoff;
mod channel;
pub mod dial;
mod event;
pub mod peer;
pub mod proto;
pub mod redial;
pub mod server;
pub mod sessions;
pub mod signaling;
pub mod transport;
pub mod wire;

pub use self::auth::Credentials;
pub use self::channel::{Channel, dial};
pub use self::dial::{ConfigError, DialError, DialOptions, DialReport, Fallback};
pub use self::event::{Event, Events};
pub use self::peer::IceServer;
pub use self::sessions::SessionsClient;

/// README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
