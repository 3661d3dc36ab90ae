//! How a session begins: once, however many ask; not at all, where it must not; and never with a window that
//! nobody can keep.

mod common;

use std::time::Duration;

use common::fake_robot::{BOTH, FakeRobot, Local, SPREAD, UNARY, options};
use common::probe::ProbeRequest;
use common::probe::probe_client::ProbeClient;
use farlink::sessions::{
    EXEMPT_METADATA_METHODS, Monitored, OnStartFailure, Policy, SESSION_METADATA_KEY, SessionError,
    SessionEvent, SessionOptions, SessionState, Sessions, SessionsClient,
};
use farlink::{Channel, sessions};
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Status};

fn client(
    fake: &FakeRobot,
    options: SessionOptions,
) -> (Local, SessionsClient, ProbeClient<Sessions<Channel>>) {
    let local = Local::new(fake.routes());
    let client = SessionsClient::builder(Channel::from_transport(local.clone())).options(options).build();
    let probe = ProbeClient::new(client.channel());
    (local, client, probe)
}

async fn call(probe: &ProbeClient<Sessions<Channel>>) -> Result<(), Status> {
    probe.clone().unary(ProbeRequest::default()).await.map(drop)
}

/// C6
#[tokio::test(start_paused = true)]
async fn a_crowd_of_first_calls_starts_one_session_and_all_carry_it() {
    let fake = FakeRobot::new();
    fake.script().start_delay = Duration::from_millis(500);
    let (_local, _client, probe) = client(&fake, options());
    let calls = join_all((0..20).map(|_| call(&probe))).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!(fake.script().starts, [""]);
    assert_eq!(fake.sids(UNARY), vec![vec!["sid-1".to_owned()]; 20]);
}

/// C6
#[tokio::test(start_paused = true)]
async fn whoever_is_cancelled_while_waiting_the_others_get_their_session() {
    let fake = FakeRobot::new();
    fake.script().start_delay = Duration::from_millis(500);
    let (_local, client, probe) = client(&fake, options());
    // The one who caused the start goes first, then one more.
    for after in [100, 200] {
        let cancelled = timeout(Duration::from_millis(after), call(&probe)).await;
        assert!(cancelled.is_err());
    }
    call(&probe).await.unwrap();
    assert_eq!(fake.script().starts.len(), 1);
    assert_eq!(fake.sids(UNARY), [["sid-1"]]);
    assert!(matches!(client.state(), SessionState::Active { .. }));
}

/// C7
#[tokio::test(start_paused = true)]
async fn a_start_has_its_own_deadline_and_callers_wait_no_longer_than_theirs() {
    let fake = FakeRobot::new();
    fake.script().start_delay = Duration::from_secs(4);
    let (_local, _client, mut probe) = client(&fake, options());
    let began = Instant::now();
    let mut request = Request::new(ProbeRequest::default());
    request.set_timeout(Duration::from_secs(1));
    let error = probe.unary(request).await.unwrap_err();
    assert_eq!((error.code(), began.elapsed()), (Code::DeadlineExceeded, Duration::from_secs(1)));
    // The start went on, and is the next one's.
    call(&probe).await.unwrap();
    assert_eq!(fake.script().starts.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// C7
#[tokio::test(start_paused = true)]
async fn a_start_that_is_not_answered_fails_its_callers_after_five_seconds() {
    let fake = FakeRobot::new();
    fake.script().start_delay = Duration::from_secs(3600);
    let (_local, _client, probe) = client(&fake, options());
    let began = Instant::now();
    let error = call(&probe).await.unwrap_err();
    assert!(matches!(SessionError::of(&error), Some(SessionError::StartTimeout)), "{error:?}");
    assert_eq!((error.code(), began.elapsed().as_secs()), (Code::DeadlineExceeded, 5));
}

/// C2
#[tokio::test(start_paused = true)]
async fn a_call_that_brings_an_id_keeps_it_and_starts_nothing() {
    let fake = FakeRobot::new();
    let (_local, _client, mut probe) = client(&fake, options());
    let mut request = Request::new(ProbeRequest::default());
    request.metadata_mut().insert(SESSION_METADATA_KEY, "mine".parse().unwrap());
    let _ = probe.unary(request).await;
    assert_eq!(fake.sids(UNARY), [["mine"]]);
    assert!(fake.script().starts.is_empty());
}

/// C2, C3
#[tokio::test(start_paused = true)]
async fn the_policy_says_which_calls_carry_a_session() {
    let table = || Policy::Descriptor(Monitored::new().with_method(UNARY));
    for (policy, unary, spread) in [
        (table(), true, false),
        (Policy::default(), false, false),
        (Policy::Exempt, true, true),
        (Policy::All, true, true),
        (Policy::Disabled, false, false),
    ] {
        let fake = FakeRobot::new();
        let (_local, client, mut probe) = client(&fake, SessionOptions::new().policy(policy.clone()));
        let mut robot = client.client();
        let _ = robot.resource_names(farlink::proto::robot::ResourceNamesRequest {}).await;
        assert_eq!(fake.script().starts.len(), usize::from(matches!(policy, Policy::All)), "{policy:?}");
        call(&probe).await.unwrap();
        probe.spread(ProbeRequest::default()).await.unwrap();
        let carries = |path| fake.sids(path) == [["sid-1"]];
        assert_eq!((carries(UNARY), carries(SPREAD)), (unary, spread), "{policy:?}");
        assert!(carries(UNARY) || fake.sids(UNARY) == [[""; 0]]);
    }
    assert_eq!(EXEMPT_METADATA_METHODS.len(), 9);
}

/// C3
#[tokio::test(start_paused = true)]
async fn methods_that_no_descriptor_tells_about_go_without_and_are_counted() {
    let fake = FakeRobot::new();
    let (_local, client, probe) = client(&fake, SessionOptions::new());
    for _ in 0..3 {
        call(&probe).await.unwrap();
    }
    assert_eq!((client.stats().unknown_methods, fake.script().starts.len()), (3, 0));
    client.register(UNARY);
    call(&probe).await.unwrap();
    assert_eq!((client.stats().unknown_methods, fake.script().starts.len()), (3, 1));
}

/// C8
#[tokio::test(start_paused = true)]
async fn a_robot_without_sessions_is_asked_once_for_each_connection() {
    let fake = FakeRobot::new();
    let unimplemented = || Status::unimplemented("unknown method StartSession");
    fake.script().start_errors.push_back(unimplemented());
    let (local, client, probe) = client(&fake, options());
    let mut events = client.events();
    for _ in 0..3 {
        call(&probe).await.unwrap();
    }
    assert_eq!(fake.sids(UNARY), [[""; 0]; 3]);
    assert_eq!((fake.script().starts.len(), client.state()), (1, SessionState::Unsupported));
    assert!(matches!(events.next().await, Some(SessionEvent::Unsupported)));
    local.lose();
    local.reconnect();
    call(&probe).await.unwrap();
    assert_eq!(fake.sids(UNARY).last().unwrap(), &["sid-2"]);
    assert_eq!(fake.script().starts.len(), 2);
}

/// C8
#[tokio::test(start_paused = true)]
async fn when_no_session_can_be_started_calls_fail_or_go_without_as_asked() {
    for policy in [OnStartFailure::FailCall, OnStartFailure::Degrade] {
        let fake = FakeRobot::new();
        fake.script().start_errors.push_back(Status::resource_exhausted("too many"));
        let (_local, client, probe) = client(&fake, options().on_start_failure(policy));
        let mut events = client.events();
        let outcome = call(&probe).await;
        assert!(matches!(events.next().await, Some(SessionEvent::StartFailed { .. })));
        if policy == OnStartFailure::FailCall {
            let error = outcome.unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted);
            assert!(error.message().contains("too many"), "{error}");
        } else {
            outcome.unwrap();
            assert_eq!(fake.sids(UNARY), [[""; 0]]);
            assert!(matches!(events.next().await, Some(SessionEvent::Degraded { .. })));
        }
        // The next one asks again.
        call(&probe).await.unwrap();
        assert_eq!(fake.sids(UNARY).last().unwrap(), &["sid-2"]);
    }
}

/// C9
#[tokio::test(start_paused = true)]
async fn a_window_that_nobody_can_keep_is_an_error_and_starts_no_heartbeats() {
    for window in [None, Some((0, 0)), Some((-1, 0)), Some((0, -1)), Some((i64::MIN, i32::MIN))] {
        let fake = FakeRobot::new();
        fake.script().window = window;
        let (_local, _client, probe) = client(&fake, options());
        let error = call(&probe).await.unwrap_err();
        let reason = SessionError::of(&error);
        assert!(matches!(reason, Some(SessionError::InvalidWindow(_))), "{window:?}: {error:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(fake.script().beats.len(), 0, "{window:?}");
    }
}

/// C9
#[tokio::test(start_paused = true)]
async fn windows_from_30_ms_to_an_hour_get_five_heartbeats_or_a_few_more() {
    for (window, text) in
        [((0, 30_000_000), "30 ms"), ((2, 0), "2 s"), ((3600, 0), "1 h"), ((1 << 40, 0), "ages")]
    {
        let fake = FakeRobot::new();
        fake.script().window = Some(window);
        let (_local, client, probe) = client(&fake, options());
        call(&probe).await.unwrap();
        let window = Duration::new(window.0.min(3600) as u64, window.1 as u32);
        fake.script().beats.clear();
        tokio::time::sleep(window * 10).await;
        let beats = fake.script().beats.len();
        assert!((49..=64).contains(&beats), "{text}: {beats}");
        assert!(matches!(client.state(), SessionState::Active { .. }), "{text}");
        assert!(fake.script().expired.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn streams_carry_the_session_in_their_headers() {
    let fake = FakeRobot::new();
    let (_local, _client, mut probe) = client(&fake, options());
    let messages = tokio_stream::iter(vec![ProbeRequest::default(); 3]);
    let mut replies = probe.both(messages).await.unwrap().into_inner();
    let mut count = 0;
    while replies.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!((count, fake.sids(BOTH)), (3, vec![vec!["sid-1".to_owned()]]));
}

#[tokio::test(start_paused = true)]
async fn metadata_is_what_a_call_has_to_carry() {
    let fake = FakeRobot::new();
    let (_local, client, _probe) = client(&fake, options());
    let metadata = client.metadata().await.unwrap();
    assert_eq!(metadata.get(SESSION_METADATA_KEY).unwrap(), "sid-1");
    let disabled =
        SessionsClient::builder(Channel::from_transport(Local::new(fake.routes()))).disabled(true).build();
    assert!(disabled.is_disabled() && disabled.metadata().await.unwrap().is_empty());
    assert_eq!(fake.script().starts.len(), 1);
    assert_eq!(sessions::LOGGER, "farlink::sessions");
}
