//! Whatever goes wrong on the way to a robot: the dial is over in time, and its error, or the channel that
//! it fell back to, names the stage and the cause, for people and for machines.

mod common;
mod faults;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::probe::ProbeRequest;
use common::{Lab, Probe, ROBOT, Signaling};
use farlink::dial::{AttemptReport, Stage};
use farlink::peer::memory::MemoryStack;
use farlink::proto::webrtc::signaling_service_client::SignalingServiceClient;
use farlink::server::Server;
use farlink::transport::direct::Roots;
use farlink::transport::{CloseReason, TransportKind};
use farlink::{Channel, Credentials, DialError, DialOptions, DialReport, Event, Fallback};
use farlink_signaling::SignalingServer;
use faults::{Deaf, Doorman, Habit, Serving, Wire, closed_port, identity, loopback, within};
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Code, Request, Status};

/// The whole dial's time in these tests.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(2);

fn options(signaling: SocketAddr) -> DialOptions {
    let stack: Arc<dyn farlink::peer::Stack> = Arc::new(MemoryStack::new());
    DialOptions::new().signaling_address(signaling.to_string()).insecure(true).stack(stack).timeout(TIMEOUT)
}

/// A robot that is reachable directly only.
async fn direct_robot() -> (Server, String) {
    let robot = Server::builder().listen(loopback()).insecure(true).host(ROBOT);
    let robot = robot.stack(Arc::new(MemoryStack::new())).start(Probe::routes()).await.unwrap();
    let address = robot.local_addr().unwrap().to_string();
    (robot, address)
}

/// An attempt failed there, for a cause with these words; people and machines are told the same, once.
#[track_caller]
fn tells(report: &DialReport, place: usize, stage: Stage, words: &str) {
    let sentence = report.to_string();
    let attempt: &AttemptReport = report.attempts.get(place).unwrap_or_else(|| panic!("{sentence}"));
    let failure = attempt.failure.as_ref().unwrap_or_else(|| panic!("no failure: {sentence}"));
    assert_eq!(failure.stage, stage, "{sentence}");
    assert_eq!(attempt.stages.last().unwrap().stage, stage, "{sentence}");
    let told = failure.to_string();
    assert!(sentence.contains(&told), "{sentence} without {told}");
    assert_eq!(told.matches(&stage.to_string()).count(), 1, "the stage, once: {told}");
    assert_eq!(told.matches(words).count(), 1, "{words:?}, once: {told}");
    assert!(!told.ends_with('.'), "{told}");
    let json = report.to_json();
    let json = &json["attempts"][place]["failure"];
    assert_eq!(json["stage"], serde_json::to_value(stage).unwrap());
    assert!(json["cause"].as_str().unwrap().contains(words), "{json}");
    assert_eq!(json["denied"], failure.is_denied());
}

/// The dial fails in time.
async fn fails(address: &str, options: DialOptions) -> (DialError, DialReport) {
    let (began, timeout) = (Instant::now(), options.timeout);
    let error = farlink::dial(address, options).await.expect_err("the dial fails");
    assert!(began.elapsed() < timeout + SLACK, "{:?}: {error}", began.elapsed());
    let report = error.report().expect("a report").clone();
    assert_eq!(error.to_string(), report.to_string());
    assert!(std::error::Error::source(&error).is_none(), "the causes are told already");
    assert_eq!((report.transport, &report.to_json()["transport"]), (None, &serde_json::Value::Null));
    assert!(error.to_string().contains(address), "{error}");
    assert!(report.elapsed < timeout + SLACK);
    (error, report)
}

/// The dial falls back to the robot's own address in time, and remembers why.
async fn falls_back(address: &str, options: DialOptions, stage: Stage, words: &str) -> Channel {
    let (began, timeout) = (Instant::now(), options.timeout);
    let channel = farlink::dial(address, options).await.expect("the dial falls back");
    assert!(began.elapsed() < timeout + SLACK, "{:?}", began.elapsed());
    assert_eq!(channel.transport(), TransportKind::Direct);
    let report = channel.report().unwrap();
    assert_eq!(report.attempts.len(), 2);
    assert_eq!(report.attempts[1].server, address, "direct is the robot's own address");
    tells(&report, 0, stage, words);
    assert_eq!(channel.fallback_reason().unwrap().stage, stage);
    let event = within(channel.events().next()).await;
    assert!(matches!(event, Some(Event::FellBack { reason }) if reason.stage == stage));
    let mut client = Probe::client(channel.clone());
    let reply = within(client.unary(ProbeRequest { size: 3, ..Default::default() })).await;
    assert_eq!(reply.unwrap().into_inner().total, 3);
    channel
}

#[tokio::test]
async fn dead_signaling() {
    let (_robot, address) = direct_robot().await;
    let gone = closed_port().await;
    falls_back(&address, options(gone), Stage::Signaling, "refused").await;
    let (error, report) = fails(&address, options(gone).fallback(Fallback::Never)).await;
    assert!(matches!(error, DialError::Failed(_)) && error.is_retryable());
    assert_eq!(report.attempts.len(), 1);
}

#[tokio::test]
async fn a_robot_nobody_listens_for() {
    let address = closed_port().await;
    let (error, report) = fails(&address.to_string(), options(address)).await;
    assert!(matches!(error, DialError::Failed(_)));
    tells(&report, 0, Stage::Signaling, "refused");
    tells(&report, 1, Stage::Connect, "refused");
    assert!(report.elapsed < TIMEOUT, "a refusal is known at once");
}

#[tokio::test]
async fn an_offline_robot() {
    let signaling = Signaling::start().await;
    let (_robot, address) = direct_robot().await;
    falls_back(&address, options(signaling.addr), Stage::Answer, "appears to be offline").await;
    // Its own address is a name that nobody knows.
    let (error, report) = fails("offline.invalid", options(signaling.addr)).await;
    assert!(matches!(error, DialError::Failed(_)));
    tells(&report, 0, Stage::Answer, "appears to be offline");
    tells(&report, 1, Stage::Resolve, "cannot resolve offline.invalid");
}

#[tokio::test]
async fn a_host_that_signaling_does_not_serve() {
    let server = SignalingServer::builder().hosts(["other.example"]).bind(loopback()).await.unwrap();
    let via = server.local_addr();
    let serving = tokio::spawn(server.serve(std::future::pending()));
    let (_robot, address) = direct_robot().await;
    let there = options(via).fallback(Fallback::OnlyWithoutSignaling);
    let channel = falls_back(&address, there, Stage::IceConfig, "host not preconfigured").await;
    assert!(channel.fallback_reason().unwrap().is_without_signaling());
    serving.abort();
}

#[tokio::test]
async fn a_server_that_has_no_signaling_at_all() {
    let serving = Serving::start(Probe::routes(), None).await;
    let address = serving.addr.to_string();
    let there = options(serving.addr).fallback(Fallback::OnlyWithoutSignaling);
    let channel =
        falls_back(&address, there, Stage::IceConfig, "there is no WebRTC signaling for this robot").await;
    assert!(channel.fallback_reason().unwrap().is_without_signaling());
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let mute = Wire::that(Habit::Mute).await;
    let (_robot, address) = direct_robot().await;
    falls_back(
        &address,
        options(mute.addr),
        Stage::Signaling,
        "did not answer in time; see that it is the right address",
    )
    .await;
    mute.until_none_live().await;
    let (error, report) = fails(&mute.addr.to_string(), options(mute.addr)).await;
    assert!(matches!(error, DialError::TimedOut(_)), "{error:?}");
    tells(&report, 0, Stage::Signaling, "did not answer in time; see that it is the right address");
    tells(&report, 1, Stage::Connect, "did not answer in time; see that it is the right address");
    let (webrtc, direct) = (&report.attempts[0], &report.attempts[1]);
    assert!(webrtc.elapsed < TIMEOUT * 3 / 4, "WebRTC has eaten the time of the direct attempt");
    assert!(direct.elapsed > TIMEOUT / 4, "the direct attempt had no time: {:?}", direct.elapsed);
    mute.until_none_live().await;
}

#[tokio::test]
async fn a_robot_that_accepts_and_says_nothing_is_no_channel() {
    let mute = Wire::that(Habit::Mute).await;
    let (error, report) = fails(&mute.addr.to_string(), options(mute.addr).disable_webrtc(true)).await;
    assert!(matches!(error, DialError::TimedOut(_)));
    tells(&report, 0, Stage::Connect, "did not answer in time; see that it is the right address");
    mute.until_none_live().await;
}

#[tokio::test]
async fn something_that_is_not_grpc() {
    for (words, habit) in [
        ("does not speak HTTP/2", Habit::Says(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")),
        ("does not speak HTTP/2", Habit::Says(b"SSH-2.0-OpenSSH_9.6\r\n")),
        ("speaks TLS: leave insecure out", Habit::Says(b"\x15\x03\x03\x00\x02\x02\x46")),
        ("closed the connection without a word", Habit::Says(b"")),
        ("closed the connection without a word", Habit::Resets),
    ] {
        let wire = Wire::that(habit).await;
        let (_, report) = fails(&wire.addr.to_string(), options(wire.addr)).await;
        tells(&report, 0, Stage::Signaling, words);
        tells(&report, 1, Stage::Connect, words);
        assert!(report.elapsed < TIMEOUT, "known at once");
        wire.until_none_live().await;
    }
}

#[tokio::test]
async fn signaling_that_takes_the_call_and_never_answers() {
    let deaf = Deaf::new(None);
    let serving = Serving::start(Routes::new(deaf.server()), None).await;
    let (_robot, address) = direct_robot().await;
    falls_back(&address, options(serving.addr), Stage::Answer, "did not answer in time").await;
    let (error, report) = fails(&address, options(serving.addr).fallback(Fallback::Never)).await;
    assert!(matches!(error, DialError::TimedOut(_)), "{error:?}");
    tells(&report, 0, Stage::Answer, "did not answer in time");
    assert!(report.elapsed >= TIMEOUT, "without a fallback, WebRTC has all the time");
}

#[tokio::test]
async fn an_answerer_that_never_answers() {
    let signaling = Signaling::start().await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", signaling.addr)).unwrap();
    let mut answerer = SignalingServiceClient::new(endpoint.connect().await.unwrap());
    let mut request = Request::new(tokio_stream::pending());
    request.metadata_mut().insert("rpc-host", ROBOT.parse().unwrap());
    let mut offers = within(answerer.answer(request)).await.unwrap().into_inner();
    let (error, report) = fails(ROBOT, options(signaling.addr).fallback(Fallback::Never)).await;
    assert!(matches!(error, DialError::TimedOut(_)), "{error:?}");
    tells(&report, 0, Stage::Answer, "did not answer in time");
    assert!(within(offers.message()).await.unwrap().is_some(), "it was asked");
}

#[tokio::test]
async fn signaling_killed_while_it_looks_for_the_robot() {
    let deaf = Deaf::new(None);
    let serving = Serving::start(Routes::new(deaf.server()), None).await;
    let (_robot, address) = direct_robot().await;
    let mut calls = deaf.calls.subscribe();
    let dialing = tokio::spawn({
        let (address, options) = (address.clone(), options(serving.addr).timeout(Duration::from_secs(20)));
        async move { falls_back(&address, options, Stage::Answer, "the connection was lost").await }
    });
    within(calls.wait_for(|calls| *calls > 0)).await.unwrap();
    drop(serving);
    let channel =
        tokio::time::timeout(Duration::from_secs(5), dialing).await.expect("known at once").unwrap();
    assert!(!channel.fallback_reason().unwrap().is_timeout());
}

#[tokio::test]
async fn what_a_robot_says_through_signaling_is_passed_on() {
    let deaf = Deaf::new(Some(Status::unknown("error from answerer: no room for another caller")));
    let serving = Serving::start(Routes::new(deaf.server()), None).await;
    let (_robot, address) = direct_robot().await;
    falls_back(&address, options(serving.addr), Stage::Answer, "no room for another caller").await;
}

#[tokio::test]
async fn no_path_between_the_peers() {
    let stack = Arc::new(MemoryStack::new());
    let lab = Lab::start(stack.clone()).await;
    stack.change(|conditions| conditions.refuse = true);
    let (error, report) = fails(ROBOT, lab.options.clone().timeout(TIMEOUT).fallback(Fallback::Never)).await;
    assert!(matches!(error, DialError::Failed(_)), "{error:?}");
    tells(&report, 0, Stage::Connectivity, "connections are refused");
    assert!(report.elapsed < TIMEOUT);

    stack.change(|conditions| (conditions.refuse, conditions.silent) = (false, true));
    let (error, report) = fails(ROBOT, lab.options.clone().timeout(TIMEOUT).fallback(Fallback::Never)).await;
    assert!(matches!(error, DialError::TimedOut(_)), "{error:?}");
    tells(&report, 0, Stage::Connectivity, "no path worked in time");
}

#[tokio::test]
async fn a_robot_killed_while_a_path_is_looked_for() {
    let stack = Arc::new(MemoryStack::new());
    let lab = Lab::start(stack.clone()).await;
    stack.change(|conditions| conditions.connect_time = Duration::from_secs(15));
    let dialing = tokio::spawn({
        let options = lab.options.clone().timeout(Duration::from_secs(20)).fallback(Fallback::Never);
        async move { fails(ROBOT, options).await }
    });
    // Both peers know of each other: the answer is there.
    within(async {
        while stack.links().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let began = Instant::now();
    drop(lab.robot);
    let (_, report) = within(dialing).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "noticed at once, and not by the deadline");
    let failure = report.attempts[0].failure.as_ref().unwrap();
    assert!(matches!(failure.stage, Stage::Answer | Stage::Connectivity), "{report}");
    tells(&report, 0, failure.stage, "robot");
}

#[tokio::test]
async fn a_robot_gone_after_the_dial_ends_the_channel_with_a_reason() {
    let stack = Arc::new(MemoryStack::new());
    let lab = Lab::start(stack.clone()).await;
    let (webrtc, direct) = (lab.over_webrtc().await, lab.directly().await);
    drop(lab.robot);
    for channel in [webrtc, direct] {
        let reason = within(channel.closed()).await;
        assert!(matches!(reason, CloseReason::Peer | CloseReason::Lost(_)), "{reason:?}");
        let status = within(Probe::client(channel.clone()).unary(ProbeRequest::default())).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let mut events = channel.events();
        let mut last = None;
        while let Some(event) = within(events.next()).await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Closed { reason: told }) if told == reason));
    }
}

#[tokio::test]
async fn a_lost_link_fails_calls_in_flight_with_its_reason() {
    let stack = Arc::new(MemoryStack::new());
    let lab = Lab::start(stack.clone()).await;
    let channel = lab.over_webrtc().await;
    let mut client = Probe::client(channel.clone());
    let call =
        tokio::spawn(
            async move { client.unary(ProbeRequest { delay_ms: 60_000, ..Default::default() }).await },
        );
    while channel.stats().await.open_streams == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stack.links()[0].cut();
    let status = within(call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("the link was cut"), "{status}");
    assert!(matches!(within(channel.closed()).await, CloseReason::Lost(how) if how.contains("cut")));
}

#[tokio::test]
async fn tls_and_plaintext_that_meet_say_so() {
    let (identity, _) = identity(&["localhost"]);
    let stack = || Arc::new(MemoryStack::new());
    let robot = Server::builder().host(ROBOT).listen(loopback()).stack(stack());
    let secure = robot.clone().tls(identity).start(Probe::routes()).await.unwrap();
    let plain = robot.insecure(true).start(Probe::routes()).await.unwrap();
    let (secure, plain) = (secure.local_addr().unwrap(), plain.local_addr().unwrap());

    let (_, report) = fails(&plain.to_string(), options(plain).insecure(false)).await;
    tells(&report, 0, Stage::Signaling, "does not speak TLS");
    tells(&report, 1, Stage::Connect, "does not speak TLS");
    assert!(report.elapsed < TIMEOUT);
    let (_, report) = fails(&secure.to_string(), options(secure)).await;
    tells(&report, 0, Stage::Signaling, "leave insecure out");
    tells(&report, 1, Stage::Connect, "leave insecure out");
    assert!(report.elapsed < TIMEOUT);
}

#[tokio::test]
async fn certificates_that_are_not_good() {
    let (mine, pem) = identity(&["localhost"]);
    let (_, other) = identity(&["localhost"]);
    let robot = Server::builder().host(ROBOT).listen(loopback()).tls(mine);
    let stack: Arc<dyn farlink::peer::Stack> = Arc::new(MemoryStack::new());
    let robot = robot.stack(Arc::clone(&stack)).start(Probe::routes()).await.unwrap();
    let port = robot.local_addr().unwrap().port();
    let by_name: SocketAddr = robot.local_addr().unwrap();
    let trusting =
        |pem: &[u8]| options(by_name).insecure(false).signaling_address(None).roots(Roots::Pem(pem.to_vec()));
    // It works when all is well.
    let good = trusting(&pem).timeout(common::LONG).stack(stack);
    let channel = farlink::dial(format!("localhost:{port}"), good).await.unwrap();
    assert_eq!(channel.transport(), TransportKind::WebRtc);

    let (_, report) = fails(&format!("localhost:{port}"), trusting(&other)).await;
    tells(&report, 0, Stage::Signaling, "certificate");
    tells(&report, 1, Stage::Connect, "certificate");
    // Trusted, but it is for localhost and not for this address.
    let (_, report) = fails(&by_name.to_string(), trusting(&pem)).await;
    tells(&report, 0, Stage::Signaling, "not valid for name");
    tells(&report, 1, Stage::Connect, "not valid for name");
}

#[tokio::test]
async fn refused_credentials_are_not_tried_at_the_second_door() {
    for refusal in [Status::unauthenticated("who are you"), Status::permission_denied("not you")] {
        let words = refusal.message().to_owned();
        let doorman = Doorman { refuses: Some(refusal), ..Default::default() };
        let routes = Routes::new(Deaf::new(None).server()).add_service(doorman.server());
        let serving = Serving::start(routes, None).await;
        let (robot, _) = direct_robot().await;
        let door = Wire::that(Habit::PassesOn(robot.local_addr().unwrap())).await;
        let with = options(serving.addr).credentials(Credentials::api_key("hush"));
        let (error, report) = fails(&door.addr.to_string(), with).await;
        assert!(matches!(error, DialError::Denied(_)) && !error.is_retryable(), "{error:?}");
        assert_eq!(report.attempts.len(), 1);
        tells(&report, 0, Stage::Authenticate, &words);
        assert_eq!(door.total(), 0, "the robot was not asked");
        assert!(!format!("{error} {error:?} {}", report.to_json()).contains("hush"));
    }
}

#[tokio::test]
async fn credentials_that_nobody_asked_for_name_the_server_that_did_not() {
    let serving = Serving::start(Routes::new(Deaf::new(None).server()), None).await;
    let (_robot, address) = direct_robot().await;
    let with = options(serving.addr).credentials(Credentials::api_key("hush"));
    let (error, report) = fails(&address, with).await;
    assert!(matches!(error, DialError::Failed(_)), "nobody refused them: {error:?}");
    assert_eq!(report.attempts.len(), 2, "the robot may have been the one that asks");
    for (place, server) in [serving.addr.to_string(), address].iter().enumerate() {
        let words = format!("{server} does not authenticate anybody: drop the credentials");
        tells(&report, place, Stage::Authenticate, &words);
    }
}

#[tokio::test]
async fn a_call_that_is_denied_is_not_tried_at_the_second_door() {
    let deaf = Deaf::new(Some(Status::permission_denied("no right to call it")));
    let serving = Serving::start(Routes::new(deaf.server()), None).await;
    let door = Wire::that(Habit::Mute).await;
    let (error, report) = fails(&door.addr.to_string(), options(serving.addr)).await;
    assert!(matches!(error, DialError::Denied(_)));
    tells(&report, 0, Stage::Answer, "no right to call it");
    assert_eq!(door.total(), 0);
}

#[tokio::test]
async fn every_fallback_policy_is_obeyed() {
    let gone = closed_port().await;
    let (robot, _) = direct_robot().await;
    let door = Wire::that(Habit::PassesOn(robot.local_addr().unwrap())).await;
    let address = door.addr.to_string();
    for policy in [Fallback::OnlyWithoutSignaling, Fallback::Never] {
        let (_, report) = fails(&address, options(gone).fallback(policy)).await;
        assert_eq!((report.attempts.len(), door.total()), (1, 0), "{policy:?}");
    }
    falls_back(&address, options(gone).fallback(Fallback::OnFailure), Stage::Signaling, "refused").await;
    let none = Serving::start(Probe::routes(), None).await;
    let without = options(none.addr).fallback(Fallback::Never);
    let (_, report) = fails(&address, without).await;
    assert!(report.fallback_reason().unwrap().is_without_signaling());
    assert_eq!(door.total(), 1);
}

#[tokio::test]
async fn relays_only_without_a_relay_is_said_at_once() {
    let signaling = Signaling::start().await;
    let (_robot, address) = direct_robot().await;
    let relays = options(signaling.addr).force_relay(true);
    let channel = falls_back(&address, relays.clone(), Stage::IceConfig, "needs a TURN server").await;
    assert!(channel.report().unwrap().elapsed < TIMEOUT / 2);
    let (_, report) = fails(&address, relays.fallback(Fallback::Never)).await;
    tells(&report, 0, Stage::IceConfig, "needs a TURN server");
}

#[tokio::test]
async fn a_dropped_dial_leaves_no_connection() {
    // At signaling, while it waits for the answer, and while it looks for a path.
    let mute = Wire::that(Habit::Mute).await;
    let dialing = tokio::spawn(farlink::dial(ROBOT, options(mute.addr).timeout(common::LONG)));
    mute.until_first().await;
    dialing.abort();
    mute.until_none_live().await;

    let deaf = Deaf::new(None);
    let serving = Serving::start(Routes::new(deaf.server()), None).await;
    let wire = Wire::that(Habit::PassesOn(serving.addr)).await;
    let dialing = tokio::spawn(farlink::dial(ROBOT, options(wire.addr).timeout(common::LONG)));
    within(deaf.calls.subscribe().wait_for(|calls| *calls > 0)).await.unwrap();
    dialing.abort();
    wire.until_none_live().await;

    let stack = Arc::new(MemoryStack::new());
    let lab = Lab::start(stack.clone()).await;
    stack.change(|conditions| conditions.connect_time = Duration::from_secs(60));
    let wire = Wire::that(Habit::PassesOn(lab.signaling.addr)).await;
    let via = lab.options.clone().signaling_address(wire.addr.to_string());
    let dialing = tokio::spawn(farlink::dial(ROBOT, via));
    within(async {
        while stack.links().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    dialing.abort();
    wire.until_none_live().await;
    within(async {
        while stack.peers() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[cfg(feature = "engine")]
#[tokio::test(flavor = "multi_thread")]
async fn it_is_so_over_the_engine_too() {
    it_is_so_over(Arc::new(farlink::peer::engine::Engine::new())).await;
}

#[cfg(feature = "webrtc")]
#[tokio::test(flavor = "multi_thread")]
async fn it_is_so_over_webrtc_rs_too() {
    it_is_so_over(Arc::new(farlink::peer::webrtc_rs::WebRtcRs::new())).await;
}

#[cfg(any(feature = "engine", feature = "webrtc"))]
async fn it_is_so_over(stack: Arc<dyn farlink::peer::Stack>) {
    let lab = Lab::start(Arc::clone(&stack)).await;
    let offline = lab.options.clone().timeout(TIMEOUT);
    let address = lab.robot.local_addr().unwrap();
    // Its own signaling knows it, this one does not know it by its address.
    falls_back(&address.to_string(), offline, Stage::Answer, "appears to be offline").await;
    let relays = lab.options.clone().timeout(TIMEOUT).fallback(Fallback::Never).force_relay(true);
    let dead = farlink::IceServer::with_credential(&format!("turn:{}", closed_port().await), "u", "c");
    let (_, report) = fails(ROBOT, relays.ice_servers(vec![dead.unwrap()])).await;
    let failure = report.attempts[0].failure.as_ref().unwrap();
    tells(&report, 0, failure.stage, if failure.is_timeout() { "in time" } else { "no local candidate" });
    // The robot goes while the channel is open.
    let channel = lab.over_webrtc().await;
    drop(lab.robot);
    let reason = within(channel.closed()).await;
    assert!(matches!(reason, CloseReason::Peer | CloseReason::Lost(_)), "{reason:?}");
}
