//! Where a transport stands, for everybody who wants to know.
//!
//! # Invariant
//! `closed` is set once, and nothing changes after it.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;

use super::{CloseReason, TransportKind};
use crate::peer::Path;

/// Where a transport stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkState {
    /// Counts the changes; a gap tells a slow watcher how many it missed.
    pub change: u64,
    /// Which connection it is, or was last: 1 for the first, and one more for each that took its place. A
    /// transport that is one connection stays at 1.
    pub connection: u64,
    /// Nothing has come from the peer for a while. May recover.
    pub silent: bool,
    /// The pair of candidates in use. WebRTC only.
    pub path: Option<Path>,
    /// Set while there is no connection and another one is being made.
    pub reconnecting: Option<Reconnecting>,
    /// How the present connection came to be, if it is not the first.
    pub reconnected: Option<Reconnected>,
    /// Set when the transport is gone.
    pub closed: Option<CloseReason>,
}

impl Default for LinkState {
    fn default() -> Self {
        Self {
            change: 0,
            connection: 1,
            silent: false,
            path: None,
            reconnecting: None,
            reconnected: None,
            closed: None,
        }
    }
}

/// How far the making of another connection is. Prints why it has to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnecting {
    /// The attempt that is made now, or next: 1 for the first since the connection was lost.
    pub attempt: u32,
    /// Why the last connection was lost.
    pub lost: CloseReason,
    /// How the attempt before this one failed, in words.
    pub failure: Option<String>,
}

impl Reconnecting {
    /// For transports of your own.
    pub fn new(attempt: u32, lost: CloseReason, failure: Option<String>) -> Self {
        Self { attempt, lost, failure }
    }
}

impl fmt::Display for Reconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            None => write!(f, "{}", self.lost),
            Some(failure) => f.write_str(failure),
        }
    }
}

/// How a connection came to take the place of one that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnected {
    /// What carries it.
    pub transport: TransportKind,
    /// How many attempts it took, the last one included.
    pub attempts: u32,
    /// How long there was no connection.
    pub after: Duration,
}

impl Reconnected {
    /// For transports of your own.
    pub fn new(transport: TransportKind, attempts: u32, after: Duration) -> Self {
        Self { transport, attempts, after }
    }
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Link {
    state: watch::Sender<LinkState>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self::over(None)
    }

    /// A link whose path is known.
    pub(crate) fn over(path: Option<Path>) -> Self {
        Self { state: watch::Sender::new(LinkState { path, ..LinkState::default() }) }
    }

    pub(crate) fn watch(&self) -> LinkWatch {
        LinkWatch { state: self.state.subscribe() }
    }

    /// Records what the peer connection says now.
    pub(crate) fn update(&self, silent: bool, path: Option<Path>) {
        self.state.send_if_modified(|state| {
            let changed = state.closed.is_none() && (state.silent != silent || state.path != path);
            if changed {
                state.change += 1;
                (state.silent, state.path) = (silent, path);
            }
            changed
        });
    }

    /// There is no connection, and another one is being made.
    pub(crate) fn reconnecting(&self, reconnecting: Reconnecting) {
        self.state.send_if_modified(|state| {
            let open = state.closed.is_none();
            if open {
                state.change += 1;
                (state.silent, state.path, state.reconnecting) = (false, None, Some(reconnecting));
            }
            open
        });
    }

    /// Another connection has taken the place of the one that was lost.
    pub(crate) fn reconnected(&self, connection: u64, how: Reconnected, path: Option<Path>) {
        self.state.send_if_modified(|state| {
            let open = state.closed.is_none();
            if open {
                let change = state.change + 1;
                let fresh = LinkState { change, connection, path, ..LinkState::default() };
                *state = LinkState { reconnected: Some(how), ..fresh };
            }
            open
        });
    }

    /// Ends the transport. Returns false when it had ended before.
    pub(crate) fn close(&self, reason: CloseReason) -> bool {
        self.state.send_if_modified(|state| {
            let first = state.closed.is_none();
            if first {
                state.change += 1;
                (state.reconnecting, state.closed) = (None, Some(reason));
            }
            first
        })
    }

    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.state.borrow().closed.clone()
    }
}

/// Follows where a transport stands. Does not keep it alive.
#[derive(Debug, Clone)]
pub struct LinkWatch {
    state: watch::Receiver<LinkState>,
}

impl LinkWatch {
    /// A watch that a [`Transport`](super::Transport) of your own gives out. The transport ends when
    /// `closed` is set, or when the sender is dropped.
    pub fn new(state: watch::Receiver<LinkState>) -> Self {
        Self { state }
    }

    /// Where it stands now.
    pub fn state(&self) -> LinkState {
        self.state.borrow().clone()
    }

    /// Whether the transport is gone.
    pub fn is_closed(&self) -> bool {
        self.state.borrow().closed.is_some() || self.state.has_changed().is_err()
    }

    /// Waits for the next change; `None` when there will be no more. Cancel safe. Changes that come faster
    /// than they are read are seen as one.
    pub async fn changed(&mut self) -> Option<LinkState> {
        self.state.changed().await.ok()?;
        Some(self.state.borrow_and_update().clone())
    }

    /// Waits until the transport is gone and says why. Cancel safe.
    pub async fn closed(&mut self) -> CloseReason {
        let ended = self.state.wait_for(|state| state.closed.is_some()).await;
        ended.ok().and_then(|state| state.closed.clone()).unwrap_or(CloseReason::Local)
    }
}
