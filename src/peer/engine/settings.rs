//! What a user may choose of the engine.

use std::time::Duration;

use super::gathering::Filter;
use super::sockets::{Buffers, Trust};

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
    pub(super) lost: Duration,
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
        }
    }
}
