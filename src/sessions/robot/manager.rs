//! The sessions of a robot: the handle that users hold.
//!
//! Floor 4. A clone is the same manager. What it does is in `core`, what it goes by in `book`.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::builder::SessionManagerBuilder;
use super::core::{self, Core};
use super::event::SessionEvents;
use super::layer::ProtectLayer;
use super::resources::Resources;
use super::service::RobotSessions;
use super::stats::SessionStats;
use crate::proto::robot::robot_service_server::RobotServiceServer;

/// Keeps the sessions of a robot, and stops what their callers moved when they go silent.
///
/// ```no_run
/// use std::sync::Arc;
/// use farlink::sessions::robot::{Resources, SessionManager};
/// # async fn example(
/// #     arm: Arc<dyn Resources>, routes: tonic::service::Routes,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = SessionManager::builder(arm).build()?;
/// let server = farlink::server::Server::builder()
///     .listen("127.0.0.1:8080".parse()?)
///     .insecure(true)
///     .start(sessions.protect(routes))
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// # When it ends
/// When all clones are gone, those inside of protected routes included, everything that a live session moved
/// last is stopped, as if all sessions had expired; so it is with [`close`](Self::close), which waits for it.
/// (rdk stops nothing.) A runtime that is shut down first runs no stops.
#[derive(Clone)]
pub struct SessionManager {
    alive: Arc<Alive>,
}

/// What a stop that takes all the time that it may has left to say so.
const SLACK: Duration = Duration::from_millis(100);

/// Closes the manager when its last clone is dropped.
struct Alive {
    core: Arc<Core>,
    closing: CancellationToken,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl SessionManager {
    /// Begins a manager of what can be moved.
    pub fn builder(resources: Arc<dyn Resources>) -> SessionManagerBuilder {
        SessionManagerBuilder::new(resources)
    }

    pub(super) fn start(builder: SessionManagerBuilder, runtime: Handle) -> Self {
        let core = Arc::new(Core::new(builder, runtime.clone()));
        runtime.spawn(core::keep(Arc::clone(&core)));
        let closing = core.closing.clone();
        Self { alive: Arc::new(Alive { core, closing }) }
    }

    /// These services, with sessions checked on every monitored call, and RobotService beside them. Layers that
    /// say who the caller is ([`Identity`](crate::server::Identity)) go around the result. For routes that have
    /// a RobotService of their own, see [`layer`](Self::layer).
    ///
    /// # Panics
    /// As [`Routes::add_service`] does: when the routes have a RobotService already.
    #[must_use]
    pub fn protect(&self, routes: Routes) -> Routes {
        let routes: Routes = routes.into_axum_router().layer(self.layer()).into();
        routes.add_service(RobotServiceServer::new(self.service()))
    }

    /// The layer that checks sessions on monitored calls, without RobotService.
    pub fn layer(&self) -> ProtectLayer {
        ProtectLayer::new(self.clone())
    }

    /// RobotService, as [`protect`](Self::protect) adds it: put it beside the layer, or call it from a service
    /// of your own.
    pub fn service(&self) -> RobotSessions {
        RobotSessions::new(self.clone())
    }

    /// What happens to sessions from now on.
    pub fn events(&self) -> SessionEvents {
        SessionEvents::new(self.core().events.subscribe())
    }

    /// What has happened so far.
    pub fn stats(&self) -> SessionStats {
        self.core().stats()
    }

    /// Ends all sessions: their calls are cancelled, and what they moved last is stopped. From now on nobody
    /// gets a session, and monitored calls get UNAVAILABLE. Returns when all stops are over, about the builder's
    /// `stop_timeout` later at the latest. A stop that fails is tried up to 5 times within it, and then not again.
    /// Idempotent; when the future is dropped, the stops go on. So do those that follow handlers that go on though
    /// they are cancelled, until they do not.
    pub fn close(&self) -> impl Future<Output = ()> + Send + 'static {
        let core = Arc::clone(self.core());
        core.closing.cancel();
        core.end_all();
        let patience = core.stop_timeout.saturating_add(SLACK);
        async move {
            // Elapsed: handlers go on.
            let _over = tokio::time::timeout(patience, core.stops.wait()).await;
        }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.alive.core
    }
}

impl fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManager").field("sessions", &self.stats().live).finish_non_exhaustive()
    }
}
