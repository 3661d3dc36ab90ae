//! A robot that goes away says so: to new callers at once, to old ones after their grace, and as a status.

#![cfg(all(feature = "engine", feature = "webrtc"))]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::probe::ProbeRequest;
use common::{LONG, Lab, Probe, tokened, until_running};
use farlink::Channel;
use farlink::peer::Stack;
use farlink::peer::engine::Engine;
use farlink::peer::memory::MemoryStack;
use farlink::peer::webrtc_rs::WebRtcRs;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const GRACE: Duration = Duration::from_millis(1500);

async fn lab(stack: Arc<dyn Stack>) -> Lab {
    Lab::with(stack, |robot| robot.grace(GRACE)).await
}

/// Each promise over each transport.
macro_rules! promises {
    ($($promise:ident)+) => {
        $(mod $promise {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn memory() {
                let lab = lab(Arc::new(MemoryStack::new())).await;
                let channel = lab.over_webrtc().await;
                timeout(LONG * 2, super::$promise(lab, channel, "memory")).await.expect("hangs");
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn engine() {
                let lab = lab(Arc::new(Engine::new().resolve_mdns(false))).await;
                let channel = lab.over_webrtc().await;
                timeout(LONG * 2, super::$promise(lab, channel, "engine")).await.expect("hangs");
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn webrtc_rs() {
                let lab = lab(Arc::new(WebRtcRs::new().resolve_mdns(false))).await;
                let channel = lab.over_webrtc().await;
                timeout(LONG * 2, super::$promise(lab, channel, "webrtc-rs")).await.expect("hangs");
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn direct() {
                let lab = lab(Arc::new(MemoryStack::new())).await;
                let channel = lab.directly().await;
                timeout(LONG * 2, super::$promise(lab, channel, "direct")).await.expect("hangs");
            }
        })+
    };
}

promises! {
    calls_in_flight_may_end_within_their_grace
    calls_that_go_on_end_with_a_status
    new_calls_are_unavailable_at_once
    an_idle_robot_is_gone_at_once
}

fn delayed(delay: Duration) -> ProbeRequest {
    ProbeRequest { delay_ms: delay.as_millis() as u32, size: 5, ..Default::default() }
}

async fn calls_in_flight_may_end_within_their_grace(lab: Lab, channel: Channel, name: &str) {
    let token = format!("within its grace over {name}");
    let mut client = Probe::client(channel.clone());
    let request = tokened(&token, delayed(GRACE / 3));
    let call = tokio::spawn(async move { client.unary(request).await });
    until_running(&token, true).await;
    let began = Instant::now();
    let shutdown = tokio::spawn(lab.robot.shutdown());
    // A new call is refused, and does those in flight no harm.
    while Probe::client(channel.clone()).unary(ProbeRequest::default()).await.is_ok() {}
    shutdown.await.unwrap();
    assert!(began.elapsed() < GRACE, "{:?}: nobody was left to wait for", began.elapsed());
    assert_eq!(call.await.unwrap().unwrap().into_inner().total, 5);
    timeout(LONG, channel.closed()).await.expect("still open");
}

async fn calls_that_go_on_end_with_a_status(lab: Lab, channel: Channel, name: &str) {
    let tokens = ["unary", "stream"].map(|kind| format!("{kind} beyond its grace over {name}"));
    let mut client = Probe::client(channel.clone());
    let request = tokened(&tokens[0], delayed(LONG * 10));
    let unary = tokio::spawn(async move { client.unary(request).await.map(drop) });

    let (send, messages) = mpsc::channel(1);
    send.send(ProbeRequest::default()).await.unwrap();
    let mut client = Probe::client(channel.clone());
    let replies = client.both(tokened(&tokens[1], ReceiverStream::new(messages))).await;
    let mut replies = replies.unwrap().into_inner();
    replies.message().await.unwrap().unwrap();
    let stream = tokio::spawn(async move { replies.message().await.map(drop) });
    for token in &tokens {
        until_running(token, true).await;
    }

    let began = Instant::now();
    lab.robot.shutdown().await;
    let elapsed = began.elapsed();
    assert!(elapsed >= GRACE && elapsed < GRACE * 3, "{elapsed:?}");
    for call in [unary, stream] {
        let status = timeout(LONG, call).await.expect("hangs").unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(status.message(), "the robot is shutting down", "not the robot's status");
    }
    for token in &tokens {
        until_running(token, false).await;
    }
    timeout(LONG, channel.closed()).await.expect("still open");
}

/// A stream that always has something to send has no pause in which to hear of the end.
async fn busy_streams_end_with_a_status(lab: Lab, channel: Channel) {
    let endless = ProbeRequest { size: 1000, count: u32::MAX, ..Default::default() };
    let mut replies = Probe::client(channel).spread(endless).await.unwrap().into_inner();
    replies.message().await.unwrap().unwrap();
    let reading = tokio::spawn(async move {
        loop {
            match replies.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the robot ended it"),
                Err(status) => break status,
            }
        }
    });
    lab.robot.shutdown().await;
    let status = timeout(LONG, reading).await.expect("hangs").unwrap();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(status.message(), "the robot is shutting down", "not the robot's status");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_direct_streams_end_with_a_status() {
    let lab = lab(Arc::new(MemoryStack::new())).await;
    let channel = lab.directly().await;
    busy_streams_end_with_a_status(lab, channel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_streams_over_a_data_channel_end_with_a_status() {
    let lab = lab(Arc::new(MemoryStack::new())).await;
    let channel = lab.over_webrtc().await;
    busy_streams_end_with_a_status(lab, channel).await;
}

async fn new_calls_are_unavailable_at_once(lab: Lab, channel: Channel, name: &str) {
    let token = format!("before the shutdown over {name}");
    let mut client = Probe::client(channel.clone());
    let request = tokened(&token, delayed(LONG * 10));
    let old = tokio::spawn(async move { client.unary(request).await.map(drop) });
    until_running(&token, true).await;
    let shutdown = tokio::spawn(lab.robot.shutdown());
    // The robot may need a moment to hear of it, but not its grace.
    let began = Instant::now();
    let status = loop {
        match Probe::client(channel.clone()).unary(ProbeRequest::default()).await {
            Ok(_) => assert!(began.elapsed() < GRACE / 2, "still served"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(began.elapsed() < GRACE / 2, "{:?}", began.elapsed());
    assert!(!old.is_finished());
    old.abort();
    timeout(LONG, shutdown).await.expect("hangs").unwrap();
}

async fn an_idle_robot_is_gone_at_once(lab: Lab, channel: Channel, _: &str) {
    Probe::client(channel.clone()).unary(ProbeRequest::default()).await.unwrap();
    let options = lab.options.clone().timeout(Duration::from_secs(3));
    let began = Instant::now();
    lab.robot.shutdown().await;
    assert!(began.elapsed() < GRACE, "{:?}", began.elapsed());
    timeout(LONG, channel.closed()).await.expect("still open");
    // Nobody answers for it any more.
    let error = farlink::dial(common::ROBOT, options).await.unwrap_err();
    assert!(began.elapsed() < LONG, "{error}");
}
