use super::*;
use crate::proto::webrtc::{
    AnswerRequestDoneStage, AnswerRequestErrorStage, AnswerRequestHeartbeatStage, AnswerRequestUpdateStage,
    IceServer as WireIceServer, WebRtcConfig,
};

const SECOND: Duration = Duration::from_secs(1);

fn request(uuid: &str, stage: answer_request::Stage) -> Input {
    Input::Request(AnswerRequest { uuid: uuid.into(), stage: Some(stage) }, SystemTime::UNIX_EPOCH)
}

fn offer() -> AnswerRequestInitStage {
    AnswerRequestInitStage { sdp: Description::offer("v=0").encode(), ..Default::default() }
}

fn init() -> Input {
    request("u", answer_request::Stage::Init(offer()))
}

fn heartbeat() -> Input {
    request("", answer_request::Stage::Heartbeat(AnswerRequestHeartbeatStage {}))
}

fn candidate(n: usize) -> Candidate {
    Candidate { candidate: format!("candidate:{n}"), ..Candidate::default() }
}

fn update(uuid: &str, n: usize) -> Input {
    let candidate = Some(candidate(n).into());
    request(uuid, answer_request::Stage::Update(AnswerRequestUpdateStage { candidate }))
}

fn caller_error() -> Input {
    let status = google_rpc::Status { code: 1, message: "bored".into(), ..Default::default() };
    request("u", answer_request::Stage::Error(AnswerRequestErrorStage { status: Some(status) }))
}

fn idle() -> (Machine, Instant) {
    let now = Instant::now();
    (Machine::new(false, now), now)
}

/// A stream whose answer is made, with the outputs so far forgotten.
fn made() -> (Machine, Instant) {
    let (mut machine, now) = idle();
    machine.step(init(), now);
    machine.step(Input::PeerOpened(Ok(())), now);
    machine.step(Input::AnswerMade(Ok(Description::answer("v=0"))), now);
    (machine, now)
}

/// A stream whose answer is sent.
fn sent() -> (Machine, Instant) {
    let (mut machine, now) = made();
    machine.step(Input::Candidate(candidate(0)), now);
    machine.step(Input::Described(Description::answer("v=0")), now);
    (machine, now)
}

/// What goes out and what happens, in words.
fn words(out: &[Output]) -> Vec<String> {
    let word = |output: &Output| match output {
        Output::Send(AnswerResponse { uuid, stage }) => match stage.as_ref().unwrap() {
            answer_response::Stage::Init(_) => format!("{uuid} init"),
            answer_response::Stage::Update(update) => {
                format!("{uuid} {}", update.candidate.as_ref().unwrap().candidate)
            }
            answer_response::Stage::Done(_) => format!("{uuid} done"),
            answer_response::Stage::Error(error) => {
                format!("{uuid} error {}", error.status.as_ref().unwrap().code)
            }
        },
        Output::Finish(ending) => format!("{ending:?}"),
        Output::Claimed { uuid } => format!("claimed {uuid}"),
        Output::Open(servers) => format!("open {}", servers.len()),
        Output::Accept(_) => "accept".into(),
        Output::Describe(_) => "describe".into(),
        Output::AddCandidate(candidate) => format!("add {}", candidate.candidate),
        other => format!("{other:?}"),
    };
    out.iter().map(word).collect()
}

#[test]
fn an_offer_is_claimed_opened_accepted_and_answered() {
    let (mut machine, now) = idle();
    assert_eq!(words(&machine.step(init(), now)), ["Heard", "claimed u", "open 0"]);
    assert_eq!(words(&machine.step(Input::PeerOpened(Ok(())), now)), ["accept"]);
    let answer = || Description::answer("v=0");
    assert!(machine.step(Input::AnswerMade(Ok(answer())), now).is_empty());
    assert_eq!(words(&machine.step(Input::Candidate(candidate(0)), now)), ["describe"]);
    assert_eq!(words(&machine.step(Input::Described(answer()), now)), ["u init", "u candidate:0"]);
    assert_eq!(words(&machine.step(Input::Candidate(candidate(1)), now)), ["u candidate:1"]);
    assert!(machine.step(Input::GatheringEnded, now).is_empty());
    assert_eq!(words(&machine.step(Input::ChannelOpen, now)), ["Deliver"]);
    assert_eq!(words(&machine.step(Input::Delivered(Ok(())), now)), ["u done", "Answered"]);
    assert!(machine.step(Input::Tick, now + 99 * SECOND).is_empty());
}

#[test]
fn done_waits_for_the_outcome_so_that_an_abort_can_be_heard() {
    let (mut machine, now) = sent();
    assert!(machine.step(Input::GatheringEnded, now).is_empty());
    assert_eq!(words(&machine.step(caller_error(), now)), ["u error 1", "Failed"]);
    let (mut machine, now) = sent();
    machine.step(Input::ChannelOpen, now);
    assert_eq!(words(&machine.step(Input::Delivered(Ok(())), now)), ["u done", "Answered"]);
}

#[test]
fn the_answer_does_not_wait_longer_than_twenty_milliseconds_for_a_candidate() {
    let (mut machine, now) = made();
    assert_eq!(machine.wake_at(), Some(now + FIRST_CANDIDATE));
    assert_eq!(words(&machine.step(Input::Tick, now + FIRST_CANDIDATE)), ["describe"]);
    assert_eq!(machine.wake_at(), Some(now + USUAL));
}

#[test]
fn without_trickle_the_answer_waits_for_gathering_and_is_the_only_stage() {
    let (mut machine, now) = idle();
    let config = WebRtcConfig { disable_trickle: true, ..Default::default() };
    let offer = AnswerRequestInitStage { optional_config: Some(config), ..offer() };
    machine.step(request("u", answer_request::Stage::Init(offer)), now);
    machine.step(Input::PeerOpened(Ok(())), now);
    machine.step(Input::AnswerMade(Ok(Description::answer("v=0"))), now);
    assert!(machine.step(Input::Candidate(candidate(0)), now).is_empty());
    assert_eq!(machine.wake_at(), Some(now + GATHERING), "bounded");
    assert_eq!(words(&machine.step(Input::GatheringEnded, now)), ["describe"]);
    assert_eq!(words(&machine.step(Input::Described(Description::answer("v=0")), now)), ["u init"]);
}

#[test]
fn ice_servers_of_the_offer_are_used_as_far_as_they_are_understood() {
    let (mut machine, now) = idle();
    let server = |url: &str| WireIceServer { urls: vec![url.into()], ..Default::default() };
    let additional_ice_servers = vec![server("turn:t"), server("http://no"), server("stun:s")];
    let config = WebRtcConfig { additional_ice_servers, ..Default::default() };
    let offer = AnswerRequestInitStage { optional_config: Some(config), ..offer() };
    let out = machine.step(request("u", answer_request::Stage::Init(offer)), now);
    assert_eq!(words(&out), ["Heard", "claimed u", "open 2"]);
}

#[test]
fn the_callers_candidates_wait_for_the_peer_and_are_bounded() {
    let (mut machine, now) = idle();
    machine.step(init(), now);
    for n in 0..MAX_CANDIDATES + 9 {
        assert!(machine.step(update("u", n), now).is_empty());
    }
    let out = words(&machine.step(Input::PeerOpened(Ok(())), now));
    assert_eq!(out.len(), 1 + MAX_CANDIDATES);
    assert_eq!(out[..2], ["accept", "add candidate:0"]);
    assert!(machine.step(update("u", 0), now).is_empty());
    let (mut machine, now) = sent();
    assert_eq!(words(&machine.step(update("u", 7), now)), ["add candidate:7"]);
}

#[test]
fn the_callers_error_ends_the_negotiation_at_once() {
    for (mut machine, now) in [made(), sent()] {
        assert_eq!(words(&machine.step(caller_error(), now)), ["u error 1", "Failed"]);
    }
}

#[test]
fn a_caller_that_hangs_up_on_a_working_path_has_a_moment_to_open_the_channel() {
    let (mut machine, now) = sent();
    machine.step(Input::Phase(Phase::Connected), now);
    assert!(machine.step(caller_error(), now).is_empty());
    assert_eq!(machine.wake_at(), Some(now + LAST_STEPS));
    assert_eq!(words(&machine.step(Input::Tick, now + LAST_STEPS)), ["u error 4", "Failed"]);
    let (mut machine, now) = sent();
    machine.step(Input::Phase(Phase::Connected), now);
    machine.step(caller_error(), now);
    machine.step(Input::ChannelOpen, now);
    assert_eq!(words(&machine.step(Input::Delivered(Ok(())), now)), ["u done", "Answered"]);
}

#[test]
fn a_second_init_and_done_and_heartbeats_change_nothing() {
    let (mut machine, now) = sent();
    assert!(machine.step(init(), now).is_empty());
    let other = request("other", answer_request::Stage::Init(offer()));
    assert!(machine.step(other, now).is_empty());
    let done = request("u", answer_request::Stage::Done(AnswerRequestDoneStage {}));
    assert!(machine.step(done, now).is_empty());
    assert_eq!(words(&machine.step(heartbeat(), now)), ["Heartbeats"]);
    assert!(machine.step(heartbeat(), now).is_empty());
    assert!(machine.step(Input::Request(AnswerRequest::default(), SystemTime::now()), now).is_empty());
}

#[test]
fn a_wrong_uuid_is_an_error_to_the_caller() {
    let (mut machine, now) = sent();
    assert_eq!(words(&machine.step(update("other", 0), now)), ["u error 3", "Failed"]);
}

#[test]
fn a_stage_before_init_is_a_violation() {
    let (mut machine, now) = idle();
    machine.step(heartbeat(), now);
    assert_eq!(words(&machine.step(update("u", 0), now)), [" error 3", "Violation"]);
}

#[test]
fn an_offer_that_cannot_be_read_is_refused_under_its_name() {
    for sdp in ["%".to_owned(), Description::answer("v=0").encode()] {
        let (mut machine, now) = idle();
        let bad = AnswerRequestInitStage { sdp, ..Default::default() };
        let out = machine.step(request("u", answer_request::Stage::Init(bad)), now);
        assert_eq!(words(&out), ["Heard", "claimed u", "u error 3", "Failed"]);
    }
}

#[test]
fn failures_of_the_peer_are_told() {
    let fails = |input: Input, code: &str| {
        let (mut machine, now) = sent();
        assert_eq!(words(&machine.step(input, now)), [format!("u error {code}"), "Failed".to_owned()]);
    };
    fails(Input::Phase(Phase::Failed("no pair".into())), "14");
    fails(Input::Phase(Phase::ClosedByPeer), "1");
    fails(Input::ChannelClosed, "14");
    fails(Input::Delivered(Err("full")), "8");
    let (mut machine, now) = idle();
    machine.step(init(), now);
    let refused = machine.step(Input::PeerOpened(Err(PeerError::new("no socket"))), now);
    assert_eq!(words(&refused), ["u error 13", "Failed"]);
}

#[test]
fn the_deadline_closes_the_peer_and_tells_the_caller() {
    let (mut machine, now) = sent();
    assert!(machine.step(Input::Tick, now + 9 * SECOND).is_empty());
    assert_eq!(words(&machine.step(Input::Tick, now + 10 * SECOND)), ["u error 4", "Failed"]);
}

#[test]
fn the_end_of_the_stream_matters_only_until_the_answer_is_sent() {
    let (mut machine, now) = made();
    assert_eq!(words(&machine.step(Input::StreamEnded, now)), ["Failed"]);
    let (mut machine, now) = sent();
    assert!(machine.step(Input::StreamEnded, now).is_empty());
    let (mut machine, now) = sent();
    assert!(machine.step(Input::StreamFailed(Status::cancelled("")), now).is_empty());
    assert_eq!(words(&machine.step(Input::ChannelOpen, now)), ["Deliver"]);
}

#[test]
fn an_idle_stream_ends_without_a_word() {
    let (mut machine, now) = idle();
    assert_eq!(words(&machine.step(Input::StreamEnded, now)), ["Benign"]);
    let (mut machine, now) = idle();
    assert_eq!(words(&machine.step(Input::StreamFailed(Status::cancelled("")), now)), ["Benign"]);
    let (mut machine, now) = idle();
    assert_eq!(words(&machine.step(Input::Stop, now)), ["Stopped"]);
    let (mut machine, now) = sent();
    assert_eq!(words(&machine.step(Input::Stop, now)), ["u error 14", "Stopped"]);
}

#[test]
fn silence_counts_only_where_heartbeats_were_due() {
    let (mut quiet, now) = idle();
    assert_eq!(quiet.wake_at(), None);
    assert!(quiet.step(Input::Tick, now + 999 * SECOND).is_empty());
    let mut known = Machine::new(true, now);
    assert_eq!(known.wake_at(), Some(now + SILENCE));
    let (mut seen, _) = idle();
    seen.step(heartbeat(), now + 20 * SECOND);
    assert_eq!(seen.wake_at(), Some(now + 65 * SECOND));
    assert!(seen.step(Input::Tick, now + 64 * SECOND).is_empty());
    for machine in [&mut known, &mut seen] {
        assert_eq!(words(&machine.step(Input::Tick, now + 65 * SECOND)), ["Silent"]);
    }
}

#[test]
fn the_budget_is_the_offers_within_bounds() {
    let wall = SystemTime::UNIX_EPOCH + 1_000 * SECOND;
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    assert_eq!(budget(None, wall), 10 * SECOND);
    for (deadline, seconds) in [(1_008, 8), (1_001, 5), (900, 5), (-9, 5), (1_012, 12), (9_999, 12)] {
        assert_eq!(budget(at(deadline), wall), seconds * SECOND, "{deadline}");
    }
    assert!(budget(at(i64::MIN), wall) >= LEAST);
    assert!(budget(at(i64::MAX), wall) <= MOST);
}
