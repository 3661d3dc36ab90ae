//! What a user may choose of the engine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::congestion::Algorithm;
use super::gathering::Filter;
use super::recovery::EarlyCopies;
use super::sockets::{Buffers, Trust};
use super::{Engine, connection};
use crate::peer::{PeerConfig, PeerError};

/// The settings of a stack, shared by its peers.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) resolve_mdns: bool,
    pub(super) interfaces: Filter,
    pub(super) buffers: Buffers,
    /// How long ICE servers may take to answer.
    pub(super) patience: Duration,
    /// Who may sign a relay's certificate.
    pub(super) trust: Trust,
    /// Silence until a connection counts as lost.
    lost: Duration,
    early_copies: EarlyCopies,
    congestion: Algorithm,
    receive_window: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resolve_mdns: true,
            interfaces: Filter::default(),
            buffers: Buffers::default(),
            patience: Duration::from_secs(5),
            trust: Trust::platform(),
            lost: Duration::from_secs(10),
            early_copies: EarlyCopies::default(),
            congestion: Algorithm::default(),
            receive_window: 2 << 20,
        }
    }
}

impl Settings {
    /// Of one connection.
    pub(super) fn connection(&self, peer: &PeerConfig) -> connection::Config {
        let mut config = connection::Config::new(peer.role);
        config.relay_only = peer.relay_only;
        config.servers = !peer.ice_servers.is_empty();
        config.lost = self.lost;
        config.disconnected = config.disconnected.min(self.lost);
        config.receive_window = self.receive_window;
        config.recovery.early_copies = self.early_copies;
        config.recovery.congestion = self.congestion;
        config
    }
}

/// Options. Each peer has those that the stack had when it was opened.
impl Engine {
    /// Whether `.local` names in the peer's candidates are looked up by multicast DNS. On unless set. This side
    /// never hides its own addresses behind such names.
    #[must_use]
    pub fn resolve_mdns(mut self, on: bool) -> Self {
        self.set().resolve_mdns = on;
        self
    }

    /// Silence of the peer until the connection counts as lost, 10 s unless set; 1 s at least, an hour at most. After
    /// 5 s, or this if it is less, it is [`Disconnected`](crate::peer::Phase::Disconnected). A peer that has nothing to
    /// say is asked five times in it, every 2 s at least. Each end has its own. More than 30 s is of no use where the
    /// peer answers no probe (RFC 7675).
    #[must_use]
    pub fn lost_after(mut self, silence: Duration) -> Self {
        self.set().lost = silence.clamp(Duration::from_secs(1), Duration::from_secs(3600));
        self
    }

    /// How long STUN and TURN servers may take, 5 s unless set; 100 ms at least, a minute at most. Candidates come as
    /// they are found; this is when the last of them must have come. A dial without trickle sends its offer sooner if
    /// they take too long for its time-out.
    #[must_use]
    pub fn gather_for(mut self, patience: Duration) -> Self {
        self.set().patience = patience.clamp(Duration::from_millis(100), Duration::from_secs(60));
        self
    }

    /// Which addresses of this machine are used, by the name of their interface. All unless set, but no link-local
    /// ones of IPv6, and at most 16.
    #[must_use]
    pub fn use_address(mut self, keep: impl Fn(&str, IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.set().interfaces.keep = Some(Arc::new(keep));
        self
    }

    /// Trusts these roots, one or more certificates in PEM, for `turns:` servers, and no others. The platform's
    /// unless set.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn trust_relays(mut self, pem: &[u8]) -> Result<Self, PeerError> {
        let trust = Trust::pem(pem);
        self.set().trust = trust.map_err(|cause| PeerError::because("cannot trust these roots", cause))?;
        Ok(self)
    }

    /// When packets are sent twice. [`EarlyCopies::Adaptive`] unless set.
    #[must_use]
    pub fn early_copies(mut self, when: EarlyCopies) -> Self {
        self.set().early_copies = when;
        self
    }

    /// How much may be under way. [`Algorithm::Model`] unless set.
    #[must_use]
    pub fn congestion(mut self, congestion: Algorithm) -> Self {
        self.set().congestion = congestion;
        self
    }

    /// Bytes that a peer may send ahead of a reader who does not read: 2 MiB unless set, 128 KiB at least. It
    /// bounds the memory of a connection, and its speed at one window for each round trip.
    #[must_use]
    pub fn receive_window(mut self, bytes: usize) -> Self {
        self.set().receive_window = bytes.clamp(128 << 10, 1 << 30);
        self
    }

    /// Bytes of the kernel's buffers of each socket, receiving and sending: 4 MiB each unless set. The system may
    /// give less (on Linux `net.core.rmem_max`), which costs speed in bulk.
    #[must_use]
    pub fn socket_buffers(mut self, receive: usize, send: usize) -> Self {
        self.set().buffers = Buffers { receive, send };
        self
    }

    fn set(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}
