//! What goes on after its operator is gone is stopped: calls that lost their motor to somebody else, handlers that
//! nobody polls, and motors whose stop fails at first.
//!
//! The robot's services are called without a network, in paused time.

mod motors;

use std::time::Duration;

use farlink::proto::motor::SetPowerRequest;
use farlink::proto::testecho::test_echo_service_client::TestEchoServiceClient;
use farlink::proto::testecho::{EchoBiDiRequest, EchoMultipleRequest};
use farlink::sessions::Monitored;
use farlink::sessions::robot::{NotAssociated, SessionEvent};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use motors::{MS, Operator, Robot, W, motor, under};
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::body::Body;
use tonic::{Code, Status};

/// A call that moves the motor until it is cut.
async fn going(robot: &Robot, operator: &Operator, sid: &str, motor: &str) -> JoinHandle<Status> {
    let (operator, sid, name) = (operator.clone(), sid.to_owned(), motor.to_owned());
    let going = tokio::spawn(async move { operator.go(Some(&sid), &name).await });
    robot.motors.until(&format!("go {motor}")).await;
    going
}

#[tokio::test(start_paused = true)]
async fn a_motor_that_a_call_goes_on_moving_is_stopped_with_its_session_whoever_held_it_since() {
    let robot = Robot::new();
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let (first, second) = (a.start().await, b.start().await);
    let calls = (going(&robot, &a, &first, "m1").await, going(&robot, &a, &first, "m2").await);
    // m1 is another session's until that one ends; m2 is taken by a caller without one.
    b.power(Some(&second), "m1").await.unwrap();
    b.power(None, "m2").await.unwrap();
    a.beat_for(&first, 2 * W).await;
    assert!(robot.motors.when("stopped m1").is_some(), "the other session has ended");
    assert!(robot.motors.when("stop m2").is_none());
    let (before, deadline) = (robot.motors.log().len(), Instant::now() + W);
    let mut events = robot.sessions.events();
    assert!(robot.motors.until("stopped m2").await >= deadline);
    let event = events.next().await.unwrap();
    let expected = ["m1", "m2"].map(motor).to_vec();
    assert!(matches!(event, SessionEvent::Expired { resources, .. } if resources == expected));
    calls.0.await.unwrap();
    calls.1.await.unwrap();
    sleep(W).await;
    let log = robot.motors.log().split_off(before);
    for name in ["m1", "m2"] {
        let last = log.iter().rfind(|what| what.ends_with(name));
        assert_eq!(last, Some(&format!("stopped {name}")), "{log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_motor_that_a_live_session_has_taken_from_a_call_is_not_stopped_with_that_call() {
    let robot = Robot::new();
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let (first, second) = (a.start().await, b.start().await);
    let call = going(&robot, &a, &first, "m1").await;
    b.power(Some(&second), "m1").await.unwrap();
    b.beat_for(&second, 2 * W).await;
    call.await.unwrap();
    assert_eq!(robot.motors.log(), ["go m1", "power m1", "dropped m1"]);
}

#[tokio::test(start_paused = true)]
async fn what_feeds_a_stream_that_nobody_reads_ends_with_the_session() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    let request = EchoMultipleRequest { name: "e1".to_owned(), message: "produce".to_owned() };
    let mut client = TestEchoServiceClient::new(operator.line.clone());
    let mut events = robot.sessions.events();
    let deadline = Instant::now() + W;
    // A caller that is gone without a word: the stream is there, and nobody polls it.
    let mut echoes = client.echo_multiple(under(Some(&sid), request)).await.unwrap().into_inner();
    let ended = robot.motors.until("dropped e1").await;
    assert!((deadline..=deadline + 20 * MS).contains(&ended), "{:?} late", ended - deadline);
    sleep(MS).await;
    let log = robot.motors.log();
    let driven = log.iter().rposition(|what| what == "drive e1").expect("it was never driven");
    let stopped = log.iter().rposition(|what| what == "stopped e1").expect("it was never stopped");
    assert!(driven > 100 && driven < stopped, "{log:?}");
    sleep(10 * W).await;
    assert_eq!(robot.motors.log(), log, "nothing goes on");
    let mut over = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        over.extend(matches!(event, SessionEvent::LongCallEnded { .. }).then_some(event));
    }
    assert_eq!(over.len(), 1, "the call's end is told, though nobody has read of it");
    // Who reads at last is told why it ended.
    let status = echoes.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    assert!(echoes.message().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_reads_the_request_of_a_call_ends_with_the_session() {
    let path = "/viam.component.testecho.v1.TestEchoService/EchoBiDi";
    let robot = Robot::with(|builder| builder.monitored(Monitored::new().with_method(path)));
    let operator = robot.operator("a");
    let sid = operator.start().await;
    let message = EchoBiDiRequest { name: "e1".to_owned(), message: String::new() };
    // A message every 100 ms, for ever.
    let messages = stream::repeat(message).then(async |message| {
        sleep(100 * MS).await;
        message
    });
    let mut client = TestEchoServiceClient::new(operator.line.clone());
    let deadline = Instant::now() + W;
    let response = client.echo_bi_di(under(Some(&sid), messages.boxed())).await.unwrap();
    let ended = robot.motors.until("told no more: Aborted").await;
    assert!((deadline..=deadline + 5 * MS).contains(&ended), "{:?} late", ended - deadline);
    let told = robot.motors.log().iter().filter(|what| *what == "told e1").count();
    assert!((18..=20).contains(&told), "{told}");
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_repeated_until_the_handlers_are_gone_and_no_call_without_a_session_calls_it_off() {
    let robot = Robot::with(|builder| builder.stop_timeout(Duration::from_secs(1)));
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let sid = a.start().await;
    // Nobody polls the call, so its handler lives on.
    let mut call = Box::pin(a.go(Some(&sid), "m1"));
    assert!(call.as_mut().now_or_never().is_none());
    let begun = robot.motors.until("stopped m1").await;
    b.power(None, "m1").await.unwrap();
    assert!(begun.elapsed() <= Duration::from_millis(1010), "it waits for one stop at most");
    let powered = robot.motors.log().len();
    sleep(Duration::from_secs(5)).await;
    let log = robot.motors.log().split_off(powered);
    assert!((4..=12).contains(&log.len()), "{log:?}");
    assert!(log.iter().all(|what| what.starts_with("stop")), "{log:?}");
    // A session takes it, stops or no stops.
    let theirs = b.start().await;
    b.power(Some(&theirs), "m1").await.unwrap();
    let powered = robot.motors.log().len();
    b.beat_for(&theirs, 2 * W).await;
    assert_eq!(robot.motors.log().len(), powered);
    // And when that one ends, the handler is still there.
    sleep(W + Duration::from_secs(3)).await;
    drop(call);
    sleep(MS).await;
    let log = robot.motors.log().split_off(powered);
    assert!(log.len() >= 3 + 2 * 2, "{log:?}");
    assert_eq!(log[log.len() - 3..], ["dropped m1", "stop m1", "stopped m1"]);
    sleep(10 * W).await;
    assert_eq!(robot.motors.log().len(), powered + log.len());
}

/// When the motor was told to stop, since this instant.
fn tries(robot: &Robot, motor: &str, since: Instant) -> Vec<u128> {
    let what = format!("stop {motor}");
    let all = robot.motors.all().into_iter().filter(|(_, happened)| *happened == what);
    all.map(|(when, _)| (when - since).as_millis()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_fails_is_tried_again_until_the_motor_stands() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    operator.power(Some(&sid), "flaky").await.unwrap();
    let mut events = robot.sessions.events();
    let begun = robot.motors.until("stop flaky").await;
    sleep(10 * W).await;
    let tries = tries(&robot, "flaky", begun);
    assert_eq!(tries.len(), 4, "{tries:?}");
    for (tried, at) in tries.into_iter().zip([0, 100, 300, 700]) {
        assert!((at..=at + 5).contains(&tried), "{tried} instead of {at}");
    }
    let mut told = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        match event {
            SessionEvent::StopFailed { attempt, .. } => told.push(Some(attempt)),
            SessionEvent::Stopped { .. } => told.push(None),
            _ => {}
        }
    }
    assert_eq!(told, [Some(1), Some(2), Some(3), None]);
    let stats = robot.sessions.stats();
    assert_eq!((stats.stops, stats.failed_stops), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_motor_between_two_tries_gets_it_at_once_and_is_not_stopped() {
    for with_session in [true, false] {
        let robot = Robot::new();
        let (a, b) = (robot.operator("a"), robot.operator("b"));
        let sid = a.start().await;
        a.power(Some(&sid), "fail").await.unwrap();
        let begun = robot.motors.until("stop fail").await;
        sleep(8 * W - (Instant::now() - begun)).await;
        let theirs = b.start().await;
        let before = (Instant::now(), tries(&robot, "fail", begun).len());
        assert!((6..=9).contains(&before.1), "it is tried again and again: {}", before.1);
        b.power(with_session.then_some(&*theirs), "fail").await.unwrap();
        assert!(before.0.elapsed() <= MS);
        b.beat_for(&theirs, 8 * W).await;
        assert_eq!(tries(&robot, "fail", begun).len(), before.1);
    }
}

#[tokio::test(start_paused = true)]
async fn closing_gives_a_stop_that_fails_a_few_more_tries_and_ends_in_time() {
    for (motor, timeout, most) in [("fail", 5000, 2000), ("fail", 500, 600), ("hang", 500, 610)] {
        let robot = Robot::with(|builder| builder.stop_timeout(timeout * MS));
        let operator = robot.operator("a");
        let sid = operator.start().await;
        operator.power(Some(&sid), motor).await.unwrap();
        // By now it is tried every 5 s, and nobody waits for the next time.
        let begun = robot.motors.until(&format!("stop {motor}")).await;
        sleep(Duration::from_secs(19)).await;
        let (before, closed) = (tries(&robot, motor, begun).len(), Instant::now());
        robot.sessions.close().await;
        assert!(closed.elapsed() <= most * MS, "{motor}: {:?}", closed.elapsed());
        let after = tries(&robot, motor, closed - Duration::from_secs(19)).len() - before;
        assert!((1..=5).contains(&after), "{motor}: {after}");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(tries(&robot, motor, begun).len(), before + after, "{motor}: it goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_handlers_that_go_on_and_they_are_followed_by_a_stop() {
    let robot = Robot::with(|builder| builder.stop_timeout(500 * MS));
    let operator = robot.operator("a");
    let sid = operator.start().await;
    let mut call = Box::pin(operator.go(Some(&sid), "m1"));
    assert!(call.as_mut().now_or_never().is_none());
    let closed = Instant::now();
    robot.sessions.close().await;
    assert!((500 * MS..=610 * MS).contains(&closed.elapsed()), "{:?}", closed.elapsed());
    drop(call);
    sleep(MS).await;
    assert_eq!(
        robot.motors.log().split_off(robot.motors.log().len() - 3),
        ["dropped m1", "stop m1", "stopped m1"]
    );
}

/// A call to SetPower of m1, with so many bytes of another field before the motor's name. `flag`: whether the
/// message is said to be compressed.
async fn raw(operator: &Operator, sid: Option<&str>, flag: u8, before: usize) -> Status {
    // Field 15, which SetPower does not have.
    let mut message = vec![0x7a];
    prost::encode_length_delimiter(before, &mut message).unwrap();
    message.resize(message.len() + before, b'x');
    message.extend(SetPowerRequest { name: "m1".to_owned(), ..Default::default() }.encode_to_vec());
    let mut framed = vec![flag];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let mut request = http::Request::post("/viam.component.motor.v1.MotorService/SetPower")
        .header("content-type", "application/grpc")
        .body(Body::new(http_body_util::Full::new(bytes::Bytes::from(framed))))
        .unwrap();
    if let Some(sid) = sid {
        request.headers_mut().insert("viam-sid", sid.parse().unwrap());
    }
    let response = tower::Service::call(&mut operator.line.clone(), request).await.unwrap();
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""))
}

#[tokio::test(start_paused = true)]
async fn a_call_under_a_session_that_hides_what_it_moves_is_refused() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    let mut events = robot.sessions.events();
    let status = raw(&operator, Some(&sid), 1, 0).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("send its first message uncompressed"), "{status:?}");
    assert_eq!(status.metadata().get("grpc-accept-encoding").unwrap(), "identity");
    assert_eq!(events.next().now_or_never(), None);
    // Without a session it is the handler's business, and told. This one cannot read it either.
    let status = raw(&operator, None, 1, 0).await;
    assert!(!status.message().contains("uncompressed"), "{status:?}");
    let event = events.next().now_or_never().unwrap().unwrap();
    let expected = NotAssociated::Compressed;
    assert!(matches!(event, SessionEvent::NotAssociated { why, .. } if why == expected), "{event:?}");
    assert_eq!(robot.motors.log(), [""; 0], "neither has moved anything");
    // A name that is not in the first 64 KiB is told as well; one that is, is found.
    for (before, told) in [(70_000, 2), (60_000, 2)] {
        assert_eq!(raw(&operator, Some(&sid), 0, before).await.code(), Code::Ok);
        assert_eq!(robot.sessions.stats().not_associated, told, "{before}");
    }
    robot.motors.until("stopped m1").await;
}
