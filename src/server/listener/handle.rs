//! One connection, as those know it who are called over it: which one, and when it ends.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::{CancellationToken, DropGuard};

/// Names one connection of this process, and tells when it is gone. Equal if it is the same connection. Does
/// not keep it open.
#[derive(Clone)]
pub struct ConnectionHandle {
    id: u64,
    gone: CancellationToken,
}

impl ConnectionHandle {
    /// A connection that is open until its [`guard`](Self::guard) is dropped. For those who serve connections
    /// of their own and put a [`CallInfo`](crate::server::CallInfo) into the requests.
    #[expect(clippy::new_without_default, reason = "every one is another connection")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), gone: CancellationToken::new() }
    }

    /// Ends the connection, in the eyes of the handles, when dropped.
    pub fn guard(&self) -> ConnectionGuard {
        ConnectionGuard { _gone: self.gone.clone().drop_guard() }
    }

    /// Its number. No other connection of this process has it, before or after.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits until the connection is gone. Cancel safe.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.gone.clone().cancelled_owned()
    }
}

/// Says that a connection is gone when it is dropped.
#[derive(Debug)]
#[must_use = "the connection is gone when it is dropped"]
pub struct ConnectionGuard {
    _gone: DropGuard,
}

impl PartialEq for ConnectionHandle {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for ConnectionHandle {}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.id)
    }
}
