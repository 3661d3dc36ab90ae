//! What an association is told at its start.

use std::fmt;
use std::time::Duration;

use crate::peer::engine::recovery::RecoveryConfig;

/// What an association is told at its start.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Our port. Data channels use 5000 on both sides unless the descriptions say otherwise.
    pub(crate) local_port: u16,
    /// The peer's port.
    pub(crate) remote_port: u16,
    /// The largest SCTP packet, in bytes: what DTLS has room for.
    pub(crate) max_packet: usize,
    /// Bytes of messages held until they are read. At most half as much again is held when a peer sends many
    /// small ones. At least twice `max_message`, or else no message might ever be whole.
    pub(crate) receive_window: usize,
    /// The largest message taken, in bytes. A larger one ends the association.
    pub(crate) max_message: usize,
    /// Streams asked for and granted (RFC 8831 6.2).
    pub(crate) streams: u16,
    /// The path's round-trip time, if something (ICE) has measured it: for the first time-outs.
    pub(crate) rtt: Option<Duration>,
    /// Take packets without a checksum, and send them if the peer takes them too (RFC 9653): DTLS protects
    /// them already.
    pub(crate) zero_checksum: bool,
    /// Use I-DATA if the peer does too (RFC 8260): a large message on one stream does not hold up others.
    pub(crate) interleaving: bool,
    /// How long a SACK waits for a second packet, or for data that it can travel with. RFC 9260 allows 500 ms;
    /// a sender that waits for it to send its next packet would feel them.
    pub(crate) sack_delay: Duration,
    /// Send a HEARTBEAT when nothing has come for so long. `None`: never; ICE asks for consent anyway.
    pub(crate) heartbeat: Option<Duration>,
    /// How long the handshake may take.
    pub(crate) handshake_timeout: Duration,
    /// How long a cookie of ours is good (RFC 9260 15, Valid.Cookie.Life).
    pub(crate) cookie_life: Duration,
    /// How losses are found and answered.
    pub(crate) recovery: RecoveryConfig,
    /// Where tags, first numbers and the cookie's key come from.
    pub(crate) seed: Seed,
}

/// Random bytes that the peer cannot know; a test takes those that it likes.
#[derive(Clone)]
pub(crate) struct Seed(pub(crate) [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

impl Config {
    /// What data channels are used to, with this seed.
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            local_port: 5000,
            remote_port: 5000,
            max_packet: 1200,
            receive_window: 4 << 20,
            max_message: 256 << 10,
            streams: 65_535,
            rtt: None,
            zero_checksum: true,
            interleaving: true,
            sack_delay: Duration::from_millis(10),
            heartbeat: None,
            handshake_timeout: Duration::from_secs(30),
            cookie_life: Duration::from_secs(60),
            recovery: RecoveryConfig::default(),
            seed,
        }
    }
}
