//! A robot with motors that is driven by our own callers, over a transport in memory, over WebRTC on the memory
//! stack, and over HTTP/2 on loopback; with faults that are the same everywhere, and a witness who remembers what
//! arrived.
//!
//! The first two run in paused time, the third in real time with a short window.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its own part")]

mod transports;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use farlink::Channel;
use farlink::proto::motor::SetPowerRequest;
use farlink::proto::motor::motor_service_client::MotorServiceClient;
use farlink::redial::Redial;
use farlink::server::Identity;
use farlink::sessions::robot::{SessionEvent as RobotEvent, SessionManager, SessionManagerBuilder};
use farlink::sessions::{LeaseState, SessionEvent, SessionState, SessionsClient};
use farlink::transport::{Arrived, Transport};
use farlink::wire::session::{SEND_SESSION_HEARTBEAT, START_SESSION};
use futures_core::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::service::{AxumBody, Routes};
use tower::Service;

use self::transports::{Connected, Net};
use crate::motors::{MS, Motors, services};

/// What carries the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Memory,
    WebRtc,
    Direct,
}

impl Over {
    pub fn window(self) -> Duration {
        Duration::from_secs(if self.is_paused() { 2 } else { 1 })
    }

    pub fn is_paused(self) -> bool {
        self != Self::Direct
    }

    /// How much later than it should something may happen. Real time gives no promise.
    pub fn slack(self) -> Duration {
        if self.is_paused() { 5 * MS } else { Duration::from_secs(30) }
    }
}

pub const SET_POWER: &str = "/viam.component.motor.v1.MotorService/SetPower";

/// The robot, and all that is known about it.
pub struct Scene {
    pub over: Over,
    pub window: Duration,
    pub motors: Motors,
    robot: Witness,
    net: Net,
}

/// The next scene dials in real time.
impl Drop for Scene {
    fn drop(&mut self) {
        if self.over.is_paused() {
            tokio::time::resume();
        }
    }
}

/// Something that arrived at the robot.
#[derive(Debug, Clone)]
pub struct Heard {
    pub at: Instant,
    pub from: String,
    pub path: String,
    /// The robot did not refuse it.
    pub taken: bool,
}

/// The robot's services, in front of which everything is written down. The robot behind can be another one from
/// now on.
#[derive(Clone)]
struct Witness {
    present: Arc<Mutex<Present>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    ended: Arc<Mutex<Vec<(Instant, RobotEvent)>>>,
}

struct Present {
    sessions: SessionManager,
    routes: Routes,
}

impl Scene {
    /// With time paused from the end of this on, but for direct connections. A caller may connect as often as its
    /// name is among these.
    pub async fn new(over: Over, names: &[&'static str]) -> Self {
        let window = over.window();
        let motors = Motors::default();
        let robot = Witness {
            present: Arc::new(Mutex::new(Present::new(&motors, window))),
            heard: Arc::default(),
            ended: Arc::default(),
        };
        robot.listen();
        let routes = Routes::default().into_axum_router().fallback_service(robot.clone()).into();
        let net = Net::new(over, routes, names).await;
        if over.is_paused() {
            tokio::time::pause();
        }
        Self { over, window, motors, robot, net }
    }

    /// A caller that dials again whenever its connection is lost.
    pub async fn caller(&self, name: &'static str) -> Caller {
        let Connected { first, line, dialer } = self.net.connect(name).await;
        let redial = Redial::builder().max_attempts(0).build_with(first, dialer);
        let channel = redial.into_channel();
        let client = SessionsClient::new(channel.clone());
        let told = Arc::<Mutex<Vec<_>>>::default();
        let (mut events, record) = (client.events(), Arc::clone(&told));
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                record.lock().unwrap().push((Instant::now(), event));
            }
        });
        Caller { name, client, channel, line, told }
    }

    /// The robot's process ends, and another one takes its place behind the same connections. What was moved
    /// is stopped.
    pub fn restart(&self) {
        let present = Present::new(&self.motors, self.window);
        drop(std::mem::replace(&mut *self.robot.present.lock().unwrap(), present));
        self.robot.listen();
    }

    pub fn sessions(&self) -> SessionManager {
        self.robot.present.lock().unwrap().sessions.clone()
    }

    /// What arrived, in order.
    pub fn heard(&self) -> Vec<Heard> {
        self.robot.heard.lock().unwrap().clone()
    }

    /// When signs of life of this caller arrived that the robot took.
    pub fn signs(&self, name: &str) -> Vec<Instant> {
        let is_sign = |heard: &&Heard| {
            let path = heard.path.as_str();
            heard.from == name
                && heard.taken
                && [START_SESSION, SEND_SESSION_HEARTBEAT, SET_POWER].contains(&path)
        };
        self.heard().iter().filter(is_sign).map(|heard| heard.at).collect()
    }

    /// When this happened to motors.
    pub fn times(&self, what: &str) -> Vec<Instant> {
        self.motors.all().into_iter().filter(|(_, happened)| happened == what).map(|(at, _)| at).collect()
    }

    /// Waits until this motor has been stopped so many times.
    pub async fn stopped(&self, motor: &str, times: usize) -> Instant {
        let what = format!("stopped {motor}");
        let stops = async {
            loop {
                if let Some(at) = self.times(&what).get(times - 1) {
                    return *at;
                }
                sleep(MS).await;
            }
        };
        let patience = self.window * 20 + self.over.slack();
        tokio::time::timeout(patience, stops).await.unwrap_or_else(|_| panic!("{:?}", self.motors.log()))
    }

    /// What must hold of a motor that only this caller moves, whatever happened: it was never stopped within a
    /// window of a sign of life that the robot took, always after one, and never without the caller knowing before.
    pub fn judge(&self, caller: &Caller, motor: &str) {
        self.timely(caller.name, motor);
        self.knew(caller);
    }

    /// The same, of a caller that may be dead.
    pub fn timely(&self, caller: &str, motor: &str) {
        let (signs, stops) = (self.signs(caller), self.times(&format!("stop {motor}")));
        let powers = self.times(&format!("power {motor}"));
        for stop in &stops {
            let last = signs.iter().filter(|sign| *sign < stop).max().expect("stopped out of the blue");
            assert!(*stop >= *last + self.window, "stopped {:?} after a sign of life", *stop - *last);
            if self.over.is_paused() {
                assert!(*stop <= *last + self.window + self.over.slack(), "{:?} late", *stop - *last);
            }
        }
        let now = Instant::now();
        if let (Some(power), Some(last)) = (powers.last(), signs.last())
            && stops.last().is_none_or(|stop| stop < power)
        {
            let over = *last + self.window + self.over.slack();
            assert!(now <= over, "it runs {:?} after the last sign of life", now - *last);
        }
    }

    /// The caller was told of the risk, or of the end, before the robot ended its session with what it held.
    pub fn knew(&self, caller: &Caller) {
        let told = caller.told();
        for (at, event) in self.robot.ended.lock().unwrap().iter() {
            let RobotEvent::Expired { session, resources } = event else { continue };
            let id = session.expose().to_string();
            let about = |session: &farlink::sessions::SessionId| session.as_str() == id;
            let before = told.iter().filter(|(when, _)| when < at);
            let doubt = before.fold(false, |doubt, (_, event)| match event {
                SessionEvent::Started { session, .. } | SessionEvent::Resumed { session }
                    if about(session) =>
                {
                    false
                }
                SessionEvent::Lease { session, state } if about(session) => *state > LeaseState::Healthy,
                SessionEvent::Ended { session, .. } if about(session) => true,
                _ => doubt,
            });
            let mine = told.iter().any(|(_, event)| match event {
                SessionEvent::Started { session, .. } | SessionEvent::Replaced { new: session, .. } => {
                    about(session)
                }
                _ => false,
            });
            assert!(!mine || resources.is_empty() || doubt, "{} knew nothing: {told:?}", caller.name);
        }
    }
}

impl Present {
    fn new(motors: &Motors, window: Duration) -> Self {
        let builder: SessionManagerBuilder = SessionManager::builder(Arc::new(motors.clone()));
        let sessions = builder.window(window).build().unwrap();
        let routes = sessions.protect(services(motors)).prepare();
        Self { sessions, routes }
    }
}

impl Witness {
    fn listen(&self) {
        let mut events = self.present.lock().unwrap().sessions.events();
        let record = Arc::clone(&self.ended);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                record.lock().unwrap().push((Instant::now(), event));
            }
        });
    }
}

impl Service<http::Request<AxumBody>> for Witness {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<AxumBody>) -> Self::Future {
        let name = request.headers().get("i-am").map(|name| name.to_str().unwrap().to_owned());
        let path = request.uri().path().to_owned();
        let at = request.extensions().get::<Arrived>().map_or_else(Instant::now, |arrived| arrived.0);
        // An auth layer of the robot's own, of the credulous kind. `ann/2` is Ann, on another connection.
        if let Some(identity) = name.as_deref().and_then(|name| name.split('/').next()) {
            request.extensions_mut().insert(Identity(identity.to_owned()));
        }
        let place = {
            let mut heard = self.heard.lock().unwrap();
            heard.push(Heard { at, from: name.unwrap_or_default(), path, taken: true });
            heard.len() - 1
        };
        let mut routes = self.present.lock().unwrap().routes.clone();
        let heard = Arc::clone(&self.heard);
        Box::pin(async move {
            let response = routes.call(request.map(Body::new)).await?;
            let status = response.headers().get("grpc-status");
            heard.lock().unwrap()[place].taken = status.is_none_or(|status| status == "0");
            Ok(response.map(Body::new))
        })
    }
}

/// Somebody who drives the robot. Dies when dropped.
pub struct Caller {
    pub name: &'static str,
    pub client: SessionsClient,
    /// Below the sessions, above the faults.
    pub channel: Channel,
    pub line: transports::Line,
    told: Arc<Mutex<Vec<(Instant, SessionEvent)>>>,
}

impl Caller {
    pub async fn power(&self, motor: &str) -> Result<(), Status> {
        let message = SetPowerRequest { name: motor.to_owned(), power_pct: 1.0, extra: None };
        MotorServiceClient::new(self.client.channel()).set_power(message).await.map(drop)
    }

    pub fn told(&self) -> Vec<(Instant, SessionEvent)> {
        self.told.lock().unwrap().clone()
    }

    /// Waits for an event like this.
    pub async fn until(&self, is_it: impl Fn(&SessionEvent) -> bool) -> Instant {
        let event = async {
            loop {
                if let Some((at, _)) = self.told().iter().find(|(_, event)| is_it(event)) {
                    return *at;
                }
                sleep(MS).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), event)
            .await
            .unwrap_or_else(|_| panic!("{:?}", self.told()))
    }

    /// Loses the connection, and knows it. No other can be made for now.
    pub async fn cut(&self) {
        self.line.cut();
        let mut link = Transport::watch(&self.channel);
        while link.state().reconnecting.is_none() {
            link.changed().await.expect("the channel is gone");
        }
    }

    pub fn session(&self) -> Option<String> {
        match self.client.state() {
            SessionState::Active { session, .. } => Some(session.as_str().to_owned()),
            _ => None,
        }
    }

    pub fn lease(&self) -> Option<LeaseState> {
        match self.client.state() {
            SessionState::Active { lease, .. } => Some(lease),
            _ => None,
        }
    }
}
