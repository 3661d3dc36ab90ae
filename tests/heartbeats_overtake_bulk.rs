//! A link that is full of somebody's upload loses no session.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::fake_robot::{FakeRobot, UNARY, options};
use common::probe::ProbeRequest;
use common::probe::probe_client::ProbeClient;
use common::slow_relay::slow_relay;
use common::{LONG, ROBOT, Signaling, loopback, until_running};
use farlink::peer::memory::MemoryStack;
use farlink::server::Server;
use farlink::sessions::{LeaseState, SessionEvent, SessionsClient};
use farlink::transport::TransportKind;
use farlink::{Channel, DialOptions};
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

/// Bytes per second of the link: 1 Mbit/s.
const RATE: u32 = 125_000;

async fn robot(fake: &FakeRobot, stack: &MemoryStack) -> (Signaling, Server) {
    let signaling = Signaling::start().await;
    let robot = Server::builder().host(ROBOT).answer_via(signaling.addr.to_string()).listen(loopback());
    let robot = robot.insecure(true).stack(Arc::new(stack.clone())).start(fake.routes()).await.unwrap();
    assert!(robot.signaling()[0].clone().online().await);
    (signaling, robot)
}

/// Uploads as fast as the link takes it.
fn saturate(channel: Channel) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let message = ProbeRequest { data: vec![b'x'; 256 * 1024].into(), ..Default::default() };
        let _ = Probe::new(channel).collect(futures_util::stream::repeat(message)).await;
    })
}

type Probe = ProbeClient<Channel>;

/// C12: 60 s, window 2 s, from the first byte on.
#[tokio::test(start_paused = true)]
async fn a_minute_of_saturating_upload_expires_no_session_over_webrtc() {
    let fake = FakeRobot::new();
    let stack = MemoryStack::new();
    let (signaling, _robot) = robot(&fake, &stack).await;
    let dial = DialOptions::new().signaling_address(signaling.addr.to_string()).insecure(true);
    let over: Arc<dyn farlink::peer::Stack> = Arc::new(stack.clone());
    let channel = farlink::dial(ROBOT, dial.stack(over)).await.unwrap();
    assert_eq!(channel.transport(), TransportKind::WebRtc);
    stack.links().iter().for_each(|link| {
        link.change(|conditions| {
            conditions.bytes_per_second = Some(RATE.into());
            conditions.delay = Duration::from_millis(20);
        });
    });
    let client = SessionsClient::builder(channel.clone()).options(options()).build();
    let mut events = client.events();
    ProbeClient::new(client.channel()).unary(ProbeRequest::default()).await.unwrap();
    let upload = saturate(channel.clone());
    sleep(Duration::from_secs(60)).await;
    assert!(!upload.is_finished());
    let sent = channel.stats().await.bytes_sent;
    assert!(sent > u64::from(RATE) * 50, "{sent} bytes in a minute do not saturate");
    let stats = client.stats();
    let (expired, started) = fake.expired_and_started();
    assert_eq!((expired, started), (0, 1));
    let longest = stats.longest_rtt.unwrap();
    // None took half the window, and those that took a quarter of it are from before the link was known.
    assert!(longest < Duration::from_secs(1) && stats.rtts[4] <= 3, "{stats:?}");
    assert!(matches!(events.next().await, Some(SessionEvent::Started { .. })));
    let risk = tokio::time::timeout(Duration::from_millis(1), events.next()).await;
    assert!(risk.is_err(), "{risk:?}");
}

async fn directly(addr: SocketAddr) -> Channel {
    let options = DialOptions::new().insecure(true).disable_webrtc(true).timeout(LONG);
    farlink::dial(addr.to_string(), options).await.unwrap()
}

/// C12, for the transport whose lower buffers are the system's.
#[tokio::test]
async fn a_saturating_upload_expires_no_session_directly() {
    let fake = FakeRobot::new();
    let (_signaling, robot) = robot(&fake, &MemoryStack::new()).await;
    let channel = directly(slow_relay(robot.local_addr().unwrap(), RATE).await).await;
    let client = SessionsClient::builder(channel.clone()).options(options()).build();
    ProbeClient::new(client.channel()).unary(ProbeRequest::default()).await.unwrap();
    let upload = saturate(channel.clone());
    sleep(Duration::from_secs(8)).await;
    assert!(!upload.is_finished());
    let (expired, started) = fake.expired_and_started();
    eprintln!("longest round trip of a heartbeat: {:?}", client.stats().longest_rtt);
    assert_eq!((expired, started), (0, 1), "{:?}", client.stats());
}

/// HTTP/2 has one window for all calls of a connection: who does not read must not use it up.
#[tokio::test]
async fn handlers_that_do_not_read_hold_up_no_heartbeat_directly() {
    let fake = FakeRobot::new();
    fake.script().window = Some((1, 0));
    let (_signaling, robot) = robot(&fake, &MemoryStack::new()).await;
    let channel = directly(robot.local_addr().unwrap()).await;
    let client = SessionsClient::builder(channel.clone()).options(options()).build();
    ProbeClient::new(client.channel()).unary(ProbeRequest::default()).await.unwrap();
    // Each handler takes its first message and does not come back for more.
    let mut uploads = Vec::new();
    for stalled in ["a", "b", "c", "d"] {
        let asleep = ProbeRequest { delay_ms: 3_600_000, ..Default::default() };
        let bulk = ProbeRequest { data: vec![b'x'; 256 * 1024].into(), ..Default::default() };
        let messages = tokio_stream::iter([asleep]).chain(futures_util::stream::repeat(bulk));
        let mut probe = Probe::new(channel.clone());
        let request = common::tokened(stalled, messages);
        uploads.push(tokio::spawn(async move { probe.collect(request).await.map(drop) }));
        until_running(stalled, true).await;
    }
    sleep(Duration::from_secs(4)).await;
    assert!(uploads.iter().all(|upload| !upload.is_finished()));
    let (expired, started) = fake.expired_and_started();
    assert_eq!((expired, started), (0, 1), "{:?}", client.stats());
    assert_eq!(fake.sids(UNARY), [["sid-1"]]);
    let lease = client.state();
    assert!(
        matches!(lease, farlink::sessions::SessionState::Active { lease: LeaseState::Healthy, .. }),
        "{lease:?}"
    );
}

/// C4: what keeps the session alive is the way that the calls go.
#[tokio::test]
async fn heartbeats_use_the_connection_of_the_calls_and_no_other() {
    let stack = MemoryStack::new();
    let fake = FakeRobot::new();
    fake.script().window = Some((0, 200_000_000));
    let (signaling, robot) = robot(&fake, &stack).await;
    let over: Arc<dyn farlink::peer::Stack> = Arc::new(stack.clone());
    let dial = DialOptions::new().signaling_address(signaling.addr.to_string()).insecure(true).stack(over);
    for webrtc in [true, false] {
        *fake.script() = FakeRobot::new().take();
        fake.script().window = Some((0, 200_000_000));
        let channel = match webrtc {
            true => farlink::dial(ROBOT, dial.clone()).await.unwrap(),
            false => directly(robot.local_addr().unwrap()).await,
        };
        let client = SessionsClient::builder(channel).options(options()).build();
        ProbeClient::new(client.channel()).unary(ProbeRequest::default()).await.unwrap();
        while client.stats().acknowledged < 10 {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(fake.script().connections.len(), 1, "webrtc: {webrtc}");
    }
}
