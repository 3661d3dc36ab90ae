//! The signaling service, whole: a real listener on loopback, callers and answerers with tonic's client.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use farlink::peer::{IceServer, Role};
use farlink::proto::google_rpc;
use farlink::proto::webrtc::answer_request::Stage as Asked;
use farlink::proto::webrtc::answer_response::Stage as Said;
use farlink::proto::webrtc::call_response::Stage as Heard;
use farlink::proto::webrtc::call_update_request::Update;
use farlink::proto::webrtc::signaling_service_client::SignalingServiceClient;
use farlink::proto::webrtc::*;
use farlink::server::listener::{ConnectionInfo, Listener};
use farlink::signaling::queue::{MemoryQueue, QueueLimits};
use farlink::signaling::service::{Access, SignalingService};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

type Client = SignalingServiceClient<Channel>;

/// A signaling server on loopback.
struct Lab {
    addr: SocketAddr,
    queue: MemoryQueue,
    service: SignalingService,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Lab {
    async fn new() -> Self {
        Self::with(QueueLimits::default(), |service| service).await
    }

    async fn with(limits: QueueLimits, options: impl FnOnce(SignalingService) -> SignalingService) -> Self {
        let queue = MemoryQueue::new(limits);
        let service = options(SignalingService::new(Arc::new(queue.clone())));
        let listener = Listener::bind("127.0.0.1:0", None).await.unwrap();
        let addr = listener.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = Routes::new(service.clone().into_server());
        let server = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            listener.serve(routes, stopped).await.unwrap();
        });
        Self { addr, queue, service, stop: Some(stop), server }
    }

    async fn client(&self) -> Client {
        Client::connect(format!("http://{}", self.addr)).await.unwrap()
    }

    /// Waits until the queue holds what the test wants.
    async fn until(&self, condition: impl Fn(&MemoryQueue) -> bool) {
        within(async {
            while !condition(&self.queue) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("test took too long")
}

fn to<T>(hosts: &[&str], message: T) -> Request<T> {
    let mut request = Request::new(message);
    for host in hosts {
        request.metadata_mut().append("rpc-host", host.parse().unwrap());
    }
    request
}

/// An answerer's stream.
struct Robot {
    say: mpsc::Sender<AnswerResponse>,
    asked: Streaming<AnswerRequest>,
}

impl Robot {
    async fn new(client: &Client, hosts: &[&str]) -> Self {
        Self::open(client, hosts, None).await.unwrap()
    }

    async fn open(client: &Client, hosts: &[&str], heartbeats: Option<&'static str>) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(8);
        let mut request = to(hosts, ReceiverStream::new(said));
        if let Some(heartbeats) = heartbeats {
            let value = MetadataValue::from_static(heartbeats);
            request.metadata_mut().insert("heartbeats-allowed", value);
        }
        let asked = within(client.clone().answer(request)).await?.into_inner();
        Ok(Self { say, asked })
    }

    async fn say(&self, uuid: &str, stage: Said) {
        self.say.send(AnswerResponse { uuid: uuid.to_owned(), stage: Some(stage) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<AnswerRequest>, Status> {
        within(self.asked.message()).await
    }

    async fn stage(&mut self, uuid: &str) -> Option<Asked> {
        let request = self.next().await.unwrap()?;
        assert_eq!(request.uuid, uuid);
        request.stage
    }

    async fn init(&mut self) -> (String, AnswerRequestInitStage) {
        let request = self.next().await.unwrap().unwrap();
        let Some(Asked::Init(init)) = request.stage else { panic!("no init stage: {request:?}") };
        (request.uuid, init)
    }
}

async fn call(client: &Client, host: &str) -> Result<Streaming<CallResponse>, Status> {
    let request = CallRequest { sdp: "offer".into(), disable_trickle: false };
    Ok(within(client.clone().call(to(&[host], request))).await?.into_inner())
}

async fn hear(call: &mut Streaming<CallResponse>) -> Result<Option<Heard>, Status> {
    Ok(within(call.message()).await?.and_then(|response| response.stage))
}

async fn update(client: &Client, host: &str, uuid: &str, update: Update) -> Result<(), Status> {
    let request = CallUpdateRequest { uuid: uuid.into(), update: Some(update) };
    within(client.clone().call_update(to(&[host], request))).await.map(drop)
}

fn answer() -> Said {
    Said::Init(AnswerResponseInitStage { sdp: "answer".into() })
}

fn answered() -> Heard {
    Heard::Init(CallResponseInitStage { sdp: "answer".into() })
}

fn candidate(text: &str) -> IceCandidate {
    IceCandidate {
        candidate: text.into(),
        sdp_mid: Some(String::new()),
        sdpm_line_index: Some(0),
        username_fragment: None,
    }
}

fn robot_candidate(text: &str) -> Said {
    Said::Update(AnswerResponseUpdateStage { candidate: Some(candidate(text)) })
}

fn robot_done() -> Said {
    Said::Done(AnswerResponseDoneStage {})
}

fn detailed(message: &str) -> google_rpc::Status {
    let detail = prost_types::Any { type_url: "type.example/Detail".into(), value: b"why".to_vec() };
    google_rpc::Status {
        code: Code::ResourceExhausted as i32,
        message: message.into(),
        details: vec![detail],
    }
}

#[tokio::test]
async fn a_caller_and_a_robot_exchange_descriptions_and_candidates() {
    let servers = [IceServer::with_credential("turn:t.example", "u", "c").unwrap()];
    let lab = Lab::with(QueueLimits::default(), |service| service.with_ice_servers(servers.clone())).await;
    let client = lab.client().await;
    let config = client.clone().optional_web_rtc_config(to(&["h"], OptionalWebRtcConfigRequest {})).await;
    let config = config.unwrap().into_inner().config.unwrap();
    assert_eq!(config.additional_ice_servers, [servers[0].to_wire()]);

    let mut robot = Robot::new(&client, &["h", "h:80"]).await;
    let request = CallRequest { sdp: "offer".into(), disable_trickle: true };
    let mut call = client.clone().call(to(&["h:80"], request)).await.unwrap().into_inner();
    let (uuid, init) = robot.init().await;
    assert_eq!(init.sdp, "offer");
    let config = init.optional_config.unwrap();
    assert!(config.disable_trickle);
    assert_eq!(config.additional_ice_servers, [servers[0].to_wire()]);
    let deadline = SystemTime::try_from(init.deadline.unwrap()).unwrap();
    let left = deadline.duration_since(SystemTime::now()).unwrap();
    assert!(left <= Duration::from_secs(10) && left > Duration::from_secs(5), "{left:?}");

    robot.say(&uuid, answer()).await;
    robot.say(&uuid, robot_candidate("r1")).await;
    let first = within(call.message()).await.unwrap().unwrap();
    assert_eq!((first.uuid, first.stage), (uuid.clone(), Some(answered())));
    let Some(Heard::Update(heard)) = hear(&mut call).await.unwrap() else { panic!("no candidate") };
    assert_eq!(heard.candidate, Some(candidate("r1")));

    update(&client, "h:80", &uuid, Update::Candidate(candidate("c1"))).await.unwrap();
    let Some(Asked::Update(asked)) = robot.stage(&uuid).await else { panic!("no candidate") };
    assert_eq!(asked.candidate, Some(candidate("c1")), "fields that were absent stay absent");

    // The Call stream ends as soon as the robot is done, while the caller is not.
    robot.say(&uuid, robot_done()).await;
    assert_eq!(hear(&mut call).await.unwrap(), None);
    update(&client, "h:80", &uuid, Update::Candidate(candidate("c2"))).await.unwrap();
    assert!(matches!(robot.stage(&uuid).await, Some(Asked::Update(_))));
    update(&client, "h:80", &uuid, Update::Done(true)).await.unwrap();
    assert!(matches!(robot.stage(&uuid).await, Some(Asked::Done(_))));
    assert_eq!(robot.next().await.unwrap(), None, "the Answer stream has ended");
    update(&client, "h:80", &uuid, Update::Candidate(candidate("late"))).await.unwrap();
}

#[tokio::test]
async fn errors_keep_their_code_and_details_both_ways() {
    let lab = Lab::new().await;
    let client = lab.client().await;
    let mut robot = Robot::new(&client, &["h"]).await;
    let mut failing = call(&client, "h").await.unwrap();
    let (uuid, _) = robot.init().await;
    let error = AnswerResponseErrorStage { status: Some(detailed("no room")) };
    robot.say(&uuid, Said::Error(error)).await;
    let status = hear(&mut failing).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "error from answerer: no room"));
    let details = google_rpc::Status::decode(status.details()).unwrap();
    assert_eq!(details.details, detailed("").details);
    assert_eq!(robot.next().await.unwrap(), None, "the robot said the last word");

    let mut robot = Robot::new(&client, &["h"]).await;
    let mut failing = call(&client, "h").await.unwrap();
    let (uuid, _) = robot.init().await;
    update(&client, "h", &uuid, Update::Error(detailed("gave up"))).await.unwrap();
    let Some(Asked::Error(error)) = robot.stage(&uuid).await else { panic!("no error") };
    assert_eq!(error.status, Some(detailed("gave up")));
    assert!(matches!(robot.stage(&uuid).await, Some(Asked::Done(_))));
    assert_eq!(robot.next().await.unwrap(), None);
    assert_eq!(hear(&mut failing).await.unwrap_err().code(), Code::Cancelled);
}

#[tokio::test]
async fn an_abandoned_call_frees_the_robot_at_once() {
    let lab = Lab::new().await;
    let (caller, robots) = (lab.client().await, lab.client().await);
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let mut robot = Robot::new(&robots, &["h"]).await;
        let mut abandoned = call(&caller, "h").await.unwrap();
        let (uuid, _) = robot.init().await;
        robot.say(&uuid, answer()).await;
        hear(&mut abandoned).await.unwrap();
        let started = Instant::now();
        drop(abandoned);
        let Some(Asked::Error(error)) = robot.stage(&uuid).await else { panic!("no error") };
        fastest = fastest.min(started.elapsed());
        assert_eq!(error.status.unwrap().code, Code::Cancelled as i32);
        assert!(matches!(robot.stage(&uuid).await, Some(Asked::Done(_))));
        assert_eq!(robot.next().await.unwrap(), None);
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
}

#[tokio::test]
async fn an_offline_host_is_not_found_without_waiting() {
    let lab = Lab::new().await;
    let client = lab.client().await;
    let started = Instant::now();
    let status = call(&client, "nobody").await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "host appears to be offline; ensure machine is online and try again");
}

#[tokio::test]
async fn a_host_that_just_left_is_waited_for_a_little() {
    let limits = |millis| {
        let mut limits = QueueLimits::default();
        limits.grace = Duration::from_millis(millis);
        limits
    };
    let lab = Lab::with(limits(200), |service| service).await;
    let client = lab.client().await;
    drop(Robot::new(&client, &["h"]).await);
    lab.until(|queue| queue.counts().answerers == 0).await;
    let mut waits = call(&client, "h").await.unwrap();
    assert_eq!(hear(&mut waits).await.unwrap_err().code(), Code::NotFound);

    let lab = Lab::with(limits(60_000), |service| service).await;
    let client = lab.client().await;
    drop(Robot::new(&client, &["h"]).await);
    lab.until(|queue| queue.counts().answerers == 0).await;
    let _waits = call(&client, "h").await.unwrap();
    Robot::new(&client, &["h"]).await.init().await;
}

#[tokio::test]
async fn too_many_callers_or_robots_are_told_to_come_back() {
    let mut limits = QueueLimits::default();
    (limits.callers_per_host, limits.answerers_per_host) = (2, 1);
    let lab = Lab::with(limits, |service| service).await;
    let client = lab.client().await;
    let _robot = Robot::new(&client, &["h"]).await;
    let full = |status: Status| {
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "too many connection attempts; please wait a bit and try again");
    };
    full(Robot::open(&client, &["h"], None).await.err().unwrap());
    let first = call(&client, "h").await.unwrap();
    let _second = call(&client, "h").await.unwrap();
    full(call(&client, "h").await.unwrap_err());
    drop(first);
    within(async {
        while call(&client, "h").await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_deadline_is_told_to_both_in_a_sentence() {
    let lab =
        Lab::with(QueueLimits::default(), |service| service.with_offer_lifetime(Duration::from_millis(300)))
            .await;
    let client = lab.client().await;
    let mut robot = Robot::new(&client, &["h"]).await;
    let mut late = call(&client, "h").await.unwrap();
    let mut unclaimed = call(&client, "h").await.unwrap();
    let (uuid, _) = robot.init().await;
    let status = hear(&mut late).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("took the offer and did not answer"), "{status}");
    let Some(Asked::Error(error)) = robot.stage(&uuid).await else { panic!("no error") };
    assert_eq!(error.status.unwrap().code, Code::DeadlineExceeded as i32);
    assert!(matches!(robot.stage(&uuid).await, Some(Asked::Done(_))));
    let status = hear(&mut unclaimed).await.unwrap_err();
    assert!(status.message().contains("busy"), "{status}");
}

#[tokio::test]
async fn a_robot_that_breaks_the_rules_loses_its_stream_and_the_caller_hears_why() {
    let lab = Lab::new().await;
    let client = lab.client().await;
    for (uuid_of, stage, text) in [
        (Some("other"), answer(), "uuid"),
        (None, robot_candidate("c"), "before the init"),
        (None, robot_done(), "before the init"),
    ] {
        let mut robot = Robot::new(&client, &["h"]).await;
        let mut hears = call(&client, "h").await.unwrap();
        let (uuid, _) = robot.init().await;
        robot.say(uuid_of.unwrap_or(&uuid), stage).await;
        let status = robot.next().await.unwrap_err();
        assert!(status.message().contains(text), "{status}");
        let status = hear(&mut hears).await.unwrap_err();
        assert!(status.message().starts_with("error from answerer: "), "{status}");
        assert!(status.message().contains(text), "{status}");
    }

    let mut robot = Robot::new(&client, &["h"]).await;
    let mut hears = call(&client, "h").await.unwrap();
    let (uuid, _) = robot.init().await;
    robot.say(&uuid, answer()).await;
    robot.say(&uuid, answer()).await;
    assert!(robot.next().await.unwrap_err().message().contains("second time"));
    assert_eq!(hear(&mut hears).await.unwrap(), Some(answered()));
    assert_eq!(hear(&mut hears).await.unwrap(), None, "what it has may be enough");
}

#[tokio::test]
async fn updates_of_calls_that_ended_are_ignored_and_unknown_ones_are_not() {
    let lab = Lab::new().await;
    let client = lab.client().await;
    let status = update(&client, "h", "no-such", Update::Done(true)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "no active offer for \"no-such\""));
    let mut robot = Robot::new(&client, &["h"]).await;
    let mut hears = call(&client, "h").await.unwrap();
    let (uuid, _) = robot.init().await;
    robot.say(&uuid, answer()).await;
    robot.say(&uuid, robot_done()).await;
    while hear(&mut hears).await.unwrap().is_some() {}
    update(&client, "h", &uuid, Update::Done(true)).await.unwrap();
    while robot.next().await.unwrap().is_some() {}
    lab.until(|queue| queue.counts().calls == 0).await;
    update(&client, "h", &uuid, Update::Candidate(candidate("late"))).await.unwrap();
    let status = update(&client, "other", &uuid, Update::Done(true)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
}

#[tokio::test]
async fn heartbeats_go_only_to_who_allows_them_and_among_all_stages() {
    let lab = Lab::with(QueueLimits::default(), |service| {
        service.with_heartbeat_interval(Duration::from_millis(20))
    })
    .await;
    let client = lab.client().await;
    let mut robot = Robot::open(&client, &["h"], Some("true")).await.unwrap();
    let mut quiet = Robot::new(&client, &["quiet"]).await;
    async fn beat(robot: &mut Robot) {
        let request = robot.next().await.unwrap().unwrap();
        assert!(matches!(request.stage, Some(Asked::Heartbeat(_))), "{request:?}");
        assert_eq!(request.uuid, "");
    }
    async fn after_beats(robot: &mut Robot) -> AnswerRequest {
        loop {
            let request = robot.next().await.unwrap().unwrap();
            if !matches!(request.stage, Some(Asked::Heartbeat(_))) {
                return request;
            }
        }
    }
    for _ in 0..3 {
        beat(&mut robot).await;
    }
    let mut hears = call(&client, "h").await.unwrap();
    let init = after_beats(&mut robot).await;
    assert!(matches!(init.stage, Some(Asked::Init(_))));
    beat(&mut robot).await;
    robot.say(&init.uuid, answer()).await;
    assert_eq!(hear(&mut hears).await.unwrap(), Some(answered()));
    update(&client, "h", &init.uuid, Update::Done(true)).await.unwrap();
    let done = after_beats(&mut robot).await;
    assert!(matches!(done.stage, Some(Asked::Done(_))));
    beat(&mut robot).await;
    let _hears = call(&client, "quiet").await.unwrap();
    quiet.init().await;
}

#[tokio::test]
async fn an_offer_whose_robot_dies_before_it_answered_goes_to_another() {
    let lab = Lab::new().await;
    let (caller, robots) = (lab.client().await, lab.client().await);
    let mut second = Robot::new(&robots, &["h"]).await;
    let mut first = Robot::new(&robots, &["h"]).await;
    let mut hears = call(&caller, "h").await.unwrap();
    let (uuid, _) = first.init().await;
    update(&caller, "h", &uuid, Update::Candidate(candidate("c"))).await.unwrap();
    assert!(matches!(first.stage(&uuid).await, Some(Asked::Update(_))));
    drop(first);
    let (again, init) = second.init().await;
    assert_eq!((&again, init.sdp.as_str()), (&uuid, "offer"));
    assert!(matches!(second.stage(&uuid).await, Some(Asked::Update(_))), "the log is replayed");
    second.say(&uuid, answer()).await;
    assert_eq!(hear(&mut hears).await.unwrap(), Some(answered()));
    // One that only half-closes has died as well.
    let mut third = Robot::new(&robots, &["h"]).await;
    let mut hears = call(&caller, "h").await.unwrap();
    third.init().await;
    drop(third.say);
    let mut fourth = Robot::new(&robots, &["h"]).await;
    let (uuid, _) = fourth.init().await;
    fourth.say(&uuid, answer()).await;
    assert_eq!(hear(&mut hears).await.unwrap(), Some(answered()));
}

#[tokio::test]
async fn two_robots_of_one_host_take_two_callers_at_a_time() {
    let lab = Lab::new().await;
    let client = lab.client().await;
    let mut robots = [Robot::new(&client, &["h"]).await, Robot::new(&client, &["h"]).await];
    let mut calls = [call(&client, "h").await.unwrap(), call(&client, "h").await.unwrap()];
    let mut third = call(&client, "h").await.unwrap();
    let mut uuids = Vec::new();
    for robot in &mut robots {
        let (uuid, _) = robot.init().await;
        robot.say(&uuid, answer()).await;
        robot.say(&uuid, robot_done()).await;
        uuids.push(uuid);
    }
    assert_ne!(uuids[0], uuids[1]);
    for call in &mut calls {
        assert_eq!(hear(call).await.unwrap(), Some(answered()));
        assert_eq!(hear(call).await.unwrap(), None);
    }
    let mut next = Robot::new(&client, &["h"]).await;
    let (uuid, _) = next.init().await;
    next.say(&uuid, answer()).await;
    assert_eq!(hear(&mut third).await.unwrap(), Some(answered()));
}

#[tokio::test]
async fn many_hosts_leave_nothing_behind() {
    let mut limits = QueueLimits::default();
    limits.grace = Duration::from_millis(50);
    let lab = Lab::with(limits, |service| service.with_offer_lifetime(Duration::from_millis(500))).await;
    let client = lab.client().await;
    for n in 0..300 {
        let host = format!("host-{n}");
        let mut robot = Robot::new(&client, &[&host]).await;
        let _call = call(&client, &host).await.unwrap();
        robot.init().await;
        assert!(call(&client, &format!("stranger-{n}")).await.is_err());
    }
    lab.until(|queue| {
        let counts = queue.counts();
        counts.hosts + counts.calls + counts.answerers + counts.ended + counts.timers == 0
    })
    .await;
}

#[tokio::test]
async fn rpc_host_is_checked_in_the_words_of_the_contract() {
    let lab = Lab::with(QueueLimits::default(), |service| service.with_hosts(["h", "i"])).await;
    let client = lab.client().await;
    for (hosts, code, text) in [
        (&[][..], Code::Unknown, "expected rpc-host to be set in metadata"),
        (&[""], Code::Unknown, "expected non-empty rpc-host"),
        (&["h", "i"], Code::Unknown, "expected 1 rpc-host"),
        (&["H"], Code::InvalidArgument, "host not preconfigured"),
        (&["h", "h", "h", "h", "h", "h"], Code::Unknown, "too many rpc-host"),
    ] {
        let status = client.clone().call(to(hosts, CallRequest::default())).await.unwrap_err();
        assert_eq!(status.code(), code, "{hosts:?}");
        assert!(status.message().contains(text), "{hosts:?}: {status}");
        let status = client.clone().call_update(to(hosts, CallUpdateRequest::default())).await.unwrap_err();
        assert_eq!(status.code(), code, "{hosts:?}");
    }
    let refused = Robot::open(&client, &["h", "x"], None).await.err().unwrap();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "host not preconfigured"));
    let config = |hosts: &[&str]| {
        let (mut client, request) = (client.clone(), to(hosts, OptionalWebRtcConfigRequest {}));
        async move { client.optional_web_rtc_config(request).await }
    };
    assert_eq!(config(&["x"]).await.unwrap_err().message(), "host not preconfigured");
    assert!(config(&["h", "i"]).await.is_ok());
    assert_eq!(config(&[]).await.unwrap_err().code(), Code::Unknown);
}

#[tokio::test]
async fn messages_and_descriptions_are_limited_in_size() {
    let lab = Lab::new().await;
    let client = lab.client().await;
    let _robot = Robot::new(&client, &["h"]).await;
    for (len, code) in [(300 * 1024, Code::InvalidArgument), (2 << 20, Code::OutOfRange)] {
        let request = CallRequest { sdp: "x".repeat(len), disable_trickle: false };
        assert_eq!(client.clone().call(to(&["h"], request)).await.unwrap_err().code(), code, "{len}");
    }
}

#[tokio::test]
async fn a_hook_decides_who_may_call_and_who_may_answer() {
    let authorize = |access: &Access<'_>| {
        assert!(!access.extensions.get::<ConnectionInfo>().unwrap().tls);
        let token = access.metadata.get("authorization").and_then(|value| value.to_str().ok());
        match (token, access.role) {
            (Some("robot"), Role::Answerer) | (Some("user"), Role::Caller) if access.host == "h" => Ok(()),
            (None, _) => Err(Status::unauthenticated("who are you")),
            _ => Err(Status::permission_denied("not you")),
        }
    };
    let lab = Lab::with(QueueLimits::default(), |service| service.with_authorize(Arc::new(authorize))).await;
    let mut client = lab.client().await;
    assert_eq!(call(&client, "h").await.unwrap_err().code(), Code::Unauthenticated);
    let config = |token: &'static str| {
        let mut request = to(&["h"], OptionalWebRtcConfigRequest {});
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        let mut client = client.clone();
        async move { client.optional_web_rtc_config(request).await.map(drop) }
    };
    config("robot").await.unwrap();
    config("user").await.unwrap();
    assert_eq!(config("other").await.unwrap_err().code(), Code::PermissionDenied);
    let mut request = to(&["h", "i"], tokio_stream::empty());
    request.metadata_mut().insert("authorization", "robot".parse().unwrap());
    assert_eq!(client.answer(request).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn closing_ends_the_streams_and_the_server_ends_in_time() {
    let mut lab = Lab::new().await;
    let client = lab.client().await;
    let mut idle = Robot::new(&client, &["i"]).await;
    let mut robot = Robot::new(&client, &["h"]).await;
    let mut hears = call(&client, "h").await.unwrap();
    robot.init().await;
    let started = Instant::now();
    lab.service.close();
    lab.stop.take().unwrap().send(()).unwrap();
    assert_eq!(idle.next().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(robot.next().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(hear(&mut hears).await.unwrap_err().code(), Code::Unavailable);
    within(&mut lab.server).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "it did not need the grace");
}

#[tokio::test]
async fn a_robot_answers_its_own_queue_without_a_socket() {
    let service = SignalingService::new(Arc::new(MemoryQueue::default()));
    let mut robots = SignalingServiceClient::new(service.clone().into_server());
    let mut callers = SignalingServiceClient::new(service.into_server());
    let (say, said) = mpsc::channel(8);
    let mut asked = robots.answer(to(&["h"], ReceiverStream::new(said))).await.unwrap().into_inner();
    let request = CallRequest { sdp: "offer".into(), disable_trickle: false };
    let mut call = callers.call(to(&["h"], request)).await.unwrap().into_inner();
    let init = within(asked.message()).await.unwrap().unwrap();
    assert!(matches!(init.stage, Some(Asked::Init(_))));
    say.send(AnswerResponse { uuid: init.uuid.clone(), stage: Some(answer()) }).await.unwrap();
    say.send(AnswerResponse { uuid: init.uuid.clone(), stage: Some(robot_done()) }).await.unwrap();
    let robot = tokio::spawn(async move { asked.message().await });
    assert_eq!(hear(&mut call).await.unwrap(), Some(answered()));
    assert_eq!(hear(&mut call).await.unwrap(), None);
    let done = CallUpdateRequest { uuid: init.uuid, update: Some(Update::Done(true)) };
    callers.call_update(to(&["h"], done)).await.unwrap();
    let asked = within(robot).await.unwrap().unwrap().unwrap();
    assert!(matches!(asked.stage, Some(Asked::Done(_))));
}
