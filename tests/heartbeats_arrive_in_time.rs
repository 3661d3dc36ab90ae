//! Heartbeats: at once, then on schedule whatever the path does; and the lease, which says what may be believed
//! before the robot can act on it.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::fake_robot::{FakeRobot, Local, UNARY, WINDOW, options};
use common::probe::ProbeRequest;
use common::probe::probe_client::ProbeClient;
use farlink::Channel;
use farlink::sessions::{EndReason, LeaseState, SessionEvent, SessionState, SessionsClient};
use farlink::wire::session::SEND_SESSION_HEARTBEAT;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

const MS: Duration = Duration::from_millis(1);

struct Scene {
    fake: FakeRobot,
    local: Local,
    client: SessionsClient,
}

impl Scene {
    fn new() -> Self {
        let fake = FakeRobot::new();
        let local = Local::new(fake.routes());
        let channel = Channel::from_transport(local.clone());
        let client = SessionsClient::builder(channel).options(options()).build();
        Self { fake, local, client }
    }

    async fn begun() -> Self {
        let scene = Self::new();
        scene.call().await.unwrap();
        scene
    }

    async fn call(&self) -> Result<(), Status> {
        ProbeClient::new(self.client.channel()).unary(ProbeRequest::default()).await.map(drop)
    }

    /// When heartbeats arrived at the robot.
    fn beats(&self) -> Vec<Instant> {
        self.fake.script().beats.iter().map(|(_, at)| *at).collect()
    }

    fn lease(&self) -> Option<LeaseState> {
        match self.client.state() {
            SessionState::Active { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// Ends what has run out by now, as the robot would.
    fn expired(&self) -> usize {
        let mut script = self.fake.script();
        script.expire(Some(Instant::now()));
        script.expired.len()
    }
}

/// C10
#[tokio::test(start_paused = true)]
async fn the_first_heartbeat_follows_the_start_at_once_and_the_others_never_late_nor_in_step() {
    let scene = Scene::begun().await;
    let began = Instant::now();
    sleep(WINDOW * 20).await;
    let beats = scene.beats();
    assert!(beats[0].saturating_duration_since(began) < 5 * MS);
    let gaps: Vec<_> = beats.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let nominal = WINDOW / 5;
    assert!(
        gaps.iter().all(|gap| *gap <= nominal + 2 * MS && *gap >= nominal.mul_f64(0.8) - 2 * MS),
        "{gaps:?}"
    );
    // Not all alike: many callers that begin together do not beat together.
    assert!(gaps.iter().max().unwrap().saturating_sub(*gaps.iter().min().unwrap()) > 20 * MS, "{gaps:?}");
    assert_eq!(scene.lease(), Some(LeaseState::Healthy));
}

/// C11
#[tokio::test(start_paused = true)]
async fn a_delay_that_grows_to_three_windows_does_not_lose_the_session() {
    let scene = Scene::new();
    let beats = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&beats);
    scene.local.delay(move |path| {
        let grown = (WINDOW / 10) * count.load(Ordering::Relaxed).min(30);
        if path == SEND_SESSION_HEARTBEAT {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Some((grown, grown))
    });
    scene.call().await.unwrap();
    for _ in 0..600 {
        sleep(WINDOW / 10).await;
        assert_eq!(scene.expired(), 0, "after {} heartbeats", beats.load(Ordering::Relaxed));
        assert!(scene.lease().is_some_and(|lease| lease < LeaseState::Lost));
    }
    assert!(beats.load(Ordering::Relaxed) > 250);
}

/// C10b, C11
#[tokio::test(start_paused = true)]
async fn a_constant_delay_just_under_the_window_establishes_a_session_and_keeps_it() {
    let scene = Scene::new();
    // A round trip of 0.9 windows: the first heartbeat arrives that long after the start was handled.
    scene.local.delay(|_| Some((WINDOW.mul_f64(0.45), WINDOW.mul_f64(0.45))));
    scene.call().await.unwrap();
    for _ in 0..200 {
        sleep(WINDOW / 10).await;
        assert_eq!(scene.expired(), 0);
    }
    assert_eq!(scene.fake.script().starts.len(), 1);
}

/// C17
#[tokio::test(start_paused = true)]
async fn a_session_that_begins_or_goes_on_at_risk_says_so() {
    let scene = Scene::new();
    let slow = WINDOW.mul_f64(0.4);
    scene.local.delay(move |_| Some((slow, slow)));
    let mut events = scene.client.events();
    scene.call().await.unwrap();
    let at_risk = |event: Option<SessionEvent>| {
        matches!(event, Some(SessionEvent::Lease { state: LeaseState::AtRisk, .. }))
    };
    assert!(matches!(events.next().await, Some(SessionEvent::Started { .. })));
    assert!(at_risk(events.next().await));
    scene.local.lose();
    scene.local.reconnect();
    let mut events = scene.client.events();
    while !matches!(events.next().await, Some(SessionEvent::Resumed { .. })) {}
    assert!(at_risk(events.next().await));
}

/// C17
#[tokio::test(start_paused = true)]
async fn a_cut_is_announced_before_the_robot_can_stop_anything() {
    // Cut at any phase of the heartbeat, with any delay of the path.
    for (cut_after, delay) in [(0, 0), (37, 10), (100, 50), (201, 100), (399, 5), (777, 200), (1999, 30)] {
        let scene = Scene::new();
        scene.local.delay(move |_| Some((delay * MS, delay * MS)));
        scene.call().await.unwrap();
        sleep(cut_after * MS + 4 * delay * MS).await;
        let mut events = scene.client.events();
        scene.local.delay(|_| None);
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                SessionEvent::Lease { state, .. } => seen.push((state, Instant::now())),
                SessionEvent::Ended { reason, .. } => {
                    assert_eq!(reason, EndReason::LeaseRanOut);
                    break;
                }
                other => panic!("{other}"),
            }
        }
        let deadline = *scene.fake.script().live.values().next().unwrap();
        let states: Vec<_> = seen.iter().map(|(state, _)| *state).collect();
        // A heartbeat that was under way may be acknowledged late or never; the risk is told all the same.
        assert_eq!(
            states,
            [LeaseState::AtRisk, LeaseState::Suspect, LeaseState::Lost],
            "{cut_after} {delay}"
        );
        assert!(seen[0].1 < deadline && seen[1].1 <= deadline, "{cut_after} {delay}");
        assert!(seen[2].1 >= deadline, "it is told lost only when it is");
        assert_eq!(scene.client.state(), SessionState::Idle);
    }
}

/// C18
#[tokio::test(start_paused = true)]
async fn a_call_in_doubt_asks_for_the_session_first_and_never_sees_it_expired() {
    let scene = Scene::begun().await;
    sleep(WINDOW).await;
    // Heartbeats get lost for one and a half windows, calls do not: the robot expires it, the caller suspects so.
    scene.local.delay(|path| (path != SEND_SESSION_HEARTBEAT).then_some((Duration::ZERO, Duration::ZERO)));
    while scene.lease() != Some(LeaseState::Suspect) {
        sleep(10 * MS).await;
    }
    // At the very instant the two timers may fire in any order.
    sleep(MS).await;
    let mut events = scene.client.events();
    scene.call().await.unwrap();
    {
        let script = scene.fake.script();
        assert_eq!(script.starts, ["", "sid-1"]);
        assert_eq!(script.calls.len(), 2, "no call was refused and made again: {:?}", script.calls);
    }
    let resumed = loop {
        match events.next().await.unwrap() {
            SessionEvent::Lease { .. } => {}
            event => break event,
        }
    };
    assert!(matches!(resumed, SessionEvent::Resumed { .. } | SessionEvent::Replaced { .. }), "{resumed}");
}

/// C19
#[tokio::test(start_paused = true)]
async fn no_single_failure_ends_a_session() {
    for code in [
        Code::ResourceExhausted,
        Code::Internal,
        Code::DeadlineExceeded,
        Code::Unavailable,
        Code::Unknown,
        Code::Cancelled,
        Code::NotFound,
        Code::InvalidArgument,
        Code::Unauthenticated,
    ] {
        let scene = Scene::begun().await;
        sleep(WINDOW / 2).await;
        for _ in 0..20 {
            scene.fake.script().beat_errors.push_back(Status::new(code, "not now"));
            sleep(WINDOW / 2).await;
            assert_eq!(scene.expired(), 0, "{code:?}");
        }
        assert_eq!(scene.lease(), Some(LeaseState::Healthy), "{code:?}");
        assert_eq!((scene.fake.script().starts.len(), scene.client.stats().failed), (1, 20), "{code:?}");
    }
}

/// C19: three in a row are within the lease.
#[tokio::test(start_paused = true)]
async fn failures_in_a_row_are_ridden_out_as_long_as_the_lease_lasts() {
    let scene = Scene::begun().await;
    sleep(WINDOW / 2).await;
    for _ in 0..3 {
        scene.fake.script().beat_errors.push_back(Status::unavailable("not now"));
    }
    sleep(WINDOW * 3).await;
    assert_eq!((scene.expired(), scene.lease()), (0, Some(LeaseState::Healthy)));
}

/// C19
#[tokio::test(start_paused = true)]
async fn a_robot_that_will_not_know_the_caller_ends_the_session_at_the_second_refusal() {
    let scene = Scene::begun().await;
    let mut events = scene.client.events();
    for _ in 0..2 {
        scene.fake.script().beat_errors.push_back(Status::unauthenticated("who?"));
    }
    let ended = loop {
        if let SessionEvent::Ended { reason, .. } = events.next().await.unwrap() {
            break reason;
        }
    };
    assert_eq!((ended, scene.client.state()), (EndReason::Unauthenticated, SessionState::Idle));
}

#[tokio::test(start_paused = true)]
async fn a_robot_that_takes_no_heartbeats_has_no_sessions() {
    let scene = Scene::begun().await;
    scene.fake.script().beat_errors.push_back(Status::unimplemented("no such method"));
    sleep(WINDOW).await;
    assert_eq!(scene.client.state(), SessionState::Unsupported);
    scene.call().await.unwrap();
    assert_eq!(scene.fake.sids(UNARY).last().unwrap(), &[""; 0]);
}

/// C14: the schedule is kept whatever calls do; rdk's server lets only monitored ones count.
#[tokio::test(start_paused = true)]
async fn calls_replace_no_heartbeat() {
    let scene = Scene::begun().await;
    scene.fake.script().beats.clear();
    for _ in 0..100 {
        scene.call().await.unwrap();
        sleep(WINDOW / 20).await;
    }
    assert!(scene.beats().len() >= 24, "{}", scene.beats().len());
}

/// C16
#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_knows_that_the_session_is_lost() {
    let scene = Scene::begun().await;
    sleep(WINDOW).await;
    let mut events = scene.client.events();
    // Two windows pass between one instruction and the next; nothing of ours runs meanwhile.
    tokio::time::advance(WINDOW * 2).await;
    let first = events.next().await.unwrap();
    assert!(matches!(first, SessionEvent::Lease { state: LeaseState::Lost, .. }), "{first}");
    scene.call().await.unwrap();
    assert_eq!(scene.fake.script().calls.len(), 2, "no call was refused");
}

/// C20
#[tokio::test]
async fn a_session_whose_runtime_is_gone_is_not_shown_as_active() {
    let fake = FakeRobot::new();
    let local = Local::new(fake.routes());
    let heartbeats =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = options().runtime(heartbeats.handle().clone());
    let client = SessionsClient::builder(Channel::from_transport(local)).options(options).build();
    let mut probe = ProbeClient::new(client.channel());
    probe.unary(ProbeRequest::default()).await.unwrap();
    let mut events = client.events();
    assert!(matches!(client.state(), SessionState::Active { .. }));
    heartbeats.shutdown_background();
    let ended = loop {
        if let SessionEvent::Ended { reason, .. } = events.next().await.unwrap() {
            break reason;
        }
    };
    assert_eq!((ended, client.state()), (EndReason::Abandoned, SessionState::Idle));
    // And says so to whoever calls, rather than hang.
    let error =
        tokio::time::timeout(common::LONG, probe.unary(ProbeRequest::default())).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
}

/// C15
#[test]
fn heartbeats_go_on_while_the_caller_s_own_runtime_is_blocked() {
    let fake = FakeRobot::new();
    fake.script().window = Some((0, 500_000_000));
    let background =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let caller = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = options().runtime(background.handle().clone());
    let channel = Channel::from_transport(Local::new(fake.routes()));
    let client = SessionsClient::builder(channel).options(options).build();
    caller.block_on(async {
        let mut probe = ProbeClient::new(client.channel());
        probe.unary(ProbeRequest::default()).await.unwrap();
        let before = fake.script().beats.len();
        // This is what must not matter.
        std::thread::sleep(Duration::from_secs(2));
        let during = fake.script().beats.len() - before;
        assert!(during >= 15, "{during} heartbeats in 2 s");
        assert_eq!(fake.script().expired.len(), 0);
    });
}

/// C26, C27
#[tokio::test(start_paused = true)]
async fn dropping_the_client_ends_the_heartbeats_within_a_tick() {
    let scene = Scene::begun().await;
    sleep(WINDOW).await;
    let Scene { fake, local, client } = scene;
    let kept = client.channel();
    drop(client);
    fake.script().beats.clear();
    sleep(WINDOW).await;
    assert!(fake.script().beats.len() >= 5, "a clone is left");
    drop(kept);
    fake.script().beats.clear();
    sleep(WINDOW).await;
    assert_eq!(fake.script().beats.len(), 0);
    drop(local);
}

/// The way back is blocked for three windows, the way there is not: heartbeats arrive, so they must go on.
#[tokio::test(start_paused = true)]
async fn acknowledgements_that_stay_away_stop_no_heartbeat() {
    let scene = Scene::begun().await;
    sleep(WINDOW).await;
    let began = Instant::now();
    scene.local.delay(move |_| {
        let back = (WINDOW * 3).saturating_sub(began.elapsed());
        Some((Duration::ZERO, back))
    });
    sleep(WINDOW * 2).await;
    assert_eq!(scene.lease(), Some(LeaseState::Lost));
    sleep(WINDOW * 2).await;
    assert_eq!((scene.expired(), scene.lease()), (0, Some(LeaseState::Healthy)));
}

/// C19: with a round trip of a window, heartbeats with the old token are still under way when the first is refused.
#[tokio::test(start_paused = true)]
async fn heartbeats_under_way_with_an_old_token_are_no_second_refusal() {
    let scene = Scene::new();
    scene.local.delay(|_| Some((WINDOW.mul_f64(0.4), WINDOW.mul_f64(0.4))));
    scene.call().await.unwrap();
    sleep(WINDOW * 2).await;
    for _ in 0..4 {
        scene.fake.script().beat_errors.push_back(Status::unauthenticated("expired token"));
    }
    sleep(WINDOW * 5).await;
    assert!(scene.lease().is_some(), "{:?}", scene.client.state());
    assert_eq!(scene.expired(), 0);
}
