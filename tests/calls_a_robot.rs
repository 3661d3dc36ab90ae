//! The caller against a signaling service played by hand: what it sends, when it gives up, what it leaves.

mod signaling_fakes;

use std::time::Duration;

use farlink::peer::{Description, Peer, PeerConfig, Phase, Role};
use farlink::proto::webrtc::call_update_request::Update;
use farlink::proto::webrtc::{IceServer, WebRtcConfig};
use farlink::signaling::caller::{
    CallConfig, CallError, CallErrorKind, CallProgress, CallStage, CallViolation, call, ice_config,
};
use signaling_fakes::{Puppet, Seen, Signaling, peer, soon};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::{Code, Status};

const DEADLINE: Duration = Duration::from_secs(10);

struct Scene {
    signaling: Signaling,
    puppet: Puppet,
    progress: mpsc::UnboundedReceiver<CallProgress>,
    call: JoinHandle<Result<Peer, CallError>>,
    started: Instant,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut CallConfig)) -> Self {
        let signaling = Signaling::new();
        let (peer, puppet) = peer(PeerConfig::new(Role::Caller));
        let (sender, progress) = mpsc::unbounded_channel();
        let started = Instant::now();
        let mut config = CallConfig::new("robot", started + DEADLINE);
        change(&mut config);
        let tell = move |stage| {
            let _ = sender.send(stage);
        };
        let call = tokio::spawn(call(signaling.client(), peer, config, tell));
        Self { signaling, puppet, progress, call, started }
    }

    async fn fails(&mut self) -> CallError {
        soon(&mut self.call).await.unwrap().expect_err("the call fails")
    }

    async fn error_update(&mut self) -> i32 {
        loop {
            let update = self.signaling.update().await;
            assert_eq!((update.uuid.as_str(), update.hosts.len()), ("u", 1));
            if let Update::Error(status) = update.update {
                return status.code;
            }
        }
    }

    /// Nothing more comes from the caller, ever.
    async fn hears_nothing_more(&mut self) {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(self.signaling.updates.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_in_an_open_channel_and_one_done() {
    let mut scene = Scene::new();
    scene.puppet.candidate("1");
    let call = scene.signaling.call().await;
    assert_eq!(call.hosts, ["robot"], "exactly one");
    assert!(!call.request.disable_trickle);
    assert_eq!(Description::decode(&call.request.sdp), Ok(Description::offer("offer with candidates")));
    assert_eq!(soon(scene.progress.recv()).await, Some(CallProgress::Offered));

    call.init("u");
    assert_eq!(scene.puppet.seen().await, Seen::Answer(Description::answer("answer")));
    // Also the one that was in the offer, because micro-rdk does not read the offer's.
    let update = scene.signaling.update().await;
    assert_eq!((update.uuid.as_str(), update.hosts.as_slice()), ("u", ["robot".to_owned()].as_slice()));
    assert!(matches!(update.update, Update::Candidate(candidate) if candidate.candidate == "candidate:1"));
    scene.puppet.candidate("2");
    let update = scene.signaling.update().await.update;
    assert!(matches!(update, Update::Candidate(candidate) if candidate.candidate == "candidate:2"));
    call.candidate("u", "bad");
    assert_eq!(scene.puppet.seen().await, Seen::Candidate("candidate:bad".into()));
    call.candidate("u", "good");
    assert_eq!(scene.puppet.seen().await, Seen::Candidate("candidate:good".into()));
    scene.puppet.end_candidates();

    scene.puppet.phase(Phase::Connected);
    scene.puppet.open();
    let peer = soon(&mut scene.call).await.unwrap().expect("open");
    for expected in [CallProgress::Answered, CallProgress::Connected, CallProgress::Open] {
        assert_eq!(soon(scene.progress.recv()).await, Some(expected));
    }
    assert!(scene.started.elapsed() < Duration::from_millis(1), "no step waits for a timer");
    assert!(!call.respond.is_closed(), "breaking the stream now would abort the answerer");
    assert!(matches!(scene.signaling.update().await.update, Update::Done(true)));
    scene.hears_nothing_more().await;
    assert!(call.respond.is_closed(), "but not for ever");
    assert!(!scene.puppet.is_closed());
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn without_any_candidate_the_offer_still_goes_out() {
    let mut scene = Scene::new();
    scene.signaling.call().await;
    assert!(scene.started.elapsed() <= Duration::from_millis(21));
}

#[tokio::test(start_paused = true)]
async fn without_trickle_the_offer_has_all_candidates_and_says_so() {
    let mut scene = Scene::with(|config| config.trickle = false);
    scene.puppet.candidate("1");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(scene.signaling.calls.try_recv().is_err());
    scene.puppet.end_candidates();
    let call = scene.signaling.call().await;
    assert!(call.request.disable_trickle);
    call.init("u");
    scene.puppet.seen().await;
    scene.puppet.open();
    soon(&mut scene.call).await.unwrap().expect("open");
    assert!(matches!(scene.signaling.update().await.update, Update::Done(true)));
}

#[tokio::test(start_paused = true)]
async fn eof_before_init_fails_at_once() {
    let mut scene = Scene::new();
    scene.puppet.candidate("1");
    drop(scene.signaling.call().await);
    let error = scene.fails().await;
    assert_eq!(error.stage, CallStage::Answer);
    assert!(matches!(error.kind, CallErrorKind::Protocol(CallViolation::EndedBeforeAnswer)));
    assert!(scene.started.elapsed() < Duration::from_millis(1));
    scene.puppet.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_times_out_tells_the_answerer() {
    let mut scene = Scene::new();
    let call = scene.signaling.call().await;
    call.init("u");
    let error = scene.fails().await;
    assert!(matches!(
        error.kind,
        CallErrorKind::Timeout { stage: CallStage::Connectivity, elapsed } if elapsed == DEADLINE
    ));
    scene.puppet.closed().await;
    assert_eq!(scene.error_update().await, Code::DeadlineExceeded as i32);
    soon(call.respond.closed()).await;
    scene.hears_nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_word_is_tried_again_and_has_its_own_time() {
    let mut scene = Scene::new();
    scene.signaling.script.lock().unwrap().updates =
        vec![Status::unavailable("busy"), Status::unavailable("busy")];
    let call = scene.signaling.call().await;
    call.init("u");
    scene.fails().await;
    for attempt in 1..=3 {
        assert_eq!(scene.error_update().await, Code::DeadlineExceeded as i32);
        // A stream that breaks first tells the answerer "cancelled" in our place.
        assert!(attempt == 3 || !call.respond.is_closed());
    }
    soon(call.respond.closed()).await;
    scene.hears_nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_closes_the_peer_and_tells_the_answerer() {
    let mut scene = Scene::new();
    let call = scene.signaling.call().await;
    call.init("u");
    scene.puppet.seen().await;
    scene.call.abort();
    scene.puppet.closed().await;
    assert_eq!(scene.error_update().await, Code::Cancelled as i32);
    soon(call.respond.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_before_the_answer_breaks_its_stream() {
    let mut scene = Scene::new();
    let call = scene.signaling.call().await;
    scene.call.abort();
    scene.puppet.closed().await;
    soon(call.respond.closed()).await;
    scene.hears_nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn candidates_that_signaling_refuses_are_not_fatal() {
    let mut scene = Scene::new();
    scene.signaling.script.lock().unwrap().updates = vec![
        // The last one is used first: tried again, tried again, given up.
        Status::unknown("no active offer for \"u\""),
        Status::unavailable("busy"),
        Status::unavailable("busy"),
        Status::unavailable("busy"),
    ];
    scene.puppet.candidate("1");
    let call = scene.signaling.call().await;
    call.init("u");
    for _ in 0..3 {
        scene.signaling.update().await;
    }
    scene.puppet.candidate("2");
    scene.signaling.update().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(scene.signaling.updates.try_recv().is_err(), "an expired offer is not tried again");
    scene.puppet.open();
    soon(&mut scene.call).await.unwrap().expect("open");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_apart_and_the_answerer_is_not_told_what_it_said() {
    for (status, told) in [
        (Status::unimplemented(""), "NoSignaler"),
        (Status::invalid_argument("host not preconfigured"), "NoSignaler"),
        (Status::not_found("host appears to be offline"), "Offline"),
        (Status::unauthenticated("no"), "Denied"),
        (Status::permission_denied("no"), "Denied"),
        (Status::resource_exhausted("too many connection attempts"), "Status"),
        (Status::unknown("error from answerer: full"), "Answerer"),
    ] {
        let mut scene = Scene::new();
        let call = scene.signaling.call().await;
        call.respond.send(Err(status)).unwrap();
        let error = scene.fails().await;
        assert!(format!("{:?}", error.kind).starts_with(told), "{told}: {error:?}");
        assert_eq!(error.stage, CallStage::Answer);
        assert!(scene.started.elapsed() < Duration::from_secs(1));
        scene.puppet.closed().await;
        scene.hears_nothing_more().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answerer_that_aborts_is_not_told_so() {
    let mut scene = Scene::new();
    let call = scene.signaling.call().await;
    call.init("u");
    scene.puppet.seen().await;
    call.respond.send(Err(Status::unknown("error from answerer: no path"))).unwrap();
    assert!(matches!(scene.fails().await.kind, CallErrorKind::Answerer(_)));
    scene.puppet.closed().await;
    scene.hears_nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_path_ends_the_call_before_its_deadline() {
    let mut scene = Scene::new();
    let call = scene.signaling.call().await;
    call.init("u");
    // The end of Call is the answerer's done, not the call's end.
    drop(call);
    scene.puppet.seen().await;
    scene.puppet.phase(Phase::Failed("no pair worked".into()));
    let error = scene.fails().await;
    assert!(matches!(error.kind, CallErrorKind::Peer(_)));
    assert!(scene.started.elapsed() < Duration::from_secs(1));
    assert_eq!(scene.error_update().await, Code::Unavailable as i32);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_metadata_cannot_carry_is_an_error_and_not_a_panic() {
    let mut scene = Scene::with(|config| config.host = "a\nb".into());
    assert!(matches!(scene.fails().await.kind, CallErrorKind::Host(_)));
    scene.puppet.closed().await;
}

#[tokio::test(start_paused = true)]
async fn ice_servers_come_from_signaling_or_an_error_that_says_what_to_do() {
    let signaling = Signaling::new();
    let ask = || ice_config(signaling.client(), "robot", Instant::now() + DEADLINE);
    assert!(ask().await.unwrap().servers.is_empty());
    let server = |url: &str| IceServer { urls: vec![url.into()], ..Default::default() };
    let additional_ice_servers = vec![server("turn:t"), server("nonsense")];
    let config = WebRtcConfig { additional_ice_servers, ..Default::default() };
    signaling.script.lock().unwrap().config = Some(Ok(config));
    assert_eq!(ask().await.unwrap().servers.len(), 1);
    signaling.script.lock().unwrap().config = Some(Err(Status::invalid_argument("host not preconfigured")));
    let error = ask().await.unwrap_err();
    assert_eq!(error.stage, CallStage::IceConfig);
    assert!(matches!(error.kind, CallErrorKind::NoSignaler(_)));
    signaling.script.lock().unwrap().config_hangs = true;
    assert!(matches!(ask().await.unwrap_err().kind, CallErrorKind::Timeout { .. }));
}
