//! What a handler says that moves something on behalf of its caller.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;

use super::book::NotTaken;
use super::core::Core;
use super::refusal::{self, Sid};

/// Lets a handler say what it is about to move for its caller, beside what its request names: rdk's
/// SafetyMonitor. An extension of every monitored request.
///
/// ```no_run
/// # async fn handler(request: tonic::Request<()>) -> Result<(), tonic::Status> {
/// if let Some(monitor) = request.extensions().get::<farlink::sessions::robot::Monitor>() {
///     monitor.moving("rdk:component:base/wheels").await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Tasks
/// When the caller's session ends, the handler and the body of its response are dropped, and its request fails. A
/// task that the handler leaves behind must take the drop of the response or the end of the request as the end of
/// its work and move nothing after it: sessions cannot see the task, and what it moves later is not stopped.
#[derive(Clone)]
pub struct Monitor {
    call: Arc<MonitoredCall>,
}

struct MonitoredCall {
    core: Arc<Core>,
    sid: Option<Sid>,
    number: u64,
    told: Mutex<Vec<String>>,
}

impl Monitor {
    pub(super) fn new(core: Arc<Core>, sid: Option<Sid>, number: u64) -> Self {
        Self { call: Arc::new(MonitoredCall { core, sid, number, told: Mutex::default() }) }
    }

    /// The caller is about to move this resource, `namespace:type:subtype/name`: from now on it is stopped when
    /// the caller's session ends. If the caller has no session, the builder's
    /// [`Sessionless`](super::Sessionless) says what happens. Waits while the resource is being stopped, about as
    /// long as the builder's `stop_timeout` at most. The caller is told in the response's headers, if the
    /// handler has not returned its response yet. Cancel safe.
    ///
    /// # Errors
    /// The status to end the call with: the session has expired, or too many resources are held. Move nothing
    /// then.
    pub async fn moving(&self, resource: &str) -> Result<(), Status> {
        let MonitoredCall { core, sid, number, told } = &*self.call;
        let taken = core.take(resource, sid.as_ref().map(|sid| (sid.id, *number))).await;
        taken.map_err(|why| match (why, sid) {
            (NotTaken::Expired, Some(sid)) => sid.expired(),
            (NotTaken::Full, _) => refusal::too_many_resources(),
            (NotTaken::Expired | NotTaken::Stopping, _) => refusal::shutting_down(),
        })?;
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.iter().any(|told| told == resource) {
            told.push(resource.to_owned());
        }
        Ok(())
    }

    /// What has been said so far.
    pub(super) fn told(&self) -> Vec<String> {
        self.call.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("session", &self.call.sid.is_some()).finish_non_exhaustive()
    }
}
