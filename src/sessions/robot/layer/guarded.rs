//! One monitored call.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, Response, Uri};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;
use tower_service::Service;

use super::end::SessionEnd;
use super::first::{First, first_message};
use super::held::Held;
use super::request::GuardedRequest;
use super::response::GuardedBody;
use crate::sessions::robot::calls::{Admitted, Response as _};
use crate::sessions::robot::core::Core;
use crate::sessions::robot::event::{NotAssociated, SessionEvent, SessionId};
use crate::sessions::robot::monitor::Monitor;
use crate::sessions::robot::operations::{Listed, method_of};
use crate::sessions::robot::owner::Caller;
use crate::sessions::robot::refusal::{self, Sid};
use crate::sessions::robot::stats::count;
use crate::transport::Arrived;
use crate::wire::session::MONITORED_RESOURCE_KEY;

/// Runs a monitored call: checks its session, takes what it moves, and drops it when its session ends.
pub(super) async fn guarded<S, B>(
    core: Arc<Core>,
    service: S,
    request: Request<Body>,
    listed: Listed,
) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let guard = match admit(&core, &request, listed) {
        Ok(guard) => guard,
        Err(status) => return status.into_http(),
    };
    let monitor = Monitor::new(Arc::clone(&core), guard.sid().cloned(), guard.number());
    let end = guard.end();
    let handled = handled(&core, service, request, monitor.clone(), end.clone());
    // Its handler is gone before its guard is.
    let response = match &end {
        None => handled.await,
        Some(end) => tokio::select! {
            biased;
            () = end.ended.cancelled() => Err(end.status()),
            response = handled => response,
        },
    };
    let response = response.and_then(|response| hold(&core, response, guard, end));
    let mut response = response.unwrap_or_else(Status::into_http);
    for resource in monitor.told() {
        if let Ok(resource) = HeaderValue::try_from(resource) {
            response.headers_mut().append(HeaderName::from_static(MONITORED_RESOURCE_KEY), resource);
        }
    }
    response
}

/// Checks the session by the headers alone.
fn admit(core: &Arc<Core>, request: &Request<Body>, listed: Listed) -> Result<CallGuard, Status> {
    let sid = Sid::of_call(request.headers()).inspect_err(|_| count(&core.counters.refused))?;
    let caller = Caller::of(request.extensions());
    let now = Instant::now();
    let arrived = request.extensions().get::<Arrived>().map_or(now, |arrived| arrived.0);
    let session = core.admit(sid.as_ref(), &caller, arrived)?.zip(sid);
    if let Some((_, sid)) = &session {
        listed.under(sid.id);
    }
    Ok(CallGuard { core: Arc::clone(core), session, uri: request.uri().clone(), began: now, _listed: listed })
}

/// Takes what the call moves, and calls the handler.
async fn handled<S, B>(
    core: &Core,
    service: S,
    request: Request<Body>,
    monitor: Monitor,
    end: Option<SessionEnd>,
) -> Result<Response<B>, Status>
where
    S: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible>,
{
    let (mut parts, body) = request.into_parts();
    let (first, body) = first_message(body).await;
    let path = parts.uri.path();
    let moved = match first {
        First::Missing => Vec::new(),
        // It may move anything, and its session's end would stop nothing.
        First::Compressed if end.is_some() => return Err(refusal::compressed()),
        First::Compressed => not_associated(core, path, NotAssociated::Compressed),
        First::Message(message) => match core.resources.moved_by(path, &message) {
            moved if moved.is_empty() => not_associated(core, path, NotAssociated::NoResource),
            moved => moved,
        },
    };
    for resource in moved {
        monitor.moving(&resource).await?;
    }
    parts.extensions.insert(monitor);
    let body = match end {
        Some(end) => {
            end.begin();
            Body::new(GuardedRequest::new(body, end))
        }
        None => body,
    };
    match service.oneshot(Request::from_parts(parts, body)).await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

/// Puts the response's body where the end of the session gets at it, if that has not come yet.
fn hold<B>(
    core: &Core,
    response: Response<B>,
    guard: CallGuard,
    end: Option<SessionEnd>,
) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = response.into_parts();
    let (number, held) = (guard.number(), Held::new(Body::new(body), guard));
    if let Some(end) = &end {
        let weak = Arc::downgrade(&held);
        if !core.call_answers(end.sid.id, number, weak) {
            held.cut();
            return Err(end.status());
        }
    }
    Ok(Response::from_parts(parts, Body::new(GuardedBody::new(held, end))))
}

fn not_associated(core: &Core, path: &str, why: NotAssociated) -> Vec<String> {
    count(&core.counters.not_associated);
    core.emit(SessionEvent::NotAssociated { method: method_of(path), why });
    Vec::new()
}

/// A monitored call in flight; when dropped, its handler is gone.
pub(super) struct CallGuard {
    core: Arc<Core>,
    session: Option<(Admitted, Sid)>,
    uri: Uri,
    began: Instant,
    _listed: Listed,
}

impl CallGuard {
    /// The end of the call's session. `None` if it has none.
    fn end(&self) -> Option<SessionEnd> {
        let (admitted, sid) = self.session.as_ref()?;
        let (ended, closing) = (admitted.ended.clone(), self.core.closing.clone());
        Some(SessionEnd { ended, closing, sid: sid.clone(), begun: Arc::default() })
    }

    fn sid(&self) -> Option<&Sid> {
        self.session.as_ref().map(|(_, sid)| sid)
    }

    fn number(&self) -> u64 {
        self.session.as_ref().map_or(0, |(admitted, _)| admitted.number)
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if let Some((admitted, sid)) = &self.session {
            self.core.call_ended(sid.id, admitted.number);
            admitted.gone.cancel();
        }
        let after = self.began.elapsed();
        if after >= self.core.window {
            let session = self.sid().map(|sid| SessionId::new(sid.id));
            let method = method_of(self.uri.path());
            self.core.emit(SessionEvent::LongCallEnded { session, method, after });
        }
    }
}
