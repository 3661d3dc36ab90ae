//! The way over signaling: a peer connection to the robot, wherever it is.

use super::attempt::{Attempt, Share};
use super::connect::{Reached, reach};
use super::error::Cause;
use super::plan::{Plan, WebRtcPlan};
use super::report::Stage;
use crate::peer::{IceServer, PeerConfig, Role};
use crate::signaling;
use crate::signaling::caller::{self, CallConfig, CallError, CallProgress, CallStage};
use crate::transport::webrtc::WebRtcTransport;

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
