//! Peers in one process: a [`Stack`] for tests, of this library and of yours.
//!
//! Floor 1, beside the other stacks. Two peers of one [`MemoryStack`] find each other by what their
//! descriptions say, so signaling is tested for real: a description that does not arrive, or no candidate
//! of either side, means no connection. No socket, no cryptography; under tokio's paused clock no waiting.
//!
//! [`Conditions`] say how the network is, for the whole stack ([`MemoryStack::change`]) or for one
//! connection ([`MemoryLink::change`]), and may change at any time.
//!
//! # Invariant
//! No global state: dropping a peer takes it out of its stack, dropping the stack leaves nothing.
//! All rules are in `world`, which knows no task and no clock; the rest drives it.

mod connection;
#[cfg(test)]
mod tests;
mod world;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::connection::{MemoryChannel, MemoryConnection};
use self::world::World;
use super::{Peer, PeerConfig, PeerError, PeerState, Stack};

/// Candidates that wait for a reader; a peer of this stack has at most two.
const CANDIDATES: usize = 4;

/// A stack whose peers live in this process. Clones share their peers.
#[derive(Clone, Default)]
pub struct MemoryStack {
    world: Arc<Shared>,
}

impl MemoryStack {
    /// A stack under [default conditions](Conditions::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the conditions of all connections that are and will be.
    pub fn change(&self, change: impl Fn(&mut Conditions)) {
        self.world.with(|world| world.change_all(&change));
    }

    /// Its connections, in the order their peers were opened. Those closed by either side are left out.
    pub fn links(&self) -> Vec<MemoryLink> {
        let pairs = self.world.with(|world| world.pairs());
        pairs.into_iter().map(|ends| MemoryLink { world: Arc::downgrade(&self.world), ends }).collect()
    }

    /// How many peers are open. 0 once all were dropped.
    pub fn peers(&self) -> usize {
        self.world.with(|world| world.len())
    }
}

impl fmt::Debug for MemoryStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStack").field("peers", &self.peers()).finish()
    }
}

impl Stack for MemoryStack {
    fn open(&self, config: PeerConfig) -> BoxFuture<'static, Result<Peer, PeerError>> {
        let world = Arc::clone(&self.world);
        Box::pin(async move {
            let (candidates_in, candidates) = mpsc::channel(CANDIDATES);
            let (state_in, state) = watch::channel(PeerState::default());
            let id = world.with(|world| world.open(&config, candidates_in, state_in, Instant::now()));
            let channel = Box::new(MemoryChannel::new(Arc::clone(&world), id));
            tokio::spawn(connection::drive(Arc::downgrade(&world), id));
            Ok(Peer::new(Arc::new(MemoryConnection::new(world, id)), candidates, state, channel))
        })
    }
}

/// The state of the network, as one end meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conditions {
    /// How long a message travels, one way. 0 unless set: it arrives within `send`.
    pub delay: Duration,
    /// How fast messages leave. Unlimited unless set.
    pub bytes_per_second: Option<u64>,
    /// How many bytes an end takes in while nobody reads; then the sender's
    /// [`buffered`](super::DataChannel::buffered) grows. 1 MiB unless set. One message is always taken.
    pub window: usize,
    /// How long looking for candidates takes. 0 unless set: they are there with the description.
    pub gathering_time: Duration,
    /// How long connecting takes once both sides know of each other. 0 unless set.
    pub connect_time: Duration,
    /// Nothing arrives, in either direction, and nobody is told. What was sent waits until it is `false`
    /// again, which heals the link.
    pub silent: bool,
    /// How long silence lasts until the phase is `Disconnected`. 5 s unless set.
    pub disconnected_after: Duration,
    /// How long silence, or looking for a path, lasts until the phase is `Failed`. 10 s unless set.
    pub failed_after: Duration,
    /// New connections fail instead of connecting.
    pub refuse: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            bytes_per_second: None,
            window: 1 << 20,
            gathering_time: Duration::ZERO,
            connect_time: Duration::ZERO,
            silent: false,
            disconnected_after: Duration::from_secs(5),
            failed_after: Duration::from_secs(10),
            refuse: false,
        }
    }
}

/// One connection of a [`MemoryStack`], for changing its conditions. Keeps nothing alive.
#[derive(Debug, Clone)]
pub struct MemoryLink {
    world: Weak<Shared>,
    ends: [u64; 2],
}

impl MemoryLink {
    /// Changes the conditions of both ends.
    pub fn change(&self, change: impl Fn(&mut Conditions)) {
        self.with(|world, id| world.change(id, &change));
    }

    /// Cuts the link for good, and both ends know at once: their phase is `Failed`. What was on its way is
    /// lost.
    pub fn cut(&self) {
        self.with(|world, id| world.fail(id, "the link was cut"));
    }

    fn with(&self, act: impl Fn(&mut World, u64)) {
        if let Some(world) = self.world.upgrade() {
            world.with(|world| self.ends.iter().for_each(|id| act(world, *id)));
        }
    }
}

/// The world and its lock. Never held across an await; wakers are called after it is released.
#[derive(Default)]
struct Shared {
    world: Mutex<World>,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.lock();
        let result = act(&mut world);
        let wakers = world.take_wakers();
        drop(world);
        wakers.into_iter().for_each(std::task::Waker::wake);
        result
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}
