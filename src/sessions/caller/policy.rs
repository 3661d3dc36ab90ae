//! What a user may say about sessions. Plain values; nothing here does anything.

use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::sessions::monitored::{Monitored, Monitoring};
use crate::wire::session::EXEMPT_METADATA_METHODS;

/// Which calls carry the session's id, and start a session if there is none.
///
/// Never those of [`EXEMPT_METADATA_METHODS`], and never a call that brings a `viam-sid` of its own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Policy {
    /// Those whose descriptor says that they move something. A method that no descriptor tells about carries
    /// none; it is counted in [`SessionStats::unknown_methods`](super::SessionStats::unknown_methods).
    Descriptor(Monitored),
    /// All but the exempt ones: the SDKs' rule until 2025. Starts sessions earlier, with any call.
    Exempt,
    /// All but the two that sessions are made of, whatever the list says.
    All,
    /// None: there are no sessions.
    Disabled,
}

impl Default for Policy {
    fn default() -> Self {
        Self::Descriptor(Monitored::new())
    }
}

impl Policy {
    /// What to do with a call of this method. Does not allocate.
    pub(super) fn decide(&self, path: &str) -> Monitoring {
        let carries = |carries| if carries { Monitoring::Monitored } else { Monitoring::Unmonitored };
        match self {
            Self::Descriptor(table) => match table.lookup(path) {
                Monitoring::Monitored => carries(!is_exempt(path)),
                other => other,
            },
            Self::Exempt => carries(!is_exempt(path)),
            Self::All => carries(!EXEMPT_METADATA_METHODS[7..].contains(&path)),
            Self::Disabled => Monitoring::Unmonitored,
        }
    }
}

fn is_exempt(path: &str) -> bool {
    EXEMPT_METADATA_METHODS.contains(&path)
}

/// What becomes of a monitored call whose session turns out to be gone.
///
/// The robot has stopped what the session moved. Either way
/// [`SessionEvent::Replaced`](super::SessionEvent::Replaced) tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnExpiry {
    /// It is made once more, in a new session. Motion goes on after the robot's safety stop without the
    /// user's say. The call did not run before: robots check the session first.
    #[default]
    Retry,
    /// It fails with [`SessionError::Expired`](super::SessionError::Expired), and the next call begins a new
    /// session. For those who must know that the robot has stopped before they move it again.
    Surface,
}

/// What becomes of a monitored call when no session can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnStartFailure {
    /// It fails with the start's error, as with Viam's SDKs.
    #[default]
    FailCall,
    /// It is made without a session: nothing stops the robot when this caller dies.
    /// [`SessionEvent::Degraded`](super::SessionEvent::Degraded) tells of it.
    Degrade,
}

/// How sessions are kept.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Which calls carry the session's id. Default: those that move something, by farlink's own descriptors.
    pub policy: Policy,
    /// Default [`OnExpiry::Retry`].
    pub on_expiry: OnExpiry,
    /// Default [`OnStartFailure::FailCall`].
    pub on_start_failure: OnStartFailure,
    /// How long the start of a session may take once the connection is up, however long its first caller
    /// waits. Default `None`: 5 s.
    pub start_timeout: Option<Duration>,
    /// Where heartbeats run. Default `None`: the runtime that the client is made on, or if on none, the one that the
    /// first monitored call is made on. When it is gone there are no sessions any more.
    ///
    /// Heartbeats need a runtime that is not blocked, and so does the connection below them: on a
    /// current-thread runtime whose tasks block, dial and keep both on a runtime of their own.
    pub runtime: Option<Handle>,
}

impl SessionOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`policy`](Self#structfield.policy).
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets [`on_expiry`](Self#structfield.on_expiry).
    #[must_use]
    pub fn on_expiry(mut self, on_expiry: OnExpiry) -> Self {
        self.on_expiry = on_expiry;
        self
    }

    /// Sets [`on_start_failure`](Self#structfield.on_start_failure).
    #[must_use]
    pub fn on_start_failure(mut self, on_start_failure: OnStartFailure) -> Self {
        self.on_start_failure = on_start_failure;
        self
    }

    /// Sets [`start_timeout`](Self#structfield.start_timeout).
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// Sets [`runtime`](Self#structfield.runtime).
    #[must_use]
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }
}

impl fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionOptions")
            .field("policy", &self.policy)
            .field("on_expiry", &self.on_expiry)
            .field("on_start_failure", &self.on_start_failure)
            .field("start_timeout", &self.start_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::session::{SEND_SESSION_HEARTBEAT, START_SESSION};

    #[test]
    fn the_sessions_own_methods_never_carry_one() {
        for policy in [Policy::default(), Policy::Exempt, Policy::All, Policy::Disabled] {
            for path in [START_SESSION, SEND_SESSION_HEARTBEAT] {
                assert_ne!(policy.decide(path), Monitoring::Monitored, "{policy:?} {path}");
            }
        }
    }

    #[test]
    fn the_deny_list_exempts_nine_methods_and_no_other() {
        for path in EXEMPT_METADATA_METHODS {
            assert_eq!(Policy::Exempt.decide(path), Monitoring::Unmonitored, "{path}");
        }
        assert_eq!(Policy::Exempt.decide("/a.B/C"), Monitoring::Monitored);
        assert_eq!(Policy::All.decide(EXEMPT_METADATA_METHODS[5]), Monitoring::Monitored);
        assert_eq!(Policy::Disabled.decide("/a.B/C"), Monitoring::Unmonitored);
    }
}
