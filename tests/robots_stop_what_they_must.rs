//! What an operator moved is stopped when the operator goes silent: then, not before, and nothing else.
//!
//! The robot's services are called without a network, in paused time.

mod motors;

use std::future::poll_fn;
use std::time::Duration;

use farlink::proto::testecho::EchoMultipleRequest;
use farlink::proto::testecho::test_echo_service_client::TestEchoServiceClient;
use farlink::sessions::robot::{
    Heartbeats, OnDisconnect, SessionConfigError, SessionEvent, SessionManager, SessionManagerBuilder,
    Sessionless,
};
use farlink::transport::{Arrived, TransportKind};
use farlink::wire::session::{EXPIRED_SESSION_KEY, SESSION_EXPIRED};
use futures_util::FutureExt as _;
use motors::{MS, Motors, Operator, Robot, W, motor, under};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::body::Body;
use tonic::{Code, Status};

fn assert_expired(status: &Status, sid: &str) {
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, SESSION_EXPIRED));
    assert_eq!(status.metadata().get(EXPIRED_SESSION_KEY).unwrap(), sid);
}

/// A call that had begun: not the text for which callers make a call again.
fn assert_cut(status: &Status, sid: &str) {
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    assert_eq!(status.metadata().get(EXPIRED_SESSION_KEY).unwrap(), sid);
}

// C31

#[tokio::test(start_paused = true)]
async fn c31_a_stop_begins_at_the_deadline_or_up_to_2_ms_after_and_never_before() {
    let robot = Robot::with(|builder| builder.max_per_owner(100));
    let operator = robot.operator("a");
    let mut deadlines = Vec::new();
    for number in 0..100 {
        let sid = operator.start().await;
        operator.power(Some(&sid), &format!("x{number}")).await.unwrap();
        deadlines.push(Instant::now() + W);
        sleep(Duration::from_micros(2700)).await;
    }
    sleep(2 * W).await;
    for (number, deadline) in deadlines.into_iter().enumerate() {
        let stopped = robot.motors.when(&format!("stop x{number}")).expect("never stopped");
        assert!(stopped >= deadline, "x{number} {:?} early", deadline - stopped);
        assert!(stopped - deadline <= 2 * MS, "x{number} {:?} late", stopped - deadline);
    }
    assert_eq!(robot.sessions.stats().live, 0);
}

#[tokio::test(start_paused = true)]
async fn c31_who_beats_is_not_stopped_and_who_ceases_is_a_window_later() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    operator.power(Some(&sid), "m1").await.unwrap();
    operator.beat_for(&sid, 50 * W).await;
    assert_eq!(robot.motors.log(), ["power m1"]);
    let deadline = Instant::now() + W;
    assert!(robot.motors.until("stop m1").await >= deadline);
    assert_expired(&operator.beat(&sid).await.unwrap_err(), &sid);
}

#[tokio::test(start_paused = true)]
async fn c31_an_earlier_deadline_wakes_the_timer() {
    let robot = Robot::with(|builder| builder.on_disconnect(OnDisconnect::StopAfter(10 * MS)));
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let (first, second) = (a.start().await, b.start().await);
    a.power(Some(&first), "m1").await.unwrap();
    b.power(Some(&second), "m2").await.unwrap();
    sleep(MS).await;
    let lost = Instant::now();
    drop(b);
    let stopped = robot.motors.until("stop m2").await;
    assert!((10 * MS..=12 * MS).contains(&(stopped - lost)), "{:?}", stopped - lost);
    assert_eq!(robot.motors.when("stop m1"), None);
}

// C32

#[tokio::test(start_paused = true)]
async fn c32_a_stop_that_hangs_delays_no_heartbeat_and_no_other_stop() {
    let robot = Robot::new();
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let silent = a.start().await;
    for motor in ["hang", "panic", "fail", "slow", "m1"] {
        a.power(Some(&silent), motor).await.unwrap();
    }
    let lively = b.start().await;
    let mut events = robot.sessions.events();
    sleep(W - 10 * MS).await;
    b.beat(&lively).await.unwrap();
    sleep(20 * MS).await;
    // All have begun, the first of them hangs, and everybody else goes on.
    for motor in ["hang", "panic", "fail", "slow", "m1"] {
        assert!(robot.motors.when(&format!("stop {motor}")).is_some(), "{motor}");
    }
    assert!(robot.motors.when("stopped m1").is_some());
    let before = Instant::now();
    b.beat(&lively).await.unwrap();
    b.power(Some(&lively), "m2").await.unwrap();
    assert!(Instant::now() - before < 5 * MS);
    b.beat_for(&lively, 5 * W).await;

    let mut failed = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        if let SessionEvent::StopFailed { resource, why, attempt: 1, .. } = event {
            failed.push((resource, why));
        }
    }
    let expected =
        [("panic", "panicked: asked to panic"), ("fail", "asked to fail"), ("hang", "longer than 5s")];
    assert_eq!(failed.len(), expected.len(), "{failed:?}");
    for (name, text) in expected {
        assert!(
            failed.iter().any(|(resource, why)| *resource == motor(name) && why.contains(text)),
            "{failed:?}"
        );
    }
    // What fails is tried again, and that is not all that the robot does.
    for motor in ["hang", "panic", "fail"] {
        let tries = robot.motors.log().iter().filter(|what| **what == format!("stop {motor}")).count();
        assert!((2..=8).contains(&tries), "{motor}: {tries}");
    }
    assert_eq!(robot.sessions.stats().live, 1);
}

#[tokio::test(start_paused = true)]
async fn c32_a_motor_whose_stop_hangs_can_be_driven_again_after_the_time_out() {
    let robot = Robot::with(|builder| builder.stop_timeout(300 * MS));
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let sid = a.start().await;
    a.power(Some(&sid), "hang").await.unwrap();
    let begun = robot.motors.until("stop hang").await;
    b.power(None, "hang").await.unwrap();
    let waited = begun.elapsed();
    assert!((300 * MS..320 * MS).contains(&waited), "{waited:?}");
}

// C33

#[tokio::test(start_paused = true)]
async fn c33_the_last_who_moved_it_decides() {
    let robot = Robot::new();
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let (first, second) = (a.start().await, b.start().await);
    a.power(Some(&first), "m1").await.unwrap();
    a.power(Some(&first), "m2").await.unwrap();
    b.power(Some(&second), "m1").await.unwrap();
    b.beat_for(&second, 2 * W).await;
    assert!(robot.motors.when("stop m2").is_some());
    assert_eq!(robot.motors.when("stop m1"), None, "it is the other's");
    let deadline = Instant::now() + W;
    assert!(robot.motors.until("stop m1").await >= deadline);
}

#[tokio::test(start_paused = true)]
async fn c33_a_call_waits_for_the_end_of_a_stop_and_is_not_hit_by_it() {
    let robot = Robot::new();
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let first = a.start().await;
    a.power(Some(&first), "slow").await.unwrap();
    sleep(W / 2).await;
    let second = b.start().await;
    robot.motors.until("stop slow").await;
    // A call with a session, and one without: both come after the stop, not into its middle.
    let (with, without) = tokio::join!(b.power(Some(&second), "slow"), b.power(None, "slow"));
    with.and(without).unwrap();
    assert_eq!(robot.motors.log(), ["power slow", "stop slow", "stopped slow", "power slow", "power slow"]);
    b.beat_for(&second, 2 * W).await;
    assert_eq!(robot.motors.log().len(), 5, "and no stop comes after them");
}

#[tokio::test(start_paused = true)]
async fn c33_a_resource_that_is_taken_between_expiry_and_stop_is_left_alone() {
    let mut between = Vec::new();
    for (session, early) in [(false, false), (false, true), (true, false), (true, true)] {
        let robot = Robot::new();
        let (a, b) = (robot.operator("a"), robot.operator("b"));
        let theirs = b.start().await;
        let mut events = robot.sessions.events();
        // Wakes at the same instant as the expiry, before it or between it and the stop.
        let deadline = Instant::now() + W;
        let take = {
            let (b, sid) = (b.clone(), session.then(|| theirs.clone()));
            async move {
                sleep_until(deadline).await;
                b.power(sid.as_deref(), "m1").await.unwrap();
            }
        };
        let mut take = Some(take);
        if early {
            take.take().map(tokio::spawn);
            tokio::task::yield_now().await;
        }
        let sid = a.start().await;
        a.power(Some(&sid), "m1").await.unwrap();
        sleep(W / 2).await;
        b.beat(&theirs).await.unwrap();
        take.map(tokio::spawn);
        sleep(W).await;
        assert_eq!(robot.motors.log(), ["power m1", "power m1"]);
        assert_eq!(robot.sessions.stats().stops, 0);
        while let Some(Some(event)) = events.next().now_or_never() {
            if matches!(event, SessionEvent::StopNotNeeded { .. }) {
                between.push(session);
            }
        }
    }
    assert!(between.contains(&true) && between.contains(&false), "none came between: {between:?}");
}

#[tokio::test(start_paused = true)]
async fn c33_an_acknowledged_heartbeat_is_never_overruled() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    operator.power(Some(&sid), "m1").await.unwrap();
    // As close to the deadline as can be, on either side of it, again and again.
    for lead in [3, 2, 1, 0] {
        let deadline = Instant::now() + W;
        operator.beat(&sid).await.unwrap();
        sleep_until(deadline - lead * MS).await;
        match operator.beat(&sid).await {
            Ok(()) => {
                let acknowledged = Instant::now();
                sleep_until(acknowledged + W - MS).await;
                assert_eq!(robot.motors.when("stop m1"), None, "{lead} ms before the deadline");
                operator.beat(&sid).await.unwrap();
            }
            Err(status) => {
                assert_eq!(lead, 0, "it was in time");
                assert_expired(&status, &sid);
            }
        }
    }
    robot.motors.until("stopped m1").await;
}

// C34

#[tokio::test(start_paused = true)]
async fn c34_a_heartbeat_counts_from_its_arrival() {
    let robot = Robot::new();
    let mut operator = robot.operator("a");
    let sid = operator.start().await;
    operator.power(Some(&sid), "m1").await.unwrap();
    sleep(W / 4).await;
    operator.line.arrived = Some(Arrived(Instant::now()));
    let arrived = Instant::now();
    // It waits for its turn.
    sleep(W / 2).await;
    operator.beat(&sid).await.unwrap();
    let stopped = robot.motors.until("stop m1").await;
    assert!((W..=W + 2 * MS).contains(&(stopped - arrived)), "{:?}", stopped - arrived);
}

// C37

#[tokio::test(start_paused = true)]
async fn c37_a_call_without_a_session_releases_the_resource_as_in_rdk() {
    let robot = Robot::new();
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let sid = a.start().await;
    a.power(Some(&sid), "m1").await.unwrap();
    a.power(Some(&sid), "m2").await.unwrap();
    let mut events = robot.sessions.events();
    b.power(None, "m1").await.unwrap();
    let event = events.next().await;
    let taken = |event| matches!(event, SessionEvent::TakenOver { resource, by: None, .. } if resource == motor("m1"));
    assert!(event.is_some_and(taken));
    sleep(2 * W).await;
    assert!(robot.motors.when("stop m2").is_some());
    assert_eq!(robot.motors.when("stop m1"), None);
}

#[tokio::test(start_paused = true)]
async fn c37_or_leaves_it_to_its_owner() {
    let robot = Robot::with(|builder| builder.sessionless(Sessionless::KeepOwner));
    let (a, b) = (robot.operator("a"), robot.operator("b"));
    let sid = a.start().await;
    a.power(Some(&sid), "m1").await.unwrap();
    b.power(None, "m1").await.unwrap();
    sleep(2 * W).await;
    assert!(robot.motors.when("stop m1").is_some());
}

// C38

/// A call to SetPower whose message never comes.
fn headers_only(sid: &str) -> http::Request<Body> {
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
    http::Request::post("/viam.component.motor.v1.MotorService/SetPower")
        .header("content-type", "application/grpc")
        .header("viam-sid", sid)
        .body(Body::new(Never))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn c38_the_session_is_checked_before_the_first_message() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    let call = |sid: &str| {
        let mut line = operator.line.clone();
        let request = headers_only(sid);
        async move { tower::Service::call(&mut line, request).await.unwrap() }
    };
    // Good: waits for the message, until the session is over.
    let response = timeout(10 * W, call(&sid)).await.expect("not cut when its session ended");
    assert_expired(&Status::from_header_map(response.headers()).unwrap(), &sid);
    // Gone: the answer does not wait for anything.
    let response = timeout(MS, call(&sid)).await.expect("it waits for the message");
    assert_expired(&Status::from_header_map(response.headers()).unwrap(), &sid);
}

#[tokio::test(start_paused = true)]
async fn c38_a_stream_stays_bound_to_its_session_and_ends_with_it() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    // The flood's messages are long: otherwise thousands of them come at once.
    let flood = "flood".repeat(20_000);
    for message in ["steady", &flood] {
        let sid = operator.resume(&sid).await.unwrap();
        let request = EchoMultipleRequest { name: "e1".to_owned(), message: message.to_owned() };
        let mut client = TestEchoServiceClient::new(operator.line.clone());
        let mut events = robot.sessions.events();
        let mut echoes = client.echo_multiple(under(Some(&sid), request)).await.unwrap().into_inner();
        let began = Instant::now();
        let status = loop {
            match echoes.message().await {
                Ok(Some(_)) => tokio::task::yield_now().await,
                Ok(None) => panic!("it ended well"),
                Err(status) => break status,
            }
            if message == flood {
                tokio::time::advance(MS).await;
            }
        };
        assert_cut(&status, &sid);
        assert!((W..W + 150 * MS).contains(&began.elapsed()), "its messages are no signs of life");
        robot.motors.until("stopped e1").await;
        let times = |what: &str| robot.motors.log().iter().filter(|happened| *happened == what).count();
        assert_eq!(times("dropped e1"), times("echo e1"), "its handler goes on");
        let ended = |event| matches!(event, SessionEvent::LongCallEnded { after, .. } if after >= W);
        let told = async { while !ended(events.next().await.unwrap()) {} };
        timeout(W, told).await.expect("the end of the stream is not told");
    }
}

#[tokio::test(start_paused = true)]
async fn c38_nothing_of_an_expired_session_moves_a_motor_after_its_stop() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let other = robot.operator("b");
    let sid = operator.start().await;
    let mut call = Box::pin(operator.go(Some(&sid), "m1"));
    assert!(poll_fn(|cx| std::task::Poll::Ready(call.poll_unpin(cx).is_pending())).await);
    // Nobody polls the call: its handler lives on after the deadline.
    robot.motors.until("stopped m1").await;
    assert_eq!(robot.motors.log(), ["go m1", "stop m1", "stopped m1"]);
    // Nobody else moves it while it may still be moved by that handler.
    assert!(timeout(100 * MS, other.power(None, "m1")).await.is_err());
    assert_cut(&call.await, &sid);
    sleep(MS).await;
    assert_eq!(robot.motors.log()[3..], ["dropped m1", "stop m1", "stopped m1"]);
    other.power(None, "m1").await.unwrap();
    sleep(2 * W).await;
    assert_eq!(robot.motors.log()[6..], ["power m1"]);
}

#[tokio::test(start_paused = true)]
async fn c38_a_handler_that_does_not_end_in_time_is_followed_by_a_stop_all_the_same() {
    let robot = Robot::with(|builder| builder.stop_timeout(200 * MS));
    let operator = robot.operator("a");
    let sid = operator.start().await;
    let mut call = Box::pin(operator.go(Some(&sid), "m1"));
    assert!(poll_fn(|cx| std::task::Poll::Ready(call.poll_unpin(cx).is_pending())).await);
    sleep(2 * W).await;
    // The stop is repeated, about as often as it may take.
    let log = robot.motors.log();
    let times = log.iter().filter(|what| *what == "stop m1").count();
    assert!((5..=11).contains(&times), "{log:?}");
    drop(call);
    sleep(MS).await;
    assert_eq!(robot.motors.log()[log.len()..], ["dropped m1", "stop m1", "stopped m1"]);
    sleep(2 * W).await;
    assert_eq!(robot.motors.log().len(), log.len() + 3, "and not once more when the handler is gone");
}

// C39

#[tokio::test(start_paused = true)]
async fn c39_a_lost_connection_leaves_the_whole_window_unless_asked_otherwise() {
    let robot = Robot::new();
    let first = robot.operator("a");
    let sid = first.start().await;
    first.power(Some(&sid), "m1").await.unwrap();
    let mut events = robot.sessions.events();
    drop(first);
    let gone = timeout(MS, events.next()).await.unwrap();
    assert!(matches!(gone, Some(SessionEvent::Disconnected { .. })), "{gone:?}");
    sleep(W - 10 * MS).await;
    assert_eq!(robot.motors.log(), ["power m1"]);
    // A blip shorter than the window: the same session, and nothing was stopped.
    let second = robot.operator("a");
    assert_expired(&second.power(Some(&sid), "m1").await.unwrap_err(), &sid);
    assert_eq!(second.resume(&sid).await.unwrap(), sid);
    second.power(Some(&sid), "m1").await.unwrap();
    sleep(W - 10 * MS).await;
    assert_eq!(robot.motors.log(), ["power m1", "power m1"]);
}

#[tokio::test(start_paused = true)]
async fn c39_or_a_grace_in_which_it_can_be_resumed() {
    let grace = 300 * MS;
    let robot = Robot::with(|builder| builder.on_disconnect(OnDisconnect::StopAfter(grace)));
    let scene = async || {
        let operator = robot.operator("a");
        let sid = operator.start().await;
        operator.power(Some(&sid), "m1").await.unwrap();
        sid
    };
    let lost = Instant::now();
    let sid = scene().await;
    sleep(grace - 10 * MS).await;
    let back = robot.operator("a");
    back.resume(&sid).await.unwrap();
    sleep(W - 10 * MS).await;
    assert_eq!(robot.motors.when("stop m1"), None, "it was resumed in time");
    assert!(robot.motors.until("stop m1").await - lost >= W);

    let robot = Robot::with(|builder| builder.on_disconnect(OnDisconnect::StopAfter(grace)));
    let operator = robot.operator("a");
    let sid = operator.start().await;
    operator.power(Some(&sid), "m1").await.unwrap();
    drop(operator);
    let lost = Instant::now();
    let stopped = robot.motors.until("stop m1").await - lost;
    assert!((grace..=grace + 2 * MS).contains(&stopped), "{stopped:?}");
}

// C40

#[tokio::test(start_paused = true)]
async fn c40_what_happens_is_told_and_counted() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let mut events = robot.sessions.events();
    let sid = operator.start().await;
    operator.power(Some(&sid), "m1").await.unwrap();
    sleep(W / 5).await;
    operator.beat(&sid).await.unwrap();
    sleep(W * 3 / 5).await;
    operator.beat(&sid).await.unwrap();
    operator.resume(&sid).await.unwrap();
    sleep(2 * W).await;
    operator.beat(&sid).await.unwrap_err();

    let stats = robot.sessions.stats();
    assert_eq!((stats.live, stats.started, stats.resumed, stats.expired), (0, 1, 1, 1));
    assert_eq!((stats.heartbeats, stats.missed, stats.refused), (2, 2, 1));
    assert_eq!((stats.gaps, stats.stops, stats.failed_stops), ([0, 0, 0, 1, 0, 1], 1, 0));
    let mut told = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        told.push(event);
    }
    let [
        SessionEvent::Started { session },
        SessionEvent::Resumed { session: resumed },
        SessionEvent::Expired { session: expired, resources },
        SessionEvent::Stopped { resource, session: stopped },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(session.expose().to_string(), sid);
    assert_eq!([resumed, expired, stopped], [session; 3]);
    assert_eq!((&resources[..], resource), (&[motor("m1")][..], &motor("m1")));
    assert!(!format!("{told:?}").contains(&sid), "ids are secrets");
}

#[tokio::test(start_paused = true)]
async fn c40_who_does_not_read_events_costs_a_bounded_amount() {
    let robot = Robot::new();
    let mut events = robot.sessions.events();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    for _ in 0..1100 {
        operator.resume(&sid).await.unwrap();
    }
    assert_eq!(events.next().await, Some(SessionEvent::Lagged { missed: 1101 - 1024 }));
    assert!(matches!(events.next().await, Some(SessionEvent::Resumed { .. })));
}

// The end

#[tokio::test(start_paused = true)]
async fn closing_stops_what_sessions_hold_and_nothing_moves_after_it() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    for motor in ["m1", "slow"] {
        operator.power(Some(&sid), motor).await.unwrap();
    }
    let going = tokio::spawn({
        let (operator, sid) = (operator.clone(), sid.clone());
        async move { operator.go(Some(&sid), "m2").await }
    });
    robot.motors.until("go m2").await;
    let begun = Instant::now();
    robot.sessions.close().await;
    assert!((500 * MS..510 * MS).contains(&begun.elapsed()), "it waits for the stops");
    for motor in ["m1", "m2", "slow"] {
        assert!(robot.motors.when(&format!("stopped {motor}")).is_some(), "{motor}");
    }
    assert_eq!(going.await.unwrap().code(), Code::Unavailable);
    assert_eq!(operator.resume(&sid).await.unwrap_err().code(), Code::Unavailable);
    for sid in [None, Some(&*sid)] {
        assert_eq!(operator.power(sid, "m1").await.unwrap_err().code(), Code::Unavailable);
    }
    robot.sessions.close().await;
}

#[tokio::test(start_paused = true)]
async fn when_nobody_holds_the_manager_its_sessions_end() {
    let robot = Robot::new();
    let operator = robot.operator("a");
    let sid = operator.start().await;
    operator.power(Some(&sid), "m1").await.unwrap();
    let motors: Motors = robot.motors.clone();
    let mut events = robot.sessions.events();
    drop((robot, operator));
    motors.until("stopped m1").await;
    let ends = async { while events.next().await.is_some() {} };
    timeout(W, ends).await.expect("its task goes on");
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused_before_anything_starts() {
    let build = |change: fn(SessionManagerBuilder) -> SessionManagerBuilder| {
        let builder = SessionManager::builder(std::sync::Arc::new(Motors::default()));
        change(builder).build().map(|_| ()).unwrap_err()
    };
    for window in [Duration::ZERO, 29 * MS, Duration::from_secs(61), Duration::MAX] {
        let builder = SessionManager::builder(std::sync::Arc::new(Motors::default())).window(window);
        assert_eq!(builder.build().map(|_| ()), Err(SessionConfigError::Window(window)));
    }
    assert_eq!(build(|builder| builder.stop_timeout(Duration::ZERO)), SessionConfigError::StopTimeout);
    assert_eq!(build(|builder| builder.max_sessions(0)), SessionConfigError::Limits);
    assert_eq!(build(|builder| builder.max_per_owner(0)), SessionConfigError::Limits);
    for window in [30 * MS, Duration::from_secs(60)] {
        let builder = SessionManager::builder(std::sync::Arc::new(Motors::default())).window(window);
        builder.stop_timeout(Duration::MAX).build().unwrap();
    }
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let builder = SessionManager::builder(std::sync::Arc::new(Motors::default()));
    assert_eq!(builder.build().map(|_| ()), Err(SessionConfigError::NoRuntime));
}

// The heartbeats of the Python SDK

#[tokio::test(start_paused = true)]
async fn heartbeats_may_come_over_a_second_connection_from_the_same_host() {
    let robot = Robot::new();
    let at = |remote: &str| robot.operator_at(Some("a"), remote, TransportKind::Direct);
    let calls = at("10.0.0.1:5000");
    let sid = calls.start().await;
    calls.power(Some(&sid), "m1").await.unwrap();
    let beats: Operator = at("10.0.0.1:5001");
    beats.beat_for(&sid, 3 * W).await;
    assert_eq!(robot.motors.log(), ["power m1"]);
    let foreign = at("10.0.0.2:5000").beat(&sid).await.unwrap_err();
    assert_ne!(foreign.message(), SESSION_EXPIRED);

    let robot = Robot::with(|builder| builder.heartbeats(Heartbeats::SameConnection));
    let calls = robot.operator_at(Some("a"), "10.0.0.1:5000", TransportKind::Direct);
    let sid = calls.start().await;
    let second = robot.operator_at(Some("a"), "10.0.0.1:5001", TransportKind::Direct);
    assert_ne!(second.beat(&sid).await.unwrap_err().message(), SESSION_EXPIRED);
    calls.beat(&sid).await.unwrap();
}
