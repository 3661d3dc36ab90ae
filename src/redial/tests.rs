use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::*;
use crate::dial::ConfigError;
use crate::event::Event;
use crate::transport::{LinkState, OnConnection};
use crate::wire::session::{SEND_SESSION_HEARTBEAT, SESSION_METADATA_KEY, START_SESSION};

const MOVE: &str = "/robot/Move";
/// Calls to this do not end by themselves.
const HANG: &str = "/robot/Hang";

/// One connection that writes down what is handed to it.
#[derive(Debug, Clone)]
struct Fake {
    number: usize,
    link: Arc<watch::Sender<LinkState>>,
    log: Log,
}

type Log = Arc<Mutex<Vec<String>>>;

impl Fake {
    fn cut(&self) {
        self.end(CloseReason::Lost("cut".into()));
    }

    fn end(&self, reason: CloseReason) {
        self.link.send_if_modified(|state| {
            let first = state.closed.is_none();
            if first {
                state.closed = Some(reason);
            }
            first
        });
    }
}

impl Service<Request<Body>> for Fake {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Response<Body>, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let header = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
        let path = request.uri().path();
        let line = format!("{} {path} {}{}", self.number, header("token"), header("grpc-timeout"));
        let (log, hangs, mut closed) = (Arc::clone(&self.log), path == HANG, self.watch());
        Box::pin(async move {
            log.lock().unwrap().push(line.trim().to_owned());
            if closed.is_closed() || hangs {
                return Err(closed.closed().await.status().into());
            }
            tokio::select! {
                reason = closed.closed() => Err(reason.status().into()),
                () = sleep(Duration::from_millis(3)) => Ok(Response::new(Body::empty())),
            }
        })
    }
}

impl Transport for Fake {
    fn kind(&self) -> TransportKind {
        TransportKind::WebRtc
    }

    async fn stats(&self) -> Stats {
        let streams_opened = u64::try_from(self.number).unwrap();
        Stats { streams_opened, ..Stats::new(TransportKind::WebRtc) }
    }

    fn watch(&self) -> LinkWatch {
        LinkWatch::new(self.link.subscribe())
    }

    fn close(&self) {
        self.end(CloseReason::Local);
    }
}

/// A robot that is dialed when the test says so.
struct Scene {
    redial: Redial,
    robot: Robot,
}

struct Robot {
    log: Log,
    connections: usize,
    answers: mpsc::UnboundedSender<Result<Channel, DialError>>,
    dialing: Arc<AtomicUsize>,
}

/// Counts a dial that is under way.
struct Dialing(Arc<AtomicUsize>);

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scene {
    /// With the first connection.
    fn new(builder: RedialBuilder) -> (Self, Fake) {
        let (answers, asked) = mpsc::unbounded_channel();
        let asked = Arc::new(tokio::sync::Mutex::new(asked));
        let dialing = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&dialing);
        let dialer = move || -> BoxFuture<'static, Result<Channel, DialError>> {
            assert_eq!(counted.fetch_add(1, Ordering::SeqCst), 0, "two dials at once");
            let (asked, guard) = (Arc::clone(&asked), Dialing(Arc::clone(&counted)));
            Box::pin(async move {
                let _guard = guard;
                asked.lock().await.recv().await.expect("the test has ended")
            })
        };
        let mut robot = Robot { log: Log::default(), connections: 0, answers, dialing };
        let first = robot.connection();
        let redial = builder.build_with(Channel::from_transport(first.clone()), dialer);
        (Self { redial, robot }, first)
    }

    /// A call in a task of its own, begun.
    async fn call(&self, request: Request<Body>) -> Call {
        let mut redial = self.redial.clone();
        let call = tokio::spawn(async move { redial.call(request).await.map(drop) });
        settle().await;
        call
    }
}

type Call = JoinHandle<Result<(), TransportError>>;

impl Robot {
    fn connection(&mut self) -> Fake {
        self.connections += 1;
        let link = Arc::new(watch::Sender::new(LinkState::default()));
        Fake { number: self.connections, link, log: Arc::clone(&self.log) }
    }

    /// The dial that is under way, or the next one, gets a connection.
    async fn answers(&mut self) -> Fake {
        let fake = self.connection();
        self.answers.send(Ok(Channel::from_transport(fake.clone()))).unwrap();
        settle().await;
        fake
    }

    fn fails(&self, error: DialError) {
        self.answers.send(Err(error)).unwrap();
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn is_dialed(&self) -> bool {
        self.dialing.load(Ordering::SeqCst) > 0
    }
}

/// Lets everything run that can, at this instant.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn to(path: &str) -> Request<Body> {
    Request::post(path).body(Body::empty()).unwrap()
}

fn with(path: &str, header: &'static str, value: &str) -> Request<Body> {
    let mut request = to(path);
    request.headers_mut().insert(header, value.parse().unwrap());
    request
}

/// Nobody there, but perhaps later.
fn nobody() -> DialError {
    let elapsed = Duration::from_millis(1);
    let report = DialReport { address: "robot".into(), transport: None, elapsed, attempts: vec![] };
    DialError::TimedOut(Box::new(report))
}

fn denied() -> DialError {
    let DialError::TimedOut(report) = nobody() else { unreachable!() };
    DialError::Denied(report)
}

/// Far beyond everything that is promised: what hangs shall fail the test, not stop it.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(24 * 3600), what).await.expect("hangs")
}

async fn error(call: Call) -> TransportError {
    soon(call).await.unwrap().expect_err("the call succeeded")
}

fn not_sent(error: &TransportError) -> &Status {
    assert!(error.is_not_sent(), "{:?}", error.status());
    assert_eq!(error.status().code(), Code::Unavailable);
    error.status()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn waiting_calls_go_out_when_the_connection_is_back_starts_of_sessions_first() {
    let (mut scene, first) = Scene::new(Redial::builder());
    assert_eq!(scene.redial.watch().state().connection, 1);
    soon(scene.call(to(MOVE)).await).await.unwrap().unwrap();
    first.cut();
    let mut calls = vec![];
    for path in ["/robot/A", "/robot/B", START_SESSION, "/robot/C", START_SESSION] {
        calls.push(scene.call(to(path)).await);
    }
    assert!(scene.robot.is_dialed());
    assert_eq!(scene.redial.watch().state().reconnecting.unwrap().attempt, 1);
    assert_eq!(scene.robot.log(), ["1 /robot/Move"]);
    scene.robot.answers().await;
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    let log = scene.robot.log();
    assert_eq!(log[1..3], [format!("2 {START_SESSION}"), format!("2 {START_SESSION}")], "{log:?}");
    assert_eq!(log.len(), 6, "{log:?}");
    let state = scene.redial.watch().state();
    assert_eq!((state.connection, state.reconnecting), (2, None));
    assert_eq!(state.reconnected.unwrap().attempts, 1);
    assert_eq!(scene.redial.stats().await.streams_opened, 2);
}

#[tokio::test(start_paused = true)]
async fn dialing_begins_at_the_instant_of_the_loss_whatever_the_reason() {
    for reason in [CloseReason::Peer, CloseReason::Local, CloseReason::Lost("silence".into())] {
        let (mut scene, first) = Scene::new(Redial::builder());
        settle().await;
        let lost = Instant::now();
        first.end(reason);
        settle().await;
        assert!(scene.robot.is_dialed());
        assert_eq!(lost.elapsed(), Duration::ZERO);
        scene.robot.answers().await;
        soon(scene.call(to(MOVE)).await).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_a_connection_that_is_gone_is_refused_at_once_as_not_sent() {
    let (mut scene, first) = Scene::new(Redial::builder());
    let on = |number| {
        let mut request = to(MOVE);
        request.extensions_mut().insert(OnConnection(number));
        request
    };
    let bound = || [with(MOVE, SESSION_METADATA_KEY, "sid"), to(SEND_SESSION_HEARTBEAT), on(1)];
    for request in bound() {
        soon(scene.redial.clone().call(request)).await.unwrap();
    }
    let sent = scene.robot.log().len();
    first.cut();
    // Before anybody but the link knows of it, and after.
    for _ in 0..2 {
        for request in bound() {
            let began = Instant::now();
            let error = soon(scene.redial.clone().call(request)).await.unwrap_err();
            assert!(not_sent(&error).message().contains("go on with the session"), "{error:?}");
            assert!(error.status().message().contains("cut"), "{error:?}");
            assert_eq!(began.elapsed(), Duration::ZERO);
        }
        settle().await;
    }
    // A start that waits goes first, and what came with the old session has missed it.
    let mut start = Box::pin(scene.redial.clone().call(to(START_SESSION)));
    assert!(futures_util::poll!(&mut start).is_pending());
    scene.robot.answers().await;
    let early = scene.redial.clone().call(with(MOVE, SESSION_METADATA_KEY, "sid")).await;
    not_sent(&early.unwrap_err());
    // Whose session has been made on the new connection already is not held up by others' starts.
    soon(scene.redial.clone().call(on(2))).await.unwrap();
    soon(start).await.unwrap();
    soon(scene.redial.clone().call(with(MOVE, SESSION_METADATA_KEY, "new sid"))).await.unwrap();
    not_sent(&scene.redial.clone().call(on(1)).await.unwrap_err());
    soon(scene.redial.clone().call(on(2))).await.unwrap();
    assert_eq!(scene.robot.log().len(), sent + 4);
}

#[tokio::test(start_paused = true)]
async fn calls_fail_at_once_where_that_is_the_policy() {
    let (mut scene, first) = Scene::new(Redial::builder().while_down(WhileDown::Fail));
    first.cut();
    for request in [to(MOVE), to(START_SESSION)] {
        let error = soon(scene.redial.clone().call(request)).await.unwrap_err();
        assert!(not_sent(&error).message().contains("make the call again later"));
    }
    settle().await;
    scene.robot.answers().await;
    soon(scene.call(to(MOVE)).await).await.unwrap().unwrap();
    assert_eq!(scene.robot.log(), ["2 /robot/Move"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_within_its_own_deadline_and_the_robot_is_told_what_is_left() {
    let (mut scene, first) = Scene::new(Redial::builder());
    first.cut();
    let short = scene.call(with(MOVE, "grpc-timeout", "2S")).await;
    let long = scene.call(with(MOVE, "grpc-timeout", "6S")).await;
    let began = Instant::now();
    let error = error(short).await;
    assert_eq!(error.status().code(), Code::DeadlineExceeded);
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    sleep(Duration::from_secs(1)).await;
    scene.robot.answers().await;
    soon(long).await.unwrap().unwrap();
    assert_eq!(scene.robot.log(), ["2 /robot/Move 3000000u"]);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_after_so_many_attempts_and_everybody_is_told() {
    let (scene, first) = Scene::new(Redial::builder().max_attempts(3));
    let channel = scene.redial.clone().into_channel();
    let mut events = channel.events();
    let told = tokio::spawn(async move {
        let mut told = vec![];
        while let Some(event) = events.next().await {
            told.push(event);
        }
        told
    });
    first.cut();
    let waiting = scene.call(to(MOVE)).await;
    for _ in 0..3 {
        scene.robot.fails(nobody());
    }
    let failed = error(waiting).await;
    let text = not_sent(&failed).message();
    assert!(text.contains("given up after 3 failed attempts: no transport reached robot"), "{text}");
    let reason = soon(channel.closed()).await;
    assert!(matches!(&reason, CloseReason::GaveUp { attempts: 3, .. }), "{reason:?}");
    let later = scene.redial.clone().call(to(MOVE)).await.unwrap_err();
    assert_eq!(not_sent(&later).message(), text);
    let told = soon(told).await.unwrap();
    assert!(
        matches!(
            told[..],
            [
                Event::Connected { .. },
                Event::Reconnecting { attempt: 1, .. },
                Event::Reconnecting { attempt: 2, .. },
                Event::Reconnecting { attempt: 3, .. },
                Event::GaveUp { attempts: 3, .. },
                Event::Closed { reason: CloseReason::GaveUp { .. } }
            ]
        ),
        "{told:?}"
    );
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn three_attempts_are_made_unless_something_else_is_said() {
    let (scene, first) = Scene::new(Redial::builder());
    first.cut();
    (0..9).for_each(|_| scene.robot.fails(nobody()));
    assert!(matches!(soon(scene.redial.closed()).await, CloseReason::GaveUp { attempts: 3, .. }));
}

#[tokio::test(start_paused = true)]
async fn zero_attempts_are_for_ever() {
    let (mut scene, first) = Scene::new(Redial::builder().max_attempts(0));
    first.cut();
    let waiting = scene.call(to(MOVE)).await;
    for _ in 0..1000 {
        scene.robot.fails(nobody());
    }
    scene.robot.answers().await;
    soon(waiting).await.unwrap().unwrap();
    assert_eq!(scene.redial.watch().state().reconnected.unwrap().attempts, 1001);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_and_wrong_options_end_it_at_once() {
    for error in [denied(), DialError::Config(ConfigError::NoStack)] {
        let (scene, first) = Scene::new(Redial::builder().max_attempts(0));
        first.cut();
        let waiting = scene.call(to(MOVE)).await;
        let began = Instant::now();
        scene.robot.fails(error);
        not_sent(&soon(waiting).await.unwrap().unwrap_err());
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(matches!(soon(scene.redial.closed()).await, CloseReason::GaveUp { attempts: 1, .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_ends_dials_and_waiting_calls_at_once_for_all_clones() {
    let (scene, first) = Scene::new(Redial::builder());
    let hanging = scene.call(to(HANG)).await;
    first.cut();
    assert!(!error(hanging).await.is_not_sent());
    let waiting = scene.call(to(MOVE)).await;
    let start = scene.call(to(START_SESSION)).await;
    assert!(scene.robot.is_dialed());
    let began = Instant::now();
    scene.redial.clone().close();
    scene.redial.close();
    for call in [waiting, start] {
        assert_eq!(not_sent(&error(call).await).message(), CloseReason::Local.to_string());
    }
    settle().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!scene.robot.is_dialed());
    assert_eq!(soon(scene.redial.closed()).await, CloseReason::Local);
    assert_eq!(tasks(), 0);

    // And where there is a connection, it is closed, with the calls on it.
    let (scene, first) = Scene::new(Redial::builder());
    let hanging = scene.call(to(HANG)).await;
    scene.redial.close();
    assert_eq!(first.closed().await, CloseReason::Local);
    assert_eq!(error(hanging).await.status().code(), Code::Unavailable);
    settle().await;
    assert!(!scene.robot.is_dialed());
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_clone_and_the_last_waiting_call_end_it_and_calls_under_way_go_on() {
    let (Scene { redial, mut robot }, first) = Scene::new(Redial::builder());
    let (closed, mut one, mut other) = (redial.closed(), redial.clone(), redial.clone());
    settle().await;
    first.cut();
    settle().await;
    let waiting = tokio::spawn(async move { one.call(to(MOVE)).await });
    settle().await;
    // The clone goes with its call.
    let hanging = tokio::spawn(async move {
        let call = other.call(to(HANG));
        drop(other);
        call.await
    });
    drop(redial);
    settle().await;
    assert!(robot.is_dialed());
    let second = robot.answers().await;
    soon(waiting).await.unwrap().unwrap();
    assert_eq!(soon(closed).await, CloseReason::Local);
    assert!(!hanging.is_finished() && !second.watch().is_closed());
    second.cut();
    soon(hanging).await.unwrap().unwrap_err();
    settle().await;
    assert!(!robot.is_dialed());
    assert_eq!(tasks(), 0);

    // With a dial under way and nobody left to wait for it.
    let (Scene { redial, robot }, first) = Scene::new(Redial::builder());
    first.cut();
    settle().await;
    assert!(robot.is_dialed());
    drop(redial);
    settle().await;
    assert!(!robot.is_dialed());
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_nobody_polls_or_that_is_cancelled_holds_nobody_up() {
    let (mut scene, first) = Scene::new(Redial::builder());
    first.cut();
    let mut forgotten = Box::pin(scene.redial.clone().call(to(START_SESSION)));
    assert!(futures_util::poll!(&mut forgotten).is_pending());
    let mut cancelled = Box::pin(scene.redial.clone().call(to(START_SESSION)));
    assert!(futures_util::poll!(&mut cancelled).is_pending());
    drop(cancelled);
    let waiting = scene.call(to(MOVE)).await;
    let second = scene.robot.answers().await;
    let began = Instant::now();
    soon(waiting).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    // Who comes later waits for it no more.
    let began = Instant::now();
    soon(scene.call(to(MOVE)).await).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_millis(10), "{:?}", began.elapsed());
    // Nor does it count against starts that come later.
    soon(forgotten).await.unwrap();
    second.cut();
    let waiting = scene.call(to(MOVE)).await;
    let start = scene.call(to(START_SESSION)).await;
    scene.robot.answers().await;
    soon(start).await.unwrap().unwrap();
    soon(waiting).await.unwrap().unwrap();
    let log = scene.robot.log();
    assert_eq!(log[3..], [format!("3 {START_SESSION}"), "3 /robot/Move".into()], "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dialer_that_panics_ends_it() {
    let fake = Fake { number: 1, link: Arc::default(), log: Log::default() };
    let dialer = || -> BoxFuture<'static, Result<Channel, DialError>> { panic!("the dialer's own fault") };
    let redial = Redial::builder().build_with(Channel::from_transport(fake.clone()), dialer);
    fake.cut();
    let error = soon(redial.clone().call(to(MOVE))).await.unwrap_err();
    assert!(not_sent(&error).message().contains("reconnecting has stopped"));
    assert!(matches!(soon(redial.closed()).await, CloseReason::Lost(_)));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reconnects_leave_no_task_and_each_is_numbered_and_told() {
    let (mut scene, mut fake) = Scene::new(Redial::builder());
    let channel = scene.redial.clone().into_channel();
    let mut events = channel.events();
    assert!(matches!(events.next().await, Some(Event::Connected { .. })));
    for number in 2..=101 {
        assert_eq!(tasks(), 1);
        fake.cut();
        assert!(matches!(soon(events.next()).await, Some(Event::Reconnecting { attempt: 1, .. })));
        fake = scene.robot.answers().await;
        let told = soon(events.next()).await;
        assert!(matches!(told, Some(Event::Reconnected { attempts: 1, .. })), "{told:?}");
        assert_eq!(channel.watch().state().connection, number);
        // What happens on the new connection is told too.
        fake.link.send_modify(|state| state.silent = true);
        assert!(matches!(soon(events.next()).await, Some(Event::Silent)));
    }
    drop((channel, scene));
    assert!(matches!(soon(events.next()).await, Some(Event::Closed { reason: CloseReason::Local })));
    settle().await;
    assert_eq!(Arc::strong_count(&fake.link), 1, "the connection is still held");
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_call_is_handed_over_twice_wherever_connections_are_cut() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut scene, mut fake) = Scene::new(Redial::builder().max_attempts(0));
        let mut calls: BTreeMap<String, Call> = BTreeMap::new();
        for number in 0..40 {
            let token = format!("call-{number}");
            let path = if rng.u8(..4) == 0 { START_SESSION } else { MOVE };
            let mut redial = scene.redial.clone();
            let request = with(path, "token", &token);
            let call = tokio::spawn(async move { redial.call(request).await.map(drop) });
            calls.insert(token, call);
            for _ in 0..rng.usize(..6) {
                tokio::task::yield_now().await;
            }
            match rng.u8(..6) {
                0 => fake.cut(),
                1 if fake.watch().is_closed() => {
                    (0..rng.u8(..3)).for_each(|_| scene.robot.fails(nobody()));
                    fake = scene.robot.connection();
                    let channel = Channel::from_transport(fake.clone());
                    scene.robot.answers.send(Ok(channel)).unwrap();
                }
                2 => sleep(Duration::from_millis(rng.u64(..8))).await,
                _ => {}
            }
        }
        if fake.watch().is_closed() {
            scene.robot.answers().await;
        }
        let log_of = |log: &[String], token: &str| {
            log.iter().filter(|line| line.ends_with(&format!(" {token}"))).count()
        };
        for (token, call) in calls {
            let outcome = soon(call).await.unwrap();
            let sent = log_of(&scene.robot.log(), &token);
            // Nobody bound a call and nobody gave up: each went out, once.
            assert_eq!(sent, 1, "seed {seed}: {token}: {outcome:?}");
        }
    }
}
