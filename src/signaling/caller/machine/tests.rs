use super::*;
use crate::proto::webrtc::{CallResponseInitStage, CallResponseUpdateStage};

const SECOND: Duration = Duration::from_secs(1);

fn machine(trickle: bool) -> (Machine, Instant) {
    let now = Instant::now();
    let mut config = CallConfig::new("robot", now + 10 * SECOND);
    config.trickle = trickle;
    (Machine::new(&config, now), now)
}

fn candidate(n: usize) -> Candidate {
    Candidate { candidate: format!("candidate:{n}"), ..Candidate::default() }
}

fn init(uuid: &str) -> Input {
    let sdp = Description::answer("v=0").encode();
    let stage = Some(call_response::Stage::Init(CallResponseInitStage { sdp }));
    Input::Response(CallResponse { uuid: uuid.into(), stage })
}

fn update(uuid: &str, n: Option<usize>) -> Input {
    let candidate = n.map(|n| candidate(n).into());
    let stage = Some(call_response::Stage::Update(CallResponseUpdateStage { candidate }));
    Input::Response(CallResponse { uuid: uuid.into(), stage })
}

fn offer_made() -> Input {
    Input::OfferMade(Ok(Description::offer("v=0")))
}

/// A call whose answer has come.
fn answered() -> (Machine, Instant) {
    let (mut machine, now) = machine(true);
    machine.step(offer_made(), now);
    machine.step(Input::Candidate(candidate(0)), now);
    machine.step(init("u"), now);
    machine.step(Input::AnswerTaken(Ok(())), now);
    machine.step(Input::CandidateSent, now);
    (machine, now)
}

fn error(out: Vec<Output>) -> CallError {
    match out.into_iter().last() {
        Some(Output::Finish(Err(error))) => error,
        other => panic!("no error but {other:?}"),
    }
}

fn violation(out: Vec<Output>) -> CallViolation {
    match error(out).kind {
        CallErrorKind::Protocol(violation) => violation,
        other => panic!("no violation but {other:?}"),
    }
}

fn calls(out: &[Output]) -> Vec<bool> {
    let call = |output: &Output| match output {
        Output::Call { disable_trickle, .. } => Some(*disable_trickle),
        _ => None,
    };
    out.iter().filter_map(call).collect()
}

fn progress(out: &[Output]) -> Vec<CallProgress> {
    let progress = |output: &Output| match output {
        Output::Progress(stage) => Some(*stage),
        _ => None,
    };
    out.iter().filter_map(progress).collect()
}

fn sent(out: &[Output]) -> Vec<String> {
    let sent = |output: &Output| match output {
        Output::SendCandidate(candidate) => Some(candidate.candidate.clone()),
        _ => None,
    };
    out.iter().filter_map(sent).collect()
}

#[test]
fn the_offer_goes_out_with_the_first_candidate() {
    let (mut machine, now) = machine(true);
    assert!(calls(&machine.step(offer_made(), now)).is_empty());
    assert_eq!(machine.wake_at(), now + FIRST_CANDIDATE);
    let out = machine.step(Input::Candidate(candidate(0)), now);
    assert_eq!(calls(&out), [false]);
    assert_eq!(progress(&out), [CallProgress::Offered]);
    assert_eq!(machine.wake_at(), now + 10 * SECOND);
    // Once.
    assert!(calls(&machine.step(Input::GatheringEnded, now)).is_empty());
}

#[test]
fn a_candidate_found_before_the_offer_was_ready_counts() {
    let (mut machine, now) = machine(true);
    machine.step(Input::Candidate(candidate(0)), now);
    assert_eq!(calls(&machine.step(offer_made(), now)), [false]);
}

#[test]
fn without_candidates_the_offer_waits_twenty_milliseconds() {
    let (mut machine, now) = machine(true);
    machine.step(offer_made(), now);
    assert!(machine.step(Input::Tick, now + Duration::from_millis(19)).is_empty());
    assert_eq!(calls(&machine.step(Input::Tick, now + Duration::from_millis(20))), [false]);
}

#[test]
fn without_trickle_the_offer_waits_for_gathering_and_says_so() {
    let (mut machine, now) = machine(false);
    machine.step(offer_made(), now);
    assert!(calls(&machine.step(Input::Candidate(candidate(0)), now)).is_empty());
    assert_eq!(calls(&machine.step(Input::GatheringEnded, now)), [true]);
    // None follow.
    assert!(sent(&machine.step(init("u"), now)).is_empty());
    // Those of the answerer are used all the same.
    assert!(matches!(machine.step(update("u", Some(1)), now).as_slice(), [Output::AddCandidate(_)]));
}

#[test]
fn gathering_without_trickle_is_bounded() {
    let (mut machine, now) = machine(false);
    machine.step(offer_made(), now);
    assert!(machine.step(Input::Tick, now + 2 * SECOND).is_empty());
    assert_eq!(calls(&machine.step(Input::Tick, now + 3 * SECOND)), [true]);
}

#[test]
fn every_candidate_is_trickled_after_init_in_order_four_at_a_time() {
    let (mut machine, now) = machine(true);
    machine.step(offer_made(), now);
    for n in 0..6 {
        assert!(sent(&machine.step(Input::Candidate(candidate(n)), now)).is_empty());
    }
    let out = machine.step(init("u"), now);
    assert!(matches!(&out[0], Output::Named(uuid) if uuid == "u"));
    assert_eq!(sent(&out), ["candidate:0", "candidate:1", "candidate:2", "candidate:3"]);
    assert!(sent(&machine.step(Input::Candidate(candidate(6)), now)).is_empty());
    for n in 4..7 {
        assert_eq!(sent(&machine.step(Input::CandidateSent, now)), [format!("candidate:{n}")]);
    }
    assert!(sent(&machine.step(Input::CandidateSent, now)).is_empty());
}

#[test]
fn each_stage_is_told_once_and_in_order() {
    let (mut machine, now) = machine(true);
    let mut told = Vec::new();
    for input in [
        offer_made(),
        Input::Candidate(candidate(0)),
        init("u"),
        Input::Phase(Phase::Connecting),
        // Out of order: the state is quicker than the answer's acknowledgement.
        Input::Phase(Phase::Connected),
        Input::AnswerTaken(Ok(())),
        Input::Phase(Phase::Disconnected),
        Input::Phase(Phase::Connected),
        Input::ChannelOpen,
        Input::ChannelOpen,
    ] {
        told.extend(progress(&machine.step(input, now)));
    }
    assert_eq!(told, CallProgress::ALL);
}

#[test]
fn the_open_channel_ends_the_call_and_nothing_comes_after_it() {
    let (mut machine, now) = answered();
    let out = machine.step(Input::ChannelOpen, now);
    assert!(matches!(out.last(), Some(Output::Finish(Ok(())))));
    assert!(machine.step(Input::Phase(Phase::ClosedByPeer), now).is_empty());
    assert!(machine.step(Input::Tick, now + 99 * SECOND).is_empty());
}

#[test]
fn violations_abort() {
    let offered = || {
        let (mut machine, now) = machine(true);
        machine.step(offer_made(), now);
        machine.step(Input::Candidate(candidate(0)), now);
        (machine, now)
    };
    let (mut machine, now) = offered();
    assert_eq!(violation(machine.step(Input::StreamEnded, now)), CallViolation::EndedBeforeAnswer);
    let (mut machine, now) = offered();
    assert_eq!(violation(machine.step(update("u", Some(0)), now)), CallViolation::UpdateBeforeInit);
    let (mut machine, now) = offered();
    let nothing = Input::Response(CallResponse { uuid: "u".into(), stage: None });
    assert_eq!(violation(machine.step(nothing, now)), CallViolation::NoStage);
    let (mut machine, now) = answered();
    assert_eq!(violation(machine.step(init("u"), now)), CallViolation::SecondInit);
    let with_sdp = |sdp: String| {
        let stage = Some(call_response::Stage::Init(CallResponseInitStage { sdp }));
        Input::Response(CallResponse { uuid: "u".into(), stage })
    };
    let (mut machine, now) = offered();
    let out = machine.step(with_sdp("%".into()), now);
    assert!(matches!(out[0], Output::Named(_)), "so that the answerer can be told");
    assert!(matches!(violation(out), CallViolation::Description(_)));
    let (mut machine, now) = offered();
    let out = machine.step(with_sdp(Description::offer("v=0").encode()), now);
    assert_eq!(violation(out), CallViolation::NotAnAnswer);
}

#[test]
fn a_message_for_another_call_aborts() {
    let (mut machine, now) = answered();
    assert_eq!(violation(machine.step(update("other", Some(0)), now)), CallViolation::WrongUuid);
}

#[test]
fn the_end_of_call_after_the_answer_is_fine() {
    let (mut machine, now) = answered();
    assert!(machine.step(Input::StreamEnded, now).is_empty());
    assert!(matches!(machine.step(Input::ChannelOpen, now).last(), Some(Output::Finish(Ok(())))));
}

#[test]
fn losing_signaling_after_the_answer_is_fine_but_its_word_is_not_ignored() {
    let (mut machine, now) = answered();
    assert!(machine.step(Input::StreamFailed(Status::unavailable("gone")), now).is_empty());
    let (mut machine, now) = answered();
    let said = Input::StreamFailed(Status::unavailable("error from answerer: full"));
    let error = error(machine.step(said, now));
    assert!(matches!(error.kind, CallErrorKind::Answerer(_)));
    assert_eq!(error.stage, CallStage::Connectivity);
}

#[test]
fn a_candidate_that_is_missing_or_too_many_is_ignored() {
    let (mut machine, now) = answered();
    assert!(machine.step(update("u", None), now).is_empty());
    let taken = (0..MAX_CANDIDATES + 50).filter(|n| !machine.step(update("u", Some(*n)), now).is_empty());
    assert_eq!(taken.count(), MAX_CANDIDATES - 1);
}

#[test]
fn a_failed_connection_ends_the_call_before_the_deadline() {
    for phase in [Phase::Failed("no pair".into()), Phase::ClosedByPeer, Phase::Closed] {
        let (mut machine, now) = answered();
        let error = error(machine.step(Input::Phase(phase), now));
        assert!(matches!(error.kind, CallErrorKind::Peer(_)));
        assert_eq!(error.stage, CallStage::Connectivity);
    }
    let (mut machine, now) = answered();
    machine.step(Input::Phase(Phase::Connected), now);
    assert_eq!(error(machine.step(Input::ChannelClosed, now)).stage, CallStage::DataChannel);
}

#[test]
fn a_stack_that_refuses_says_where() {
    let (mut first, now) = machine(true);
    let refused = error(first.step(Input::OfferMade(Err(PeerError::new("no"))), now));
    assert_eq!(refused.stage, CallStage::Offer);
    let (mut second, now) = machine(true);
    second.step(offer_made(), now);
    second.step(Input::Candidate(candidate(0)), now);
    second.step(init("u"), now);
    let refused = error(second.step(Input::AnswerTaken(Err(PeerError::new("no"))), now));
    assert_eq!(refused.stage, CallStage::Answer);
}

#[test]
fn without_any_local_candidate_there_is_nothing_to_wait_for() {
    let (mut machine, now) = machine(true);
    machine.step(offer_made(), now);
    let refused = error(machine.step(Input::GatheringEnded, now));
    let CallErrorKind::Peer(why) = &refused.kind else { panic!("{refused:?}") };
    assert!(why.to_string().contains("TURN server"), "{why}");
}

#[test]
fn the_deadline_names_the_stage_and_the_time() {
    let (mut machine, now) = answered();
    assert!(machine.step(Input::Tick, now + 9 * SECOND).is_empty());
    match error(machine.step(Input::Tick, now + 10 * SECOND)).kind {
        CallErrorKind::Timeout { stage, elapsed } => {
            assert_eq!((stage, elapsed), (CallStage::Connectivity, 10 * SECOND));
        }
        other => panic!("{other:?}"),
    }
}
