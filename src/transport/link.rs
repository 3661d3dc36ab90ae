//! Where a transport stands, for everybody who wants to know.
//!
//! # Invariant
//! `closed` is set once, and nothing changes after it.

use tokio::sync::watch;

use super::CloseReason;
use crate::peer::Path;

/// Where a transport stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkState {
    /// Counts the changes; a gap tells a slow watcher how many it missed.
    pub change: u64,
    /// Nothing has come from the peer for a while. May recover.
    pub silent: bool,
    /// The pair of candidates in use. WebRTC only.
    pub path: Option<Path>,
    /// Set when the transport is gone.
    pub closed: Option<CloseReason>,
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Link {
    state: watch::Sender<LinkState>,
}

impl Link {
    pub(super) fn new() -> Self {
        Self::over(None)
    }

    /// A link whose path is known.
    pub(super) fn over(path: Option<Path>) -> Self {
        Self { state: watch::Sender::new(LinkState { path, ..LinkState::default() }) }
    }

    pub(super) fn watch(&self) -> LinkWatch {
        LinkWatch { state: self.state.subscribe() }
    }

    /// Records what the peer connection says now.
    pub(super) fn update(&self, silent: bool, path: Option<Path>) {
        self.state.send_if_modified(|state| {
            let changed = state.closed.is_none() && (state.silent != silent || state.path != path);
            if changed {
                *state = LinkState { change: state.change + 1, silent, path, closed: None };
            }
            changed
        });
    }

    /// Ends the transport. Returns false when it had ended before.
    pub(super) fn close(&self, reason: CloseReason) -> bool {
        self.state.send_if_modified(|state| {
            let first = state.closed.is_none();
            if first {
                state.change += 1;
                state.closed = Some(reason);
            }
            first
        })
    }

    pub(super) fn closed(&self) -> Option<CloseReason> {
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
