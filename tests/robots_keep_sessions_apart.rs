//! A session is its owner's, on its connection; bad ids get the right words and change nothing.
//!
//! The robot's services are called without a network, in paused time.

mod motors;

use std::time::Duration;

use farlink::proto::motor::{GetPositionRequest, IsMovingRequest, SetPowerRequest, SetRpmRequest};
use farlink::proto::robot::*;
use farlink::proto::testecho::EchoMultipleRequest;
use farlink::proto::testecho::test_echo_service_client::TestEchoServiceClient;
use farlink::sessions::robot::{Listing, NotAssociated, SessionEvent};
use farlink::transport::TransportKind;
use farlink::wire::session::{EXPIRED_SESSION_KEY, MONITORED_RESOURCE_KEY, SESSION_EXPIRED};
use futures_util::FutureExt as _;
use motors::{MS, Operator, Robot, W, motor, under};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Status};

const NOBODYS: &str = "11111111-2222-4333-8444-555555555555";

/// INVALID_ARGUMENT, in words of its own.
fn assert_refused(status: &Status) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_ne!(status.message(), SESSION_EXPIRED);
    assert!(status.message().len() < 300, "repeats what it was sent");
}

fn assert_refused_id(status: &Status, sid: &str) {
    assert_refused(status);
    assert_eq!(status.metadata().get(EXPIRED_SESSION_KEY).expect("no trailer"), sid);
}

// C35

#[tokio::test(start_paused = true)]
async fn c35_another_s_id_is_good_for_nothing_and_looks_like_one_that_never_was() {
    let robot = Robot::new();
    let owner = robot.operator("owner");
    let sid = owner.start().await;
    owner.power(Some(&sid), "m1").await.unwrap();
    let deadline = Instant::now() + W;
    sleep(W / 2).await;
    let other = robot.operator("other");
    let direct = robot.operator_at(Some("owner"), "10.0.0.1:5000", TransportKind::Direct);
    let nobody = robot.operator_at(None, "10.0.0.1:5000", TransportKind::WebRtc);
    for stranger in [&other, &direct, &nobody] {
        let call = stranger.power(Some(&sid), "m2").await.unwrap_err();
        let beat = stranger.beat(&sid).await.unwrap_err();
        assert_refused_id(&call, &sid);
        assert_refused_id(&beat, &sid);
        let unknown = stranger.power(Some(NOBODYS), "m2").await.unwrap_err();
        assert_refused_id(&unknown, NOBODYS);
        assert_eq!(unknown.message(), call.message(), "that tells which ids there are");
        assert_eq!(stranger.beat(NOBODYS).await.unwrap_err().message(), beat.message());
        assert_refused_id(&stranger.resume(&sid).await.unwrap_err(), &sid);
    }
    // None of that was a sign of life, and none moved anything.
    let stopped = robot.motors.until("stop m1").await;
    assert!((deadline..=deadline + 2 * MS).contains(&stopped));
    assert_eq!(robot.motors.when("power m2"), None);
    // What has expired is the owner's to know.
    assert_eq!(owner.beat(&sid).await.unwrap_err().message(), SESSION_EXPIRED);
    assert_refused_id(&other.beat(&sid).await.unwrap_err(), &sid);
}

#[tokio::test(start_paused = true)]
async fn c35_calls_come_over_the_session_s_own_connection_or_after_a_resume() {
    let robot = Robot::new();
    let (first, second) = (robot.operator("a"), robot.operator("a"));
    let sid = first.start().await;
    assert_refused_id(&second.power(Some(&sid), "m1").await.unwrap_err(), &sid);
    assert_eq!(second.resume(&sid).await.unwrap(), sid);
    second.power(Some(&sid), "m1").await.unwrap();
    assert_refused_id(&first.power(Some(&sid), "m1").await.unwrap_err(), &sid);
    assert_eq!(robot.sessions.stats().live, 1);
}

#[tokio::test(start_paused = true)]
async fn c35_what_cannot_be_resumed_is_a_new_session() {
    let robot = Robot::new();
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let sid = a.start().await;
    let never = a.resume(NOBODYS).await.unwrap();
    assert!(never != NOBODYS && never != sid);
    sleep(W).await;
    for operator in [&a, &b] {
        assert_ne!(operator.resume(&sid).await.unwrap(), sid, "it had expired");
    }
}

#[tokio::test(start_paused = true)]
async fn c35_sessions_of_others_are_listed_without_their_ids() {
    let list = async |operator: &Operator| {
        let sessions = operator.robot().get_sessions(GetSessionsRequest {}).await.unwrap();
        sessions.into_inner().sessions
    };
    let ids = |sessions: &[Session]| sessions.iter().map(|session| session.id.clone()).collect::<Vec<_>>();
    let robot = Robot::new();
    let a = robot.operator("a");
    let nobody = robot.operator_at(None, "10.0.0.3:5000", TransportKind::Direct);
    let same = robot.operator_at(None, "10.0.0.3:5001", TransportKind::Direct);
    let (sid, anonymous) = (a.start().await, nobody.start().await);
    let masked = |sid: &str| format!("{}-0000-0000-0000-000000000000", &sid[..8]);
    let both = |first: &str, second: &str| {
        let mut both = [(sid.as_str(), first.to_owned()), (anonymous.as_str(), second.to_owned())];
        both.sort_unstable();
        both.map(|(_, shown)| shown)
    };
    assert_eq!(ids(&list(&a).await), both(&sid, &masked(&anonymous)));
    assert_eq!(ids(&list(&robot.operator("a")).await), both(&sid, &masked(&anonymous)), "of one identity");
    assert_eq!(ids(&list(&nobody).await), both(&masked(&sid), &anonymous));
    assert_eq!(ids(&list(&same).await), both(&masked(&sid), &masked(&anonymous)), "nobody is not nobody");
    let peer = |session: &str, sessions: &[Session]| {
        let found = sessions.iter().find(|listed| listed.id == session).unwrap();
        found.peer_connection_info.clone().unwrap()
    };
    let webrtc = PeerConnectionInfo {
        r#type: PeerConnectionType::Webrtc.into(),
        remote_address: Some("10.0.0.1:5000".to_owned()),
        local_address: Some("10.0.0.99:1".to_owned()),
    };
    assert_eq!(peer(&sid, &list(&a).await), webrtc);
    let direct = peer(&anonymous, &list(&nobody).await);
    assert_eq!((direct.r#type, direct.local_address), (PeerConnectionType::Grpc.into(), None));

    let robot = Robot::with(|builder| builder.listing(Listing::Whole));
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let sid = a.start().await;
    assert_eq!(ids(&list(&b).await), [sid], "as rdk lists them, if that is wanted");
}

// C36

#[tokio::test(start_paused = true)]
async fn c36_bad_ids_get_words_of_their_own_and_change_nothing() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    operator.power(Some(&sid), "m1").await.unwrap();
    let deadline = Instant::now() + W;
    sleep(W / 2).await;
    let long = "a".repeat(1 << 20);
    let braces = format!("{{{sid}}}");
    let twice = format!("{sid},{sid}");
    let bad = ["x", " ", "11111111-2222-4333-8444", &long, &braces, &twice, &format!("urn:uuid:{sid}")];
    for id in bad {
        assert_refused(&operator.beat(id).await.unwrap_err());
        assert_refused(&operator.resume(id).await.unwrap_err());
        assert_refused(&operator.power(Some(id), "m2").await.unwrap_err());
    }
    assert_refused(&operator.beat("").await.unwrap_err());
    assert_refused(&operator.beat(&"é".repeat(18)).await.unwrap_err());
    let mut two = under(Some(&sid), SetPowerRequest { name: "m2".to_owned(), ..Default::default() });
    two.metadata_mut().append("viam-sid", sid.parse().unwrap());
    let status = operator.motors().set_power(two).await.unwrap_err();
    assert_refused(&status);
    assert!(status.message().contains("2 values"), "{status:?}");

    let stopped = robot.motors.until("stop m1").await;
    assert!((deadline..=deadline + 2 * MS).contains(&stopped), "its session noticed");
    assert_eq!(robot.motors.log(), ["power m1", "stop m1", "stopped m1"]);
    let stats = robot.sessions.stats();
    assert_eq!((stats.started, stats.resumed, stats.heartbeats), (1, 0, 0));
    assert_eq!(stats.refused, 3 * bad.len() as u64 + 3);
}

#[tokio::test(start_paused = true)]
async fn c36_there_is_room_for_1024_sessions_and_64_of_one_owner() {
    let robot = Robot::new();
    let full = |status: Status| {
        assert_eq!(status.code(), Code::ResourceExhausted);
        status.message().to_owned()
    };
    let greedy = robot.operator("greedy");
    let own = greedy.start().await;
    for _ in 1..64 {
        greedy.start().await;
    }
    assert!(full(greedy.resume("").await.unwrap_err()).contains("you have"));
    assert_eq!(greedy.resume(&own).await.unwrap(), own, "what it has it may go on with");
    // Whoever has proven nothing is counted by host, and the total counts for all.
    for host in 0..15 {
        for port in 0..64 {
            let remote = format!("10.0.1.{host}:{port}");
            robot.operator_at(None, &remote, TransportKind::Direct).start().await;
        }
    }
    assert_eq!(robot.sessions.stats().live, 1024);
    assert!(full(robot.operator("late").resume("").await.unwrap_err()).contains("the robot has"));
    sleep(W + 2 * MS).await;
    robot.operator("late").start().await;
}

#[tokio::test(start_paused = true)]
async fn c36_requests_cannot_make_the_robot_remember_what_it_has_not() {
    let robot = Robot::with(|builder| builder.max_resources(2));
    let operator = robot.operator("a");
    let sid = operator.start().await;
    let mut events = robot.sessions.events();
    for number in 0..50 {
        // No such motors: the call is the handler's business, and nothing is held.
        operator.power(Some(&sid), &format!("no such motor {number}")).await.unwrap();
    }
    let told = events.next().await.unwrap();
    assert!(matches!(told, SessionEvent::NotAssociated { why: NotAssociated::NoResource, .. }), "{told:?}");
    assert_eq!(robot.sessions.stats().not_associated, 50);
    operator.power(Some(&sid), "m1").await.unwrap();
    operator.power(Some(&sid), "m2").await.unwrap();
    let full = operator.power(Some(&sid), "m3").await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert_eq!(robot.motors.when("power m3"), None);
}

// C1

#[tokio::test(start_paused = true)]
async fn c1_the_resources_that_a_call_moves_are_in_its_response_s_headers() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    let told = |metadata: &tonic::metadata::MetadataMap| {
        let values = metadata.get_all(MONITORED_RESOURCE_KEY).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for sid in [Some(sid.as_str()), None] {
        assert_eq!(told(&operator.power(sid, "m1").await.unwrap()), [motor("m1")]);
        // What the handler says comes beside what the request names.
        let rpm = SetRpmRequest { name: "m2".to_owned(), ..Default::default() };
        let response = operator.motors().set_rpm(under(sid, rpm)).await.unwrap();
        assert_eq!(told(response.metadata()), [motor("m2"), "rdk:component:base/wheels".to_owned()]);
        let echo = EchoMultipleRequest { name: "e1".to_owned(), ..Default::default() };
        let mut client = TestEchoServiceClient::new(operator.line.clone());
        let response = client.echo_multiple(under(sid, echo)).await.unwrap();
        assert_eq!(told(response.metadata()), ["rdk:component:testecho/e1"]);
    }
    let rpm = SetRpmRequest { name: "m2".to_owned(), ..Default::default() };
    operator.motors().set_rpm(under(Some(&sid), rpm)).await.unwrap();
    robot.motors.until("stopped wheels").await;
    robot.motors.until("stopped m2").await;
}

#[tokio::test(start_paused = true)]
async fn c1_of_an_unmonitored_call_the_id_is_ignored() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    operator.power(Some(&sid), "m1").await.unwrap();
    let deadline = Instant::now() + W;
    sleep(W / 2).await;
    for id in [&sid, NOBODYS, "no id at all"] {
        let request = under(Some(id), GetPositionRequest { name: "m1".to_owned(), ..Default::default() });
        let status = operator.motors().get_position(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "the handler has answered");
    }
    assert!(robot.motors.until("stop m1").await <= deadline + 2 * MS, "it was no sign of life");
}

#[tokio::test(start_paused = true)]
async fn c1_without_identities_everybody_on_a_transport_is_one_owner_as_in_rdk() {
    let robot = Robot::new();
    let (a, b) = (
        robot.operator_at(None, "10.0.0.1:1", TransportKind::WebRtc),
        robot.operator_at(None, "10.0.0.2:1", TransportKind::WebRtc),
    );
    let sid = a.start().await;
    assert_eq!(b.resume(&sid).await.unwrap(), sid);
    let direct = robot.operator_at(None, "10.0.0.1:1", TransportKind::Direct);
    assert_refused_id(&direct.resume(&sid).await.unwrap_err(), &sid);
}

// RobotService

#[tokio::test(start_paused = true)]
async fn robot_service_tells_names_versions_and_calls_in_flight_and_nothing_else() {
    let robot = Robot::with(|builder| builder.version("toy", "1.2.3", "v0.1.400"));
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let names = a.robot().resource_names(ResourceNamesRequest {}).await.unwrap().into_inner().resources;
    assert!(names.iter().any(|name| name.subtype == "motor" && name.name == "m1"));
    let version = a.robot().get_version(GetVersionRequest {}).await.unwrap().into_inner();
    assert_eq!((&*version.platform, &*version.version, &*version.api_version), ("toy", "1.2.3", "v0.1.400"));

    let sid = a.start().await;
    let mut client = a.motors();
    let asking = client.is_moving(Request::new(IsMovingRequest { name: "m1".to_owned() }));
    let mut asking = Box::pin(asking);
    let mut going = Box::pin(a.go(Some(&sid), "m1"));
    assert!(asking.as_mut().now_or_never().is_none() && going.as_mut().now_or_never().is_none());
    let operations = async |operator: &Operator| {
        let operations = operator.robot().get_operations(GetOperationsRequest {}).await.unwrap();
        operations.into_inner().operations
    };
    let mine = operations(&a).await;
    let [asks, goes] = &mine[..] else { panic!("{mine:?}") };
    assert!(asks.method.ends_with("/IsMoving") && asks.session_id.is_none());
    assert!(goes.method.ends_with("/GoFor") && goes.session_id.as_deref() == Some(&sid));
    assert!(goes.started.is_some() && goes.id != asks.id && goes.id.len() == 36);
    let theirs = operations(&b).await;
    assert!(theirs[1].session_id.as_ref().is_some_and(|shown| *shown != sid && shown[..8] == sid[..8]));
    drop((asking, going));
    assert!(operations(&a).await.is_empty());

    let status = a.robot().stop_all(StopAllRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test(start_paused = true)]
async fn the_window_is_told_to_whoever_starts() {
    let window = Duration::from_millis(1500);
    let robot = Robot::with(|builder| builder.window(window));
    let mut client = robot.operator("a").robot();
    let started = client.start_session(StartSessionRequest::default()).await.unwrap().into_inner();
    assert_eq!(started.heartbeat_window, Some(window.try_into().unwrap()));
}
