//! What the model of sessions promises (`src/sessions/tests/model`), of the real callers and the real robot, on
//! the schedules that matter: those of the model's flaws, and those of other people's tests.
//!
//! Over a transport in memory and over WebRTC on the memory stack with time paused, to the millisecond; over
//! HTTP/2 on loopback in real time, where only too early is wrong.

mod common;
mod motors;
mod wires;

use std::time::Duration;

use farlink::proto::motor::SetPowerRequest;
use farlink::proto::motor::motor_service_client::MotorServiceClient;
use farlink::proto::robot::robot_service_client::RobotServiceClient;
use farlink::proto::robot::{SendSessionHeartbeatRequest, StartSessionRequest};
use farlink::sessions::{EndReason, LeaseState, ReplaceReason, SessionEvent};
use farlink::wire::session::{SEND_SESSION_HEARTBEAT, START_SESSION};
use motors::{MS, under};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Code, Status};
use wires::{Caller, Over, SET_POWER, Scene};

/// Names each promise once per transport.
macro_rules! promises {
    ($($promise:ident [$($over:ident $name:ident),+];)+) => {
        $(mod $promise {
            $(#[tokio::test]
            async fn $name() {
                super::$promise(super::Over::$over).await;
            })+
        })+
    };
}

promises! {
    lost_heartbeats_stop_what_was_moved_and_the_caller_knew [Memory in_memory, WebRtc over_webrtc, Direct directly];
    some_lost_heartbeats_change_nothing [Memory in_memory, WebRtc over_webrtc, Direct directly];
    late_acknowledgements_stop_nothing [Memory in_memory, WebRtc over_webrtc, Direct directly];
    heartbeats_that_overtake_each_other_stop_nothing [Memory in_memory, WebRtc over_webrtc];
    a_start_that_was_answered_late_promises_no_more_than_the_robot [Memory in_memory, WebRtc over_webrtc];
    at_the_deadline_a_heartbeat_counts_or_is_refused [Memory in_memory, WebRtc over_webrtc];
    a_blip_keeps_the_session_and_is_resumed_before_any_call [Memory in_memory, WebRtc over_webrtc, Direct directly];
    an_outage_stops_and_the_next_call_begins_anew [Memory in_memory, WebRtc over_webrtc, Direct directly];
    a_robot_that_starts_anew_is_given_a_new_session [Memory in_memory, WebRtc over_webrtc, Direct directly];
    who_takes_a_motor_keeps_it_when_the_other_leaves [Memory in_memory, WebRtc over_webrtc, Direct directly];
    a_stop_spares_the_next_owner_whenever_he_comes [Memory in_memory, WebRtc over_webrtc];
    another_s_id_moves_nothing_and_gives_no_time [Memory in_memory, WebRtc over_webrtc, Direct directly];
    an_id_is_good_on_the_connection_that_it_was_resumed_on [Memory in_memory, WebRtc over_webrtc, Direct directly];
    who_dies_is_stopped_a_window_after_the_last_heartbeat [Memory in_memory, WebRtc over_webrtc, Direct directly];
}

async fn lost_heartbeats_stop_what_was_moved_and_the_caller_knew(over: Over) {
    let scene = Scene::new(over, &["ann"]).await;
    let ann = scene.caller("ann").await;
    ann.power("m1").await.unwrap();
    sleep(scene.window * 3).await;
    assert_eq!(scene.times("stop m1"), []);
    // At any phase of the heartbeats.
    let phases: &[f64] = if over.is_paused() { &[0.0, 0.1, 0.25, 0.5, 0.77] } else { &[0.3] };
    for (round, part) in phases.iter().enumerate() {
        sleep(scene.window.mul_f64(*part)).await;
        ann.line.faults.lose_all();
        scene.stopped("m1", round + 1).await;
        scene.judge(&ann, "m1");
        ann.line.faults.heal();
        // The end of it is told, and the next call goes on in another session.
        ann.power("m1").await.unwrap();
        sleep(scene.window * 2).await;
    }
    scene.judge(&ann, "m1");
    let rounds = phases.len();
    assert_eq!((scene.times("stop m1").len(), scene.times("power m1").len()), (rounds, rounds + 1));
    assert_eq!(ann.client.stats().replaced, rounds as u64, "{:?}", ann.told());
}

async fn some_lost_heartbeats_change_nothing(over: Over) {
    let scene = Scene::new(over, &["ann"]).await;
    let ann = scene.caller("ann").await;
    let mut beats = 0;
    ann.line.faults.set(move |path| {
        beats += u32::from(path == SEND_SESSION_HEARTBEAT);
        (path != SEND_SESSION_HEARTBEAT || beats % 3 == 0).then_some((Duration::ZERO, Duration::ZERO))
    });
    ann.power("m1").await.unwrap();
    let rounds = if over.is_paused() { 50 } else { 4 };
    for _ in 0..rounds {
        sleep(scene.window / 2).await;
        ann.power("m1").await.unwrap();
    }
    // Without calls too.
    sleep(scene.window * rounds / 2).await;
    scene.judge(&ann, "m1");
    assert_eq!((scene.times("stop m1").len(), ann.client.stats().started), (0, 1));
}

/// An acknowledgement that comes after the window it is for proves nothing, and costs nothing.
async fn late_acknowledgements_stop_nothing(over: Over) {
    let scene = Scene::new(over, &["ann"]).await;
    let ann = scene.caller("ann").await;
    let late = scene.window.mul_f64(1.5);
    ann.line.faults.set(move |path| {
        let back = if path == SEND_SESSION_HEARTBEAT { late } else { Duration::ZERO };
        Some((Duration::ZERO, back))
    });
    ann.power("m1").await.unwrap();
    for _ in 0..if over.is_paused() { 10 } else { 4 } {
        sleep(scene.window).await;
        assert!(ann.lease().is_some_and(|lease| lease >= LeaseState::Suspect), "{:?}", ann.lease());
    }
    // In doubt the session is gone on with before the call.
    ann.power("m1").await.unwrap();
    scene.judge(&ann, "m1");
    assert_eq!((scene.times("stop m1").len(), ann.client.stats().started), (0, 1));
    assert!(ann.client.stats().resumed > 0);
}

async fn heartbeats_that_overtake_each_other_stop_nothing(over: Over) {
    for seed in 0..5 {
        let scene = Scene::new(over, &["ann"]).await;
        let ann = scene.caller("ann").await;
        let mut random = fastrand::Rng::with_seed(seed);
        let window = scene.window;
        ann.line.faults.set(move |path| {
            let longest = if path == SEND_SESSION_HEARTBEAT { 0.7 } else { 0.1 };
            let mut time = || window.mul_f64(longest * random.f64());
            Some((time(), time()))
        });
        ann.power("m1").await.unwrap();
        for _ in 0..100 {
            sleep(window / 10).await;
            // What it says it may believe, the robot still holds.
            let believes = ann.lease().is_some_and(|lease| lease < LeaseState::Suspect);
            assert!(!believes || scene.sessions().stats().live == 1);
        }
        scene.judge(&ann, "m1");
        assert_eq!(scene.times("stop m1"), []);
    }
}

/// The model's schedule against a lease that counts from the receipt, and against one that begins in silence.
async fn a_start_that_was_answered_late_promises_no_more_than_the_robot(over: Over) {
    for part in [0.2, 0.55, 0.66, 0.9] {
        let scene = Scene::new(over, &["ann"]).await;
        let ann = scene.caller("ann").await;
        let back = scene.window.mul_f64(part);
        let mut gone = false;
        ann.line.faults.set(move |path| {
            let heard = !gone;
            gone |= path == SET_POWER;
            match path {
                START_SESSION => Some((Duration::ZERO, back)),
                SET_POWER => heard.then_some((Duration::ZERO, Duration::ZERO)),
                _ => None,
            }
        });
        let began = Instant::now();
        ann.power("m1").await.unwrap();
        while Instant::now() < began + scene.window * 4 {
            sleep(scene.window / 50).await;
            let believes = ann.lease().is_some_and(|lease| lease < LeaseState::Suspect);
            assert!(!believes || scene.sessions().stats().live == 1, "{part}");
        }
        scene.judge(&ann, "m1");
        assert_eq!(scene.times("stop m1").len(), 1, "{part}");
    }
}

/// The model's schedule against a robot that overrules what it has acknowledged.
async fn at_the_deadline_a_heartbeat_counts_or_is_refused(over: Over) {
    for early in -3..=3_i32 {
        let scene = Scene::new(over, &["ann"]).await;
        let ann = scene.caller("ann").await;
        ann.power("m1").await.unwrap();
        sleep(scene.window / 20).await;
        let last = *scene.signs("ann").last().unwrap();
        let arrives = last + scene.window + 10 * MS - (10 + early).unsigned_abs() * MS;
        let mut first = true;
        ann.line.faults.set(move |_| {
            let there = arrives - Instant::now();
            std::mem::take(&mut first).then_some((there, Duration::ZERO))
        });
        scene.stopped("m1", 1).await;
        scene.judge(&ann, "m1");
        let signs = scene.signs("ann");
        let counted = signs.last() > Some(&last);
        // The timers of the test are good for a millisecond.
        assert!(counted || early < 2, "{early} ms before the deadline");
        assert!(!counted || early > -2, "{early} ms before the deadline");
    }
}

/// The model's schedule against a caller that does not resume.
async fn a_blip_keeps_the_session_and_is_resumed_before_any_call(over: Over) {
    let scene = Scene::new(over, &["ann"; 6]).await;
    let ann = scene.caller("ann").await;
    ann.power("m1").await.unwrap();
    let session = ann.session();
    let parts: &[f64] = if over.is_paused() { &[0.0, 0.1, 0.3] } else { &[0.1] };
    for part in parts {
        let heard = scene.heard().len();
        ann.cut().await;
        // This one waits for the next connection.
        let waiting = tokio::spawn({
            let mut motors = MotorServiceClient::new(ann.client.channel());
            async move { motors.set_power(power("m1")).await }
        });
        sleep(scene.window.mul_f64(*part)).await;
        ann.line.reconnect();
        ann.power("m1").await.unwrap();
        waiting.await.unwrap().unwrap();
        let paths: Vec<_> = scene.heard()[heard..].iter().map(|heard| heard.path.clone()).collect();
        assert_eq!(paths[0], START_SESSION, "{paths:?}");
        assert_eq!(ann.session(), session);
        // A connection that lasts less than 5 s is dialed again later and later.
        sleep(scene.window * 3).await;
    }
    scene.judge(&ann, "m1");
    assert_eq!(scene.times("stop m1"), []);
    let stats = ann.client.stats();
    assert!(stats.started == 1 && stats.resumed >= parts.len() as u64, "{stats:?}");
}

async fn an_outage_stops_and_the_next_call_begins_anew(over: Over) {
    let scene = Scene::new(over, &["ann"; 2]).await;
    let ann = scene.caller("ann").await;
    ann.power("m1").await.unwrap();
    ann.cut().await;
    scene.stopped("m1", 1).await;
    scene.judge(&ann, "m1");
    ann.line.reconnect();
    ann.until(|event| matches!(event, SessionEvent::Replaced { reason: ReplaceReason::Reconnected, .. }))
        .await;
    ann.power("m1").await.unwrap();
    sleep(scene.window * 2).await;
    scene.judge(&ann, "m1");
    assert_eq!((scene.times("stop m1").len(), scene.times("power m1").len()), (1, 2));
}

async fn a_robot_that_starts_anew_is_given_a_new_session(over: Over) {
    let scene = Scene::new(over, &["ann"]).await;
    let ann = scene.caller("ann").await;
    ann.power("m1").await.unwrap();
    scene.restart();
    scene.stopped("m1", 1).await;
    // A call finds out, or a heartbeat.
    ann.power("m1").await.unwrap();
    scene.restart();
    scene.stopped("m1", 2).await;
    ann.until(|event| matches!(event, SessionEvent::Ended { reason: EndReason::Expired, .. })).await;
    ann.power("m1").await.unwrap();
    sleep(scene.window * 2).await;
    assert_eq!((scene.times("stop m1").len(), ann.client.stats().replaced), (2, 2), "{:?}", ann.told());
    drop(ann);
    scene.stopped("m1", 3).await;
}

/// Go's TestSessionsMixedClients.
async fn who_takes_a_motor_keeps_it_when_the_other_leaves(over: Over) {
    let scene = Scene::new(over, &["ann", "bob"]).await;
    let (ann, bob) = (scene.caller("ann").await, scene.caller("bob").await);
    ann.power("m1").await.unwrap();
    ann.power("m2").await.unwrap();
    bob.power("m1").await.unwrap();
    drop(ann);
    scene.stopped("m2", 1).await;
    sleep(scene.window * 2).await;
    assert_eq!(scene.times("stop m1"), [], "it is Bob's");
    drop(bob);
    scene.stopped("m1", 1).await;
    scene.timely("bob", "m1");
    scene.timely("ann", "m2");
}

/// The model's schedule against a robot that stops without asking whose it is by now.
async fn a_stop_spares_the_next_owner_whenever_he_comes(over: Over) {
    for motor in ["m1", "slow"] {
        for late in -3..=3_i32 {
            let scene = Scene::new(over, &["ann", "bob"]).await;
            let (ann, bob) = (scene.caller("ann").await, scene.caller("bob").await);
            bob.power("m2").await.unwrap();
            ann.power(motor).await.unwrap();
            ann.line.faults.lose_all();
            sleep(scene.window / 2).await;
            let deadline = *scene.signs("ann").last().unwrap() + scene.window;
            sleep_until(deadline + 10 * MS - (10 - late).unsigned_abs() * MS).await;
            bob.power(motor).await.unwrap();
            sleep(scene.window * 2).await;
            // If it was stopped, then before Bob had it.
            let log = scene.motors.log();
            let last = |what: &str| log.iter().rposition(|happened| *happened == format!("{what} {motor}"));
            assert!(last("stopped") < last("power"), "{late} ms after the deadline: {log:?}");
            assert!(last("stop") < last("power") && last("power").is_some());
            assert!(late > -2 || last("stop").is_none(), "{late}: Bob had it before");
            scene.knew(&ann);
            drop(bob);
            scene.stopped(motor, 1 + usize::from(last("stop").is_some())).await;
        }
    }
}

/// Go's TestSessionsMixedOwnersImplicitAuth, and more.
async fn another_s_id_moves_nothing_and_gives_no_time(over: Over) {
    let scene = Scene::new(over, &["ann", "bob"]).await;
    let (ann, bob) = (scene.caller("ann").await, scene.caller("bob").await);
    ann.power("m1").await.unwrap();
    let sid = ann.session().unwrap();
    ann.line.faults.lose_all();
    while scene.times("stop m1").is_empty() {
        for refused in
            [beat(&bob, &sid).await, resume(&bob, &sid).await.map(drop), under_id(&bob, &sid).await]
        {
            let gone = Instant::now() >= *scene.signs("ann").last().unwrap() + scene.window;
            let status = refused.err().filter(|status| status.code() == Code::InvalidArgument);
            assert!(gone || status.is_some_and(|status| status.message() != "SESSION_EXPIRED"));
        }
        sleep(scene.window / 20).await;
    }
    scene.judge(&ann, "m1");
    assert_eq!(scene.times("power m2"), []);
}

/// Go's TestSessionsMixedOwnersNoAuth, where the second connection must resume first.
async fn an_id_is_good_on_the_connection_that_it_was_resumed_on(over: Over) {
    let scene = Scene::new(over, &["ann", "ann/2"]).await;
    let (ann, second) = (scene.caller("ann").await, scene.caller("ann/2").await);
    ann.power("m1").await.unwrap();
    let sid = ann.session().unwrap();
    let status = under_id(&second, &sid).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message() != "SESSION_EXPIRED", "{status:?}");
    assert_eq!(scene.times("power m2"), []);
    assert_eq!(resume(&second, &sid).await.unwrap(), sid);
    under_id(&second, &sid).await.unwrap();
    // Ann's own next call finds it elsewhere, and goes on with it.
    ann.power("m1").await.unwrap();
    assert_eq!(ann.session(), Some(sid));
    under_id(&second, &ann.session().unwrap()).await.unwrap_err();
    sleep(scene.window * 2).await;
    assert_eq!((scene.times("stop m1").len(), scene.times("power m2").len()), (0, 1));
    drop(ann);
    scene.stopped("m1", 1).await;
    scene.stopped("m2", 1).await;
    scene.timely("ann", "m1");
}

async fn who_dies_is_stopped_a_window_after_the_last_heartbeat(over: Over) {
    let scene = Scene::new(over, &["ann"]).await;
    let ann = scene.caller("ann").await;
    ann.power("m1").await.unwrap();
    sleep(scene.window.mul_f64(1.3)).await;
    drop(ann);
    scene.stopped("m1", 1).await;
    scene.timely("ann", "m1");
}

fn power(motor: &str) -> SetPowerRequest {
    SetPowerRequest { name: motor.to_owned(), power_pct: 1.0, extra: None }
}

/// Moves `m2` with an id that is not this client's.
async fn under_id(caller: &Caller, sid: &str) -> Result<(), Status> {
    let mut motors = MotorServiceClient::new(caller.channel.clone());
    motors.set_power(under(Some(sid), power("m2"))).await.map(drop)
}

async fn beat(caller: &Caller, sid: &str) -> Result<(), Status> {
    let request = SendSessionHeartbeatRequest { id: sid.to_owned() };
    RobotServiceClient::new(caller.channel.clone()).send_session_heartbeat(request).await.map(drop)
}

async fn resume(caller: &Caller, sid: &str) -> Result<String, Status> {
    let request = StartSessionRequest { resume: sid.to_owned() };
    let started = RobotServiceClient::new(caller.channel.clone()).start_session(request).await?;
    Ok(started.into_inner().id)
}
