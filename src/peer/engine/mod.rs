//! Our own WebRTC stack, as a [`Stack`]: one task for a peer, microseconds for a message, and no second lost with
//! a packet.
//!
//! Floor 1, beside the other stacks. ICE and DTLS come from sans-I/O crates (`is`, `dimpl`); SCTP, what is lost
//! and how much may be under way are ours, as are STUN and TURN. All of it is pure but the sockets and the driver.
//!
//! ```text
//!  Channel, Negotiator ─▶ core (one lock) ◀─ driver (one task)
//!                          ├ connection: ICE ─ DTLS ─ SCTP ─ channels
//!                          │   sctp ─▶ recovery ─▶ congestion
//!                          ├ gatherer: STUN, TURN
//!                          └ outlet: sockets
//! ```
//!
//! # Invariant
//! Whoever holds a handle works under the lock and sends in his own task; the driver reads, keeps the clock, and
//! ends when the connection does. Dropping the channel closes everything.

mod candidates;
mod certificate;
mod channel;
mod congestion;
mod connection;
mod core;
mod driver;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gathering;
mod negotiator;
mod outlet;
mod recovery;
mod sctp;
mod settings;
#[cfg(test)]
mod simulator;
mod sockets;

use std::fmt;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use self::certificate::{Identities, Identity};
use self::channel::Channel;
pub use self::congestion::Algorithm;
use self::connection::Connection;
use self::core::{Core, Shared};
use self::driver::Driver;
use self::negotiator::Negotiator;
pub use self::recovery::EarlyCopies;
use self::settings::Settings;
use super::{Peer, PeerConfig, PeerError, PeerState, Stack};

/// Candidates that wait for their reader. A host with more addresses than this loses the rest.
const CANDIDATES: usize = 256;

/// Our own stack, with options. One for the whole process is best: its peers share a certificate.
///
/// The certificate is made ahead, on a thread of its own, so that a peer that is opened later need not wait for it. The
/// first of a process takes some 40 ms, in which AWS-LC seeds its random numbers: make the engine early where that counts.
#[derive(Clone)]
pub struct Engine {
    settings: Arc<Settings>,
    identities: Arc<Identities>,
}

impl Engine {
    /// A stack with nothing opened yet.
    pub fn new() -> Self {
        let identities = Arc::<Identities>::default();
        let ahead = Arc::clone(&identities);
        // Without the thread, the first peer makes it.
        let _ = std::thread::Builder::new().name("farlink-identity".to_owned()).spawn(move || {
            let _ = ahead.renew(std::time::Instant::now());
        });
        Self { settings: Arc::default(), identities }
    }

    fn assemble(settings: Arc<Settings>, identity: Arc<Identity>, config: PeerConfig) -> Peer {
        let (found, candidates) = mpsc::channel(CANDIDATES);
        let (changed, state) = watch::channel(PeerState::default());
        let connection = Connection::new(settings.connection(&config), identity, core::now());
        let shared = Arc::new(Shared::new(Core::new(connection, found, changed)));
        tokio::spawn(Driver::new(Arc::clone(&shared), Arc::clone(&settings)));
        let channel = Channel::new(Arc::clone(&shared));
        let PeerConfig { ice_servers: servers, relay_only, .. } = config;
        let negotiator = Negotiator { shared, settings, servers, relay_only };
        Peer::new(Arc::new(negotiator), candidates, state, Box::new(channel))
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Stack for Engine {
    fn open(&self, config: PeerConfig) -> BoxFuture<'static, Result<Peer, PeerError>> {
        let Self { settings, identities } = self.clone();
        Box::pin(async move {
            let identity = match identities.current() {
                Some(identity) if !identities.is_due(std::time::Instant::now()) => identity,
                _ => {
                    const CONTEXT: &str = "cannot make a certificate";
                    let made =
                        tokio::task::spawn_blocking(move || identities.renew(std::time::Instant::now()));
                    let made = made.await.map_err(|cause| PeerError::because(CONTEXT, cause))?;
                    made.map_err(|cause| PeerError::because(CONTEXT, cause))?
                }
            };
            Ok(Self::assemble(settings, identity, config))
        })
    }
}
