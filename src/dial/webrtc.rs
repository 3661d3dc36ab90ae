//! The way over signaling: a peer connection to the robot, wherever it is.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::Code;

use super::attempt::{Attempt, Share};
use super::connect::{Reached, reach};
use super::error::Cause;
use super::plan::{Plan, WebRtcPlan};
use super::report::Stage;
use crate::peer::{IceServer, PeerConfig, Role};
use crate::signaling::caller::{self, CallConfig, CallError, CallErrorKind, CallProgress, CallStage};
use crate::signaling::{self, SignalingClient};
use crate::transport::webrtc::WebRtcTransport;

/// How long to wait, more or less, before calling again where too many call; doubles up to a second.
const CROWDED: Duration = Duration::from_millis(100);

/// Runs the attempt. What it opened is closed when it fails or is dropped.
pub(super) async fn attempt(
    attempt: &mut Attempt,
    plan: &Plan,
    webrtc: &WebRtcPlan,
) -> Result<WebRtcTransport, Cause> {
    let reached = reach(attempt, Stage::Signaling, Share::Half, &webrtc.signaling, plan.identity.as_ref());
    let Reached { transport: server, is_local } = reached.await?;
    let client = signaling::client(server);

    let until = attempt.deadline();
    let asked = caller::ice_config(client.clone(), &plan.name, until);
    let config = attempt.stage(Stage::IceConfig, Share::Half, asked).await?;

    let mut peer_config = PeerConfig::new(Role::Caller);
    peer_config.ice_servers = ice_servers(webrtc, config.servers, is_local);
    peer_config.relay_only = webrtc.relay_only;
    if webrtc.relay_only && !peer_config.ice_servers.iter().any(IceServer::is_turn) {
        // Without a relay there is no candidate, and the call could but wait for its deadline.
        return Err(Cause::NoRelay);
    }
    let mut pause = CROWDED;
    loop {
        let called = call(attempt, plan, webrtc, client.clone(), peer_config.clone()).await;
        // The robot has as many callers as signaling lets wait: a little later there is room.
        if !called.as_ref().is_err_and(is_crowded) || Instant::now() + 2 * pause >= until {
            return called;
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (2 * pause).min(Duration::from_secs(1));
    }
}

/// One offer, up to an open data channel.
async fn call(
    attempt: &mut Attempt,
    plan: &Plan,
    webrtc: &WebRtcPlan,
    client: SignalingClient,
    peer_config: PeerConfig,
) -> Result<WebRtcTransport, Cause> {
    let until = attempt.deadline();
    let peer = attempt.stage(Stage::Offer, Share::All, webrtc.stack.open(peer_config)).await?;
    let mut call = CallConfig::new(plan.name.clone(), until);
    call.trickle = webrtc.trickle;
    let progress = |passed| {
        // The stage that begins when this one is passed.
        match passed {
            CallProgress::Offered => attempt.enter(Stage::Answer),
            CallProgress::Answered => attempt.enter(Stage::Connectivity),
            CallProgress::Connected => attempt.enter(Stage::DataChannel),
            _ => {}
        }
    };
    let called = caller::call(client, peer, call, progress).await;
    match called {
        Ok(peer) => {
            attempt.on_path(peer.state.borrow().path.clone());
            Ok(WebRtcTransport::new(peer, webrtc.limits))
        }
        Err(error) => {
            attempt.enter_failed(stage_of(&error));
            Err(error.into())
        }
    }
}

/// Whether signaling says that too many call this robot. Contract: goutils
/// `rpc/wrtc_call_queue_mongodb.go`.
fn is_crowded(cause: &Cause) -> bool {
    let Cause::Call(CallError { kind: CallErrorKind::Status(status), .. }) = cause else { return false };
    status.code() == Code::Unavailable && status.message().contains("too many connection attempts")
}

/// The servers to gather from: the user's or the default ones, and those that signaling hands out.
fn ice_servers(webrtc: &WebRtcPlan, from_signaling: Vec<IceServer>, is_local: bool) -> Vec<IceServer> {
    let own = match &webrtc.ice_servers {
        Some(own) => own.clone(),
        // Signaling on this machine means a robot on this machine: nothing is learnt from the internet.
        None if is_local => Vec::new(),
        None => webrtc.default_ice_servers.clone(),
    };
    let mut servers = own;
    if webrtc.filter.no_relays {
        servers.retain(|server| !server.is_turn());
    }
    servers.extend(webrtc.filter.apply(from_signaling));
    servers
}

fn stage_of(error: &CallError) -> Stage {
    match error.stage {
        CallStage::IceConfig => Stage::IceConfig,
        CallStage::Offer => Stage::Offer,
        CallStage::Answer => Stage::Answer,
        CallStage::Connectivity => Stage::Connectivity,
        CallStage::DataChannel => Stage::DataChannel,
    }
}
