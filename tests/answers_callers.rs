//! The answerer against a signaling service played by hand: how it stays reachable, how it answers, and
//! what it does to servers and callers that misbehave.

mod signaling_fakes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farlink::peer::{Description, Phase, Role};
use farlink::proto::webrtc::{AnswerRequestInitStage, IceServer, WebRtcConfig, answer_request};
use farlink::signaling::answerer::{
    Answered, Answerer, AnswererConfig, AnswererConfigError, AnswererState, Connect,
};
use farlink::signaling::client;
use signaling_fakes::{IncomingAnswer, Puppet, PuppetStack, Seen, Signaling, soon};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tonic::Status;

struct Scene {
    signaling: Signaling,
    puppets: mpsc::UnboundedReceiver<Puppet>,
    answerer: Answerer,
    accepted: mpsc::Receiver<Answered>,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut AnswererConfig)) -> Self {
        let signaling = Signaling::new();
        let through = signaling.client();
        let connect: Connect = Arc::new(move || {
            let through = through.clone();
            Box::pin(async move { Ok(through) })
        });
        Self::over(signaling, connect, change)
    }

    fn over(signaling: Signaling, connect: Connect, change: impl FnOnce(&mut AnswererConfig)) -> Self {
        let (stack, puppets) = PuppetStack::new();
        let mut config = AnswererConfig::new(["robot", "robot.local:8080"], stack).expect("good names");
        config.label = "cloud".into();
        change(&mut config);
        let (sender, accepted) = mpsc::channel(1);
        let answerer = Answerer::spawn(connect, config, sender);
        Self { signaling, puppets, answerer, accepted }
    }

    async fn puppet(&mut self) -> Puppet {
        soon(self.puppets.recv()).await.expect("answerer lives")
    }

    async fn until(&self, wanted: impl Fn(&AnswererState) -> bool) {
        soon(self.answerer.state().wait_for(wanted)).await.expect("answerer lives");
    }

    /// A stream on which the answer to call `u` has just been sent.
    async fn negotiating(&mut self) -> (IncomingAnswer, Puppet) {
        let mut stream = self.signaling.answer().await;
        stream.offer("u");
        let puppet = self.puppet().await;
        puppet.candidate("1");
        assert_eq!(stream.word().await.as_deref(), Some("u init"));
        assert_eq!(stream.word().await.as_deref(), Some("u candidate:1"));
        (stream, puppet)
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_and_handed_over() {
    let mut scene =
        Scene::with(|config| config.ice_servers = vec![farlink::peer::IceServer::new("stun:own").unwrap()]);
    scene.until(|state| *state == AnswererState::Online).await;
    let mut stream = scene.signaling.answer().await;
    assert_eq!(stream.hosts, ["robot", "robot.local:8080"]);
    assert!(stream.heartbeats);
    let spare = scene.signaling.answer().await;

    stream.heartbeat();
    let started = Instant::now();
    let server = IceServer { urls: vec!["turn:theirs".into()], ..Default::default() };
    let config = WebRtcConfig { additional_ice_servers: vec![server], ..Default::default() };
    let sdp = Description::offer("offer").encode();
    let init = AnswerRequestInitStage { sdp, optional_config: Some(config), deadline: None };
    stream.send("u", answer_request::Stage::Init(init));
    let mut puppet = scene.puppet().await;
    assert_eq!(puppet.config.role, Role::Answerer);
    assert_eq!(puppet.config.ice_servers.len(), 2);
    puppet.candidate("1");
    stream.heartbeat();
    assert_eq!(stream.word().await.as_deref(), Some("u init"));
    assert_eq!(stream.word().await.as_deref(), Some("u candidate:1"));
    assert_eq!(puppet.seen().await, Seen::Offer(Description::offer("offer")));
    puppet.candidate("2");
    assert_eq!(stream.word().await.as_deref(), Some("u candidate:2"));
    puppet.end_candidates();
    puppet.phase(Phase::Connected);
    puppet.open();
    assert_eq!(stream.word().await.as_deref(), Some("u done"), "browsers wait for it");
    let answered = soon(scene.accepted.recv()).await.expect("handed over");
    assert_eq!((answered.uuid.as_str(), answered.signaling.as_str()), ("u", "cloud"));
    assert_eq!(answered.host_names, ["robot", "robot.local:8080"]);
    assert_eq!(stream.word().await, None, "half-closed");
    assert!(started.elapsed() < Duration::from_millis(50), "no step waits for a timer");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!puppet.is_closed());
    drop(spare);
}

#[tokio::test(start_paused = true)]
async fn two_slow_callers_do_not_lock_a_robot_out() {
    let mut scene = Scene::new();
    let mut slow = Vec::new();
    let started = Instant::now();
    for n in 0..6 {
        let stream = scene.signaling.answer().await;
        stream.offer(&format!("slow {n}"));
        slow.push((stream, scene.puppet().await));
    }
    assert!(started.elapsed() < Duration::from_millis(50));
    let (mut stream, puppet) = scene.negotiating().await;
    puppet.open();
    assert_eq!(soon(scene.accepted.recv()).await.unwrap().uuid, "u");
    assert_eq!(stream.word().await.as_deref(), Some("u done"));
    assert!(started.elapsed() < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn an_aborting_caller_frees_the_answerer_at_once() {
    let mut scene = Scene::with(|config| (config.spare_streams, config.max_negotiations) = (1, 1));
    let (mut stream, mut puppet) = scene.negotiating().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(scene.signaling.answers.try_recv().is_err(), "one at a time");
    let started = Instant::now();
    stream.caller_error("u");
    puppet.closed().await;
    let next = scene.signaling.answer().await;
    assert!(started.elapsed() < Duration::from_millis(100));
    assert_eq!(stream.word().await.as_deref(), Some("u error 1 error from requester: bored"));
    assert_eq!(stream.word().await, None);
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_streams_at_once_is_not_hammered() {
    for ending in [None, Some(Status::cancelled("")), Some(Status::permission_denied("no"))] {
        let mut scene = Scene::new();
        let mut opens = 0;
        let end = Instant::now() + Duration::from_secs(60);
        while let Ok(stream) = tokio::time::timeout_at(end, scene.signaling.answers.recv()).await {
            opens += 1;
            if let Some(status) = ending.clone() {
                let _ = stream.unwrap().requests.send(Err(status));
            }
        }
        assert!((8..60).contains(&opens), "{ending:?}: {opens} in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_robot_whose_signaling_is_away_keeps_trying_and_says_why() {
    let signaling = Signaling::new();
    let through = signaling.client();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let connect: Connect = Arc::new(move || {
        let (through, n) = (through.clone(), counted.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move { if n < 3 { Err("no route".into()) } else { Ok(through) } })
    });
    let mut scene = Scene::over(signaling, connect, |_| {});
    scene
        .until(|state| {
            matches!(state, AnswererState::Connecting { attempt: 3, last_error: Some(why) } if why == "no route")
        })
        .await;
    scene.until(|state| *state == AnswererState::Online).await;
    assert_eq!(tries.load(Ordering::Relaxed), 4);

    // Both streams are lost with their connection: another is made.
    for _ in 0..2 {
        let stream = scene.signaling.answer().await;
        stream.requests.send(Err(Status::unavailable("going away"))).unwrap();
    }
    scene.until(|state| matches!(state, AnswererState::Connecting { .. })).await;
    scene.until(|state| *state == AnswererState::Online).await;
    scene.signaling.answer().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_to_the_question_is_proof_enough_that_the_server_is_there() {
    let signaling = Signaling::new();
    signaling.script.lock().unwrap().config = Some(Err(Status::unimplemented("")));
    let through = signaling.client();
    let connect: Connect = Arc::new(move || {
        let through = through.clone();
        Box::pin(async move { Ok(through) })
    });
    let scene = Scene::over(signaling, connect, |_| {});
    scene.until(|state| *state == AnswererState::Online).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_nobody_takes_is_told_and_closed() {
    let mut scene = Scene::new();
    let (mut stream, puppet) = scene.negotiating().await;
    puppet.open();
    assert_eq!(stream.word().await.as_deref(), Some("u done"));
    let (mut stream, mut puppet) = scene.negotiating().await;
    puppet.open();
    puppet.closed().await;
    let word = stream.word().await.unwrap();
    assert!(word.starts_with("u error 8 "), "{word}");
    assert_eq!(stream.word().await, None);
    // With the receiver gone it is the same.
    let (sender, receiver) = mpsc::channel(1);
    drop(sender);
    drop(std::mem::replace(&mut scene.accepted, receiver));
    let (mut stream, mut puppet) = scene.negotiating().await;
    puppet.open();
    puppet.closed().await;
    assert!(stream.word().await.unwrap().starts_with("u error 8 "));
}

/// A permit belongs to a call from its offer on, then to the connection.
#[tokio::test(start_paused = true)]
async fn a_caller_without_room_is_told_before_anything_is_opened() {
    let permits = Arc::new(Semaphore::new(1));
    let shared = Arc::clone(&permits);
    let mut scene = Scene::with(|config| config.permits = Some(shared));
    let (mut first, puppet) = scene.negotiating().await;
    let full = "u error 8 the robot has no room for another connection";
    let mut stream = scene.signaling.answer().await;
    stream.offer("u");
    assert_eq!(stream.word().await.as_deref(), Some(full), "while it negotiates");
    assert_eq!(stream.word().await, None);
    puppet.open();
    let answered = soon(scene.accepted.recv()).await.unwrap();
    assert_eq!(first.word().await.as_deref(), Some("u done"));
    let mut stream = scene.signaling.answer().await;
    stream.offer("u");
    assert_eq!(stream.word().await.as_deref(), Some(full), "while it is connected");
    assert!(scene.puppets.try_recv().is_err(), "opened for nothing");
    drop(answered);
    // A negotiation that fails gives its permit back.
    let (_stream, puppet) = scene.negotiating().await;
    puppet.phase(Phase::Failed("no pair worked".into()));
    let _place = soon(permits.acquire()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_never_connects_is_given_up_at_the_deadline() {
    let mut scene = Scene::new();
    let started = Instant::now();
    let (mut stream, mut puppet) = scene.negotiating().await;
    puppet.closed().await;
    assert_eq!(started.elapsed().as_secs(), 10);
    assert!(stream.word().await.unwrap().starts_with("u error 4 "));
    assert_eq!(stream.word().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_heartbeats_stop_is_replaced() {
    let mut scene = Scene::new();
    let (one, two) = (scene.signaling.answer().await, scene.signaling.answer().await);
    let started = Instant::now();
    one.heartbeat();
    soon(one.requests.closed()).await;
    assert_eq!(started.elapsed().as_secs(), 50, "45 s of silence, and 5 s to hear the stream out");
    let _three = scene.signaling.answer().await;
    assert!(!two.requests.is_closed(), "it never had any");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_answerer_leaves_nothing_behind() {
    let mut scene = Scene::new();
    let (mut stream, mut puppet) = scene.negotiating().await;
    let spare = scene.signaling.answer().await;
    let mut state = scene.answerer.state();
    scene.answerer.stop().await;
    assert_eq!(*state.borrow_and_update(), AnswererState::Stopped);
    puppet.closed().await;
    assert!(spare.requests.is_closed() && stream.requests.is_closed());
    assert_eq!(stream.word().await.as_deref(), Some("u error 14 the robot is shutting down"));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_answerer_stops_by_itself() {
    let mut scene = Scene::new();
    let (stream, mut puppet) = scene.negotiating().await;
    let mut state = scene.answerer.state();
    drop(scene.answerer);
    puppet.closed().await;
    soon(stream.requests.closed()).await;
    soon(state.wait_for(|state| *state == AnswererState::Stopped)).await.unwrap();
}

#[tokio::test]
async fn names_are_checked_before_anything_is_done() {
    let config = |hosts: &[&str]| AnswererConfig::new(hosts.iter().copied(), PuppetStack::new().0);
    assert_eq!(config(&[]).unwrap_err(), AnswererConfigError::HowMany(0));
    assert_eq!(config(&["a"; 6]).unwrap_err(), AnswererConfigError::HowMany(6));
    assert_eq!(config(&["a", ""]).unwrap_err(), AnswererConfigError::Host(String::new()));
    assert_eq!(config(&["a"; 5]).unwrap().hosts().count(), 5);
}

/// Real HTTP/2, where a stream that is dropped too early is reset and takes its last words with it.
#[tokio::test]
async fn the_last_words_get_through_over_http2() {
    let signaling = Signaling::new();
    // A runtime of its own, so that the server's connections die with it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(signaling.server());
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)).await
    });
    let connect: Connect = Arc::new(move || {
        Box::pin(async move {
            let channel = tonic::transport::Endpoint::new(format!("http://{address}"))?.connect().await?;
            Ok(client(channel))
        })
    });
    let mut scene = Scene::over(signaling, connect, |_| {});
    scene.until(|state| *state == AnswererState::Online).await;

    let (mut stream, mut puppet) = scene.negotiating().await;
    puppet.phase(Phase::Failed("no pair worked".into()));
    puppet.closed().await;
    assert_eq!(stream.word().await.as_deref(), Some("u error 14 cannot connect: no pair worked"));
    assert_eq!(stream.word().await, None);

    let (mut stream, puppet) = scene.negotiating().await;
    puppet.open();
    soon(scene.accepted.recv()).await.expect("handed over");
    assert_eq!(stream.word().await.as_deref(), Some("u done"));
    assert_eq!(stream.word().await, None);

    runtime.shutdown_background();
    scene.until(|state| matches!(state, AnswererState::Connecting { last_error: Some(_), .. })).await;
}
