//! Each name of Viam's `viam.sessions_client` is here, and does what its document says.
//!
//! The names are those of the module as of SDK 0.23 (June 2024); `farlink::sessions::names` maps them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farlink::proto::common::ResourceName;
use farlink::proto::motor::{SetPowerRequest, motor_service_client::MotorServiceClient};
use farlink::proto::robot::{GetSessionsRequest, GetVersionRequest};
use farlink::server::Server;
use farlink::sessions::names;
use farlink::sessions::robot::{Resources, SessionManager};
use farlink::sessions::{
    DialOptions, EXEMPT_METADATA_METHODS, LOGGER, RobotServiceStub, SESSION_METADATA_KEY,
    SendSessionHeartbeatRequest, SessionState, SessionsClient, StartSessionRequest, StartSessionResponse,
    dial,
};
use farlink::{Channel, ConfigError, Credentials};
use prost::Message as _;
use tonic::Code;
use tonic::service::Routes;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

const KEY_ID: &str = "11111111-2222-3333-4444-555555555555";

#[test]
fn session_metadata_key_is_viam_sid() {
    assert_eq!(SESSION_METADATA_KEY, "viam-sid");
    assert_eq!(SESSION_METADATA_KEY, names::SESSION_METADATA_KEY);
    // As a key of metadata: lower case, not binary.
    let mut request = tonic::Request::new(());
    request.metadata_mut().insert(SESSION_METADATA_KEY, tonic::metadata::MetadataValue::from_static("id"));
}

#[test]
fn exempt_metadata_methods_are_these_nine_and_can_be_asked() {
    let nine = [
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/proto.rpc.webrtc.v1.SignalingService/Call",
        "/proto.rpc.webrtc.v1.SignalingService/CallUpdate",
        "/proto.rpc.webrtc.v1.SignalingService/OptionalWebRTCConfig",
        "/proto.rpc.v1.AuthService/Authenticate",
        "/viam.robot.v1.RobotService/ResourceNames",
        "/viam.robot.v1.RobotService/ResourceRPCSubtypes",
        "/viam.robot.v1.RobotService/StartSession",
        "/viam.robot.v1.RobotService/SendSessionHeartbeat",
    ];
    assert_eq!(EXEMPT_METADATA_METHODS, nine);
    assert!(!EXEMPT_METADATA_METHODS.contains(&"/viam.component.motor.v1.MotorService/SetPower"));
}

#[test]
fn send_session_heartbeat_request_has_an_id() {
    let request = SendSessionHeartbeatRequest { id: "me".to_owned() };
    assert_eq!(request.encode_to_vec(), [0x0a, 2, b'm', b'e']);
    assert_eq!(SendSessionHeartbeatRequest::default().id, "");
}

#[test]
fn start_session_request_resumes_nothing_by_default() {
    assert!(StartSessionRequest::default().encode_to_vec().is_empty());
    let request = StartSessionRequest { resume: "me".to_owned() };
    assert_eq!(request.encode_to_vec(), [0x0a, 2, b'm', b'e']);
}

#[test]
fn start_session_response_tells_a_window_of_zero_from_none() {
    let decode = |bytes: &[u8]| StartSessionResponse::decode(bytes).unwrap();
    let none = decode(&[0x0a, 2, b'm', b'e']);
    assert_eq!((none.id.as_str(), none.heartbeat_window), ("me", None));
    let zero = decode(&[0x0a, 2, b'm', b'e', 0x12, 0]);
    assert_eq!(zero.heartbeat_window, Some(prost_types::Duration::default()));
    let two = decode(&[0x12, 2, 0x08, 2]).heartbeat_window;
    assert_eq!(two.map(|window| Duration::try_from(window).unwrap()), Some(Duration::from_secs(2)));
}

#[test]
fn dial_options_have_their_fields_and_defaults() {
    let options = DialOptions::default();
    let DialOptions {
        disable_webrtc,
        auth_entity,
        credentials,
        insecure,
        allow_insecure_downgrade,
        allow_insecure_with_creds_downgrade,
        max_reconnect_attempts,
        timeout,
        ..
    } = options;
    assert_eq!((disable_webrtc, insecure), (false, false));
    assert_eq!((allow_insecure_downgrade, allow_insecure_with_creds_downgrade), (false, false));
    assert_eq!((auth_entity, credentials), (None, None));
    assert_eq!((max_reconnect_attempts, timeout), (3, Duration::from_secs(20)));

    let mut options = DialOptions::new()
        .disable_webrtc(true)
        .auth_entity("robot.example".to_owned())
        .credentials(Credentials::new("robot-location-secret", "hush"))
        .insecure(true)
        .allow_insecure_downgrade(true)
        .allow_insecure_with_creds_downgrade(true)
        .max_reconnect_attempts(0_u32);
    options.timeout = Duration::from_millis(1500);
    assert!(options.disable_webrtc && options.insecure && options.max_reconnect_attempts == 0);
    assert!(!format!("{options:?}").contains("hush"));
}

#[test]
fn with_api_key_wants_a_uuid_and_leaves_all_else_at_its_default() {
    let options = DialOptions::with_api_key("key", KEY_ID).unwrap();
    assert_eq!(options.credentials, Some(Credentials::new("api-key", "key")));
    assert_eq!(options.auth_entity.as_deref(), Some(KEY_ID));
    let without = options.credentials(None).auth_entity(None);
    assert_eq!(format!("{without:?}"), format!("{:?}", DialOptions::default()));

    // What Python's uuid.UUID takes, and as it was spelled.
    for spelled in [&KEY_ID.replace('-', ""), &format!("{{{KEY_ID}}}"), &format!("urn:uuid:{KEY_ID}")] {
        let options = DialOptions::with_api_key("", spelled.as_str()).unwrap();
        assert_eq!(options.auth_entity.as_deref(), Some(spelled.as_str()));
    }
    for bad in ["", "key-id", " 11111111-2222-3333-4444-555555555555"] {
        let error = DialOptions::with_api_key("hush", bad).unwrap_err();
        assert!(matches!(&error, ConfigError::ApiKeyId(id) if id == bad), "{error:?}");
        assert!(error.to_string().contains(&format!("{bad:?} is not a valid UUID")), "{error}");
    }
}

/// A robot that has no sessions, and a channel to it.
async fn robot() -> (Server, Channel) {
    serve(Routes::default()).await
}

async fn serve(routes: Routes) -> (Server, Channel) {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let robot = Server::builder().listen(loopback).insecure(true).start(routes).await.unwrap();
    let options = DialOptions::new().insecure(true).disable_webrtc(true);
    let channel = dial(robot.local_addr().unwrap().to_string(), options).await.unwrap();
    (robot, channel)
}

#[tokio::test]
async fn dial_gives_a_channel_and_robot_service_stub_speaks_over_it() {
    let (robot, channel) = robot().await;
    let mut stub = RobotServiceStub::new(channel);
    let answer = stub.start_session(StartSessionRequest::default()).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    let answer = stub.send_session_heartbeat(SendSessionHeartbeatRequest::default()).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    robot.shutdown().await;
}

#[tokio::test]
async fn a_disabled_sessions_client_has_no_metadata_and_asks_nobody() {
    let (robot, channel) = robot().await;
    let sessions = SessionsClient::builder(channel).disabled(true).build();
    assert!(sessions.metadata().await.unwrap().is_empty());
    assert!(matches!(sessions.state(), SessionState::Disabled));
    sessions.reset();
    assert!(sessions.metadata().await.unwrap().is_empty());
    robot.shutdown().await;
}

#[tokio::test]
async fn where_the_robot_knows_no_sessions_metadata_is_empty_and_logger_tells() {
    let said = Said::default();
    let filter = EnvFilter::new(format!("off,{LOGGER}=debug"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(said.clone()).finish();
    // For all tests of this program: tracing remembers for all threads what one thread wants to hear.
    tracing::subscriber::set_global_default(log).unwrap();

    let (robot, channel) = robot().await;
    let sessions = SessionsClient::new(channel);
    assert!(matches!(sessions.state(), SessionState::Idle));
    assert!(sessions.metadata().await.unwrap().is_empty());
    assert!(matches!(sessions.state(), SessionState::Unsupported));
    let said = said.0.lock().unwrap().clone();
    let said = String::from_utf8(said).unwrap();
    let told = |line: &str| line.contains(&format!("DEBUG {LOGGER}: ")) && line.contains("no sessions");
    assert!(said.lines().any(told), "{said}");

    // Calls pass without.
    let answer = sessions.client().get_version(GetVersionRequest {}).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    let mut motor = MotorServiceClient::new(sessions.channel());
    let answer = motor.set_power(SetPowerRequest::default()).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    robot.shutdown().await;
}

/// A robot that has sessions and nothing that moves.
#[derive(Debug)]
struct Nothing;

#[tonic::async_trait]
impl Resources for Nothing {
    fn names(&self) -> Vec<ResourceName> {
        Vec::new()
    }

    async fn stop(&self, _: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

#[tokio::test]
async fn sessions_client_keeps_one_session_and_metadata_names_it() {
    let manager = SessionManager::builder(Arc::new(Nothing)).build().unwrap();
    let (robot, channel) = serve(manager.protect(Routes::default())).await;
    let sessions = SessionsClient::new(channel);
    let id = async || {
        let metadata = sessions.metadata().await.unwrap();
        assert_eq!(metadata.len(), 1);
        metadata.get(SESSION_METADATA_KEY).unwrap().to_str().unwrap().to_owned()
    };
    let first = id().await;
    assert_eq!((first.len(), id().await == first), (36, true));
    assert!(
        matches!(sessions.state(), SessionState::Active { window, .. } if window == Duration::from_secs(2))
    );
    let listed = sessions.client().get_sessions(GetSessionsRequest {}).await.unwrap().into_inner().sessions;
    assert_eq!(listed.iter().map(|session| &session.id).collect::<Vec<_>>(), [&first]);
    // At once, and then every fifth of the window.
    until(|| manager.stats().heartbeats >= 3).await;

    // The id is kept: the next start asks to go on with it.
    sessions.reset();
    assert!(matches!(sessions.state(), SessionState::Idle));
    assert_eq!(id().await, first);
    sessions.forget();
    assert_ne!(id().await, first);
    let stats = manager.stats();
    assert_eq!((stats.started, stats.resumed), (2, 1));
    robot.shutdown().await;
}

async fn until(done: impl Fn() -> bool) {
    let waited = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap();
}

/// What was logged.
#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Said {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
