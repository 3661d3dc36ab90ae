//! Two peers of one stack, and what tests do with them.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farlink::peer::{Candidate, ChannelClosed, DataChannel, Peer, PeerConfig, PeerState, Phase, Role, Stack};

/// What no test should need. A stack that hangs fails here.
pub const PATIENCE: Duration = Duration::from_secs(15);

pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(PATIENCE, what, future).await
}

/// For what may take longer: a peer in Python on a busy machine.
pub async fn within<T>(patience: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(patience, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {patience:?}"),
    }
}

pub async fn two(stack: &Arc<dyn Stack>) -> (Peer, Peer) {
    let caller = stack.open(PeerConfig::new(Role::Caller)).await.unwrap();
    let answerer = stack.open(PeerConfig::new(Role::Answerer)).await.unwrap();
    (caller, answerer)
}

/// Negotiates with candidates as they come.
pub async fn negotiate(caller: &mut Peer, answerer: &mut Peer) {
    let offer = caller.connection.create_offer().await.unwrap();
    let answer = answerer.connection.accept_offer(offer).await.unwrap();
    caller.connection.set_answer(answer).await.unwrap();
    let there = (replace(&mut caller.candidates), Arc::clone(&answerer.connection));
    let back = (replace(&mut answerer.candidates), Arc::clone(&caller.connection));
    for (mut candidates, to) in [there, back] {
        tokio::spawn(async move {
            while let Some(candidate) = candidates.recv().await {
                let _ = to.add_remote_candidate(candidate).await;
            }
        });
    }
}

/// Negotiates with all candidates in the descriptions.
pub async fn negotiate_at_once(caller: &mut Peer, answerer: &mut Peer) {
    caller.connection.create_offer().await.unwrap();
    gathered(caller).await;
    let offer = caller.connection.local_description().await.unwrap();
    answerer.connection.accept_offer(offer).await.unwrap();
    gathered(answerer).await;
    let answer = answerer.connection.local_description().await.unwrap();
    caller.connection.set_answer(answer).await.unwrap();
}

/// All candidates of a peer.
pub async fn gathered(peer: &mut Peer) -> Vec<Candidate> {
    let mut found = Vec::new();
    patiently("gathering", async {
        while let Some(candidate) = peer.candidates.recv().await {
            found.push(candidate);
        }
    })
    .await;
    found
}

fn replace(
    candidates: &mut tokio::sync::mpsc::Receiver<Candidate>,
) -> tokio::sync::mpsc::Receiver<Candidate> {
    std::mem::replace(candidates, tokio::sync::mpsc::channel(1).1)
}

pub async fn connected(stack: &Arc<dyn Stack>) -> (Peer, Peer) {
    let (mut caller, mut answerer) = two(stack).await;
    negotiate(&mut caller, &mut answerer).await;
    opened(&mut caller, &mut answerer).await;
    (caller, answerer)
}

pub async fn opened(caller: &mut Peer, answerer: &mut Peer) {
    let both = async { tokio::join!(open(&mut caller.channel), open(&mut answerer.channel)) };
    let (one, other) = patiently("opening", both).await;
    if one.is_err() || other.is_err() {
        panic!("not opened: {:?}, {:?}", *caller.state.borrow(), *answerer.state.borrow());
    }
}

pub type Channel = Box<dyn DataChannel>;

pub async fn open(channel: &mut Channel) -> Result<(), ChannelClosed> {
    poll_fn(|cx| channel.poll_open(cx)).await
}

pub async fn send(channel: &mut Channel, message: impl Into<Bytes>) -> Result<(), ChannelClosed> {
    send_below(channel, 1 << 20, message).await
}

pub async fn send_below(
    channel: &mut Channel,
    limit: usize,
    message: impl Into<Bytes>,
) -> Result<(), ChannelClosed> {
    poll_fn(|cx| channel.poll_ready(cx, limit)).await?;
    channel.send(message.into())
}

pub async fn flush(channel: &mut Channel) -> Result<(), ChannelClosed> {
    poll_fn(|cx| channel.poll_flush(cx)).await
}

pub async fn recv(channel: &mut Channel) -> Option<Bytes> {
    patiently("a message", poll_fn(|cx| channel.poll_recv(cx))).await
}

pub async fn until(peer: &mut Peer, is_so: impl FnMut(&PeerState) -> bool) -> PeerState {
    patiently("a state", peer.state.wait_for(is_so)).await.unwrap().clone()
}

pub async fn until_phase(peer: &mut Peer, phase: Phase) {
    until(peer, |state| state.phase == phase).await;
}
