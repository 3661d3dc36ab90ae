//! A robot with many sessions: what a heartbeat costs it, and how late it stops what it must.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use allocation_counter::measure;
use farlink::proto::common::ResourceName;
use farlink::proto::motor::SetPowerRequest;
use farlink::proto::robot::robot_service_server::RobotService as _;
use farlink::proto::robot::{SendSessionHeartbeatRequest, StartSessionRequest};
use farlink::server::{CallInfo, ConnectionGuard, ConnectionHandle};
use farlink::sessions::robot::{Resources, RobotSessions, SessionManager, named_by};
use farlink::transport::{Arrived, TransportKind};
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service;

use super::figures::Spread;
use super::two_threads;
use super::wire::{HEARTBEAT, SET_POWER, WINDOW, request};

const SESSIONS: usize = 10_000;
/// Those that expire at the same instant.
const TOGETHER: usize = 1000;
/// Those that expire alone, and how far apart.
const ALONE: usize = 100;
const APART: Duration = Duration::from_micros(7310);

pub(crate) fn rows() {
    let runtime = two_threads();
    println!("\na robot with {SESSIONS} sessions, W = {WINDOW:?}, on two threads");
    runtime.block_on(measured());
    runtime.shutdown_background();
}

async fn measured() {
    let stops = Stops::default();
    let builder = SessionManager::builder(Arc::new(stops.clone())).window(WINDOW);
    let builder = builder.max_sessions(SESSIONS).max_per_owner(SESSIONS);
    let manager = builder.build().expect("a manager");
    let mut routes = manager.protect(Routes::new(Motors)).prepare();
    let service = manager.service();
    let connections: Vec<(CallInfo, ConnectionGuard)> = (0..SESSIONS).map(|_| connection()).collect();
    let mut callers = Vec::with_capacity(SESSIONS);
    let heap = measure(|| {
        let start = |(info, _): &(CallInfo, _)| Caller::start(&service, info.clone()).now_or_never();
        callers.extend(connections.iter().map(|caller| start(caller).expect("a start that need not wait")));
    });
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = SESSIONS as f64;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (bytes, pieces) = (heap.bytes_current as f64 / count, heap.count_current as f64 / count);
    println!(
        "{:<22} {bytes:.0} bytes in {pieces:.1} pieces, its caller's note included",
        "memory of a session"
    );

    // In an order that has nothing to do with that of the ids, which are random.
    let began = Instant::now();
    for caller in &callers {
        caller.beat(&service, began).await;
    }
    println!("{:<22} {:.0} ns in the service", "a heartbeat", began.elapsed().as_secs_f64() * 1e9 / count);
    let beats: Vec<_> = callers.iter().map(Caller::request).collect();
    let began = Instant::now();
    for beat in beats {
        assert!(routes.call(beat).await.is_ok_and(|response| response.status().is_success()));
    }
    println!("{:<22} {:.0} ns with routes and codec", "", began.elapsed().as_secs_f64() * 1e9 / count);

    // Whoever moves something.
    for (number, caller) in callers.iter().take(TOGETHER + ALONE).enumerate() {
        routes.call(caller.moves(number)).await.expect("an answer");
    }
    let others = callers.split_off(TOGETHER + ALONE);
    let beating = tokio::spawn(keep_alive(service.clone(), others));
    let from = Instant::now();
    // Time for the last signs of life of those alone to be in the past.
    sleep(Duration::from_secs(1)).await;
    let sign = |number: usize| match number.checked_sub(TOGETHER) {
        None => from,
        Some(alone) => from + Duration::from_millis(200) + APART * u32::try_from(alone).unwrap_or(0),
    };
    for (number, caller) in callers.iter().enumerate() {
        caller.beat(&service, sign(number)).await;
    }
    sleep_until(from + WINDOW + Duration::from_secs(2)).await;
    assert!(!beating.is_finished());
    beating.abort();

    let late = stops.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(late.len(), TOGETHER + ALONE);
    let late = late.into_iter().map(|(number, began)| {
        let deadline = sign(number) + WINDOW;
        assert!(began >= deadline, "a stop before its time");
        (number, began - deadline)
    });
    let (together, alone): (Vec<_>, Vec<_>) = late.partition(|(number, _)| *number < TOGETHER);
    let spread = |late: Vec<(usize, Duration)>| Spread::of(late.into_iter().map(|(_, late)| late));
    println!("from a deadline to the beginning of the stop (goal C31: <= 2 ms)");
    println!("{:<22} {}", "one at a time", spread(alone));
    println!("{:<22} {}", "at the same instant", spread(together));
    let expired = manager.stats().expired;
    println!("{:<22} {}", "others that expired", expired - (TOGETHER + ALONE) as u64);
}

fn connection() -> (CallInfo, ConnectionGuard) {
    let connection = ConnectionHandle::new();
    let guard = connection.guard();
    (CallInfo::new(connection, TransportKind::WebRtc), guard)
}

/// Beats for these, as they would: five times in a window and one after the other.
async fn keep_alive(service: RobotSessions, callers: Vec<Caller>) {
    loop {
        for some in callers.chunks(callers.len() / 400) {
            for caller in some {
                caller.beat(&service, Instant::now()).await;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

struct Caller {
    id: String,
    info: CallInfo,
}

impl Caller {
    async fn start(service: &RobotSessions, info: CallInfo) -> Self {
        let mut request = tonic::Request::new(StartSessionRequest { resume: String::new() });
        request.extensions_mut().insert(info.clone());
        let started = service.start_session(request).await.expect("room for one more");
        Self { id: started.into_inner().id, info }
    }

    async fn beat(&self, service: &RobotSessions, arrived: Instant) {
        let mut request = tonic::Request::new(SendSessionHeartbeatRequest { id: self.id.clone() });
        request.extensions_mut().insert(self.info.clone());
        request.extensions_mut().insert(Arrived(arrived));
        service.send_session_heartbeat(request).await.expect("a session that lives");
    }

    fn request(&self) -> Request<Body> {
        let mut request = request(HEARTBEAT, &SendSessionHeartbeatRequest { id: self.id.clone() });
        request.extensions_mut().insert(self.info.clone());
        request
    }

    fn moves(&self, number: usize) -> Request<Body> {
        let message = SetPowerRequest { name: number.to_string(), power_pct: 1.0, extra: None };
        let mut request = request(SET_POWER, &message);
        let sid = HeaderValue::try_from(&self.id).expect("digits and hyphens");
        request.headers_mut().insert("viam-sid", sid);
        request.extensions_mut().insert(self.info.clone());
        request
    }
}

/// Motors that write down when they are stopped.
#[derive(Clone, Default)]
struct Stops(Arc<Mutex<Vec<(usize, Instant)>>>);

#[tonic::async_trait]
impl Resources for Stops {
    fn names(&self) -> Vec<ResourceName> {
        Vec::new()
    }

    fn moved_by(&self, method: &str, message: &[u8]) -> Vec<String> {
        named_by(method, message).into_iter().collect()
    }

    async fn stop(&self, resource: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let now = Instant::now();
        let number = resource.rsplit('/').next().and_then(|name| name.parse().ok()).ok_or("no motor")?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((number, now));
        Ok(())
    }
}

/// What takes the calls that move them.
#[derive(Debug, Clone)]
struct Motors;

impl NamedService for Motors {
    const NAME: &'static str = "viam.component.motor.v1.MotorService";
}

impl Service<Request<Body>> for Motors {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(tonic::Status::ok("").into_http()))
    }
}
