//! Sessions: a robot that keeps them for goutils' callers, and a caller that would like one of a robot that
//! has none.

use std::sync::Arc;

use farlink::Channel;
use farlink::sessions::robot::SessionManager;
use farlink::sessions::{
    Monitored, Policy, SessionEvent, SessionOptions, SessionState, SessionStats, SessionsClient,
};
use futures_util::FutureExt as _;
use tonic::service::Routes;

use self::motor::Motor;
use crate::{echo, suite};

/// What the motor does goes where a test's output goes.
macro_rules! say {
    ($($what:tt)*) => { println!($($what)*) };
}
use say;

#[allow(dead_code, unreachable_pub, reason = "the examples look at it more closely")]
#[path = "../../examples/common/motor.rs"]
mod motor;

const ECHO: [&str; 3] = ["Echo", "EchoMultiple", "EchoBiDi"];

/// Echo, a motor `m1` as `examples/robot` has one, and sessions. Echo's methods count as monitored, so that
/// all calls take the way of those that move something.
pub(crate) fn routes() -> Routes {
    let motor = Motor::new("m1");
    let path = |method| format!("/proto.rpc.examples.echo.v1.EchoService/{method}");
    let monitored = ECHO.into_iter().fold(Monitored::new(), |table, method| table.with_method(path(method)));
    let sessions = SessionManager::builder(Arc::new(motor.clone())).monitored(monitored).build().unwrap();
    sessions.protect(echo::routes().add_service(motor.service()))
}

/// Runs the suite with a caller who wants all calls in a session, on a robot that knows none: it says so once,
/// and is not asked again on this connection.
pub(crate) async fn are_unknown_to(channel: Channel) {
    let options = SessionOptions::new().policy(Policy::All);
    let sessions = SessionsClient::builder(channel).options(options).build();
    let mut events = sessions.events();
    suite::run(Channel::from_transport(sessions.channel())).await;
    assert_eq!(sessions.state(), SessionState::Unsupported);
    assert!(sessions.metadata().await.unwrap().is_empty());
    assert!(matches!(events.next().await, Some(SessionEvent::Unsupported)));
    assert!(events.next().now_or_never().is_none(), "that is all that happened");
    assert_eq!(sessions.stats(), SessionStats::default());
}
