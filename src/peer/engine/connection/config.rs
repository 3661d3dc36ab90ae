//! What one connection is to be like.

use std::time::Duration;

use super::timing;
use crate::peer::Role;

/// The settings of one connection. [`Config::new`] has the defaults.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The caller offers and controls ICE.
    pub(crate) role: Role,
    /// Only relays are told to the peer and used. Default off.
    pub(crate) relay_only: bool,
    /// Whether there are STUN or TURN servers to gather from; only said in failures. Default off.
    pub(crate) servers: bool,
    /// Silence until [`Phase::Disconnected`](crate::peer::Phase::Disconnected). Default 5 s.
    pub(crate) disconnected: Duration,
    /// Silence until the connection fails: the loss time-out. Default 10 s; above 30 s it is lost anyway where
    /// the peer answers no probe (RFC 7675).
    pub(crate) lost: Duration,
    /// The largest datagram sent, in bytes of UDP payload, unless the path is known to carry more. Default
    /// 1200.
    pub(crate) datagram: usize,
    /// The most datagrams that [`Connection::poll_transmit`](super::Connection::poll_transmit) puts into one
    /// buffer, for segmentation by the kernel. 1 is none. Default 32.
    pub(crate) segments: usize,
    /// Where SCTP's randomness begins; `None`, the default, for the system's.
    pub(crate) seed: Option<u64>,
}

impl Config {
    /// The defaults for this role.
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            relay_only: false,
            servers: false,
            disconnected: timing::DISCONNECTED,
            lost: timing::LOST,
            datagram: 1200,
            segments: 32,
            seed: None,
        }
    }
}
