//! What signaling knows about ICE for a host: `OptionalWebRTCConfig`.
//!
//! Floor 3.

use tokio::time::{Instant, timeout_at};

use super::error::{CallError, CallErrorKind, CallStage};
use crate::peer::IceServer;
use crate::proto::webrtc::OptionalWebRtcConfigRequest;
use crate::signaling::{RPC_HOST, SignalingClient, host_value};

/// The most ICE servers that are taken from signaling.
const MAX_ICE_SERVERS: usize = 32;

/// What signaling hands out for a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceConfig {
    /// STUN and TURN servers, to be used beside one's own. Those without a URL that is understood are left
    /// out; at most 32.
    pub servers: Vec<IceServer>,
    /// Signaling asks not to trickle. goutils' caller ignores it, and so may you.
    pub disable_trickle: bool,
}

/// Asks signaling for the ICE servers of `host`. Dropping the future cancels the request.
///
/// # Errors
/// [`CallError`] with stage [`CallStage::IceConfig`]; [`CallErrorKind::NoSignaler`] when the server at this
/// address does no signaling for this host, which is a reason to connect directly.
pub async fn ice_config(
    mut client: SignalingClient,
    host: &str,
    deadline: Instant,
) -> Result<IceConfig, CallError> {
    let fail = |kind| CallError::new(CallStage::IceConfig, kind);
    let started = Instant::now();
    let mut request = tonic::Request::new(OptionalWebRtcConfigRequest {});
    let name = host_value(host).ok_or_else(|| fail(CallErrorKind::Host(host.to_owned())))?;
    request.metadata_mut().insert(RPC_HOST, name);
    let answer = timeout_at(deadline, client.optional_web_rtc_config(request)).await.map_err(|_| {
        fail(CallErrorKind::Timeout { stage: CallStage::IceConfig, elapsed: started.elapsed() })
    })?;
    let config = answer.map_err(|status| fail(CallErrorKind::from_status(status)))?.into_inner().config;
    let config = config.unwrap_or_default();
    Ok(IceConfig {
        servers: usable_servers(&config.additional_ice_servers),
        disable_trickle: config.disable_trickle,
    })
}

/// The servers that can be used, in order and in bounds.
pub(crate) fn usable_servers(wire: &[crate::proto::webrtc::IceServer]) -> Vec<IceServer> {
    let servers = wire.iter().take(MAX_ICE_SERVERS).map(IceServer::from_wire);
    servers.filter(|server| !server.urls.is_empty()).collect()
}
