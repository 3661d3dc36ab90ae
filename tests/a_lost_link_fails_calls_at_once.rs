//! When the link goes, every call knows at once, and so does everybody who asks.
//!
//! In memory: "at once" is measured against the moment of the loss.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::probe::{ProbeRequest, ProbeResponse};
use common::{Lab, Probe, tokened, until_running};
use farlink::peer::memory::MemoryStack;
use farlink::proto::robot::SendSessionHeartbeatRequest;
use farlink::proto::robot::robot_service_client::RobotServiceClient;
use farlink::transport::CloseReason;
use farlink::transport::webrtc::Limits;
use farlink::{Channel, Event};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

const AT_ONCE: Duration = Duration::from_millis(100);

struct Scene {
    stack: MemoryStack,
    lab: Lab,
    channel: Channel,
}

impl Scene {
    async fn new() -> Self {
        Self::within(Limits::default()).await
    }

    async fn within(limits: Limits) -> Self {
        let stack = MemoryStack::new();
        let mut lab = Lab::start(Arc::new(stack.clone())).await;
        lab.options = lab.options.clone().limits(limits);
        let channel = lab.over_webrtc().await;
        Self { stack, lab, channel }
    }

    fn cut(&self) {
        let [link] = &self.stack.links()[..] else { panic!("not one link") };
        link.cut();
    }
}

fn slow() -> ProbeRequest {
    ProbeRequest { delay_ms: 3_600_000, ..Default::default() }
}

type Ended = JoinHandle<(Result<ProbeResponse, Status>, Instant)>;

/// One call of each kind, all waiting for the robot.
async fn in_flight(channel: &Channel, test: &str) -> Vec<Ended> {
    let token = |kind: &str| format!("{test}: {kind}");
    let mut calls: Vec<Ended> = vec![];
    let mut client = Probe::client(channel.clone());
    let request = tokened(&token("unary"), slow());
    calls.push(tokio::spawn(async move {
        (client.unary(request).await.map(tonic::Response::into_inner), Instant::now())
    }));

    let mut client = Probe::client(channel.clone());
    let (send, messages) = mpsc::channel(1);
    let request = tokened(&token("collect"), ReceiverStream::new(messages));
    calls.push(tokio::spawn(async move {
        let result = client.collect(request).await.map(tonic::Response::into_inner);
        let ended = Instant::now();
        timeout(AT_ONCE, send.closed()).await.expect("the request is still held");
        (result, ended)
    }));

    let mut client = Probe::client(channel.clone());
    let request =
        tokened(&token("spread"), ProbeRequest { count: 3, delay_ms: 3_600_000, ..Default::default() });
    let mut replies = client.spread(request).await.unwrap().into_inner();
    calls.push(tokio::spawn(async move {
        let result = replies.message().await.map(|reply| reply.expect("no status"));
        (result, Instant::now())
    }));

    let mut client = Probe::client(channel.clone());
    let (send, messages) = mpsc::channel(1);
    let request = tokened(&token("both"), ReceiverStream::new(messages));
    send.send(ProbeRequest::default()).await.unwrap();
    let mut replies = client.both(request).await.unwrap().into_inner();
    replies.message().await.unwrap().unwrap();
    calls.push(tokio::spawn(async move {
        let result = replies.message().await.map(|reply| reply.expect("no status"));
        let ended = Instant::now();
        drop(send);
        (result, ended)
    }));
    for kind in ["unary", "collect", "spread", "both"] {
        until_running(&token(kind), true).await;
    }
    calls
}

/// All calls end UNAVAILABLE at once, later ones too, and everybody is told why.
async fn lost_at(
    channel: &Channel,
    calls: Vec<Ended>,
    lost: Instant,
    is_right: impl Fn(&CloseReason) -> bool,
) {
    for call in calls {
        let (result, ended) = timeout(Duration::from_secs(60), call).await.expect("hangs").unwrap();
        let status = result.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(ended.duration_since(lost) < AT_ONCE, "{:?}", ended.duration_since(lost));
    }
    let reason = timeout(AT_ONCE, channel.closed()).await.expect("still open");
    assert!(is_right(&reason), "{reason:?}");
    let mut client = Probe::client(channel.clone());
    let later = timeout(AT_ONCE, client.unary(ProbeRequest::default())).await.expect("hangs");
    let status = later.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(status.message(), reason.status().message());
    assert_eq!(channel.stats().await.open_streams, 0);
    // Who comes late is told the same.
    let mut events = channel.events();
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Closed { reason }) if is_right(&reason)));
}

/// Everything that happens until the end.
fn told(channel: &Channel) -> JoinHandle<Vec<Event>> {
    let mut events = channel.events();
    tokio::spawn(async move {
        let mut told = vec![];
        while let Some(event) = events.next().await {
            told.push(event);
        }
        told
    })
}

async fn handlers_end(test: &str) {
    for kind in ["unary", "collect", "spread", "both"] {
        until_running(&format!("{test}: {kind}"), false).await;
    }
}

#[tokio::test]
async fn a_cut_link_fails_all_calls_at_once() {
    let scene = Scene::new().await;
    let told = told(&scene.channel);
    let calls = in_flight(&scene.channel, "cut").await;
    let lost = Instant::now();
    scene.cut();
    lost_at(
        &scene.channel,
        calls,
        lost,
        |reason| matches!(reason, CloseReason::Lost(how) if how.contains("cut")),
    )
    .await;
    handlers_end("cut").await;
    let told = told.await.unwrap();
    assert!(matches!(told[0], Event::Connected { .. }), "{told:?}");
    assert!(matches!(told.last(), Some(Event::Closed { reason: CloseReason::Lost(_) })), "{told:?}");
}

#[tokio::test]
async fn a_robot_that_is_dropped_fails_all_calls_at_once() {
    let Scene { lab, channel, stack: _stack } = Scene::new().await;
    let calls = in_flight(&channel, "dropped").await;
    let lost = Instant::now();
    drop(lab);
    lost_at(&channel, calls, lost, |reason| *reason == CloseReason::Peer).await;
    handlers_end("dropped").await;
}

#[tokio::test]
async fn a_local_close_fails_all_calls_at_once_on_all_clones() {
    let scene = Scene::new().await;
    let calls = in_flight(&scene.channel, "local").await;
    let mut robots = scene.lab.robot.connections();
    assert_eq!(*robots.borrow(), 1);
    let lost = Instant::now();
    scene.channel.clone().close();
    scene.channel.close();
    lost_at(&scene.channel, calls, lost, |reason| *reason == CloseReason::Local).await;
    handlers_end("local").await;
    // The robot lets go.
    timeout(common::LONG, robots.wait_for(|open| *open == 0)).await.unwrap().unwrap();
    assert_eq!(scene.stack.peers(), 0);
}

#[tokio::test]
async fn the_last_clone_closes_the_connection_and_an_open_call_keeps_it() {
    let scene = Scene::new().await;
    let mut robots = scene.lab.robot.connections();
    let (send, messages) = mpsc::channel(1);
    send.send(ProbeRequest::default()).await.unwrap();
    let closed = scene.channel.closed();
    let mut client = Probe::client(scene.channel.clone());
    let mut replies = client.both(ReceiverStream::new(messages)).await.unwrap().into_inner();
    drop((client, scene.channel));
    replies.message().await.unwrap().unwrap();
    send.send(ProbeRequest::default()).await.unwrap();
    replies.message().await.unwrap().unwrap();
    assert_eq!(*robots.borrow(), 1);
    drop(replies);
    assert_eq!(timeout(common::LONG, closed).await.unwrap(), CloseReason::Local);
    timeout(common::LONG, robots.wait_for(|open| *open == 0)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_full_connection_lets_callers_wait_and_go_on() {
    let mut limits = Limits::default();
    limits.max_streams = 2;
    let scene = Scene::within(limits).await;
    let held: Vec<_> = (0..2)
        .map(|number| {
            let mut client = Probe::client(scene.channel.clone());
            let request = tokened(&format!("held {number}"), slow());
            tokio::spawn(async move { client.unary(request).await })
        })
        .collect();
    until_running("held 0", true).await;
    until_running("held 1", true).await;
    let mut client = Probe::client(scene.channel.clone());
    let waits =
        tokio::spawn(async move { client.unary(ProbeRequest { size: 3, ..Default::default() }).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waits.is_finished());
    assert_eq!(scene.channel.stats().await.streams_opened, 2);
    held[0].abort();
    assert_eq!(timeout(common::LONG, waits).await.unwrap().unwrap().unwrap().into_inner().total, 3);

    // And with all taken again, a loss frees who waits.
    let mut client = Probe::client(scene.channel.clone());
    let taken = tokio::spawn(async move { client.unary(tokened("held 2", slow())).await });
    until_running("held 2", true).await;
    let mut client = Probe::client(scene.channel.clone());
    let waits = tokio::spawn(async move { client.unary(ProbeRequest::default()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waits.is_finished());
    let lost = Instant::now();
    scene.cut();
    assert_eq!(waits.await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(lost.elapsed() < AT_ONCE);
    assert_eq!(taken.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_full_connection_lets_heartbeats_pass_and_deadlines_count_while_waiting() {
    let mut limits = Limits::default();
    limits.max_streams = 1;
    let scene = Scene::within(limits).await;
    let mut client = Probe::client(scene.channel.clone());
    let held = tokio::spawn(async move { client.unary(tokened("holds all", slow())).await });
    until_running("holds all", true).await;

    let mut robot = RobotServiceClient::new(scene.channel.clone());
    let beat = robot.send_session_heartbeat(SendSessionHeartbeatRequest { id: String::new() });
    // The lab's robot has no sessions, but it has heard the beat.
    assert_eq!(timeout(common::LONG, beat).await.unwrap().unwrap_err().code(), Code::Unimplemented);

    let mut request = tonic::Request::new(ProbeRequest::default());
    request.set_timeout(Duration::from_millis(50));
    let mut client = Probe::client(scene.channel.clone());
    let waits = timeout(common::LONG, client.unary(request)).await.unwrap();
    assert_eq!(waits.unwrap_err().code(), Code::DeadlineExceeded);
    held.abort();
}

#[tokio::test]
async fn closing_a_direct_channel_fails_its_calls_at_once() {
    let scene = Scene::new().await;
    let channel = scene.lab.directly().await;
    let calls = in_flight(&channel, "direct close").await;
    let closed = Instant::now();
    channel.close();
    for call in calls {
        let (answer, at) = timeout(common::LONG, call).await.unwrap().unwrap();
        assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
        assert!(at - closed < AT_ONCE, "after {:?}", at - closed);
    }
    assert_eq!(channel.closed().await, CloseReason::Local);
}

#[tokio::test]
async fn the_last_clone_of_a_direct_channel_closes_it_from_this_side() {
    let scene = Scene::new().await;
    let channel = scene.lab.directly().await;
    Probe::client(channel.clone()).unary(ProbeRequest::default()).await.unwrap();
    let closed = channel.closed();
    drop(channel);
    assert_eq!(timeout(common::LONG, closed).await.unwrap(), CloseReason::Local);
}

#[tokio::test]
async fn metadata_that_no_server_takes_fails_its_call_alone_on_either_transport() {
    let scene = Scene::new().await;
    for channel in [scene.channel.clone(), scene.lab.directly().await] {
        let mut client = Probe::client(channel);
        for size in [70_000, 200_000, 1_000_000] {
            let mut request = tonic::Request::new(ProbeRequest::default());
            request.metadata_mut().insert("x-large", "x".repeat(size).parse().unwrap());
            let status = client.unary(request).await.unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        }
        client.unary(ProbeRequest::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_link_recovers_and_nothing_is_lost() {
    let scene = Scene::new().await;
    let mut events = scene.channel.events();
    assert!(matches!(events.next().await, Some(Event::Connected { .. })));
    let [link] = &scene.stack.links()[..] else { panic!("not one link") };
    link.change(|conditions| {
        conditions.disconnected_after = Duration::from_millis(50);
        conditions.failed_after = Duration::from_secs(3600);
        conditions.silent = true;
    });
    let mut client = Probe::client(scene.channel.clone());
    let call =
        tokio::spawn(async move { client.unary(ProbeRequest { size: 9, ..Default::default() }).await });
    let next = timeout(common::LONG, events.next()).await.unwrap();
    assert!(matches!(next, Some(Event::Silent)), "{next:?}");
    assert!(!call.is_finished());
    link.change(|conditions| conditions.silent = false);
    let next = timeout(common::LONG, events.next()).await.unwrap();
    assert!(matches!(next, Some(Event::Recovered)), "{next:?}");
    assert_eq!(timeout(common::LONG, call).await.unwrap().unwrap().unwrap().into_inner().total, 9);
}

#[tokio::test]
async fn a_link_that_stays_silent_is_lost() {
    let scene = Scene::new().await;
    let told = told(&scene.channel);
    let calls = in_flight(&scene.channel, "silent").await;
    let [link] = &scene.stack.links()[..] else { panic!("not one link") };
    link.change(|conditions| {
        conditions.disconnected_after = Duration::from_millis(100);
        conditions.failed_after = Duration::from_millis(400);
        conditions.silent = true;
    });
    let silent = Instant::now();
    scene.channel.closed().await;
    let lost = Instant::now();
    assert!(silent.elapsed() >= Duration::from_millis(400));
    lost_at(&scene.channel, calls, lost, |reason| matches!(reason, CloseReason::Lost(_))).await;
    let told = told.await.unwrap();
    let names: Vec<_> = told.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(matches!(told[1], Event::Silent), "{names:?}");
    assert!(matches!(told[2], Event::Closed { .. }), "{names:?}");
}
