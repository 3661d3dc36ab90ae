//! farlink's stacks, through the seam.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use farlink::peer::{
    Candidate, DataChannel, Description, Peer, PeerConfig, PeerConnection, PeerState, Role, Stack,
};
use serde_json::json;
use tokio::sync::watch;

use crate::pipe::{Pipe, Side, Signal};

/// Bytes that wait to be sent or acknowledged; what the RPC layer above uses is in the same range.
const LIMIT: usize = 1 << 20;

#[derive(Clone)]
pub struct Named {
    pub name: &'static str,
    pub stack: Arc<dyn Stack>,
}

/// Each of them.
pub fn stacks() -> Vec<Named> {
    let engine = farlink::peer::engine::Engine::new().resolve_mdns(false);
    let webrtc = farlink::peer::webrtc_rs::WebRtcRs::new().resolve_mdns(false);
    vec![
        Named { name: "engine", stack: Arc::new(engine) },
        Named { name: "webrtc-rs", stack: Arc::new(webrtc) },
    ]
}

/// What the layer above keeps of a peer.
pub struct FarlinkPipe {
    channel: Box<dyn DataChannel>,
    _connection: Arc<dyn PeerConnection>,
    _state: watch::Receiver<PeerState>,
}

pub async fn connect(stack: &Arc<dyn Stack>, side: Side, signal: Signal) -> FarlinkPipe {
    let Signal { to, mut from } = signal;
    let role = if side == Side::Caller { Role::Caller } else { Role::Answerer };
    let mut peer = stack.open(PeerConfig::new(role)).await.expect("a peer opens");
    let connection = Arc::clone(&peer.connection);
    if side == Side::Caller {
        let offer = connection.create_offer().await.expect("an offer");
        let _ = to.send(json!({"sdp": offer.sdp}));
    }
    let mut candidates = std::mem::replace(&mut peer.candidates, tokio::sync::mpsc::channel(1).1);
    let mut described = side == Side::Caller;
    let mut early = Vec::new();
    loop {
        tokio::select! {
            opened = poll_fn(|cx| peer.channel.poll_open(cx)) => {
                opened.unwrap_or_else(|_| panic!("not opened: {:?}", *peer.state.borrow()));
                break;
            }
            found = candidates.recv(), if !candidates.is_closed() || !candidates.is_empty() => {
                let Some(found) = found else { continue };
                let said = json!({"candidate": found.candidate, "mid": found.sdp_mid});
                if described { let _ = to.send(said); } else { early.push(said); }
            }
            said = async { match from.recv().await { Some(said) => said, None => pending().await } } => {
                if let Some(sdp) = said["sdp"].as_str() {
                    if side == Side::Caller {
                        connection.set_answer(Description::answer(sdp)).await.expect("a good answer");
                    } else {
                        let answer = connection.accept_offer(Description::offer(sdp)).await.expect("a good offer");
                        let _ = to.send(json!({"sdp": answer.sdp}));
                        described = true;
                        early.drain(..).for_each(|said| { let _ = to.send(said); });
                    }
                } else if let Some(text) = said["candidate"].as_str() {
                    let mid = said["mid"].as_str().map(str::to_owned);
                    let candidate = Candidate { candidate: text.to_owned(), sdp_mid: mid, ..Candidate::default() };
                    let _ = connection.add_remote_candidate(candidate).await;
                }
            }
        }
    }
    let Peer { connection, state, channel, .. } = peer;
    FarlinkPipe { channel, _connection: connection, _state: state }
}

impl Pipe for FarlinkPipe {
    fn poll_send(&mut self, cx: &mut Context<'_>, message: &mut Option<Bytes>) -> Poll<()> {
        ready!(self.channel.poll_ready(cx, LIMIT)).expect("an open channel");
        let message = message.take().expect("a message");
        // Whoever calls this goes on until something is pending, which lets it out.
        self.channel.send_more(message).expect("an open channel");
        Poll::Ready(())
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.channel.poll_recv(cx)
    }
}
