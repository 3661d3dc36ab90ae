//! What goes on after its operator is gone is stopped: calls that lost their motor to somebody else, handlers that
//! nobody polls, and motors whose stop fails at first.
//!
//! The robot's services are called without a network, in paused time.

mod motors;

use farlink::sessions::robot::SessionEvent;
use motors::{Operator, Robot, W, motor};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::Status;

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
