//! Sessions over real transports: a data channel in memory, and HTTP/2 on loopback. Real time.

mod common;
mod motors;

use std::sync::Arc;
use std::time::Duration;

use common::{LONG, ROBOT, Signaling, loopback};
use farlink::peer::Stack;
use farlink::peer::memory::MemoryStack;
use farlink::proto::motor::motor_service_client::MotorServiceClient;
use farlink::proto::motor::{GoForRequest, IsMovingRequest, SetPowerRequest};
use farlink::proto::robot::robot_service_client::RobotServiceClient;
use farlink::proto::robot::{
    GetSessionsRequest, PeerConnectionType, SendSessionHeartbeatRequest, StartSessionRequest,
};
use farlink::server::{Identity, Server};
use farlink::sessions::robot::{OnDisconnect, SessionEvent, SessionManager, SessionManagerBuilder};
use farlink::sessions::{SessionError, SessionsClient};
use farlink::transport::webrtc::Limits;
use farlink::wire::session::{EXPIRED_SESSION_KEY, SESSION_EXPIRED, START_SESSION};
use farlink::{Channel, DialOptions};
use motors::{Motors, services, under};
use tokio::time::{Instant, sleep, timeout};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::util::MapRequestLayer;

struct Scene {
    motors: Motors,
    sessions: SessionManager,
    robot: Server,
    options: DialOptions,
    _signaling: Signaling,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Over {
    WebRtc,
    Direct,
}

impl Scene {
    async fn new(change: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder) -> Self {
        Self::limited(Limits::for_robots(), change).await
    }

    async fn limited(
        limits: Limits,
        change: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
    ) -> Self {
        let signaling = Signaling::start().await;
        let stack: Arc<dyn Stack> = Arc::new(MemoryStack::new());
        let motors = Motors::default();
        let sessions = change(SessionManager::builder(Arc::new(motors.clone()))).build().unwrap();
        // An auth layer of the robot's own, of the credulous kind.
        let credulous = MapRequestLayer::new(|mut request: http::Request<_>| {
            let name = request.headers().get("i-am").map(|name| name.to_str().unwrap().to_owned());
            name.map(|name| request.extensions_mut().insert(Identity(name)));
            request
        });
        let protected = sessions.protect(services(&motors));
        let routes: Routes = protected.into_axum_router().layer(credulous).into();
        let via = signaling.addr.to_string();
        let robot = Server::builder().host(ROBOT).answer_via(&via).listen(loopback()).insecure(true);
        let robot = robot.stack(stack.clone()).limits(limits).grace(Duration::ZERO);
        let robot = robot.start(routes).await.unwrap();
        assert!(robot.signaling()[0].clone().online().await);
        let options = DialOptions::new().signaling_address(via).insecure(true).stack(stack).timeout(LONG);
        Self { motors, sessions, robot, options, _signaling: signaling }
    }

    async fn dial(&self, over: Over) -> Caller {
        let channel = match over {
            Over::WebRtc => farlink::dial(ROBOT, self.options.clone()).await,
            Over::Direct => {
                let address = self.robot.local_addr().unwrap().to_string();
                farlink::dial(address, self.options.clone().disable_webrtc(true)).await
            }
        };
        Caller { channel: channel.unwrap(), name: None }
    }
}

struct Caller {
    channel: Channel,
    name: Option<&'static str>,
}

impl Caller {
    fn named(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    fn request<T>(&self, sid: Option<&str>, message: T) -> tonic::Request<T> {
        let mut request = under(sid, message);
        self.name.map(|name| request.metadata_mut().insert("i-am", name.parse().unwrap()));
        request
    }

    fn robot(&self) -> RobotServiceClient<Channel> {
        RobotServiceClient::new(self.channel.clone())
    }

    fn motors(&self) -> MotorServiceClient<Channel> {
        MotorServiceClient::new(self.channel.clone())
    }

    async fn start(&self, resume: &str) -> Result<String, Status> {
        let request = self.request(None, StartSessionRequest { resume: resume.to_owned() });
        self.robot().start_session(request).await.map(|started| started.into_inner().id)
    }

    async fn beat(&self, id: &str) -> Result<(), Status> {
        let request = self.request(None, SendSessionHeartbeatRequest { id: id.to_owned() });
        self.robot().send_session_heartbeat(request).await.map(|_| ())
    }

    async fn power(&self, sid: Option<&str>, motor: &str) -> Result<(), Status> {
        let message = SetPowerRequest { name: motor.to_owned(), power_pct: 1.0, extra: None };
        self.motors().set_power(self.request(sid, message)).await.map(|_| ())
    }
}

/// Names each promise once per transport.
macro_rules! promises {
    ($($promise:ident),+) => {
        $(mod $promise {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn over_webrtc() {
                super::timeout(super::LONG * 2, super::$promise(super::Over::WebRtc)).await.expect("hangs");
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn directly() {
                super::timeout(super::LONG * 2, super::$promise(super::Over::Direct)).await.expect("hangs");
            }
        })+
    };
}

promises! {
    who_goes_silent_is_stopped_and_its_calls_end,
    c39_a_peer_that_is_gone_is_noticed,
    c35_a_session_moves_to_a_new_connection_by_a_resume,
    our_own_caller_drives_our_own_robot_until_it_is_gone,
    a_motion_that_was_cut_is_never_made_again
}

async fn who_goes_silent_is_stopped_and_its_calls_end(over: Over) {
    let window = Duration::from_millis(1500);
    let scene = Scene::new(|builder| builder.window(window)).await;
    let caller = scene.dial(over).await;
    let sid = caller.start("").await.unwrap();
    caller.power(Some(&sid), "m1").await.unwrap();
    let going = tokio::spawn({
        let mut motors = caller.motors();
        let message = GoForRequest { name: "m2".to_owned(), ..Default::default() };
        let request = caller.request(Some(&sid), message);
        async move { motors.go_for(request).await.unwrap_err() }
    });
    let mut sent = Instant::now();
    for _ in 0..8 {
        sleep(window / 5).await;
        sent = Instant::now();
        caller.beat(&sid).await.unwrap();
    }
    assert_eq!(scene.motors.when("stop m1"), None);
    let stopped = scene.motors.until("stop m1").await;
    assert!(stopped >= sent + window, "{:?} early", sent + window - stopped);
    let status = going.await.unwrap();
    assert_eq!(status.code(), Code::Aborted, "it had begun: {status:?}");
    assert_eq!(status.metadata().get(EXPIRED_SESSION_KEY).unwrap(), sid.as_str());
    scene.motors.until("stopped m2").await;
    assert_eq!(caller.power(Some(&sid), "m1").await.unwrap_err().message(), SESSION_EXPIRED);
    assert_eq!(caller.beat(&sid).await.unwrap_err().message(), SESSION_EXPIRED);
}

async fn c39_a_peer_that_is_gone_is_noticed(over: Over) {
    let minute = Duration::from_secs(60);
    let policy = OnDisconnect::StopAfter(Duration::from_millis(50));
    let scene = Scene::new(|builder| builder.window(minute).on_disconnect(policy)).await;
    let caller = scene.dial(over).await;
    let sid = caller.start("").await.unwrap();
    caller.power(Some(&sid), "m1").await.unwrap();
    let mut events = scene.sessions.events();
    caller.channel.close();
    drop(caller);
    let event = timeout(LONG, events.next()).await.expect("not noticed");
    assert!(matches!(event, Some(SessionEvent::Disconnected { .. })), "{event:?}");
    scene.motors.until("stopped m1").await;
}

async fn c35_a_session_moves_to_a_new_connection_by_a_resume(over: Over) {
    let scene = Scene::new(|builder| builder.window(Duration::from_secs(30))).await;
    let first = scene.dial(over).await.named("a");
    let sid = first.start("").await.unwrap();
    first.power(Some(&sid), "m1").await.unwrap();
    let second = scene.dial(over).await.named("a");
    let foreign = second.power(Some(&sid), "m1").await.unwrap_err();
    assert!(foreign.code() == Code::InvalidArgument && foreign.message() != SESSION_EXPIRED, "{foreign:?}");
    assert_eq!(foreign.metadata().get(EXPIRED_SESSION_KEY).expect("no trailer"), &*sid);
    // Another identity, and the same over the other transport.
    let other = scene.dial(over).await.named("b");
    let crossing = if over == Over::WebRtc { Over::Direct } else { Over::WebRtc };
    let crossing = scene.dial(crossing).await.named("a");
    for caller in [&other, &crossing] {
        let status = caller.start(&sid).await.unwrap_err();
        assert!(status.code() == Code::InvalidArgument && status.message() != SESSION_EXPIRED, "{status:?}");
    }
    assert_eq!(second.start(&sid).await.unwrap(), sid);
    second.power(Some(&sid), "m1").await.unwrap();
    first.power(Some(&sid), "m1").await.unwrap_err();

    let listed = second.robot().get_sessions(second.request(None, GetSessionsRequest {})).await.unwrap();
    let listed = listed.into_inner().sessions;
    assert_eq!((listed.len(), &listed[0].id), (1, &sid));
    let peer = listed[0].peer_connection_info.clone().unwrap();
    let kind = if over == Over::WebRtc { PeerConnectionType::Webrtc } else { PeerConnectionType::Grpc };
    assert_eq!(peer.r#type(), kind);
    assert!(
        over == Over::WebRtc || peer.remote_address.is_some_and(|remote| remote.starts_with("127.0.0.1:"))
    );
    assert_eq!(scene.motors.when("stop m1"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c34_sessions_are_kept_on_a_connection_that_is_full_of_calls() {
    let mut limits = Limits::for_robots();
    limits.max_streams = 2;
    let scene = Scene::limited(limits, |builder| builder).await;
    let caller = scene.dial(Over::WebRtc).await;
    for _ in 0..2 {
        let mut motors = caller.motors();
        tokio::spawn(async move { motors.is_moving(IsMovingRequest::default()).await });
    }
    while scene.motors.log().len() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let refused = caller.power(None, "m1").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let sid = caller.start("").await.unwrap();
    for _ in 0..100 {
        caller.beat(&sid).await.unwrap();
    }
    assert_eq!(scene.sessions.stats().heartbeats, 100);

    // That room is bounded too: 64 that never send their message take it. A beat may be in the place of one
    // for a moment, so there may be tries for more.
    let mut stuck = Vec::new();
    let full = loop {
        let request = http::Request::post(START_SESSION).body(Body::new(Never)).unwrap();
        let mut channel = caller.channel.clone();
        stuck
            .push(tokio::spawn(async move { tower::Service::call(&mut channel, request).await.map(|_| ()) }));
        if stuck.len() < 64 {
            continue;
        }
        sleep(Duration::from_millis(1)).await;
        if let Err(status) = caller.beat(&sid).await {
            break status;
        }
        assert!(stuck.len() < 1000, "urgent calls have no bound");
    };
    assert_eq!(full.code(), Code::ResourceExhausted);
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
    let again = async {
        while caller.beat(&sid).await.is_err() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, again).await.expect("the room is never free again");
}

/// A request whose message never comes.
struct Never;

impl http_body::Body for Never {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
        std::task::Poll::Pending
    }
}

/// A robot that is dropped leaves no motor running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_that_goes_away_stops_what_its_sessions_held() {
    let scene = Scene::new(|builder| builder.window(Duration::from_secs(60))).await;
    let caller = scene.dial(Over::WebRtc).await;
    let sid = caller.start("").await.unwrap();
    caller.power(Some(&sid), "m1").await.unwrap();
    let Scene { motors, sessions, robot, .. } = scene;
    drop(sessions);
    robot.shutdown().await;
    motors.until("stopped m1").await;
}

async fn our_own_caller_drives_our_own_robot_until_it_is_gone(over: Over) {
    let window = Duration::from_millis(800);
    let scene = Scene::new(|builder| builder.window(window)).await;
    let sessions = SessionsClient::new(scene.dial(over).await.channel);
    let mut motors = MotorServiceClient::new(sessions.channel());
    let power = |name: &str| SetPowerRequest { name: name.to_owned(), power_pct: 1.0, extra: None };
    motors.set_power(power("m1")).await.unwrap();
    sleep(window * 3).await;
    assert_eq!(scene.motors.when("stop m1"), None, "its owner is alive");
    assert_eq!((scene.sessions.stats().live, sessions.stats().replaced), (1, 0));
    drop((sessions, motors));
    let gone = Instant::now();
    let stopped = scene.motors.until("stopped m1").await;
    let took = stopped - gone;
    assert!(
        took >= window.mul_f64(0.7) && took < window * 3,
        "stopped {took:?} after the last clone was dropped"
    );
}

/// The session expires while a motion runs: the robot cuts and stops it, and nobody makes it once more.
async fn a_motion_that_was_cut_is_never_made_again(over: Over) {
    let window = Duration::from_millis(500);
    let scene = Scene::new(|builder| builder.window(window)).await;
    let sessions = SessionsClient::new(scene.dial(over).await.channel);
    let mut motors = MotorServiceClient::new(sessions.channel());
    let message = GoForRequest { name: "m2".to_owned(), ..Default::default() };
    let going = tokio::spawn(async move { motors.go_for(message).await.unwrap_err() });
    scene.motors.until("go m2").await;
    // Its heartbeats end, and nobody asks for the session any more.
    sessions.reset();
    let status = going.await.unwrap();
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    assert!(matches!(SessionError::of(&status), Some(SessionError::Expired { .. })), "{status:?}");
    scene.motors.until("stopped m2").await;
    sleep(window).await;
    let log = scene.motors.log();
    assert_eq!(log.iter().filter(|what| *what == "go m2").count(), 1, "{log:?}");
    assert_eq!(sessions.stats().retried, 0);
}
