//! How long heartbeats wait behind an upload that fills the link: from the caller's send to the robot's
//! receipt, less the link's own delay.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use farlink::peer::memory::MemoryStack;
use farlink::sessions::Sessions;
use farlink::transport::{LinkWatch, Stats, Transport, TransportError};
use farlink::{Channel, DialOptions};
use http::{Request, Response};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};
use tonic::body::Body;
use tower_service::Service;

use super::common::fake_robot::{FakeRobot, options};
use super::common::probe::ProbeRequest;
use super::common::probe::probe_client::ProbeClient;
use super::common::slow_relay::slow_relay;
use super::common::{LONG, Lab, Signaling};
use super::figures::Spread;
use super::two_threads;
use super::wire::HEARTBEAT;

/// Of the memory stack's link, each way.
const DELAY: Duration = Duration::from_millis(20);
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn rows(budget: Duration) {
    println!(
        "\nheartbeats' wait behind an upload that fills the link, W = 2s (goal C12: p99 < 700 ms at 1 Mbit/s)"
    );
    for mbit in [1, 5] {
        let paused = Builder::new_current_thread().enable_all().start_paused(true).build();
        let line = paused.expect("a runtime").block_on(webrtc(mbit * 125_000));
        println!("{mbit} Mbit/s, webrtc/memory  {line}");
    }
    for mbit in [1, 5] {
        let runtime = two_threads();
        let line = runtime.block_on(directly(mbit * 125_000, budget));
        runtime.shutdown_background();
        println!("{mbit} Mbit/s, direct         {line}");
    }
}

/// A minute of a paused clock.
async fn webrtc(bytes_per_second: u32) -> String {
    let fake = FakeRobot::new();
    let stack = MemoryStack::new();
    let signaling = Signaling::start().await;
    let lab = Lab::serving(fake.routes(), signaling, Arc::new(stack.clone()), |robot| robot).await;
    let channel = lab.over_webrtc().await;
    stack.links().iter().for_each(|link| {
        link.change(|conditions| {
            conditions.bytes_per_second = Some(bytes_per_second.into());
            conditions.delay = DELAY;
        });
    });
    upload(channel, &fake, MINUTE, DELAY).await
}

/// Through a relay that is slow; the system's buffers are real, and so is the time.
async fn directly(bytes_per_second: u32, budget: Duration) -> String {
    let fake = FakeRobot::new();
    let stack = Arc::new(MemoryStack::new());
    let lab = Lab::serving(fake.routes(), Signaling::start().await, stack, |robot| robot).await;
    let relay = slow_relay(lab.robot.local_addr().expect("the lab's robot listens"), bytes_per_second).await;
    let dial = DialOptions::new().insecure(true).disable_webrtc(true).timeout(LONG);
    let channel = farlink::dial(relay.to_string(), dial).await.expect("a relay");
    upload(channel, &fake, budget, Duration::ZERO).await
}

async fn upload(channel: Channel, fake: &FakeRobot, time: Duration, delay: Duration) -> String {
    let sent = Arc::<Mutex<Vec<Instant>>>::default();
    let sessions = Sessions::new(Noting { inner: channel.clone(), sent: Arc::clone(&sent) }, options());
    ProbeClient::new(sessions.clone()).unary(ProbeRequest::default()).await.expect("the lab's robot answers");
    let bulk = ProbeRequest { data: vec![b'x'; 256 * 1024].into(), ..Default::default() };
    let upload = tokio::spawn(async move {
        let _ = ProbeClient::new(channel).collect(futures_util::stream::repeat(bulk)).await;
    });
    sleep(time).await;
    assert!(!upload.is_finished());
    let (expired, _) = fake.expired_and_started();
    upload.abort();
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // They arrive in the order of their sending.
    let arrived = fake.script().beats.clone();
    let pairs = sent.into_iter().zip(arrived);
    let waits = pairs.map(|(sent, (_, arrived))| arrived.saturating_duration_since(sent + delay));
    format!("{}  expired {expired}", Spread::of(waits))
}

/// Notes when heartbeats are sent.
#[derive(Debug, Clone)]
struct Noting {
    inner: Channel,
    sent: Arc<Mutex<Vec<Instant>>>,
}

impl Service<Request<Body>> for Noting {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() == HEARTBEAT {
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        }
        self.inner.call(request)
    }
}

impl Transport for Noting {
    fn kind(&self) -> farlink::transport::TransportKind {
        self.inner.kind()
    }

    async fn stats(&self) -> Stats {
        Transport::stats(&self.inner).await
    }

    fn watch(&self) -> LinkWatch {
        Transport::watch(&self.inner)
    }

    fn close(&self) {
        Transport::close(&self.inner);
    }
}
