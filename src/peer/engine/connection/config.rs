//! What one connection is to be like.

use std::time::Duration;

use uuid::Uuid;

use super::{dtls, timing};
use crate::peer::Role;
use crate::peer::engine::recovery::RecoveryConfig;
use crate::peer::engine::sctp;

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
    /// Bytes of messages that are held until they are read. Default 2 MiB.
    pub(crate) receive_window: usize,
    /// The largest message taken, in bytes. A larger one ends the connection. Default 256 KiB.
    pub(crate) max_message: usize,
    /// How losses are found and answered. Sizes and patience in it are set from the above.
    pub(crate) recovery: RecoveryConfig,
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
            receive_window: 2 << 20,
            max_message: 256 << 10,
            recovery: RecoveryConfig::default(),
            seed: None,
        }
    }

    /// Of the association: towards this port of the peer, over a path with this round trip time.
    pub(super) fn association(&self, remote_port: u16, rtt: Option<Duration>) -> sctp::Config {
        let mut config = sctp::Config::new(self.seed());
        config.remote_port = remote_port;
        // A multiple of 4, as chunks are.
        config.max_packet = self.datagram.saturating_sub(dtls::OVERHEAD) & !3;
        config.receive_window = self.receive_window;
        config.max_message = self.max_message;
        config.rtt = rtt;
        config.recovery = self.recovery.clone();
        // ICE knows first whether the peer is there.
        config.recovery.max_silence = config.recovery.max_silence.max(self.lost + timing::LOST);
        config
    }

    fn seed(&self) -> sctp::Seed {
        let mut seed = [0; 32];
        match self.seed {
            Some(number) => fastrand::Rng::with_seed(number).fill(&mut seed),
            None => {
                for half in seed.chunks_exact_mut(16) {
                    // 122 random bits each.
                    half.copy_from_slice(Uuid::new_v4().as_bytes());
                }
            }
        }
        sctp::Seed(seed)
    }
}
