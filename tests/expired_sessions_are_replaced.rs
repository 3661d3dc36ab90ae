//! A session that is gone: noticed once, told always, and what becomes of the calls that find out.

mod common;

use std::time::Duration;

use common::fake_robot::{BOTH, FakeRobot, Local, UNARY, WINDOW, options};
use common::probe::ProbeRequest;
use common::probe::probe_client::ProbeClient;
use farlink::Channel;
use farlink::sessions::{
    EndReason, OnExpiry, ReplaceReason, SessionError, SessionEvent, SessionState, Sessions, SessionsClient,
};
use farlink::wire::session::{EXPIRED_SESSION_KEY, SEND_SESSION_HEARTBEAT};
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

struct Scene {
    fake: FakeRobot,
    local: Local,
    client: SessionsClient,
}

impl Scene {
    fn new(on_expiry: OnExpiry) -> Self {
        let fake = FakeRobot::new();
        let local = Local::new(fake.routes());
        let channel = Channel::from_transport(local.clone());
        let client = SessionsClient::builder(channel).options(options().on_expiry(on_expiry)).build();
        Self { fake, local, client }
    }

    async fn begun(on_expiry: OnExpiry) -> Self {
        let scene = Self::new(on_expiry);
        scene.call().await.unwrap();
        scene
    }

    fn probe(&self) -> ProbeClient<Sessions<Channel>> {
        ProbeClient::new(self.client.channel())
    }

    async fn call(&self) -> Result<(), Status> {
        self.probe().unary(ProbeRequest { data: "x".into(), ..Default::default() }).await.map(drop)
    }

    fn sids(&self) -> Vec<String> {
        self.fake.sids(UNARY).into_iter().flatten().collect()
    }
}

fn expired() -> Status {
    Status::invalid_argument("SESSION_EXPIRED")
}

/// C21, C22
#[tokio::test(start_paused = true)]
async fn a_call_that_finds_its_session_expired_is_made_once_more_in_a_new_one_and_it_is_told() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    let mut events = scene.client.events();
    scene.fake.expire_all();
    scene.call().await.unwrap();
    assert_eq!(scene.sids(), ["sid-1", "sid-1", "sid-2"]);
    assert_eq!(scene.fake.script().starts, ["", "sid-1"]);
    let event = events.next().await.unwrap();
    let SessionEvent::Replaced { old, new, reason, .. } = event else { panic!("{event}") };
    assert_eq!((old.as_str(), new.as_str(), reason), ("sid-1", "sid-2", ReplaceReason::Expired));
    assert_eq!((scene.client.stats().retried, scene.client.stats().replaced), (1, 1));
}

/// C21
#[tokio::test(start_paused = true)]
async fn a_call_is_made_once_more_and_not_twice() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    scene.fake.script().forgetful = true;
    scene.fake.script().call_errors.extend([expired(), expired()]);
    let error = scene.call().await.unwrap_err();
    let Some(SessionError::Expired { session }) = SessionError::of(&error) else { panic!("{error:?}") };
    assert_eq!((session.as_str(), scene.sids().len()), ("sid-2", 3));
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "SESSION_EXPIRED"));
    scene.call().await.unwrap();
}

/// C21
#[tokio::test(start_paused = true)]
async fn a_crowd_that_finds_it_expired_restarts_once() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    scene.fake.script().start_delay = Duration::from_millis(50);
    scene.fake.expire_all();
    let calls = join_all((0..20).map(|_| scene.call())).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!(scene.fake.script().starts, ["", "sid-1"]);
    assert_eq!(scene.sids().iter().filter(|sid| *sid == "sid-2").count(), 20);
}

/// C22
#[tokio::test(start_paused = true)]
async fn whoever_wants_to_know_gets_the_expiry_once_and_the_next_call_goes_on() {
    let scene = Scene::begun(OnExpiry::Surface).await;
    let mut events = scene.client.events();
    scene.fake.expire_all();
    let error = scene.call().await.unwrap_err();
    assert!(matches!(SessionError::of(&error), Some(SessionError::Expired { .. })), "{error:?}");
    scene.call().await.unwrap();
    assert_eq!(scene.sids(), ["sid-1", "sid-1", "sid-2"]);
    assert!(matches!(events.next().await, Some(SessionEvent::Ended { reason: EndReason::Expired, .. })));
    assert!(matches!(events.next().await, Some(SessionEvent::Replaced { .. })));
}

/// C22: also when a heartbeat found out first: the robot stopped, and the next command must not undo it.
#[tokio::test(start_paused = true)]
async fn an_expiry_that_a_heartbeat_found_is_surfaced_by_the_next_call() {
    let scene = Scene::begun(OnExpiry::Surface).await;
    scene.fake.expire_all();
    sleep(WINDOW).await;
    assert_eq!(scene.client.state(), SessionState::Idle);
    let error = scene.call().await.unwrap_err();
    assert!(matches!(SessionError::of(&error), Some(SessionError::Expired { .. })), "{error:?}");
    assert_eq!(scene.sids(), ["sid-1"], "it was not made");
    scene.call().await.unwrap();
    assert_eq!(scene.sids(), ["sid-1", "sid-2"]);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_a_heartbeat_found_is_told_and_the_next_call_begins_anew() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    let mut events = scene.client.events();
    scene.fake.expire_all();
    sleep(WINDOW).await;
    assert!(matches!(events.next().await, Some(SessionEvent::Ended { reason: EndReason::Expired, .. })));
    scene.call().await.unwrap();
    assert_eq!(scene.sids(), ["sid-1", "sid-2"]);
    let event = events.next().await.unwrap();
    assert!(matches!(event, SessionEvent::Replaced { reason: ReplaceReason::Expired, .. }), "{event}");
}

/// C21
#[tokio::test(start_paused = true)]
async fn a_stream_that_was_not_answered_is_made_again_with_all_it_had_sent() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    scene.fake.expire_all();
    let (messages, stream) = mpsc::channel(8);
    let message = |data: &'static str| ProbeRequest { data: data.into(), ..Default::default() };
    messages.send(message("one")).await.unwrap();
    messages.send(message("two")).await.unwrap();
    let mut replies = scene.probe().both(ReceiverStream::new(stream)).await.unwrap().into_inner();
    messages.send(message("three")).await.unwrap();
    drop(messages);
    let mut said = Vec::new();
    while let Some(reply) = replies.message().await.unwrap() {
        said.push(reply.data);
    }
    assert_eq!(said, ["one", "two", "three"]);
    assert_eq!(scene.fake.sids(BOTH), [["sid-1"], ["sid-2"]]);
}

/// C25
#[tokio::test(start_paused = true)]
async fn an_expiry_further_on_is_the_caller_s_and_costs_our_session_nothing() {
    // With a trailer that says so.
    let scene = Scene::begun(OnExpiry::Retry).await;
    let mut elsewhere = expired();
    elsewhere.metadata_mut().insert(EXPIRED_SESSION_KEY, "another".parse().unwrap());
    scene.fake.script().call_errors.push_back(elsewhere);
    let error = scene.call().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "SESSION_EXPIRED"));
    assert!(SessionError::of(&error).is_none());
    assert_eq!(scene.fake.script().starts.len(), 1);
    // And without one: the robot is asked, and goes on with ours.
    scene.fake.script().call_errors.push_back(expired());
    let error = scene.call().await.unwrap_err();
    assert!(SessionError::of(&error).is_none() && error.message() == "SESSION_EXPIRED");
    assert_eq!(scene.fake.script().starts, ["", "sid-1"]);
    assert_eq!(scene.client.stats().replaced, 0);
    scene.call().await.unwrap();
    assert_eq!(scene.sids().last().unwrap(), "sid-1");
}

/// C25
#[tokio::test(start_paused = true)]
async fn an_expiry_in_other_words_is_known_by_its_trailer() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    let mut unknown = Status::invalid_argument("there is no such session");
    unknown.metadata_mut().insert(EXPIRED_SESSION_KEY, "sid-1".parse().unwrap());
    scene.fake.script().forgetful = true;
    scene.fake.script().call_errors.push_back(unknown);
    scene.call().await.unwrap();
    assert_eq!(scene.sids(), ["sid-1", "sid-1", "sid-2"]);
}

/// C25: our robots name the session that they refuse; one that goes on elsewhere was not stopped.
#[tokio::test(start_paused = true)]
async fn a_call_whose_session_was_on_another_connection_is_made_again_once_it_is_on_this_one() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    let mut elsewhere = Status::invalid_argument("there is no such session here");
    elsewhere.metadata_mut().insert(EXPIRED_SESSION_KEY, "sid-1".parse().unwrap());
    scene.fake.script().call_errors.push_back(elsewhere.clone());
    scene.call().await.unwrap();
    assert_eq!(scene.sids(), ["sid-1", "sid-1", "sid-1"]);
    assert_eq!(scene.fake.script().starts, ["", "sid-1"]);
    assert_eq!((scene.client.stats().replaced, scene.client.stats().retried), (0, 1));
    // And not a third time.
    scene.fake.script().call_errors.extend([elsewhere.clone(), elsewhere]);
    let error = scene.call().await.unwrap_err();
    assert!(matches!(SessionError::of(&error), Some(SessionError::Expired { .. })), "{error:?}");
    assert_eq!(scene.sids().len(), 5);
}

/// C26
#[tokio::test(start_paused = true)]
async fn reset_keeps_the_id_to_go_on_with_and_forget_does_not() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    let mut events = scene.client.events();
    scene.client.reset();
    assert_eq!(scene.client.state(), SessionState::Idle);
    assert!(matches!(events.next().await, Some(SessionEvent::Ended { reason: EndReason::Reset, .. })));
    scene.call().await.unwrap();
    assert!(matches!(events.next().await, Some(SessionEvent::Resumed { .. })));
    scene.client.forget();
    scene.call().await.unwrap();
    assert_eq!(scene.fake.script().starts, ["", "sid-1", ""]);
    assert_eq!(scene.sids(), ["sid-1", "sid-1", "sid-3"]);
}

/// C26
#[tokio::test(start_paused = true)]
async fn a_reset_during_a_start_leaves_nobody_waiting_for_ever() {
    let scene = Scene::new(OnExpiry::Retry);
    scene.fake.script().start_delay = Duration::from_millis(100);
    let reset = async {
        sleep(Duration::from_millis(50)).await;
        scene.client.reset();
    };
    let (outcome, ()) = tokio::join!(scene.call(), reset);
    outcome.unwrap();
    assert!(matches!(scene.client.state(), SessionState::Active { .. }));
}

/// C26
#[tokio::test]
async fn a_thousand_resets_leave_no_task_and_one_loop() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..1000 {
        scene.client.reset();
        scene.call().await.unwrap();
    }
    let settled = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(common::LONG, settled).await.expect("tasks are left");
    scene.fake.script().beats.clear();
    sleep(WINDOW).await;
    let beats = scene.fake.script().beats.len();
    assert!((5..=8).contains(&beats), "{beats} heartbeats in a window");
    assert!(scene.sids().iter().all(|sid| sid == "sid-1"));
}

/// C20, C26: whatever happens in whatever order, a session that is shown as active is being kept alive.
#[tokio::test(start_paused = true)]
async fn whatever_happens_an_active_session_has_heartbeats() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let scene = Scene::new(if seed % 2 == 0 { OnExpiry::Retry } else { OnExpiry::Surface });
        for _ in 0..40 {
            match rng.u8(..10) {
                0 => scene.client.reset(),
                1 => scene.client.forget(),
                2 => scene.fake.expire_all(),
                3 => scene.fake.script().beat_errors.push_back(Status::internal("x")),
                4 => scene.fake.script().start_errors.push_back(Status::unavailable("x")),
                5 => scene.local.delay(|_| None),
                6 => scene.local.lose(),
                7 => {
                    scene.local.reconnect();
                    let delay = Duration::from_millis(rng.u64(..300));
                    scene.local.delay(move |_| Some((delay, delay)));
                }
                _ => drop(tokio::time::timeout(Duration::from_millis(rng.u64(..500)), scene.call()).await),
            }
            sleep(Duration::from_millis(rng.u64(..1000))).await;
        }
        scene.local.reconnect();
        scene.fake.script().start_errors.clear();
        scene.local.delay(|_| Some((Duration::ZERO, Duration::ZERO)));
        sleep(Duration::from_secs(60)).await;
        // Whatever it is by now, it is true.
        scene.fake.script().beats.clear();
        let active = matches!(scene.client.state(), SessionState::Active { .. });
        sleep(WINDOW).await;
        let beats = scene.fake.script().beats.len();
        assert_eq!(active, beats > 0, "seed {seed}: {beats} heartbeats");
        assert!(beats <= 8, "seed {seed}: {beats} heartbeats, more than one loop");
        let _ = scene.call().await;
        scene.call().await.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    }
}

/// C23
#[tokio::test(start_paused = true)]
async fn after_a_short_outage_the_session_goes_on_before_any_call_that_waited() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    let mut events = scene.client.events();
    sleep(WINDOW).await;
    scene.local.lose();
    let calls = join_all((0..5).map(|_| scene.call()));
    let outage = async {
        sleep(WINDOW / 2).await;
        let beats = scene.fake.script().beats.len();
        scene.local.reconnect();
        beats
    };
    let (calls, _) = tokio::join!(calls, outage);
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!(scene.fake.script().starts, ["", "sid-1"]);
    assert_eq!(scene.sids(), ["sid-1"; 6]);
    let resumed = loop {
        match events.next().await.unwrap() {
            SessionEvent::Lease { .. } => {}
            other => break other,
        }
    };
    assert!(matches!(resumed, SessionEvent::Resumed { .. }), "{resumed}");
    scene.fake.script().expire(Some(tokio::time::Instant::now()));
    assert_eq!(scene.fake.script().expired.len(), 0);
}

/// C23, C24
#[tokio::test(start_paused = true)]
async fn after_a_long_outage_there_is_a_new_session_and_it_is_told() {
    for (policy, goes_on) in [(OnExpiry::Retry, true), (OnExpiry::Surface, false)] {
        let scene = Scene::begun(policy).await;
        let mut events = scene.client.events();
        scene.local.lose();
        sleep(WINDOW / 100).await;
        let outage = async {
            sleep(WINDOW * 3).await;
            scene.local.reconnect();
        };
        let (call, ()) = tokio::join!(scene.call(), outage);
        assert_eq!(call.is_ok(), goes_on, "{policy:?} {call:?}");
        // The old id never reached the robot on the new connection but in a start.
        assert_eq!(scene.sids().last().map(String::as_str), Some(if goes_on { "sid-2" } else { "sid-1" }));
        assert_eq!(scene.fake.script().starts, ["", "sid-1"]);
        loop {
            if let SessionEvent::Replaced { reason, gap, .. } = events.next().await.unwrap() {
                assert_eq!(reason, ReplaceReason::Reconnected);
                assert!(gap >= WINDOW * 3);
                break;
            }
        }
    }
}

/// Calls that ask at the very instant at which the lease runs out begin a session anew, and do not fail.
#[tokio::test(start_paused = true)]
async fn calls_at_the_instant_of_the_end_begin_anew() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    let silent = |path: &str| (path != SEND_SESSION_HEARTBEAT).then_some((Duration::ZERO, Duration::ZERO));
    scene.local.delay(silent);
    // The start was acknowledged at once, so it is lost after a window and 10 ms; calls come all around that.
    let began = tokio::time::Instant::now();
    let calls = (0..60).map(|step| {
        let scene = &scene;
        async move {
            tokio::time::sleep_until(
                began + WINDOW - Duration::from_millis(30) + Duration::from_millis(step),
            )
            .await;
            scene.call().await
        }
    });
    let calls = join_all(calls).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
}

/// C22: nobody waited when the session was replaced; the next command must not move what the robot has stopped.
#[tokio::test(start_paused = true)]
async fn a_replacement_that_no_call_waited_for_is_surfaced_by_the_next_one() {
    let scene = Scene::begun(OnExpiry::Surface).await;
    let mut events = scene.client.events();
    scene.local.lose();
    sleep(WINDOW * 3).await;
    scene.local.reconnect();
    sleep(WINDOW / 2).await;
    loop {
        if let SessionEvent::Replaced { .. } = events.next().await.unwrap() {
            break;
        }
    }
    let error = scene.call().await.unwrap_err();
    assert!(matches!(SessionError::of(&error), Some(SessionError::Expired { .. })), "{error:?}");
    assert_eq!(scene.sids(), ["sid-1"], "it was not made");
    scene.call().await.unwrap();
    assert_eq!(scene.sids(), ["sid-1", "sid-2"]);
}

/// C22: who gave up waiting has not been told.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_dropped_before_it_was_told_leaves_the_news_to_the_next() {
    let scene = Scene::begun(OnExpiry::Surface).await;
    scene.fake.expire_all();
    sleep(WINDOW).await;
    scene.fake.script().start_delay = Duration::from_millis(300);
    let impatient = tokio::time::timeout(Duration::from_millis(100), scene.call()).await;
    assert!(impatient.is_err());
    sleep(WINDOW / 2).await;
    assert!(matches!(scene.client.state(), SessionState::Active { .. }));
    // Asking for the metadata is a way to be told, too.
    let told = scene.client.metadata().await.unwrap_err();
    assert!(matches!(told, SessionError::Expired { .. }), "{told}");
    scene.call().await.unwrap();
    assert_eq!(scene.sids(), ["sid-1", "sid-2"]);
}

/// A robot that takes the session for another owner's, as farlink's do after a change of identity.
#[tokio::test(start_paused = true)]
async fn a_resumption_that_is_refused_begins_a_session_of_our_own() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    scene.fake.script().strict = true;
    scene.fake.expire_all();
    scene.call().await.unwrap();
    assert_eq!(scene.fake.script().starts, ["", "sid-1", ""]);
    assert_eq!(scene.sids().last().unwrap(), "sid-3");
    assert_eq!(scene.client.stats().replaced, 1);
}

/// C19, C23
#[tokio::test(start_paused = true)]
async fn a_resumption_that_fails_is_tried_again_while_the_lease_lasts() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    sleep(WINDOW).await;
    scene.local.lose();
    sleep(WINDOW / 10).await;
    scene.fake.script().start_errors.push_back(Status::resource_exhausted("not now"));
    scene.local.reconnect();
    // No call is made: what was set in motion goes on all the same.
    sleep(WINDOW * 2).await;
    assert_eq!(scene.fake.expired_and_started(), (0, 3));
    let SessionState::Active { session, .. } = scene.client.state() else { panic!() };
    assert_eq!(session.as_str(), "sid-1");
}

/// C23: the link that came back is lost again, with the resumption under way.
#[tokio::test(start_paused = true)]
async fn a_link_that_flaps_is_resumed_on_whichever_connection_stays() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    sleep(WINDOW).await;
    scene.local.lose();
    let call = scene.call();
    let flaps = async {
        for _ in 0..3 {
            sleep(WINDOW / 20).await;
            scene.local.delay(|_| None);
            scene.local.reconnect();
            sleep(WINDOW / 20).await;
            scene.local.lose();
        }
        scene.local.delay(|_| Some((Duration::ZERO, Duration::ZERO)));
        scene.local.reconnect();
    };
    let (call, ()) = tokio::join!(call, flaps);
    call.unwrap();
    sleep(WINDOW * 2).await;
    assert_eq!(scene.fake.expired_and_started().0, 0);
    assert!(scene.sids().iter().all(|sid| sid == "sid-1"));
}

/// C25 and C19 together: a doubt that cannot be cleared up at once ends nothing.
#[tokio::test(start_paused = true)]
async fn a_doubt_that_cannot_be_cleared_up_ends_no_session() {
    let scene = Scene::begun(OnExpiry::Retry).await;
    scene.fake.script().call_errors.push_back(expired());
    scene.fake.script().start_errors.push_back(Status::unavailable("not now"));
    scene.call().await.unwrap_err();
    sleep(WINDOW * 2).await;
    assert_eq!(scene.fake.expired_and_started().0, 0);
    scene.call().await.unwrap();
    assert_eq!(scene.sids().last().unwrap(), "sid-1");
}

/// Over WebRTC robots send headers before a refusal: only the trailers tell of it.
#[tokio::test]
async fn over_webrtc_and_directly_a_call_is_made_once_more_all_the_same() {
    let fake = FakeRobot::new();
    let stack: std::sync::Arc<dyn farlink::peer::Stack> =
        std::sync::Arc::new(farlink::peer::memory::MemoryStack::new());
    let robot =
        farlink::server::Server::builder().host("r.example").listen(common::loopback()).insecure(true);
    let robot = robot.stack(stack.clone()).start(fake.routes()).await.unwrap();
    let options_of =
        farlink::DialOptions::new().insecure(true).stack(stack).fallback(farlink::Fallback::Never);
    let address = robot.local_addr().unwrap().to_string();
    for (on_expiry, direct) in [
        (OnExpiry::Retry, false),
        (OnExpiry::Retry, true),
        (OnExpiry::Surface, false),
        (OnExpiry::Surface, true),
    ] {
        let dial = options_of.clone().disable_webrtc(direct);
        let channel = farlink::dial(&address, dial).await.unwrap();
        let client = SessionsClient::builder(channel).options(options().on_expiry(on_expiry)).build();
        let mut probe = ProbeClient::new(client.channel());
        let message = || ProbeRequest { data: "x".into(), ..Default::default() };
        probe.unary(message()).await.unwrap();
        fake.expire_all();
        let outcome = probe.unary(message()).await;
        match on_expiry {
            OnExpiry::Retry => assert_eq!(outcome.unwrap().into_inner().data, "x"),
            _ => {
                let error = outcome.unwrap_err();
                assert!(matches!(SessionError::of(&error), Some(SessionError::Expired { .. })), "{error:?}");
                probe.unary(message()).await.unwrap();
            }
        }
        fake.expire_all();
        let stream = tokio_stream::iter([message(), message()]);
        let outcome = probe.both(stream).await;
        let first = match outcome {
            Ok(replies) => replies.into_inner().message().await,
            Err(error) => Err(error),
        };
        match on_expiry {
            OnExpiry::Retry => assert_eq!(first.unwrap().unwrap().data, "x"),
            _ => {
                let error = first.unwrap_err();
                assert!(matches!(SessionError::of(&error), Some(SessionError::Expired { .. })), "{error:?}");
            }
        }
        assert_eq!(client.stats().retried, if on_expiry == OnExpiry::Retry { 2 } else { 0 });
    }
}

/// C6, C23
#[tokio::test(start_paused = true)]
async fn a_start_that_waited_for_the_connection_is_made_once() {
    let scene = Scene::new(OnExpiry::Retry);
    scene.local.lose();
    let outage = async {
        sleep(WINDOW).await;
        scene.local.reconnect();
    };
    let (call, ()) = tokio::join!(scene.call(), outage);
    call.unwrap();
    sleep(WINDOW * 2).await;
    assert_eq!(scene.fake.script().starts, [""]);
    assert_eq!(scene.client.stats().resumed, 0);
}
