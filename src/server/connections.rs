//! The data channels that are open: taken over from the answerers, served, and let go.
//!
//! How many there may be is the answerers' permits' business: who has no room is told in signaling, not after
//! the channel is open.

use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::call_info::CallInfo;
use crate::signaling::answerer::Answered;
use crate::transport::webrtc::{Limits, Methods, RobotConnection, RobotService};

/// Serves every caller that the answerers send, until told to stop.
pub(super) struct Connections {
    pub(super) service: RobotService,
    pub(super) limits: Limits,
    pub(super) methods: Methods,
    pub(super) grace: Duration,
    pub(super) stop: CancellationToken,
    pub(super) open: watch::Sender<usize>,
}

impl Connections {
    /// Returns when all connections are drained after the stop.
    pub(super) async fn run(self, mut accepted: mpsc::Receiver<Answered>) {
        let this = Arc::new(self);
        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                () = this.stop.cancelled() => break,
                Some(ended) = serving.join_next() => {
                    if let Err(error) = ended {
                        tracing::info!(%error, "a connection's task failed");
                    }
                    this.open.send_replace(serving.len());
                }
                answered = accepted.recv() => {
                    let Some(answered) = answered else { break };
                    serving.spawn(serve(Arc::clone(&this), answered));
                    this.open.send_replace(serving.len());
                }
            }
        }
        // Nobody takes these over any more: they are told now, not when the others are drained.
        accepted.close();
        while let Ok(answered) = accepted.try_recv() {
            answered.peer.connection.close();
        }
        drop(accepted);
        this.stop.cancelled().await;
        while serving.join_next().await.is_some() {}
        this.open.send_replace(0);
    }
}

async fn serve(connections: Arc<Connections>, answered: Answered) {
    // The permit is declared before the connection, so that it outlives it.
    let Answered { peer, uuid, signaling, permit: _permit, .. } = answered;
    let path = peer.state.borrow().path.clone();
    tracing::info!(call = %uuid, %signaling, path = ?path.as_ref().map(ToString::to_string), "caller connected");
    let mut extensions = Extensions::new();
    extensions.insert(CallInfo::webrtc(path.as_ref(), signaling, uuid.clone()));
    let connection = RobotConnection::with_methods(
        peer,
        connections.service.clone(),
        extensions,
        connections.limits,
        connections.methods.clone(),
    );
    let mut watch = connection.watch();
    tokio::select! {
        reason = watch.closed() => tracing::info!(call = %uuid, %reason, "caller gone"),
        () = connections.stop.cancelled() => connection.drain(connections.grace).await,
    }
}
