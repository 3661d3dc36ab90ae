//! A channel over `Redial` goes on over new connections: through signaling over the memory stack, and directly
//! over sockets, with a robot that writes down every call it gets.
//!
//! The rules alone, with the clock stopped, are tested in `src/redial`.

mod common;
mod faults;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::probe::{ProbeRequest, ProbeResponse};
use common::{LONG, Lab, Probe, ROBOT, Signaling, loopback, tokened, until_running};
use farlink::peer::Stack;
use farlink::peer::memory::MemoryStack;
use farlink::proto::robot::StartSessionRequest;
use farlink::proto::robot::robot_service_client::RobotServiceClient;
use farlink::redial::{Redial, RedialBuilder, WhileDown};
use farlink::server::Server;
use farlink::transport::{CloseReason, Transport as _, TransportKind};
use farlink::wire::session::{SESSION_METADATA_KEY, START_SESSION};
use farlink::{Channel, Credentials, DialOptions, Event, Events};
use faults::Doorman;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::service::{AxumBody, Routes};
use tonic::{Code, Status};
use tower::util::MapRequestLayer;

/// The calls that a robot got, in order: their tokens, or their paths.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// The robot's routes, which write down what comes.
    fn routes(&self, doorman: Option<&Doorman>) -> Routes {
        let mut routes = Probe::routes();
        if let Some(doorman) = doorman {
            routes = routes.add_service(doorman.server());
        }
        let heard = self.clone();
        let write = move |request: http::Request<AxumBody>| {
            let token = request.headers().get("token").map(|token| token.to_str().unwrap());
            heard.0.lock().unwrap().push(token.unwrap_or_else(|| request.uri().path()).to_owned());
            request
        };
        Routes::from(routes.into_axum_router().layer(MapRequestLayer::new(write)))
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn times(&self, token: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|heard| *heard == token).count()
    }
}

/// A robot that is reached through signaling, over the memory stack.
struct Remote {
    stack: MemoryStack,
    lab: Lab,
    heard: Heard,
}

impl Remote {
    async fn new() -> Self {
        let (stack, heard) = (MemoryStack::new(), Heard::default());
        let signaling = Signaling::start().await;
        let lab = Lab::serving(heard.routes(None), signaling, Arc::new(stack.clone()), |robot| robot).await;
        Self { stack, lab, heard }
    }

    async fn redial(&self, builder: RedialBuilder) -> Redial {
        within(builder.dial(ROBOT, self.lab.options.clone())).await.unwrap()
    }

    fn cut(&self) {
        self.stack.links().iter().for_each(farlink::peer::memory::MemoryLink::cut);
    }

    /// Whether connections can be made.
    fn reachable(&self, reachable: bool) {
        self.stack.change(|conditions| conditions.refuse = !reachable);
    }
}

/// A robot on sockets that can be started again on its port.
struct Near {
    addr: SocketAddr,
    stack: Arc<dyn Stack>,
    heard: Heard,
    server: Option<Server>,
}

impl Near {
    async fn new() -> Self {
        Self::with(Arc::new(MemoryStack::new())).await
    }

    async fn with(stack: Arc<dyn Stack>) -> Self {
        let mut near = Self { addr: loopback(), stack, heard: Heard::default(), server: None };
        near.start(None).await;
        near
    }

    async fn start(&mut self, doorman: Option<&Doorman>) {
        let robot = Server::builder().host(ROBOT).listen(self.addr).insecure(true);
        let start = async {
            loop {
                // The sockets of the one before may take a moment to go.
                let robot = robot.clone().stack(Arc::clone(&self.stack));
                match robot.start(self.heard.routes(doorman)).await {
                    Ok(server) => break server,
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let server = within(start).await;
        self.addr = server.local_addr().unwrap();
        self.server = Some(server);
    }

    /// As a crash would end it.
    fn stop(&mut self) {
        self.server = None;
    }

    fn options(&self) -> DialOptions {
        DialOptions::new().insecure(true).stack(Arc::clone(&self.stack)).timeout(LONG)
    }

    async fn redial(&self, builder: RedialBuilder) -> Redial {
        let options = self.options().disable_webrtc(true);
        within(builder.dial(self.addr.to_string(), options)).await.unwrap()
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(LONG, what).await.expect("hangs")
}

fn for_ever() -> RedialBuilder {
    Redial::builder().max_attempts(0)
}

type Call = JoinHandle<Result<ProbeResponse, Status>>;

/// A call in a task of its own.
fn call(channel: &Channel, token: &str) -> Call {
    let mut client = Probe::client(channel.clone());
    let request = tokened(token, ProbeRequest { size: 3, ..Default::default() });
    tokio::spawn(async move { client.unary(request).await.map(tonic::Response::into_inner) })
}

async fn called(channel: &Channel, token: &str) -> Result<ProbeResponse, Status> {
    within(call(channel, token)).await.unwrap()
}

/// Everything that is told, read as soon as it is.
fn told(channel: &Channel) -> JoinHandle<Vec<Event>> {
    let mut events = channel.events();
    tokio::spawn(async move {
        let mut told = vec![];
        while let Some(event) = events.next().await {
            told.push(event);
        }
        told
    })
}

/// Waits for the first event that is like this; says what came before.
async fn until(events: &mut Events, mut like: impl FnMut(&Event) -> bool) -> Vec<Event> {
    let mut told = vec![];
    loop {
        let event = within(events.next()).await.unwrap_or_else(|| panic!("the end, after {told:?}"));
        let found = like(&event);
        told.push(event);
        if found {
            return told;
        }
    }
}

fn is_down(event: &Event) -> bool {
    matches!(event, Event::Reconnecting { .. })
}

fn is_back(event: &Event) -> bool {
    matches!(event, Event::Reconnected { .. })
}

#[tokio::test]
async fn calls_go_on_over_signaling_and_events_come_in_order() {
    let remote = Remote::new().await;
    let redial = remote.redial(Redial::builder()).await;
    let channel = redial.clone().into_channel();
    assert!(channel.report().is_some() && redial.report().is_some());
    let told = told(&channel);
    called(&channel, "first").await.unwrap();
    let mut client = Probe::client(channel.clone());
    let hanging = tokened("hangs", ProbeRequest { delay_ms: 3_600_000, ..Default::default() });
    let hanging = tokio::spawn(async move { client.unary(hanging).await });
    until_running("hangs", true).await;

    let lost = Instant::now();
    remote.cut();
    // What was under way fails, and is not made again.
    let status = within(hanging).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("cut"), "{status}");
    called(&channel, "second").await.unwrap();
    assert!(lost.elapsed() < LONG / 10, "{:?}", lost.elapsed());
    assert_eq!(channel.watch().state().connection, 2);
    assert_eq!(channel.stats().await.streams_opened, 1);
    assert_eq!(remote.heard.all(), ["first", "hangs", "second"]);

    channel.close();
    let told = within(told).await.unwrap();
    let [Event::Connected { .. }, Event::Reconnecting { reason, attempt: 1 }, back, end] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(reason.contains("cut"), "{reason}");
    let Event::Reconnected { transport: TransportKind::WebRtc, path, attempts: 1, .. } = back else {
        panic!("{back:?}")
    };
    assert!(path.is_some());
    assert!(matches!(end, Event::Closed { reason: CloseReason::Local }));
    let mut robots = remote.lab.robot.connections();
    within(robots.wait_for(|open| *open == 0)).await.unwrap();
}

#[tokio::test]
async fn calls_go_on_over_sockets_after_the_robot_was_started_again() {
    let mut near = Near::new().await;
    let channel = near.redial(for_ever()).await.into_channel();
    let mut events = channel.events();
    for round in 0..5 {
        called(&channel, &format!("before {round}")).await.unwrap();
        near.stop();
        until(&mut events, is_down).await;
        let waiting = call(&channel, &format!("waits {round}"));
        tokio::task::yield_now().await;
        near.start(None).await;
        within(waiting).await.unwrap().unwrap();
        until(&mut events, is_back).await;
    }
    assert_eq!(near.heard.all().len(), 10);
    assert_eq!(channel.transport(), TransportKind::Direct);
}

/// Calls that wait while there is no connection, and the start of a session after them.
async fn wait_in_line(channel: &Channel) -> Vec<JoinHandle<()>> {
    let mut waiting = vec![];
    for number in 0..8 {
        let call = call(channel, &format!("waits {number}"));
        waiting.push(tokio::spawn(async move {
            call.await.unwrap().unwrap();
        }));
        tokio::task::yield_now().await;
    }
    let mut robot = RobotServiceClient::new(channel.clone());
    waiting.push(tokio::spawn(async move {
        // The robot here has no sessions, but it has been asked.
        let status = robot.start_session(StartSessionRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
    }));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    waiting
}

async fn all_went_out_start_first(waiting: Vec<JoinHandle<()>>, heard: &Heard) {
    for call in waiting {
        within(call).await.unwrap();
    }
    let heard = heard.all();
    assert_eq!(heard[0], START_SESSION, "{heard:?}");
    assert_eq!(heard.len(), 9, "{heard:?}");
}

#[tokio::test]
async fn waiting_calls_go_out_over_signaling_after_the_start_of_the_session() {
    let remote = Remote::new().await;
    let channel = remote.redial(for_ever()).await.into_channel();
    let mut events = channel.events();
    remote.reachable(false);
    remote.cut();
    until(&mut events, |event| matches!(event, Event::Reconnecting { attempt: 2.., .. })).await;
    let waiting = wait_in_line(&channel).await;
    assert!(remote.heard.all().is_empty());
    remote.reachable(true);
    all_went_out_start_first(waiting, &remote.heard).await;
}

#[tokio::test]
async fn waiting_calls_go_out_over_sockets_after_the_start_of_the_session() {
    let mut near = Near::new().await;
    let channel = near.redial(for_ever()).await.into_channel();
    let mut events = channel.events();
    near.stop();
    until(&mut events, is_down).await;
    let waiting = wait_in_line(&channel).await;
    near.start(None).await;
    all_went_out_start_first(waiting, &near.heard).await;
}

#[tokio::test]
async fn calls_of_a_session_do_not_wait_and_calls_fail_where_that_is_the_policy() {
    let remote = Remote::new().await;
    let waits = remote.redial(for_ever()).await.into_channel();
    let fails = remote.redial(for_ever().while_down(WhileDown::Fail)).await.into_channel();
    remote.reachable(false);
    let (mut one, mut other) = (waits.events(), fails.events());
    remote.cut();
    until(&mut one, is_down).await;
    until(&mut other, is_down).await;
    let mut request = tokened("bound", ProbeRequest::default());
    request.metadata_mut().insert(SESSION_METADATA_KEY, "sid".parse().unwrap());
    let bound = within(Probe::client(waits.clone()).unary(request)).await.unwrap_err();
    let failed = called(&fails, "fails").await.unwrap_err();
    for status in [bound, failed] {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    remote.reachable(true);
    until(&mut one, is_back).await;
    until(&mut other, is_back).await;
    called(&waits, "later").await.unwrap();
    called(&fails, "later too").await.unwrap();
    assert_eq!(remote.heard.all(), ["later", "later too"]);
}

#[tokio::test]
async fn a_robot_that_stays_away_is_given_up_with_what_to_do() {
    let mut near = Near::new().await;
    let options = near.options().disable_webrtc(true).max_reconnect_attempts(2u32);
    let redial = Redial::dial(near.addr.to_string(), options).await.unwrap();
    let channel = redial.into_channel();
    let mut events = channel.events();
    near.stop();
    until(&mut events, is_down).await;
    let status = called(&channel, "waits").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for text in ["given up after 2 failed attempts", "connecting to the robot", "max_reconnect_attempts"] {
        assert!(status.message().contains(text), "{text}: {status}");
    }
    let told = until(&mut events, |event| matches!(event, Event::Closed { .. })).await;
    let [.., Event::GaveUp { attempts: 2, .. }, Event::Closed { reason }] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(matches!(reason, CloseReason::GaveUp { attempts: 2, .. }), "{reason:?}");
    // For good.
    near.start(None).await;
    assert_eq!(called(&channel, "later").await.unwrap_err().message(), status.message());
}

#[tokio::test]
async fn refused_credentials_are_not_tried_again() {
    let mut near = Near::new().await;
    near.stop();
    near.start(Some(&Doorman::default())).await;
    let options = near.options().disable_webrtc(true).credentials(Credentials::api_key("hush-hush"));
    let redial = within(for_ever().dial(near.addr.to_string(), options)).await.unwrap();
    near.stop();
    let refuses = Some(Status::unauthenticated("who are you?"));
    near.start(Some(&Doorman { refuses, ..Doorman::default() })).await;
    let reason = within(redial.closed()).await;
    let CloseReason::GaveUp { last, .. } = &reason else { panic!("{reason:?}") };
    assert!(last.contains("credentials were refused"), "{last}");
    assert!(!reason.to_string().contains("hush-hush"), "{reason}");
}

#[tokio::test]
async fn the_transport_stays_what_it_was_unless_it_may_change() {
    let stack = MemoryStack::new();
    let mut near = Near::with(Arc::new(stack.clone())).await;
    let dial = async |builder: RedialBuilder| {
        within(builder.dial(near.addr.to_string(), near.options())).await.unwrap()
    };
    let refuse = |refuse| stack.change(|conditions| conditions.refuse = refuse);

    // What was WebRTC, while only the direct way is open.
    let stays = dial(Redial::builder()).await;
    let changes = dial(Redial::builder().may_change_transport(true)).await;
    assert_eq!((stays.kind(), changes.kind()), (TransportKind::WebRtc, TransportKind::WebRtc));
    let mut events = changes.clone().into_channel().events();
    refuse(true);
    stack.links().iter().for_each(farlink::peer::memory::MemoryLink::cut);
    let told = until(&mut events, is_back).await;
    assert!(matches!(told.last(), Some(Event::Reconnected { transport: TransportKind::Direct, .. })));
    assert_eq!(changes.kind(), TransportKind::Direct);
    let reason = within(stays.closed()).await;
    assert!(
        matches!(&reason, CloseReason::GaveUp { attempts: 3, last } if last.contains("WebRTC")),
        "{reason}"
    );

    // What was direct, while both are open.
    let stays = dial(for_ever()).await;
    assert_eq!(stays.kind(), TransportKind::Direct);
    refuse(false);
    let mut events = stays.clone().into_channel().events();
    assert!(matches!(within(events.next()).await, Some(Event::FellBack { .. } | Event::Connected { .. })));
    drop(changes);
    near.stop();
    until(&mut events, is_down).await;
    near.start(None).await;
    let told = until(&mut events, is_back).await;
    assert!(matches!(told.last(), Some(Event::Reconnected { transport: TransportKind::Direct, .. })));
    called(&stays.into_channel(), "direct").await.unwrap();
}

#[tokio::test]
async fn closing_ends_a_dial_that_goes_nowhere_and_who_waits_for_it() {
    let remote = Remote::new().await;
    let channel = remote.redial(for_ever()).await.into_channel();
    let mut events = channel.events();
    // Looking for a path takes for ever.
    remote.stack.change(|conditions| conditions.connect_time = LONG * 100);
    remote.cut();
    until(&mut events, is_down).await;
    let waiting = call(&channel, "waits");
    within(async {
        while remote.stack.peers() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let closed = Instant::now();
    channel.close();
    let status = within(waiting).await.unwrap().unwrap_err();
    assert_eq!(status.message(), CloseReason::Local.status().message());
    assert!(closed.elapsed() < LONG / 10);
    assert_eq!(within(channel.closed()).await, CloseReason::Local);
    within(async {
        while remote.stack.peers() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(remote.heard.all().is_empty());
}

/// Calls in a row from many tasks, while connections are cut at any instant.
async fn never_twice(channel: Channel, heard: Heard, cut: impl AsyncFn()) {
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let channel = channel.clone();
            tokio::spawn(async move {
                let mut calls = vec![];
                for number in 0..100 {
                    let token = format!("{caller}/{number}");
                    calls.push((called(&channel, &token).await, token));
                }
                calls
            })
        })
        .collect();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut link = channel.watch();
    // More would test the back-off.
    for number in 1..8 {
        within(async {
            while link.state().connection < number {
                link.changed().await.unwrap();
            }
        })
        .await;
        sleep(Duration::from_micros(rng.u64(0..3_000))).await;
        cut().await;
    }
    let mut ended_well = 0;
    for caller in callers {
        for (outcome, token) in caller.await.unwrap() {
            let times = heard.times(&token);
            match outcome {
                Ok(_) => assert_eq!(times, 1, "{token}"),
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{token}: {status}");
                    assert!(times <= 1, "{token} was heard {times} times");
                }
            }
            ended_well += usize::from(heard.times(&token) == 1);
        }
    }
    assert!(ended_well > 100, "only {ended_well} of 800 calls came through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_made_twice_over_signaling_wherever_links_are_cut() {
    let remote = Remote::new().await;
    let channel = remote.redial(for_ever()).await.into_channel();
    timeout(LONG * 3, never_twice(channel, remote.heard.clone(), async || remote.cut()))
        .await
        .expect("hangs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_made_twice_over_sockets_wherever_the_robot_is_killed() {
    let near = Near::new().await;
    let channel = near.redial(for_ever()).await.into_channel();
    let (heard, near) = (near.heard.clone(), tokio::sync::Mutex::new(near));
    let cut = async || {
        let mut near = near.lock().await;
        near.stop();
        near.start(None).await;
    };
    timeout(LONG * 3, never_twice(channel, heard, cut)).await.expect("hangs");
}

#[tokio::test]
async fn a_hundred_reconnects_leave_no_task() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let settle = async |most: usize| {
        let settled = async {
            while tasks() > most {
                sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(LONG, settled).await.is_ok(), "{} tasks where {most} are wanted", tasks());
    };
    let remote = Remote::new().await;
    drop(remote.redial(for_ever()).await);
    sleep(Duration::from_millis(300)).await;
    let before = tasks();
    let redial = remote.redial(for_ever()).await;
    let mut link = redial.watch();
    for number in 2..=101 {
        // Each has lived long enough, so that none waits.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(6)).await;
        tokio::time::resume();
        remote.cut();
        within(async {
            while link.state().connection < number {
                link.changed().await.unwrap();
            }
        })
        .await;
    }
    called(&redial.into_channel(), "last").await.unwrap();
    settle(before).await;
    assert_eq!(remote.stack.peers(), 0);
}
