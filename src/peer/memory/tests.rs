//! What the controls of the memory stack promise, under a paused clock.

use std::future::poll_fn;

use super::*;
use crate::peer::{Phase, Role};

async fn pair(stack: &MemoryStack) -> (Peer, Peer) {
    let caller = stack.open(PeerConfig::new(Role::Caller)).await.unwrap();
    let answerer = stack.open(PeerConfig::new(Role::Answerer)).await.unwrap();
    let offer = caller.connection.create_offer().await.unwrap();
    let answer = answerer.connection.accept_offer(offer).await.unwrap();
    caller.connection.set_answer(answer).await.unwrap();
    (caller, answerer)
}

async fn open(stack: &MemoryStack) -> (Peer, Peer) {
    let (mut caller, mut answerer) = pair(stack).await;
    poll_fn(|cx| caller.channel.poll_open(cx)).await.unwrap();
    poll_fn(|cx| answerer.channel.poll_open(cx)).await.unwrap();
    (caller, answerer)
}

async fn recv(peer: &mut Peer) -> Option<bytes::Bytes> {
    poll_fn(|cx| peer.channel.poll_recv(cx)).await
}

async fn phase(peer: &mut Peer, phase: Phase) {
    peer.state.wait_for(|state| state.phase == phase).await.unwrap();
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[tokio::test(start_paused = true)]
async fn delay_and_rate_add_up_and_are_buffered_meanwhile() {
    let stack = MemoryStack::new();
    stack.change(|now| {
        now.delay = seconds(0.1);
        now.bytes_per_second = Some(1_000);
    });
    let (mut caller, mut answerer) = open(&stack).await;
    let start = Instant::now();
    for _ in 0..2 {
        caller.channel.send(vec![0; 500].into()).unwrap();
    }
    assert_eq!(caller.channel.buffered(), 1_000);
    recv(&mut answerer).await.unwrap();
    assert!(start.elapsed() >= seconds(0.6) && start.elapsed() < seconds(0.61));
    assert_eq!(caller.channel.buffered(), 500);
    poll_fn(|cx| caller.channel.poll_flush(cx)).await.unwrap();
    assert!(start.elapsed() >= seconds(1.1) && start.elapsed() < seconds(1.11));
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_after_a_while_and_heals() {
    let stack = MemoryStack::new();
    let (mut caller, mut answerer) = open(&stack).await;
    let start = Instant::now();
    stack.change(|now| now.silent = true);
    caller.channel.send("late".into()).unwrap();
    phase(&mut caller, Phase::Disconnected).await;
    phase(&mut answerer, Phase::Disconnected).await;
    assert!(start.elapsed() >= seconds(5.0) && start.elapsed() < seconds(5.1));
    assert_eq!(caller.channel.buffered(), 4);
    stack.change(|now| now.silent = false);
    assert_eq!(recv(&mut answerer).await.unwrap(), "late");
    phase(&mut caller, Phase::Connected).await;
}

#[tokio::test(start_paused = true)]
async fn silence_that_lasts_fails_both_sides() {
    let stack = MemoryStack::new();
    let (mut caller, mut answerer) = open(&stack).await;
    let start = Instant::now();
    stack.links()[0].change(|now| now.silent = true);
    assert_eq!(recv(&mut answerer).await, None);
    assert!(start.elapsed() >= seconds(10.0) && start.elapsed() < seconds(10.1));
    assert_eq!(recv(&mut caller).await, None);
    assert!(matches!(caller.state.borrow().phase, Phase::Failed(_)));
    assert!(caller.channel.send("x".into()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_known_at_once() {
    let stack = MemoryStack::new();
    let (mut caller, mut answerer) = open(&stack).await;
    let start = Instant::now();
    stack.links()[0].cut();
    assert_eq!(recv(&mut caller).await, None);
    assert_eq!(recv(&mut answerer).await, None);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn refused_and_unheard_connections_fail_with_a_reason() {
    let stack = MemoryStack::new();
    stack.change(|now| now.refuse = true);
    let (mut caller, _answerer) = pair(&stack).await;
    assert!(poll_fn(|cx| caller.channel.poll_open(cx)).await.is_err());
    assert!(matches!(&caller.state.borrow().phase, Phase::Failed(why) if why.contains("refused")));

    let stack = MemoryStack::new();
    stack.change(|now| now.gathering_time = seconds(1.0));
    let start = Instant::now();
    let (mut caller, _answerer) = pair(&stack).await;
    assert!(poll_fn(|cx| caller.channel.poll_open(cx)).await.is_err());
    assert!(start.elapsed() >= seconds(10.0), "candidates were never passed on");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_slows_the_sender_at_its_window() {
    let stack = MemoryStack::new();
    stack.change(|now| now.window = 1_000);
    let (mut caller, mut answerer) = open(&stack).await;
    for _ in 0..5 {
        caller.channel.send(vec![0; 400].into()).unwrap();
    }
    assert_eq!(caller.channel.buffered(), 3 * 400);
    recv(&mut answerer).await.unwrap();
    assert_eq!(caller.channel.buffered(), 2 * 400);
    for _ in 0..4 {
        recv(&mut answerer).await.unwrap();
    }
    assert_eq!(caller.channel.buffered(), 0);
}

#[tokio::test(start_paused = true)]
async fn candidates_come_when_gathering_is_done() {
    let stack = MemoryStack::new();
    stack.change(|now| {
        now.gathering_time = seconds(2.0);
        now.connect_time = seconds(3.0);
    });
    let start = Instant::now();
    let (mut caller, answerer) = pair(&stack).await;
    while let Some(candidate) = caller.candidates.recv().await {
        answerer.connection.add_remote_candidate(candidate).await.unwrap();
    }
    assert!(start.elapsed() >= seconds(2.0) && start.elapsed() < seconds(2.1));
    poll_fn(|cx| caller.channel.poll_open(cx)).await.unwrap();
    assert!(start.elapsed() >= seconds(5.0) && start.elapsed() < seconds(5.1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_dropped_peers() {
    let stack = MemoryStack::new();
    let (caller, mut answerer) = open(&stack).await;
    let link = stack.links().remove(0);
    assert_eq!(stack.peers(), 2);
    drop(caller);
    phase(&mut answerer, Phase::ClosedByPeer).await;
    drop(answerer);
    assert_eq!((stack.peers(), stack.links().len()), (0, 0));
    link.cut();
    drop(stack);
    link.cut();
}
