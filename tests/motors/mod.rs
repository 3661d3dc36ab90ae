//! A robot whose motors write down what happens to them, and operators who drive it: without sockets, so that
//! time can be paused.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its own part")]

use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use farlink::proto::common::ResourceName;
use farlink::proto::motor::motor_service_client::MotorServiceClient;
use farlink::proto::motor::motor_service_server::{MotorService, MotorServiceServer};
use farlink::proto::motor::*;
use farlink::proto::robot::robot_service_client::RobotServiceClient;
use farlink::proto::robot::{SendSessionHeartbeatRequest, StartSessionRequest};
use farlink::proto::testecho::test_echo_service_server::{TestEchoService, TestEchoServiceServer};
use farlink::proto::testecho::{
    EchoBiDiRequest, EchoBiDiResponse, EchoMultipleRequest, EchoMultipleResponse, EchoRequest, EchoResponse,
    StopRequest as EchoStopRequest, StopResponse as EchoStopResponse,
};
use farlink::server::{CallInfo, ConnectionGuard, ConnectionHandle, Identity};
use farlink::sessions::robot::{Monitor, Resources, SessionManager, SessionManagerBuilder};
use farlink::transport::{Arrived, TransportKind};
use futures_util::stream::{BoxStream, Pending};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// The window of every robot here.
pub const W: Duration = Duration::from_secs(2);
pub const MS: Duration = Duration::from_millis(1);

/// The full name of a motor.
pub fn motor(name: &str) -> String {
    format!("rdk:component:motor/{name}")
}

/// What a motor's name says about its stop: `hang…` never ends, `slow…` takes half a second, `panic…` panics,
/// `fail…` fails, `flaky…` fails three times; any other stops at once.
#[derive(Debug, Clone, Default)]
pub struct Motors {
    log: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Motors {
    pub fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push((Instant::now(), what.into()));
    }

    /// What has happened, in order.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(|(_, what)| what.clone()).collect()
    }

    /// The same, and when.
    pub fn all(&self) -> Vec<(Instant, String)> {
        self.log.lock().unwrap().clone()
    }

    /// When this happened first.
    pub fn when(&self, what: &str) -> Option<Instant> {
        self.log.lock().unwrap().iter().find(|(_, happened)| happened == what).map(|(when, _)| *when)
    }

    pub async fn until(&self, what: &str) -> Instant {
        let happens = async {
            loop {
                if let Some(when) = self.when(what) {
                    return when;
                }
                tokio::time::sleep(MS).await;
            }
        };
        let log = || panic!("{what:?} has not happened: {:?}", self.log());
        tokio::time::timeout(Duration::from_secs(30), happens).await.unwrap_or_else(|_| log())
    }
}

const NAMES: &[&str] = &["m1", "m2", "m3", "hang", "slow", "panic", "fail", "flaky"];

#[tonic::async_trait]
impl Resources for Motors {
    fn names(&self) -> Vec<ResourceName> {
        let name = |subtype: &str, name: &str| ResourceName {
            namespace: "rdk".to_owned(),
            r#type: "component".to_owned(),
            subtype: subtype.to_owned(),
            name: name.to_owned(),
        };
        let many = (0..100).map(|number| name("motor", &format!("x{number}")));
        let motors = NAMES.iter().map(|motor| name("motor", motor));
        motors.chain(many).chain([name("testecho", "e1"), name("base", "wheels")]).collect()
    }

    async fn stop(&self, resource: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let name = resource.rsplit('/').next().unwrap();
        self.note(format!("stop {name}"));
        match name {
            "hang" => std::future::pending::<()>().await,
            "slow" => tokio::time::sleep(500 * MS).await,
            "panic" => panic!("asked to panic"),
            "fail" => return Err("asked to fail".into()),
            "flaky" if self.log().iter().filter(|what| *what == "stop flaky").count() <= 3 => {
                return Err("asked to fail".into());
            }
            _ => {}
        }
        self.note(format!("stopped {name}"));
        Ok(())
    }
}

/// Notes when it is dropped.
struct Dropped(Motors, String);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.note(format!("dropped {}", self.1));
    }
}

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl MotorService for Motors {
    async fn set_power(
        &self,
        request: Request<SetPowerRequest>,
    ) -> Result<Response<SetPowerResponse>, Status> {
        self.note(format!("power {}", request.get_ref().name));
        Ok(Response::new(SetPowerResponse {}))
    }

    /// Goes on until dropped.
    async fn go_for(&self, request: Request<GoForRequest>) -> Result<Response<GoForResponse>, Status> {
        let name = request.into_inner().name;
        self.note(format!("go {name}"));
        let _dropped = Dropped(self.clone(), name);
        std::future::pending().await
    }

    async fn go_to(&self, _: Request<GoToRequest>) -> Result<Response<GoToResponse>, Status> {
        no()
    }

    /// Moves the wheels as well.
    async fn set_rpm(&self, request: Request<SetRpmRequest>) -> Result<Response<SetRpmResponse>, Status> {
        let monitor = request.extensions().get::<Monitor>().expect("no monitor").clone();
        monitor.moving("rdk:component:base/wheels").await?;
        self.note(format!("rpm {}", request.get_ref().name));
        Ok(Response::new(SetRpmResponse {}))
    }

    async fn reset_zero_position(
        &self,
        _: Request<ResetZeroPositionRequest>,
    ) -> Result<Response<ResetZeroPositionResponse>, Status> {
        no()
    }

    /// Fails, unmonitored.
    async fn get_position(
        &self,
        _: Request<GetPositionRequest>,
    ) -> Result<Response<GetPositionResponse>, Status> {
        no()
    }

    async fn get_properties(
        &self,
        _: Request<GetPropertiesRequest>,
    ) -> Result<Response<GetPropertiesResponse>, Status> {
        no()
    }

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        no()
    }

    async fn is_powered(&self, _: Request<IsPoweredRequest>) -> Result<Response<IsPoweredResponse>, Status> {
        no()
    }

    /// Unmonitored. Never ends.
    async fn is_moving(&self, _: Request<IsMovingRequest>) -> Result<Response<IsMovingResponse>, Status> {
        self.note("asked whether it moves");
        std::future::pending().await
    }
}

#[tonic::async_trait]
impl TestEchoService for Motors {
    async fn echo(&self, _: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        no()
    }

    type EchoMultipleStream = BoxStream<'static, Result<EchoMultipleResponse, Status>>;

    /// A monitored stream: a message every 100 ms; for one that begins with `flood`, as fast as it can. For
    /// `produce`, a task drives on and fills the stream every 10 ms, until that is dropped.
    async fn echo_multiple(
        &self,
        request: Request<EchoMultipleRequest>,
    ) -> Result<Response<Self::EchoMultipleStream>, Status> {
        let EchoMultipleRequest { name, message } = request.into_inner();
        self.note(format!("echo {name}"));
        if message == "produce" {
            let (echoes, produced) = tokio::sync::mpsc::channel(1);
            let motors = self.clone();
            tokio::spawn(async move {
                while !echoes.is_closed() {
                    motors.note(format!("drive {name}"));
                    let _ = echoes.try_send(Ok(EchoMultipleResponse { message: message.clone() }));
                    tokio::time::sleep(10 * MS).await;
                }
                motors.note(format!("dropped {name}"));
            });
            return Ok(Response::new(ReceiverStream::new(produced).boxed()));
        }
        let dropped = Dropped(self.clone(), name);
        let echoes = stream::repeat(message).then(move |message| {
            let _dropped = &dropped;
            async move {
                if !message.starts_with("flood") {
                    tokio::time::sleep(100 * MS).await;
                }
                Ok(EchoMultipleResponse { message })
            }
        });
        Ok(Response::new(echoes.boxed()))
    }

    type EchoBiDiStream = Pending<Result<EchoBiDiResponse, Status>>;

    /// Leaves a task that obeys the request's messages. Unmonitored, unless a test says otherwise.
    async fn echo_bi_di(
        &self,
        request: Request<Streaming<EchoBiDiRequest>>,
    ) -> Result<Response<Self::EchoBiDiStream>, Status> {
        let (motors, mut messages) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let end = loop {
                match messages.message().await {
                    Ok(Some(message)) => motors.note(format!("told {}", message.name)),
                    Ok(None) => break "end".to_owned(),
                    Err(status) => break format!("{:?}", status.code()),
                }
            };
            motors.note(format!("told no more: {end}"));
        });
        Ok(Response::new(stream::pending()))
    }

    async fn stop(&self, _: Request<EchoStopRequest>) -> Result<Response<EchoStopResponse>, Status> {
        no()
    }
}

/// Its services, without sessions.
pub fn services(motors: &Motors) -> Routes {
    Routes::new(MotorServiceServer::new(motors.clone()))
        .add_service(TestEchoServiceServer::new(motors.clone()))
}

/// A robot that is called without a network.
#[derive(Debug, Clone)]
pub struct Robot {
    pub motors: Motors,
    pub sessions: SessionManager,
    routes: Routes,
}

impl Robot {
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(change: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder) -> Self {
        let motors = Motors::default();
        let builder = SessionManager::builder(Arc::new(motors.clone()));
        let sessions = change(builder).build().unwrap();
        let routes = sessions.protect(services(&motors));
        Self { motors, sessions, routes }
    }

    /// Somebody on a connection of their own.
    pub fn operator(&self, identity: &str) -> Operator {
        self.operator_at(Some(identity), "10.0.0.1:5000", TransportKind::WebRtc)
    }

    pub fn operator_at(&self, identity: Option<&str>, remote: &str, transport: TransportKind) -> Operator {
        let connection = ConnectionHandle::new();
        let guard = Arc::new(connection.guard());
        let mut info = CallInfo::new(connection, transport);
        info.remote = Some(remote.to_owned());
        info.local = Some("10.0.0.99:1".to_owned());
        let identity = identity.map(|identity| Identity(identity.to_owned()));
        Operator { line: Line { routes: self.routes.clone(), info, identity, arrived: None }, _open: guard }
    }
}

/// Somebody who calls the robot. The connection is gone when it is dropped.
#[derive(Debug, Clone)]
pub struct Operator {
    pub line: Line,
    _open: Arc<ConnectionGuard>,
}

/// A connection without a network.
#[derive(Debug, Clone)]
pub struct Line {
    pub routes: Routes,
    info: CallInfo,
    identity: Option<Identity>,
    pub arrived: Option<Arrived>,
}

impl tower::Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <Routes as tower::Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.info.clone());
        self.identity.clone().map(|identity| request.extensions_mut().insert(identity));
        self.arrived.map(|arrived| request.extensions_mut().insert(arrived));
        self.routes.call(request)
    }
}

/// Puts a session's id into a request.
pub fn under<T>(sid: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(sid) = sid {
        request.metadata_mut().insert("viam-sid", sid.parse().unwrap());
    }
    request
}

impl Operator {
    pub fn robot(&self) -> RobotServiceClient<Line> {
        RobotServiceClient::new(self.line.clone()).max_encoding_message_size(usize::MAX)
    }

    pub fn motors(&self) -> MotorServiceClient<Line> {
        MotorServiceClient::new(self.line.clone())
    }

    pub async fn start(&self) -> String {
        self.resume("").await.unwrap()
    }

    pub async fn resume(&self, id: &str) -> Result<String, Status> {
        let started = self.robot().start_session(StartSessionRequest { resume: id.to_owned() }).await?;
        let started = started.into_inner();
        assert_eq!(started.heartbeat_window, Some(W.try_into().unwrap()));
        Ok(started.id)
    }

    pub async fn beat(&self, id: &str) -> Result<(), Status> {
        let request = SendSessionHeartbeatRequest { id: id.to_owned() };
        self.robot().send_session_heartbeat(request).await.map(|_| ())
    }

    /// A beat every fifth of a window, for this long; then one more.
    pub async fn beat_for(&self, id: &str, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.beat(id).await.unwrap();
            tokio::time::sleep((W / 5).min(end - Instant::now())).await;
        }
        self.beat(id).await.unwrap();
    }

    pub async fn power(&self, sid: Option<&str>, motor: &str) -> Result<MetadataMap, Status> {
        let message = SetPowerRequest { name: motor.to_owned(), power_pct: 1.0, extra: None };
        self.motors().set_power(under(sid, message)).await.map(|response| response.metadata().clone())
    }

    /// Never returns by itself.
    pub async fn go(&self, sid: Option<&str>, motor: &str) -> Status {
        let message = GoForRequest { name: motor.to_owned(), rpm: 1.0, revolutions: 1.0, extra: None };
        self.motors().go_for(under(sid, message)).await.unwrap_err()
    }
}
