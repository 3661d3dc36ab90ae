//! RobotService: sessions, and what else clients ask every robot for.
//!
//! Floor 4. Contract: `viam.robot.v1`. What is not a matter of sessions or of names is UNIMPLEMENTED.

use std::fmt;

use futures_util::stream::Empty;
use http::Extensions;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::book::Session;
use super::builder::Listing;
use super::core::Core;
use super::event::SessionId;
use super::manager::SessionManager;
use super::owner::{Addresses, Caller, Transport};
use super::refusal::{self, Sid};
use super::stats::count;
use crate::proto::robot::robot_service_server::RobotService;
use crate::proto::robot::*;
use crate::server::CallInfo;
use crate::transport::Arrived;

/// RobotService as a [`SessionManager`] serves it: StartSession, SendSessionHeartbeat, GetSessions,
/// ResourceNames, GetOperations, GetVersion.
#[derive(Clone)]
pub struct RobotSessions {
    manager: SessionManager,
}

impl RobotSessions {
    pub(super) fn new(manager: SessionManager) -> Self {
        Self { manager }
    }

    fn core(&self) -> &std::sync::Arc<Core> {
        self.manager.core()
    }

    /// An id in a message.
    fn sid(&self, what: &str, id: &str) -> Result<Sid, Status> {
        let counted = || {
            count(&self.core().counters.refused);
            refusal::malformed(what)
        };
        Sid::parse(id).ok_or_else(counted)
    }

    /// A session's id as this caller may see it.
    fn shown(&self, id: uuid::Uuid, session: Option<&Session>, caller: &Caller) -> String {
        let own = session.is_some_and(|session| is_own(session, caller));
        let shown =
            if own || self.core().listing == Listing::Whole { id } else { SessionId::new(id).masked() };
        shown.to_string()
    }
}

impl fmt::Debug for RobotSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobotSessions").finish_non_exhaustive()
    }
}

/// Callers who have proven nothing are one owner: of those only the connection tells whose it is.
fn is_own(session: &Session, caller: &Caller) -> bool {
    let same = session.caller.owner == caller.owner;
    same && (caller.owner.identity.is_some() || session.caller.connection == caller.connection)
}

fn arrived(extensions: &Extensions) -> Instant {
    extensions.get::<Arrived>().map_or_else(Instant::now, |arrived| arrived.0)
}

fn not_served<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not served by this robot"))
}

#[tonic::async_trait]
impl RobotService for RobotSessions {
    async fn start_session(
        &self,
        request: Request<StartSessionRequest>,
    ) -> Result<Response<StartSessionResponse>, Status> {
        let (_, extensions, StartSessionRequest { resume }) = request.into_parts();
        let resume = match resume.as_str() {
            "" => None,
            id => Some(self.sid("resume", id)?),
        };
        let caller = Caller::of(&extensions);
        let info = extensions.get::<CallInfo>();
        let started = self.core().start(&caller, info, resume.as_ref(), arrived(&extensions))?;
        let window = prost_types::Duration::try_from(self.core().window);
        let response = StartSessionResponse { id: started.id.to_string(), heartbeat_window: window.ok() };
        Ok(Response::new(response))
    }

    async fn send_session_heartbeat(
        &self,
        request: Request<SendSessionHeartbeatRequest>,
    ) -> Result<Response<SendSessionHeartbeatResponse>, Status> {
        let sid = self.sid("id", &request.get_ref().id)?;
        let extensions = request.extensions();
        self.core().heartbeat(&sid, &Caller::of(extensions), arrived(extensions))?;
        Ok(Response::new(SendSessionHeartbeatResponse {}))
    }

    async fn get_sessions(
        &self,
        request: Request<GetSessionsRequest>,
    ) -> Result<Response<GetSessionsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let sessions = self.core().with_book(|book| {
            let listed = book.sessions().map(|(id, session)| crate::proto::robot::Session {
                id: self.shown(id, Some(session), &caller),
                peer_connection_info: Some(peer(session)),
            });
            listed.collect()
        });
        Ok(Response::new(GetSessionsResponse { sessions }))
    }

    async fn resource_names(
        &self,
        _: Request<ResourceNamesRequest>,
    ) -> Result<Response<ResourceNamesResponse>, Status> {
        Ok(Response::new(ResourceNamesResponse { resources: self.core().resources.names() }))
    }

    async fn get_operations(
        &self,
        request: Request<GetOperationsRequest>,
    ) -> Result<Response<GetOperationsResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let operations = self.core().operations.list().into_iter().map(|operation| {
            let session = operation
                .session
                .map(|id| self.core().with_book(|book| self.shown(id, book.session(id), &caller)));
            Operation {
                id: operation.id.to_string(),
                method: operation.method,
                arguments: None,
                started: Some(operation.started.into()),
                session_id: session,
            }
        });
        Ok(Response::new(GetOperationsResponse { operations: operations.collect() }))
    }

    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        let version = self.core().version.clone();
        Ok(Response::new(GetVersionResponse {
            platform: version.platform,
            version: version.version,
            api_version: version.api_version,
        }))
    }

    async fn resource_rpc_subtypes(
        &self,
        _: Request<ResourceRpcSubtypesRequest>,
    ) -> Result<Response<ResourceRpcSubtypesResponse>, Status> {
        not_served()
    }

    async fn cancel_operation(
        &self,
        _: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        not_served()
    }

    async fn block_for_operation(
        &self,
        _: Request<BlockForOperationRequest>,
    ) -> Result<Response<BlockForOperationResponse>, Status> {
        not_served()
    }

    async fn stop_all(&self, _: Request<StopAllRequest>) -> Result<Response<StopAllResponse>, Status> {
        not_served()
    }

    async fn get_cloud_metadata(
        &self,
        _: Request<GetCloudMetadataRequest>,
    ) -> Result<Response<GetCloudMetadataResponse>, Status> {
        not_served()
    }

    async fn list_tunnels(
        &self,
        _: Request<ListTunnelsRequest>,
    ) -> Result<Response<ListTunnelsResponse>, Status> {
        not_served()
    }

    type TunnelStream = Empty<Result<TunnelResponse, Status>>;

    async fn tunnel(
        &self,
        _: Request<Streaming<TunnelRequest>>,
    ) -> Result<Response<Self::TunnelStream>, Status> {
        not_served()
    }
}

fn peer(session: &Session) -> PeerConnectionInfo {
    let kind = match session.caller.owner.transport {
        Transport::WebRtc => PeerConnectionType::Webrtc,
        Transport::Direct => PeerConnectionType::Grpc,
        Transport::Unknown => PeerConnectionType::Unspecified,
    };
    let Addresses { remote, local } = session.addresses.clone();
    PeerConnectionInfo { r#type: kind.into(), remote_address: remote, local_address: local }
}
