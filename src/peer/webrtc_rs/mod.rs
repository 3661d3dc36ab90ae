//! The `webrtc` crate, 0.17, as a [`Stack`]. The only room that knows it.
//!
//! Floor 1, beside the other stacks. It uses the crate's protocols (ICE, DTLS, SCTP), not its
//! `RTCPeerConnection`: put together here they take half the tasks, give every message that has arrived
//! before a close, and let us set what the crate's outer layer keeps to itself: the interval of checks, the
//! retransmission of handshakes, deadlines, windows. The SDP is ours too (`peer::session`).
//!
//! ```text
//!  Connection ──Start──▶ driver (one task) ─ ICE agent ─ DTLS ─ Gate ─ SCTP ┬ stream 0 ─▶ Channel (polled)
//!    descriptions,          life and death of all of it                     └ stream 1 ── negotiation
//!    candidates
//! ```
//!
//! # Invariant
//! The driver owns whatever has to be closed, and closes it when `driver::Life::end` says so:
//! `close()`, the channel's drop, failure, or the peer's close. Nothing holds the driver but the runtime.
//!
//! What it cannot do: TURN over TCP or TLS, ICE restarts, retransmission time-outs below 1 s.

mod certificate;
mod channel;
mod connection;
mod driver;
mod gate;
mod ice;
mod negotiation;
mod remote;
#[cfg(test)]
mod tests;
mod timing;
mod window;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

use self::certificate::Identity;
use self::channel::Channel;
use self::connection::{Connection, Negotiated};
use self::driver::{Driver, Life};
use self::ice::Ice;
use self::remote::RemoteCandidates;
use super::{Candidate, Peer, PeerConfig, PeerError, PeerState, Stack};

/// Candidates that wait for their reader. A host with more addresses than this loses the rest.
const CANDIDATES: usize = 256;

/// The stack over the `webrtc` crate. One for the whole process is best: its peers share a certificate,
/// which takes milliseconds to make.
pub struct WebRtcRs {
    identity: Mutex<Option<Arc<Identity>>>,
    resolve_mdns: bool,
}

impl WebRtcRs {
    /// A stack with nothing opened yet.
    pub fn new() -> Self {
        Self { identity: Mutex::new(None), resolve_mdns: true }
    }

    /// Whether `.local` names in the peer's candidates are looked up by multicast DNS. On unless set; without
    /// multicast they are ignored. This side never hides its own addresses behind such names.
    #[must_use]
    pub fn resolve_mdns(mut self, on: bool) -> Self {
        self.resolve_mdns = on;
        self
    }

    /// The certificate of now: made on first use and when the last one is old.
    fn identity(&self) -> Result<Arc<Identity>, PeerError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        match &*identity {
            Some(identity) if !identity.is_old(Instant::now()) => Ok(Arc::clone(identity)),
            _ => Ok(Arc::clone(identity.insert(Arc::new(Identity::generate()?)))),
        }
    }
}

impl Default for WebRtcRs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WebRtcRs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebRtcRs").field("resolve_mdns", &self.resolve_mdns).finish_non_exhaustive()
    }
}

impl Stack for WebRtcRs {
    fn open(&self, config: PeerConfig) -> BoxFuture<'static, Result<Peer, PeerError>> {
        let identity = self.identity();
        let resolve_mdns = self.resolve_mdns;
        Box::pin(async move {
            // In a task, so that a drop of this future cannot leave an agent half made: the peer is
            // finished and dropped, which closes it.
            let opening = tokio::spawn(assemble(config, identity?, resolve_mdns));
            let parts = opening.await.map_err(|cause| PeerError::because("cannot open a peer", cause))??;
            Ok(Peer::new(Arc::new(parts.connection), parts.candidates, parts.state, Box::new(parts.channel)))
        })
    }
}

/// A [`Peer`] before its parts lose their types.
struct Parts {
    connection: Connection,
    candidates: mpsc::Receiver<Candidate>,
    state: watch::Receiver<PeerState>,
    channel: Channel,
}

async fn assemble(
    config: PeerConfig,
    identity: Arc<Identity>,
    resolve_mdns: bool,
) -> Result<Parts, PeerError> {
    let life = Life::default();
    let ice = Arc::new(Ice::open(&config).await?);
    let remote = Arc::new(RemoteCandidates::new(resolve_mdns));
    let (found, candidates) = mpsc::channel(CANDIDATES);
    let (start, started) = oneshot::channel();
    let (stream, opening) = oneshot::channel();
    let (state_in, state) = watch::channel(PeerState::default());
    let driver = Driver {
        role: config.role,
        ice: Arc::clone(&ice),
        remote: Arc::clone(&remote),
        identity: Arc::clone(&identity),
        life: life.clone(),
        state: state_in,
    };
    tokio::spawn(driver.run(started, stream));
    let channel = Channel::new(opening, life.clone());
    let negotiation = Mutex::new(Negotiated::new(found, start));
    let connection = Connection { role: config.role, ice, remote, identity, life, negotiation };
    Ok(Parts { connection, candidates, state, channel })
}
