//! Credentials and tokens: never in what a plaintext server receives, unless that was asked for by name;
//! never in what is printed; only where they belong.

mod faults;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farlink::auth::Authorized;
use farlink::dial::{Cause, Stage};
use farlink::peer::memory::MemoryStack;
use farlink::proto::echo::echo_service_client::EchoServiceClient;
use farlink::proto::echo::echo_service_server::{EchoService, EchoServiceServer};
use farlink::proto::echo::{
    EchoBiDiRequest, EchoBiDiResponse, EchoMultipleRequest, EchoMultipleResponse, EchoRequest, EchoResponse,
};
use farlink::server::Server;
use farlink::transport::direct::Roots;
use farlink::{Credentials, DialError, DialOptions, IceServer};
use faults::{Doorman, Habit, Serving, Wire, closed_port, identity, within};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

const KEY: &str = "api-key-hush-hush";
const TOKEN: &str = "token-hush-hush";
const KEY_ID: &str = "11111111-2222-3333-4444-555555555555";
const TIMEOUT: Duration = Duration::from_secs(2);

fn with_key() -> DialOptions {
    direct(DialOptions::with_api_key(KEY, KEY_ID).unwrap())
}

fn with_token() -> DialOptions {
    direct(DialOptions::new().credentials(Credentials::token(TOKEN)))
}

fn direct(options: DialOptions) -> DialOptions {
    options.disable_webrtc(true).timeout(TIMEOUT)
}

/// Echo that lets in who shows a token of the doorman's that is not revoked, and remembers the tokens.
#[derive(Debug, Clone, Default)]
struct Guarded {
    shown: Arc<Mutex<Vec<Option<String>>>>,
    revoked: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl EchoService for Guarded {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let shown = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.shown.lock().unwrap().push(shown.clone());
        if shown.is_some_and(|shown| self.revoked.lock().unwrap().contains(&shown)) {
            return Err(Status::unauthenticated("no session with this token"));
        }
        Ok(Response::new(EchoResponse { message: request.into_inner().message }))
    }

    type EchoMultipleStream = tokio_stream::Pending<Result<EchoMultipleResponse, Status>>;

    async fn echo_multiple(
        &self,
        _: Request<EchoMultipleRequest>,
    ) -> Result<Response<Self::EchoMultipleStream>, Status> {
        Err(Status::unimplemented(""))
    }

    type EchoBiDiStream = tokio_stream::Pending<Result<EchoBiDiResponse, Status>>;

    async fn echo_bi_di(
        &self,
        _: Request<Streaming<EchoBiDiRequest>>,
    ) -> Result<Response<Self::EchoBiDiStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// A robot that authenticates, behind a wire that records.
struct Scene {
    doorman: Doorman,
    echo: Guarded,
    wire: Wire,
    roots: Vec<u8>,
    _serving: Serving,
}

impl Scene {
    async fn new(tls: bool) -> Self {
        let (doorman, echo) = (Doorman::default(), Guarded::default());
        let routes = Routes::new(doorman.server()).add_service(EchoServiceServer::new(echo.clone()));
        let (identity, roots) = identity(&["localhost", "127.0.0.1"]);
        let serving = Serving::start(routes, tls.then_some(identity)).await;
        let wire = Wire::that(Habit::PassesOn(serving.addr)).await;
        Self { doorman, echo, wire, roots, _serving: serving }
    }

    fn address(&self) -> String {
        format!("localhost:{}", self.wire.addr.port())
    }

    async fn dial(&self, options: DialOptions) -> Result<farlink::Channel, DialError> {
        let options = options.roots(Roots::Pem(self.roots.clone()));
        within(farlink::dial(self.address(), options)).await
    }

    /// Whether anything secret went over the wire in the clear. Headers are Huffman coded in HTTP/2, so
    /// what the server saw counts, not only what the wire shows.
    fn saw_secrets(&self) -> bool {
        let asked = !self.doorman.asked.lock().unwrap().is_empty();
        let shown = self.echo.shown.lock().unwrap().iter().any(Option::is_some);
        asked || shown || self.wire.has_received(KEY) || self.wire.has_received(TOKEN)
    }
}

async fn echo(channel: &farlink::Channel) -> Result<(), Status> {
    let mut client = EchoServiceClient::new(channel.clone());
    within(client.echo(EchoRequest { message: "hello".into() })).await.map(drop)
}

#[tokio::test]
async fn the_matrix_of_flags_against_a_plaintext_server() {
    // insecure, downgrade, downgrade with credentials, credentials; whether it connects, whether secrets go.
    for (insecure, downgrade, with_creds, creds, connects, secrets) in [
        (false, false, false, false, false, false),
        (false, true, false, false, true, false),
        (false, false, true, false, true, false),
        (true, false, false, false, true, false),
        (false, false, false, true, false, false),
        (false, true, false, true, false, false),
        (false, false, true, true, true, true),
        (false, true, true, true, true, true),
        (true, false, false, true, true, true),
        (true, true, false, true, true, true),
    ] {
        for identified in [with_key(), with_token()] {
            let row = (insecure, downgrade, with_creds, creds);
            let scene = Scene::new(false).await;
            let options = if creds { identified } else { direct(DialOptions::new()) };
            let options = options
                .insecure(insecure)
                .allow_insecure_downgrade(downgrade)
                .allow_insecure_with_creds_downgrade(with_creds);
            let dialed = scene.dial(options).await;
            assert_eq!(dialed.is_ok(), connects, "{row:?}: {dialed:?}");
            match dialed {
                Ok(channel) => {
                    echo(&channel).await.unwrap();
                    let downgraded = channel.report().unwrap().attempts[0].downgraded;
                    assert_eq!(downgraded, !insecure, "{row:?}");
                }
                Err(error) => {
                    assert_eq!(matches!(error, DialError::Denied(_)), creds && downgrade, "{row:?}: {error}");
                    assert_eq!(scene.wire.total(), 1, "one hello, and no second connection");
                }
            }
            assert_eq!(scene.saw_secrets(), secrets, "{row:?}");
        }
    }
}

#[tokio::test]
async fn over_tls_no_flag_makes_it_plaintext() {
    for (downgrade, with_creds) in [(false, false), (true, false), (true, true)] {
        let scene = Scene::new(true).await;
        let options = with_key();
        let options =
            options.allow_insecure_downgrade(downgrade).allow_insecure_with_creds_downgrade(with_creds);
        let channel = scene.dial(options).await.unwrap();
        echo(&channel).await.unwrap();
        assert!(!channel.report().unwrap().attempts[0].downgraded);
        assert_eq!(scene.doorman.asked.lock().unwrap().len(), 1, "the server had them");
        for secret in [KEY, TOKEN, "token-1", KEY_ID, "Authenticate", "PRI * HTTP/2.0"] {
            assert!(!scene.wire.has_received(secret), "{secret} in the clear");
        }
    }
}

#[tokio::test]
async fn only_an_answer_that_is_not_tls_downgrades() {
    let yes = |options: DialOptions| {
        options.allow_insecure_downgrade(true).allow_insecure_with_creds_downgrade(true)
    };
    for habit in [
        Habit::Mute,
        Habit::Resets,
        Habit::Says(b""),
        // A TLS alert: it speaks TLS, and does not like us.
        Habit::Says(b"\x15\x03\x03\x00\x02\x02\x28"),
        // Half a record.
        Habit::Says(b"\x16\x03\x03"),
    ] {
        let wire = Wire::that(habit.clone()).await;
        for options in [yes(with_key()), yes(with_token()), yes(direct(DialOptions::new()))] {
            let before = wire.total();
            let error = within(farlink::dial(wire.addr.to_string(), options)).await.unwrap_err();
            assert_eq!(error.report().unwrap().attempts[0].failure.as_ref().unwrap().stage, Stage::Connect);
            assert_eq!(wire.total(), before + 1, "{habit:?}: tried again in plaintext");
        }
        assert!(!wire.has_received("PRI * HTTP/2.0") && !wire.has_received(KEY), "{habit:?}");
    }
    // Refused.
    let error = farlink::dial(closed_port().await.to_string(), yes(with_key())).await.unwrap_err();
    assert!(!error.report().unwrap().attempts[0].downgraded);
    // Not trusted; for another name.
    let scene = Scene::new(true).await;
    let (_, other) = identity(&["localhost"]);
    let untrusted = yes(with_key()).roots(Roots::Pem(other));
    assert!(within(farlink::dial(scene.address(), untrusted)).await.is_err());
    let (mismatch, pem) = identity(&["other.example"]);
    let serving = Serving::start(Routes::new(scene.doorman.server()), Some(mismatch)).await;
    let wrong_name = yes(with_key()).roots(Roots::Pem(pem));
    assert!(within(farlink::dial(serving.addr.to_string(), wrong_name)).await.is_err());
    assert!(!scene.saw_secrets());
}

#[tokio::test]
async fn signaling_is_a_plaintext_server_like_any_other() {
    let stack: Arc<dyn farlink::peer::Stack> = Arc::new(MemoryStack::new());
    let scene = Scene::new(false).await;
    let robot = Wire::that(Habit::Mute).await;
    let options = DialOptions::with_api_key(KEY, KEY_ID).unwrap().timeout(TIMEOUT).stack(stack);
    let options = options.signaling_address(scene.wire.addr.to_string()).allow_insecure_downgrade(true);
    let error = farlink::dial(robot.addr.to_string(), options.clone()).await.unwrap_err();
    assert!(matches!(error, DialError::Denied(_)), "{error}");
    let failure = error.report().unwrap().attempts[0].failure.clone().unwrap();
    assert!(matches!(failure.cause, Cause::InsecureCredentials) && failure.stage == Stage::Signaling);
    assert!(failure.to_string().contains("allow_insecure_with_creds_downgrade"), "{failure}");
    assert_eq!(robot.total(), 0, "denied never falls back");
    assert!(!scene.saw_secrets());
}

#[tokio::test]
async fn a_token_is_on_every_call_but_the_one_that_gets_it_and_renewed_when_refused() {
    let scene = Scene::new(true).await;
    let channel = scene.dial(with_key()).await.unwrap();
    echo(&channel).await.unwrap();
    echo(&channel).await.unwrap();
    {
        let asked = scene.doorman.asked.lock().unwrap();
        let (metadata, request) = &asked[0];
        assert!(metadata.get("authorization").is_none(), "the call for a token carries none");
        assert_eq!(request.entity, KEY_ID);
        let credentials = request.credentials.as_ref().unwrap();
        assert_eq!((credentials.r#type.as_str(), credentials.payload.as_str()), ("api-key", KEY));
        assert_eq!(asked.len(), 1, "one token for all calls");
    }
    // The robot restarts and forgets its tokens.
    scene.echo.revoked.lock().unwrap().push("Bearer token-1".to_owned());
    assert_eq!(echo(&channel).await.unwrap_err().code(), Code::Unauthenticated);
    let (one, other) = tokio::join!(echo(&channel), echo(&channel));
    one.and(other).unwrap();
    let shown = scene.echo.shown.lock().unwrap().clone();
    let shown: Vec<_> = shown.iter().map(|shown| shown.as_deref().unwrap()).collect();
    let (first, second) = ("Bearer token-1", "Bearer token-2");
    assert_eq!(shown, [first, first, first, second, second]);
    let asked = scene.doorman.asked.lock().unwrap();
    assert_eq!(asked.len(), 2, "and one for all after that");
    assert!(asked.iter().all(|(metadata, _)| metadata.get("authorization").is_none()));
}

#[tokio::test]
async fn a_ready_token_is_sent_as_it_is_and_nobody_is_asked_for_one() {
    let scene = Scene::new(true).await;
    let channel = scene.dial(with_token()).await.unwrap();
    echo(&channel).await.unwrap();
    assert_eq!(*scene.echo.shown.lock().unwrap(), [Some(format!("Bearer {TOKEN}"))]);
    assert!(scene.doorman.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_user_s_own_authorization_wins_and_costs_no_token() {
    let scene = Scene::new(true).await;
    let channel = scene.dial(with_key()).await.unwrap();
    scene.echo.revoked.lock().unwrap().push("Bearer mine".to_owned());
    let mut request = Request::new(EchoRequest::default());
    request.metadata_mut().insert("authorization", "Bearer mine".parse().unwrap());
    let refused = within(EchoServiceClient::new(channel.clone()).echo(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    echo(&channel).await.unwrap();
    assert_eq!(scene.doorman.asked.lock().unwrap().len(), 1, "ours was not at fault");
    assert_eq!(scene.echo.shown.lock().unwrap().last().unwrap().as_deref(), Some("Bearer token-1"));
}

#[tokio::test]
async fn nothing_that_is_printed_shows_a_secret() {
    let key = DialOptions::with_api_key(KEY, KEY_ID).unwrap();
    let turn = IceServer::with_credential("turn:turn.example", "me", "turn-hush-hush").unwrap();
    let builder =
        Server::builder().host("robot.example").insecure(true).listen(SocketAddr::from(([127, 0, 0, 1], 0)));
    let builder = builder.credentials("me", Credentials::api_key(KEY)).ice_servers([turn.clone()]);
    let mut shown = vec![
        format!("{:?} {:?}", Credentials::api_key(KEY), Credentials::token(TOKEN)),
        format!("{:?}", key.clone().ice_servers(vec![turn.clone()])),
        format!("{builder:?} {turn:?}"),
        format!("{:?}", builder.clone().stack(Arc::new(MemoryStack::new())).start(Routes::default()).await),
    ];
    // Refused over TLS, refused for plaintext, and let in.
    let mut scene = Scene::new(true).await;
    let channel = scene.dial(direct(key.clone())).await.unwrap();
    echo(&channel).await.unwrap();
    shown.push(format!("{channel:?} {:?} {}", channel.report(), channel.report().unwrap().to_json()));
    scene.echo.revoked.lock().unwrap().push("Bearer token-1".to_owned());
    shown.push(format!("{:?}", echo(&channel).await.unwrap_err()));
    scene = Scene::new(false).await;
    for options in [direct(key.clone()), direct(key.clone()).allow_insecure_downgrade(true)] {
        let error = scene.dial(options).await.unwrap_err();
        shown.push(format!("{error} {error:?}"));
    }
    for text in shown {
        assert!(!text.contains("hush") && !text.contains("token-1"), "{text}");
    }
}

/// Everything that is logged, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_shows_a_secret_whatever_its_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    let subscriber = subscriber.with_ansi(false).with_writer(move || writer.clone()).finish();
    // For all threads: interest in a log line is cached for the process, so a subscriber of one thread may
    // miss lines that another test came by first. The other tests' lines must show no secret either.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let scene = Scene::new(true).await;
    for options in [with_key(), with_token()] {
        let channel = scene.dial(options).await.unwrap();
        echo(&channel).await.unwrap();
    }
    scene.echo.revoked.lock().unwrap().push("Bearer token-1".to_owned());
    scene.echo.revoked.lock().unwrap().push(format!("Bearer {TOKEN}"));
    let channel = scene.dial(with_token()).await.unwrap();
    echo(&channel).await.unwrap_err();
    let plain = Scene::new(false).await;
    plain.dial(with_key().allow_insecure_downgrade(true)).await.unwrap_err();
    plain.dial(with_key().allow_insecure_with_creds_downgrade(true)).await.unwrap();
    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(text.contains("dial stage"), "it was logged at all");
    let mut downgrades = text.lines().filter(|line| line.contains("going on in plaintext as allowed"));
    assert!(downgrades.next().unwrap().contains(" INFO "), "what the user allowed is no warning");
    for line in text.lines() {
        assert!(!line.contains("hush") && !line.contains("token-1"), "{line}");
    }
}

#[tokio::test]
async fn a_transport_with_a_token_does_not_print_it() {
    use farlink::transport::direct::{DirectTransport, Endpoint, Security};
    let scene = Scene::new(false).await;
    let endpoint = "127.0.0.1".to_owned();
    let endpoint = Endpoint::Tcp { host: endpoint, port: scene.wire.addr.port() };
    let target = endpoint.resolve().await.unwrap();
    let transport = DirectTransport::connect(&target, &Security::Plaintext).await.unwrap();
    let credentials = Credentials::api_key(KEY);
    let authorized = within(Authorized::authenticate(transport, credentials, "me".to_owned())).await.unwrap();
    let text = format!("{authorized:?}");
    assert!(!text.contains("hush") && !text.contains("token-1"), "{text}");
}
