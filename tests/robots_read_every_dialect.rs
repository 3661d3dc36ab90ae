//! A robot against callers that speak as goutils, TypeScript, rust-utils and Flutter do, and as nobody should:
//! frames by hand on one side, a [`RobotConnection`] on the other.

mod common;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/raw.rs"]
mod raw;

use std::time::Duration;

use bytes::Bytes;
use common::probe::{ProbeRequest, ProbeResponse};
use common::{Probe, until_running};
use farlink::proto::google_rpc::Status as WireStatus;
use farlink::proto::webrtc::{
    Metadata, Request, RequestHeaders, RequestMessage, Stream, Strings, request, response,
};
use farlink::transport::webrtc::{Limits, Methods, RobotConnection, RobotService};
use http::Extensions;
use prost::Message as _;
use raw::{Raw, memory_pair};
use tonic::Code;

const UNARY: &str = "/farlink.test.v1.Probe/Unary";
const COLLECT: &str = "/farlink.test.v1.Probe/Collect";
const BOTH: &str = "/farlink.test.v1.Probe/Both";

async fn robot() -> (Raw, RobotConnection) {
    robot_within(Limits::default()).await
}

async fn robot_within(limits: Limits) -> (Raw, RobotConnection) {
    let (caller, answerer) = memory_pair().await;
    let service = RobotService::new(Probe::routes().prepare());
    let probe = protox::compile(["probe.proto"], ["tests/proto"]).unwrap();
    let methods = Methods::new().with_descriptors(probe.encode_to_vec()).unwrap();
    let robot = RobotConnection::with_methods(answerer, service, Extensions::new(), limits, methods);
    (Raw { peer: caller }, robot)
}

fn hello() -> Vec<u8> {
    ProbeRequest { data: "hello".into(), ..Default::default() }.encode_to_vec()
}

fn slow() -> Vec<u8> {
    ProbeRequest { delay_ms: 3_600_000, ..Default::default() }.encode_to_vec()
}

fn assert_hello(answer: (Vec<Bytes>, Option<WireStatus>)) {
    let (messages, status) = answer;
    assert_eq!(status, None, "OK trailers have no status");
    let [message] = &messages[..] else { panic!("{} messages", messages.len()) };
    assert_eq!(ProbeResponse::decode(message.clone()).unwrap().data, "hello");
}

fn assert_status(answer: (Vec<Bytes>, Option<WireStatus>), code: Code, message: &str) {
    let status = answer.1.unwrap();
    assert_eq!((status.code, status.message.as_str()), (code.into(), message));
}

/// Calls with a token, so that its handler can be watched.
async fn call_with_token(raw: &mut Raw, stream: u64, token: &str) {
    let token = Strings { values: vec![token.to_owned()] };
    let metadata = Some(Metadata { md: [("Token".to_owned(), token)].into() });
    let headers = RequestHeaders { method: UNARY.to_owned(), metadata, timeout: None };
    raw.request(stream, request::Type::Headers(headers)).await;
}

#[tokio::test(start_paused = true)]
async fn any_id_is_answered_under_itself() {
    let (mut raw, _robot) = robot().await;
    for stream in [0, 1, 1 << 32, (1 << 53) + 1, u64::MAX] {
        raw.headers(stream, UNARY).await;
        raw.packet(stream, true, Some((&hello(), true)), true).await;
        assert_hello(raw.answer(stream).await);
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_to_half_close_is_understood() {
    let (mut raw, _robot) = robot().await;
    let hello = hello();
    // TypeScript: a unary call has no eos at all, and is answered.
    raw.headers(1, UNARY).await;
    raw.packet(1, true, Some((&hello, true)), false).await;
    assert_hello(raw.answer(1).await);
    // rust-utils: the eos comes alone, after the message.
    raw.headers(2, UNARY).await;
    raw.packet(2, true, Some((&hello, true)), false).await;
    raw.packet(2, false, None, true).await;
    assert_hello(raw.answer(2).await);
    // goutils: alone, with an empty packet.
    raw.headers(3, UNARY).await;
    raw.packet(3, true, Some((&hello, true)), false).await;
    raw.packet(3, false, Some((&[], true)), true).await;
    assert_hello(raw.answer(3).await);
    // On every chunk of the last message.
    raw.headers(4, UNARY).await;
    raw.packet(4, true, Some((&hello[..3], false)), true).await;
    raw.packet(4, true, Some((&hello[3..], true)), true).await;
    assert_hello(raw.answer(4).await);
    // Flutter: the message's end is an empty packet of its own.
    raw.headers(5, UNARY).await;
    raw.packet(5, true, Some((&hello, false)), false).await;
    raw.packet(5, true, Some((&[], true)), true).await;
    assert_hello(raw.answer(5).await);
    // A stream that is half-closed without a message.
    raw.headers(6, COLLECT).await;
    raw.packet(6, false, None, true).await;
    let (messages, status) = raw.answer(6).await;
    assert_eq!((messages, status), (vec![Bytes::new()], None));
    raw.silence().await;
}

#[tokio::test(start_paused = true)]
async fn messages_after_a_half_close_are_ignored() {
    let (mut raw, _robot) = robot().await;
    raw.headers(1, COLLECT).await;
    raw.packet(1, true, Some((&hello(), true)), true).await;
    raw.packet(1, true, Some((&hello(), true)), true).await;
    let (messages, status) = raw.answer(1).await;
    assert_eq!(status, None);
    assert_eq!(ProbeResponse::decode(messages[0].clone()).unwrap().count, 1);
}

#[tokio::test(start_paused = true)]
async fn frames_that_mean_nothing_are_dropped_and_counted() {
    let (mut raw, robot) = robot().await;
    raw.send(&b"\xff\xff\xff"[..]).await;
    raw.send(&b""[..]).await;
    // No stream.
    let headers = request::Type::Headers(RequestHeaders { method: UNARY.into(), ..Default::default() });
    raw.send(Request { stream: None, r#type: Some(headers) }.encode_to_vec()).await;
    // Streams that were never opened.
    raw.packet(9, true, Some((&hello(), true)), true).await;
    raw.reset(9).await;
    raw.silence().await;
    assert_eq!(robot.stats().await.frames_dropped, 5);
    raw.headers(9, UNARY).await;
    raw.packet(9, true, Some((&hello(), true)), true).await;
    assert_hello(raw.answer(9).await);
}

#[tokio::test(start_paused = true)]
async fn what_only_a_newer_peer_says_is_ignored() {
    let (mut raw, _robot) = robot().await;
    raw.headers(1, UNARY).await;
    let mut newer = Request { stream: Some(Stream { id: 1 }), r#type: None }.encode_to_vec();
    newer.extend_from_slice(&[0x7a, 1, b'k']);
    raw.send(newer.clone()).await;
    raw.packet(1, true, Some((&hello(), true)), true).await;
    assert_hello(raw.answer(1).await);
    raw.send(newer).await;
    raw.silence().await;
}

#[tokio::test(start_paused = true)]
async fn headers_that_come_twice_end_the_call() {
    let (mut raw, _robot) = robot().await;
    call_with_token(&mut raw, 1, "headers twice").await;
    raw.packet(1, true, Some((&slow(), true)), true).await;
    until_running("headers twice", true).await;
    raw.headers(1, UNARY).await;
    assert_status(raw.answer(1).await, Code::InvalidArgument, "headers already received");
    until_running("headers twice", false).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_cancels_the_handler_and_is_answered() {
    let (mut raw, robot) = robot().await;
    call_with_token(&mut raw, 1, "reset").await;
    raw.packet(1, true, Some((&slow(), true)), true).await;
    until_running("reset", true).await;
    raw.reset(1).await;
    assert_status(raw.answer(1).await, Code::Cancelled, "request cancelled");
    until_running("reset", false).await;
    assert_eq!(robot.stats().await.open_streams, 0);
    // Again, when there is nothing to reset.
    raw.reset(1).await;
    raw.silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_without_its_packet_ends_the_call() {
    let (mut raw, _robot) = robot().await;
    raw.headers(1, COLLECT).await;
    raw.packet(1, true, None, false).await;
    assert_status(raw.answer(1).await, Code::InvalidArgument, "message without a packet");
}

#[tokio::test(start_paused = true)]
async fn a_half_close_inside_a_message_ends_the_call() {
    let (mut raw, _robot) = robot().await;
    raw.headers(1, COLLECT).await;
    raw.packet(1, true, Some((b"half", false)), false).await;
    raw.packet(1, false, None, true).await;
    let status = raw.answer(1).await.1.unwrap();
    assert_eq!(status.code, i32::from(Code::InvalidArgument));
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_not_a_path_is_unimplemented() {
    let (mut raw, _robot) = robot().await;
    let odd = ["", "Unary", "http://x/y", "/a b/\u{7f}", "/x?y=z", "//", "/", "/a/b/c", "/\u{0}", "*"];
    for (stream, method) in (1..).zip(odd) {
        raw.headers(stream, method).await;
        let status = raw.answer(stream).await.1.unwrap();
        assert_eq!(status.code, i32::from(Code::Unimplemented), "{method:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_that_steers_http_or_cannot_be_a_header_is_left_out() {
    let (mut raw, _robot) = robot().await;
    let entries = ["grpc-encoding", "content-type", "te", ":path", "bad key", "grpc-timeout", "host"];
    let strings = || Strings { values: vec!["gzip".into(), "a\nb".into()] };
    let md = entries.map(|key| (key.to_owned(), strings())).into();
    let headers = RequestHeaders { method: UNARY.to_owned(), metadata: Some(Metadata { md }), timeout: None };
    raw.request(1, request::Type::Headers(headers)).await;
    raw.packet(1, true, Some((&hello(), true)), true).await;
    assert_hello(raw.answer(1).await);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_kept_by_the_robot_too() {
    let (mut raw, _robot) = robot().await;
    for (stream, timeout, metadata) in [
        (1, Some(prost_types::Duration { seconds: 5, nanos: 0 }), None),
        // Some callers' header leaks.
        (2, None, Some("5S")),
    ] {
        let md =
            metadata.map(|value| ("grpc-timeout".to_owned(), Strings { values: vec![value.to_owned()] }));
        let metadata = Some(Metadata { md: md.into_iter().collect() });
        let headers = RequestHeaders { method: UNARY.to_owned(), metadata, timeout };
        raw.request(stream, request::Type::Headers(headers)).await;
        raw.packet(stream, true, Some((&slow(), true)), true).await;
        let began = tokio::time::Instant::now();
        let status = raw.answer(stream).await.1.unwrap();
        assert_eq!(status.code, i32::from(Code::DeadlineExceeded));
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_ends_its_call_alone() {
    let mut limits = Limits::default();
    limits.max_message = 100;
    let (mut raw, _robot) = robot_within(limits).await;
    raw.headers(1, COLLECT).await;
    raw.headers(2, COLLECT).await;
    raw.packet(1, true, Some((&[0; 60], false)), false).await;
    raw.packet(1, true, Some((&[0; 60], false)), false).await;
    let status = raw.answer(1).await.1.unwrap();
    assert_eq!(status.code, i32::from(Code::ResourceExhausted));
    raw.packet(1, true, Some((&[0; 60], true)), true).await;
    raw.packet(2, false, None, true).await;
    assert_eq!(raw.answer(2).await.1, None);
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_allowed_are_refused_one_by_one() {
    let mut limits = Limits::default();
    limits.max_streams = 3;
    let (mut raw, _robot) = robot_within(limits).await;
    for stream in 1..=3 {
        raw.headers(stream, COLLECT).await;
    }
    raw.headers(4, COLLECT).await;
    let status = raw.answer(4).await.1.unwrap();
    assert_eq!(status.code, i32::from(Code::ResourceExhausted));
    raw.packet(2, false, None, true).await;
    assert_eq!(raw.answer(2).await.1, None);
    raw.headers(5, COLLECT).await;
    raw.packet(5, false, None, true).await;
    assert_eq!(raw.answer(5).await.1, None);
}

#[tokio::test(start_paused = true)]
async fn headers_go_out_before_messages_and_trailers_whatever_happens() {
    let (mut raw, _robot) = robot().await;
    let bad = ProbeRequest { code: 5, message: "no".into(), ..Default::default() }.encode_to_vec();
    raw.headers(1, BOTH).await;
    raw.packet(1, true, Some((&hello(), true)), false).await;
    raw.packet(1, true, Some((&bad, true)), false).await;
    let (messages, status) = raw.answer(1).await;
    assert_eq!((messages.len(), status.unwrap().code), (1, 5));
    raw.headers(2, UNARY).await;
    raw.packet(2, true, Some((&bad, true)), true).await;
    assert_status(raw.answer(2).await, Code::NotFound, "no");
    // Not a message of this service.
    raw.headers(3, UNARY).await;
    raw.packet(3, true, Some((b"\xff", true)), true).await;
    assert_eq!(raw.answer(3).await.1.unwrap().code, i32::from(Code::Internal));
}

#[tokio::test]
async fn junk_costs_a_bounded_amount_even_if_nobody_reads_the_answers() {
    let (mut raw, robot) = robot().await;
    let mut taken = 0;
    // Calls that are refused, whose refusals the caller does not read.
    for stream in 0..400_000_u64 {
        let headers = request::Type::Headers(RequestHeaders { method: "junk".into(), ..Default::default() });
        let frame = Request { stream: Some(Stream { id: stream }), r#type: Some(headers) }.encode_to_vec();
        let sent = tokio::time::timeout(
            Duration::from_millis(500),
            peers::send_below(&mut raw.peer.channel, 1 << 16, frame),
        );
        if sent.await.is_err() {
            break;
        }
        taken += 1;
    }
    let stats = robot.stats().await;
    assert!(
        stats.streams_opened < 100_000,
        "{} calls were taken of a caller that does not read",
        stats.streams_opened
    );
    assert!(taken < 200_000, "{taken}");
    // And when it reads, all is as it was.
    let mut trailers = 0;
    while trailers < taken {
        let (_, kind) = raw.next_response().await;
        trailers += u64::from(matches!(kind, response::Type::Trailers(_)));
    }
    raw.headers(u64::MAX, UNARY).await;
    raw.packet(u64::MAX, true, Some((&hello(), true)), true).await;
    assert_hello(raw.answer(u64::MAX).await);
    for _ in 0..5000 {
        raw.send(&b"\xff\xff"[..]).await;
        raw.request(7, request::Type::Message(RequestMessage::default())).await;
    }
    raw.headers(1, UNARY).await;
    raw.packet(1, true, Some((&hello(), true)), true).await;
    assert_hello(raw.answer(1).await);
    assert_eq!(robot.stats().await.open_streams, 0);
}

/// What waits to be sent is bounded in all: calls that have ended count with what they left.
#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_are_not_asked_for_without_end() {
    let mut limits = Limits::default();
    limits.connection_budget = 4 << 20;
    let (mut raw, robot) = robot_within(limits).await;
    let megabyte = ProbeRequest { size: 1 << 20, ..Default::default() }.encode_to_vec();
    let mut asked = 0;
    // The robot stops reading before it has answered them all, so the link fills and sending waits.
    for stream in 1..=500 {
        let ask = async {
            raw.headers(stream, UNARY).await;
            raw.packet(stream, true, Some((&megabyte, true)), true).await;
        };
        if tokio::time::timeout(Duration::from_secs(1), ask).await.is_err() {
            break;
        }
        asked = stream;
    }
    let begun = robot.stats().await.streams_opened;
    assert!(begun < 100, "{begun} of {asked} calls were begun, each leaving a megabyte");
    assert!(answer_among(&mut raw, 1).await >= 1 << 20, "reading goes on");
}

/// The length of a stream's only message, read among those of others.
async fn answer_among(raw: &mut Raw, stream: u64) -> usize {
    let mut length = 0;
    loop {
        match raw.next_response().await {
            (id, response::Type::Message(message)) if id == stream => {
                length += message.packet_message.unwrap().data.len();
            }
            (id, response::Type::Trailers(_)) if id == stream => return length,
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_stops_an_answer_whose_handler_is_done() {
    let (mut raw, robot) = robot().await;
    raw.headers(1, UNARY).await;
    let large = ProbeRequest { size: 8 << 20, ..Default::default() }.encode_to_vec();
    raw.packet(1, true, Some((&large, true)), true).await;
    let mut open = robot.stats().await.open_streams;
    while open > 0 || robot.stats().await.streams_opened == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        open = robot.stats().await.open_streams;
    }
    raw.reset(1).await;
    raw.headers(2, UNARY).await;
    raw.packet(2, true, Some((&hello(), true)), true).await;
    // Some of the 8 MiB was on its way already, below the scheduler and in the link; the rest never leaves.
    let mut before = 0;
    loop {
        match raw.next_response().await {
            (1, response::Type::Message(message)) => before += message.packet_message.unwrap().data.len(),
            (2, response::Type::Trailers(_)) => break,
            _ => {}
        }
    }
    assert!(before < 4 << 20, "{before} bytes of an answer that nobody wants");
}

#[tokio::test(start_paused = true)]
async fn thousands_of_metadata_values_are_refused() {
    let (mut raw, _robot) = robot().await;
    let many = Strings { values: vec![String::new(); 5000] };
    let metadata = Some(Metadata { md: [("x-many".to_owned(), many)].into() });
    let headers = RequestHeaders { method: UNARY.to_owned(), metadata, timeout: None };
    raw.request(1, request::Type::Headers(headers)).await;
    let (_, status) = raw.answer(1).await;
    assert_eq!(status.unwrap().code, i32::from(Code::InvalidArgument));
}
