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
use super::listener::ConnectionHandle;
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
    let handle = ConnectionHandle::new();
    let _gone = handle.guard();
    extensions.insert(CallInfo::webrtc(handle, path.as_ref(), signaling, uuid.clone()));
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, poll_fn};

    use http::{Request, Response};
    use tokio::time::timeout;
    use tonic::body::Body;
    use tower::ServiceExt as _;

    use super::*;
    use crate::peer::memory::MemoryStack;
    use crate::peer::{Peer, PeerConfig, Role, Stack};
    use crate::transport::webrtc::WebRtcTransport;

    const LONG: Duration = Duration::from_secs(600);

    async fn connected(stack: &MemoryStack) -> (Peer, Peer) {
        let mut caller = stack.open(PeerConfig::new(Role::Caller)).await.unwrap();
        let mut robot = stack.open(PeerConfig::new(Role::Answerer)).await.unwrap();
        let offer = caller.connection.create_offer().await.unwrap();
        let answer = robot.connection.accept_offer(offer).await.unwrap();
        caller.connection.set_answer(answer).await.unwrap();
        let open = async {
            loop {
                tokio::select! {
                    Some(candidate) = caller.candidates.recv() => {
                        robot.connection.add_remote_candidate(candidate).await.unwrap();
                    }
                    Some(candidate) = robot.candidates.recv() => {
                        caller.connection.add_remote_candidate(candidate).await.unwrap();
                    }
                    both = async { tokio::join!(
                        poll_fn(|cx| caller.channel.poll_open(cx)),
                        poll_fn(|cx| robot.channel.poll_open(cx)),
                    ) } => break both,
                }
            }
        };
        let (one, other) = open.await;
        assert!(one.is_ok() && other.is_ok());
        (caller, robot)
    }

    fn answered(peer: Peer) -> Answered {
        let (uuid, signaling) = ("u".to_owned(), "test".to_owned());
        Answered { peer, uuid, host_names: Vec::new(), signaling, permit: None }
    }

    /// Whoever is still queued at the stop is not kept waiting until the others are drained.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_in_the_queue_while_others_are_drained() {
        let stack = MemoryStack::new();
        let (running, mut started) = mpsc::channel(1);
        let hangs = tower::service_fn(move |_: Request<Body>| {
            let _ = running.try_send(());
            pending::<Result<Response<Body>, Infallible>>()
        });
        let stop = CancellationToken::new();
        let connections = Connections {
            service: RobotService::new(hangs),
            limits: Limits::for_robots(),
            methods: Methods::new(),
            grace: LONG,
            stop: stop.clone(),
            open: watch::channel(0).0,
        };
        let (sender, receiver) = mpsc::channel(4);
        let run = tokio::spawn(connections.run(receiver));
        let (caller, robot) = connected(&stack).await;
        sender.send(answered(robot)).await.unwrap();
        let transport = WebRtcTransport::new(caller, Limits::for_robots());
        let request = Request::post("/a.B/C").body(Body::empty()).unwrap();
        let _call = tokio::spawn(transport.oneshot(request));
        timeout(LONG / 10, started.recv()).await.expect("not served").unwrap();

        // Nothing runs between these two, so it is still in the queue.
        let (mut late, robot) = connected(&stack).await;
        stop.cancel();
        sender.try_send(answered(robot)).unwrap();
        timeout(LONG / 10, sender.closed()).await.expect("open until the drain is over");
        let gone = late.state.wait_for(|state| state.phase.is_final());
        timeout(LONG / 10, gone).await.expect("left in the queue").unwrap();
        assert!(!run.is_finished(), "the call is not over");
    }
}
