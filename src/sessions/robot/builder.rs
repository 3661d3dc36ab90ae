//! Puts a [`SessionManager`] together, and checks it before anything starts.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::manager::SessionManager;
use super::resources::Resources;
use crate::sessions::Monitored;

/// Windows that a robot may have, as in rdk.
const WINDOWS: RangeInclusive<Duration> = Duration::from_millis(30)..=Duration::from_secs(60);

/// How a robot's sessions are kept.
#[derive(Clone)]
#[must_use]
pub struct SessionManagerBuilder {
    pub(super) resources: Arc<dyn Resources>,
    pub(super) monitored: Monitored,
    pub(super) window: Duration,
    pub(super) stop_timeout: Duration,
    pub(super) max_sessions: usize,
    pub(super) max_per_owner: usize,
    pub(super) max_resources: usize,
    pub(super) sessionless: Sessionless,
    pub(super) on_disconnect: OnDisconnect,
    pub(super) heartbeats: Heartbeats,
    pub(super) listing: Listing,
    pub(super) version: Version,
}

/// What GetVersion says.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) platform: String,
    pub(super) version: String,
    pub(super) api_version: String,
}

impl SessionManagerBuilder {
    pub(super) fn new(resources: Arc<dyn Resources>) -> Self {
        Self {
            resources,
            monitored: Monitored::new(),
            window: Duration::from_secs(2),
            stop_timeout: Duration::from_secs(5),
            max_sessions: 1024,
            max_per_owner: 64,
            max_resources: 4096,
            sessionless: Sessionless::default(),
            on_disconnect: OnDisconnect::default(),
            heartbeats: Heartbeats::default(),
            listing: Listing::default(),
            version: Version {
                platform: "farlink".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                api_version: String::new(),
            },
        }
    }

    /// How long a session lives after a sign of life: from 30 ms to 1 minute. Default 2 s. Callers learn it when
    /// they start a session, and beat five times as often.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How long a resource may take to stop. Default 5 s. For as long, monitored calls that would move it wait.
    /// A stop that takes longer has failed, and is tried again; between tries calls get the resource.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }

    /// Live sessions at once. Default 1024. More are refused with RESOURCE_EXHAUSTED.
    pub fn max_sessions(mut self, max: usize) -> Self {
        self.max_sessions = max;
        self
    }

    /// Live sessions of one owner at once; callers who have proven nothing are counted by their host. Default
    /// 64. More are refused with RESOURCE_EXHAUSTED. It bounds the rate too: a session lives for at least a
    /// window.
    pub fn max_per_owner(mut self, max: usize) -> Self {
        self.max_per_owner = max;
        self
    }

    /// Resources that are held by sessions at once. Default 4096. Calls that would move more are refused with
    /// RESOURCE_EXHAUSTED.
    pub fn max_resources(mut self, max: usize) -> Self {
        self.max_resources = max;
        self
    }

    /// What a monitored call without a session does to what it moves. Default: as rdk.
    pub fn sessionless(mut self, sessionless: Sessionless) -> Self {
        self.sessionless = sessionless;
        self
    }

    /// What happens when a session's connection is lost. Default: nothing, its window goes on.
    pub fn on_disconnect(mut self, on_disconnect: OnDisconnect) -> Self {
        self.on_disconnect = on_disconnect;
        self
    }

    /// Which connections a session's heartbeats may come over. Default: any from the same host.
    pub fn heartbeats(mut self, heartbeats: Heartbeats) -> Self {
        self.heartbeats = heartbeats;
        self
    }

    /// How GetSessions and GetOperations show the ids of other callers' sessions. Default: masked.
    pub fn listing(mut self, listing: Listing) -> Self {
        self.listing = listing;
        self
    }

    /// Which methods move something. Default: [`Monitored::new`].
    pub fn monitored(mut self, monitored: Monitored) -> Self {
        self.monitored = monitored;
        self
    }

    /// What GetVersion says. Default: `farlink`, its version, and no API version.
    pub fn version(
        mut self,
        platform: impl Into<String>,
        version: impl Into<String>,
        api_version: impl Into<String>,
    ) -> Self {
        let (platform, version, api_version) = (platform.into(), version.into(), api_version.into());
        self.version = Version { platform, version, api_version };
        self
    }

    /// Starts it: one task. Must be called inside a tokio runtime, whose timers must be enabled.
    ///
    /// # Errors
    /// [`SessionConfigError`]: something makes no sense, or there is no runtime.
    pub fn build(self) -> Result<SessionManager, SessionConfigError> {
        if !WINDOWS.contains(&self.window) {
            return Err(SessionConfigError::Window(self.window));
        }
        if self.stop_timeout.is_zero() {
            return Err(SessionConfigError::StopTimeout);
        }
        if self.max_sessions == 0 || self.max_per_owner == 0 || self.max_resources == 0 {
            return Err(SessionConfigError::Limits);
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| SessionConfigError::NoRuntime)?;
        Ok(SessionManager::start(self, runtime))
    }
}

impl fmt::Debug for SessionManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManagerBuilder")
            .field("window", &self.window)
            .field("stop_timeout", &self.stop_timeout)
            .field("sessionless", &self.sessionless)
            .field("on_disconnect", &self.on_disconnect)
            .field("heartbeats", &self.heartbeats)
            .finish_non_exhaustive()
    }
}

/// What a monitored call without a session does to the resource that it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Sessionless {
    /// The resource is released from the session that held it, as in rdk: **nobody's silence stops it any
    /// more**. The session's owner is not the last who moved it, and a stop would hit the other's motion. Only
    /// if a call of that session is still moving it when the session ends, it is stopped all the same.
    #[default]
    ReleaseOwner,
    /// The session goes on holding it, and its end stops the resource, whoever moved it since without a
    /// session. Safer where SDKs without sessions only look on.
    KeepOwner,
}

/// What happens when the connection of a session is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnDisconnect {
    /// Nothing: the session has the rest of its window to be resumed.
    #[default]
    WaitForWindow,
    /// The session has this long to be resumed, if that is less than the rest of its window. Zero stops at once.
    /// A heartbeat over another connection gives it a whole window again.
    StopAfter(Duration),
}

/// Which connections a session's heartbeats may come over. Its calls always come over its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Heartbeats {
    /// Its own, and others of the same identity from the same host: the Python SDK beats over a second one.
    #[default]
    SameHost,
    /// Its own.
    SameConnection,
}

/// How a caller sees the ids of other callers' sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Listing {
    /// The first eight digits, then zeros. A caller's own are those under its identity; if it has proven none,
    /// those on its connection.
    #[default]
    Masked,
    /// Whole, as in rdk: **any caller can keep any session alive**, and use it where nobody proves who he is.
    Whole,
}

/// Why sessions cannot be kept that way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionConfigError {
    /// The window.
    #[error("a window of {0:?} is not possible: expected one between 30 ms and 1 minute")]
    Window(Duration),
    /// The time that stops have.
    #[error("a stop timeout of zero lets nothing stop: expected more")]
    StopTimeout,
    /// The limits.
    #[error("limits of zero let nobody in: expected at least 1")]
    Limits,
    /// There is no runtime.
    #[error("a session manager runs a task: build it inside a tokio runtime")]
    NoRuntime,
}
