//! Who is calling, and over what.

use tonic::service::Routes;
use tower::util::MapRequestLayer;

use super::listener::{ConnectionHandle, ConnectionInfo};
use crate::peer::Path;
use crate::transport::TransportKind;

/// Who is calling, and over what; an extension of every request that a [`Server`](super::Server) serves.
///
/// ```ignore
/// let info = request.extensions().get::<farlink::server::CallInfo>();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallInfo {
    /// Which connection it is, and when it ends.
    pub connection: ConnectionHandle,
    /// What carries the call.
    pub transport: TransportKind,
    /// The caller's address as this side sees it, `ip:port`. Over WebRTC it is that of the path at the time
    /// when the channel opened.
    pub remote: Option<String>,
    /// This side's address, `ip:port`.
    pub local: Option<String>,
    /// Whether the way is encrypted. Always true over WebRTC.
    pub encrypted: bool,
    /// WebRTC only: the signaling server that brought the caller, as it was named to the builder, or
    /// `local` for the listener's own.
    pub signaling: Option<String>,
    /// WebRTC only: the call's id in signaling; the caller's logs have the same.
    pub call: Option<String>,
}

impl CallInfo {
    /// A call over this connection, of which nothing else is known yet. For those who serve connections of
    /// their own; a [`Server`](super::Server) says who is calling by itself.
    pub fn new(connection: ConnectionHandle, transport: TransportKind) -> Self {
        let encrypted = transport == TransportKind::WebRtc;
        let (remote, local, signaling, call) = (None, None, None, None);
        Self { connection, transport, remote, local, encrypted, signaling, call }
    }

    pub(super) fn webrtc(
        connection: ConnectionHandle,
        path: Option<&Path>,
        signaling: String,
        call: String,
    ) -> Self {
        Self {
            connection,
            transport: TransportKind::WebRtc,
            remote: path.map(|path| path.remote_address.clone()),
            local: path.map(|path| path.local_address.clone()),
            encrypted: true,
            signaling: Some(signaling),
            call: Some(call),
        }
    }

    fn direct(connection: &ConnectionInfo) -> Self {
        Self {
            connection: connection.connection.clone(),
            transport: TransportKind::Direct,
            remote: Some(connection.remote.to_string()),
            local: Some(connection.local.to_string()),
            encrypted: connection.tls,
            signaling: None,
            call: None,
        }
    }
}

/// Who the caller has proven to be. farlink's listener and data channels authenticate nobody: a layer of yours
/// that does puts this into the request's extensions, for the layers and services inside of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity(pub String);

/// Routes whose requests say who is calling directly.
pub(super) fn with_direct_info(routes: Routes) -> Routes {
    let layer = MapRequestLayer::new(|mut request: http::Request<_>| {
        let info = request.extensions().get::<ConnectionInfo>().map(CallInfo::direct);
        if let Some(info) = info {
            request.extensions_mut().insert(info);
        }
        request
    });
    routes.into_axum_router().layer(layer).into()
}
