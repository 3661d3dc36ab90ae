//! One data channel, many calls: who reads slowly, or sends more than the link carries, pays alone.

#![cfg(all(feature = "engine", feature = "webrtc"))]

mod common;
#[path = "common/peers.rs"]
mod peers;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::probe::{ProbeRequest, ProbeResponse};
use common::{LONG, Probe, is_running, tokened, until_running};
use farlink::Channel;
use farlink::peer::Stack;
use farlink::peer::engine::Engine;
use farlink::peer::memory::MemoryStack;
use farlink::peer::webrtc_rs::WebRtcRs;
use farlink::proto::robot::SendSessionHeartbeatRequest;
use farlink::proto::robot::robot_service_client::RobotServiceClient;
use farlink::transport::Urgent;
use farlink::transport::webrtc::{Limits, Overflow, RobotConnection, RobotService, WebRtcTransport};
use futures_util::StreamExt as _;
use http::Extensions;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

const KIB: u32 = 1024;

/// A caller and a robot, each within its limits.
struct Scene {
    channel: Channel,
    robot: RobotConnection,
}

impl Scene {
    async fn over(stack: Arc<dyn Stack>, caller: Limits, robot: Limits) -> Self {
        let (one, other) = peers::connected(&stack).await;
        let service = RobotService::new(Probe::routes().prepare());
        let robot = RobotConnection::new(other, service, Extensions::new(), robot);
        Self { channel: Channel::from_transport(WebRtcTransport::new(one, caller)), robot }
    }

    /// The connection carries calls without delay.
    async fn lives(&self) {
        let call = async { Probe::client(self.channel.clone()).unary(sized(100)).await };
        let reply = timeout(LONG, call).await.expect("stalled").unwrap();
        assert_eq!(reply.into_inner().total, 100);
    }
}

fn memory() -> Arc<dyn Stack> {
    Arc::new(MemoryStack::new())
}

fn engine() -> Arc<dyn Stack> {
    Arc::new(Engine::new().resolve_mdns(false))
}

fn webrtc_rs() -> Arc<dyn Stack> {
    Arc::new(WebRtcRs::new().resolve_mdns(false))
}

fn limits(stream_budget: u32, connection_budget: u32, overflow: Overflow) -> Limits {
    let mut limits = Limits::default();
    limits.stream_budget = stream_budget as usize;
    limits.connection_budget = connection_budget as usize;
    limits.overflow = overflow;
    limits
}

fn fail_stream(stream_budget: u32) -> Limits {
    limits(stream_budget, 64 * 1024 * KIB, Overflow::FailStream)
}

fn sized(size: u32) -> ProbeRequest {
    ProbeRequest { size, ..Default::default() }
}

fn many(count: u32, size: u32) -> ProbeRequest {
    ProbeRequest { count, size, ..Default::default() }
}

fn data(bytes: u32) -> ProbeRequest {
    ProbeRequest { data: vec![0; bytes as usize].into(), ..Default::default() }
}

/// Each promise over each stack.
macro_rules! promises {
    ($($promise:ident)+) => {
        $(mod $promise {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn memory() {
                tokio::time::timeout(super::LONG * 2, super::$promise(super::memory())).await.expect("hangs");
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn engine() {
                tokio::time::timeout(super::LONG * 2, super::$promise(super::engine())).await.expect("hangs");
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn webrtc_rs() {
                tokio::time::timeout(super::LONG * 2, super::$promise(super::webrtc_rs())).await.expect("hangs");
            }
        })+
    };
}

promises! {
    a_stream_within_its_budget_waits_for_its_reader_and_delays_nobody
    a_stream_over_its_budget_fails_alone
    over_the_connections_budget_the_greediest_fails
    an_ended_response_that_nobody_reads_counts_and_can_be_lost
    a_held_connection_loses_nothing_and_resumes
    a_held_connection_resumes_when_the_slow_reader_gives_up
    a_held_connection_does_not_wait_for_what_it_holds_back
    a_handler_that_does_not_read_loses_its_call_alone
    a_handler_that_has_read_enough_does_not_hold_the_connection
    a_body_that_is_faster_than_the_link_is_polled_no_faster
}

async fn a_stream_within_its_budget_waits_for_its_reader_and_delays_nobody(stack: Arc<dyn Stack>) {
    let scene = Scene::over(stack, fail_stream(1024 * KIB), Limits::default()).await;
    let mut client = Probe::client(scene.channel.clone());
    let slow = client.spread(many(20, 32 * KIB)).await.unwrap().into_inner();
    for _ in 0..20 {
        scene.lives().await;
    }
    let sizes: Vec<_> = slow.map(|reply| reply.unwrap().data.len()).collect().await;
    assert_eq!(sizes, [32 * 1024; 20]);
}

async fn a_stream_over_its_budget_fails_alone(stack: Arc<dyn Stack>) {
    let scene = Scene::over(stack, fail_stream(256 * KIB), Limits::default()).await;
    let mut client = Probe::client(scene.channel.clone());
    let token = format!("over budget {:p}", &scene);
    let slow = client.spread(tokened(&token, many(1_000_000, 16 * KIB))).await;
    // The robot's handler is told, although nobody reads here.
    until_running(&token, false).await;
    scene.lives().await;
    let status = failure(slow).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    scene.lives().await;
    assert_eq!(scene.channel.stats().await.open_streams, 0);
}

async fn over_the_connections_budget_the_greediest_fails(stack: Arc<dyn Stack>) {
    let budgets = limits(10 * 1024 * KIB, 512 * KIB, Overflow::FailStream);
    let scene = Scene::over(stack, budgets, Limits::default()).await;
    let mut client = Probe::client(scene.channel.clone());
    // Little, and unread as well.
    let little = client.spread(many(5, KIB)).await.unwrap().into_inner();
    let greedy = client.spread(many(1_000_000, 16 * KIB)).await;
    // All the time others are answered.
    while scene.channel.stats().await.open_streams > 0 {
        scene.lives().await;
    }
    let status = failure(greedy).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(little.filter(|reply| std::future::ready(reply.is_ok())).count().await, 5);
}

async fn an_ended_response_that_nobody_reads_counts_and_can_be_lost(stack: Arc<dyn Stack>) {
    let budgets = limits(1024 * KIB, 1024 * KIB, Overflow::FailStream);
    let scene = Scene::over(stack, budgets, Limits::default()).await;
    let mut client = Probe::client(scene.channel.clone());
    let mut unread = vec![];
    for number in 0..3 {
        // 600, 601 and 602 KiB: two of them are too much, and the larger one goes.
        unread.push(client.spread(many(1, (600 + number) * KIB)).await.unwrap().into_inner());
        while scene.channel.stats().await.open_streams > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    scene.lives().await;
    let mut whole = 0;
    for mut replies in unread {
        match replies.message().await {
            Ok(Some(_)) => whole += 1,
            Ok(None) => panic!("no status"),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
    }
    assert_eq!(whole, 1);
}

async fn a_held_connection_loses_nothing_and_resumes(stack: Arc<dyn Stack>) {
    let held = limits(128 * KIB, 1024 * KIB, Overflow::HoldConnection);
    let scene = Scene::over(stack, held, Limits::default()).await;
    let mut client = Probe::client(scene.channel.clone());
    let slow = client.spread(many(400, 16 * KIB)).await.unwrap().into_inner();
    let before = received_when_still(&scene).await;
    assert!(before < 4 << 20, "{before} bytes were taken in");
    // Another call waits, and is answered once there is room.
    let channel = scene.channel.clone();
    let other = tokio::spawn(async move { Probe::client(channel).unary(sized(100)).await });
    let count = slow.map(|reply| assert_eq!(reply.unwrap().data.len(), 16 * 1024)).count().await;
    assert_eq!(count, 400);
    assert_eq!(other.await.unwrap().unwrap().into_inner().total, 100);
    scene.lives().await;
}

async fn a_held_connection_resumes_when_the_slow_reader_gives_up(stack: Arc<dyn Stack>) {
    let held = limits(128 * KIB, 256 * KIB, Overflow::HoldConnection);
    let scene = Scene::over(stack, held, Limits::default()).await;
    let mut client = Probe::client(scene.channel.clone());
    for _ in 0..5 {
        let slow = client.spread(many(1_000_000, 16 * KIB)).await.unwrap().into_inner();
        received_when_still(&scene).await;
        drop(slow);
        scene.lives().await;
        // The same with a response that is whole.
        let ended: Vec<_> =
            futures_util::future::join_all((0..3).map(|_| client.clone()).map(|mut client| async move {
                client.spread(many(1, 120 * KIB)).await.unwrap().into_inner()
            }))
            .await;
        received_when_still(&scene).await;
        drop(ended);
        scene.lives().await;
    }
}

async fn a_held_connection_does_not_wait_for_what_it_holds_back(stack: Arc<dyn Stack>) {
    // Messages that are longer than the whole budget.
    let held = limits(64 * KIB, 256 * KIB, Overflow::HoldConnection);
    let scene = Scene::over(stack, held, Limits::default()).await;
    let mut client = Probe::client(scene.channel.clone());
    let status = client.unary(sized(1024 * KIB)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    scene.lives().await;
    // One that only fits alone comes whole.
    assert_eq!(client.unary(sized(250 * KIB)).await.unwrap().into_inner().total, 250 * 1024);
}

async fn a_handler_that_does_not_read_loses_its_call_alone(stack: Arc<dyn Stack>) {
    let scene = Scene::over(stack, Limits::default(), fail_stream(256 * KIB)).await;
    let mut client = Probe::client(scene.channel.clone());
    let first = ProbeRequest { delay_ms: 600_000, ..Default::default() };
    let messages = futures_util::stream::iter([first]).chain(futures_util::stream::repeat(data(16 * KIB)));
    let call = async { client.collect(messages).await.unwrap_err() };
    let others = async {
        for _ in 0..20 {
            scene.lives().await;
        }
    };
    let (status, ()) = tokio::join!(call, others);
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    scene.lives().await;
    assert_eq!(scene.robot.stats().await.open_streams, 0);
}

async fn a_handler_that_has_read_enough_does_not_hold_the_connection(stack: Arc<dyn Stack>) {
    let held = limits(64 * KIB, 256 * KIB, Overflow::HoldConnection);
    let scene = Scene::over(stack, Limits::default(), held).await;
    for _ in 0..3 {
        let mut client = Probe::client(scene.channel.clone());
        // The handler sleeps on its first message, then fails, and reads nothing more.
        let first = ProbeRequest { delay_ms: 300, code: 3, ..Default::default() };
        let messages =
            futures_util::stream::iter([first]).chain(futures_util::stream::repeat(data(16 * KIB)));
        let status = client.collect(messages).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        scene.lives().await;
    }
}

async fn a_body_that_is_faster_than_the_link_is_polled_no_faster(stack: Arc<dyn Stack>) {
    let held = limits(64 * KIB, 256 * KIB, Overflow::HoldConnection);
    let scene = Scene::over(stack, Limits::default(), held).await;
    let mut client = Probe::client(scene.channel.clone());
    let polled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&polled);
    let first = ProbeRequest { delay_ms: 600_000, ..Default::default() };
    let messages = futures_util::stream::iter([first])
        .chain(futures_util::stream::repeat(data(16 * KIB)))
        .inspect(move |_| {
            counter.fetch_add(16 * 1024, Ordering::Relaxed);
        });
    let call = tokio::spawn(async move { client.collect(messages).await });
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = polled.load(Ordering::Relaxed);
        if now == last && now > 0 {
            break;
        }
        last = now;
        assert!(now < 16 << 20, "{now} bytes were taken from a body that nobody reads");
    }
    // What the reader, both windows and the backlog hold.
    assert!(last < 8 << 20, "{last} bytes were taken");
    call.abort();
}

/// How a response ends, which may be before its headers are read.
async fn failure(response: Result<Response<Streaming<ProbeResponse>>, Status>) -> Status {
    let mut replies = match response {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    loop {
        match replies.message().await {
            Ok(reply) => drop(reply.expect("no status")),
            Err(status) => return status,
        }
    }
}

/// Waits until the caller's end takes nothing more in, and says how much it took.
async fn received_when_still(scene: &Scene) -> u64 {
    let mut last = u64::MAX;
    loop {
        let now = scene.channel.stats().await.bytes_received;
        if now == last && now > 0 {
            return now;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A link of 1 Mbit/s, filled by an upload.
async fn saturated() -> (Scene, tokio::task::JoinHandle<()>) {
    let stack = MemoryStack::new();
    stack.change(|conditions| {
        conditions.bytes_per_second = Some(125_000);
        conditions.delay = Duration::from_millis(20);
    });
    let scene = Scene::over(Arc::new(stack), Limits::default(), Limits::default()).await;
    let mut client = Probe::client(scene.channel.clone());
    let upload = tokio::spawn(async move {
        let _ = client.collect(futures_util::stream::repeat(data(256 * KIB))).await;
    });
    // Until the sender knows the link.
    tokio::time::sleep(Duration::from_secs(20)).await;
    (scene, upload)
}

#[tokio::test(start_paused = true)]
async fn a_session_heartbeat_overtakes_a_saturating_upload() {
    let (scene, upload) = saturated().await;
    let mut robot = RobotServiceClient::new(scene.channel.clone());
    for _ in 0..10 {
        let began = Instant::now();
        let beat = robot.send_session_heartbeat(SendSessionHeartbeatRequest::default()).await;
        // The probe's robot does not know the service: the answer is as fast.
        assert_eq!(beat.unwrap_err().code(), Code::Unimplemented);
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(333)).await;
    }
    assert!(!upload.is_finished());
    upload.abort();
}

#[tokio::test(start_paused = true)]
async fn an_urgent_call_overtakes_many_uploads_that_take_turns() {
    let (scene, upload) = saturated().await;
    let uploads: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Probe::client(scene.channel.clone());
            tokio::spawn(async move {
                let _ = client.collect(futures_util::stream::repeat(data(256 * KIB))).await;
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let took = async |urgent: bool| {
        let mut request = Request::new(data(200));
        if urgent {
            request.extensions_mut().insert(Urgent);
        }
        let began = Instant::now();
        Probe::client(scene.channel.clone()).unary(request).await.unwrap();
        began.elapsed()
    };
    let (urgent, other) = (took(true).await, took(false).await);
    assert!(urgent < Duration::from_millis(500), "{urgent:?}");
    assert!(other > Duration::from_secs(1), "{other:?}: the link is not full");
    uploads.iter().chain([&upload]).for_each(|upload| upload.abort());
}

#[tokio::test(start_paused = true)]
async fn a_reset_overtakes_the_upload_that_it_ends() {
    let (scene, upload) = saturated().await;
    let (send, messages) = mpsc::channel(1);
    let mut client = Probe::client(scene.channel.clone());
    let call = tokio::spawn(async move {
        client.collect(tokened("reset overtakes", ReceiverStream::new(messages))).await
    });
    send.send(data(1024 * KIB)).await.unwrap();
    until_running("reset overtakes", true).await;
    assert!(is_running("reset overtakes"));
    call.abort();
    let began = Instant::now();
    until_running("reset overtakes", false).await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    upload.abort();
}

#[tokio::test(start_paused = true)]
async fn urgent_data_without_end_does_not_pile_up() {
    let (scene, upload) = saturated().await;
    let polled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&polled);
    let messages = futures_util::stream::repeat(data(KIB)).inspect(move |_| {
        counter.fetch_add(1024, Ordering::Relaxed);
    });
    let mut request = Request::new(messages);
    request.extensions_mut().insert(Urgent);
    let mut client = Probe::client(scene.channel.clone());
    let call = tokio::spawn(async move { client.collect(request).await });
    tokio::time::sleep(Duration::from_secs(4)).await;
    let polled = polled.load(Ordering::Relaxed);
    assert!(polled > 0 && polled < 1 << 20, "{polled} bytes wait for a link of 125 kB/s");
    call.abort();
    upload.abort();
}
