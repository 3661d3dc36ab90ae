//! A caller against robots that answer as goutils, micro-rdk and rust-utils do, and as nobody should: a tonic
//! client over a [`WebRtcTransport`] on one side, frames by hand on the other.

mod common;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/raw.rs"]
mod raw;

use common::Probe;
use common::probe::probe_client::ProbeClient;
use common::probe::{ProbeRequest, ProbeResponse};
use farlink::Channel;
use farlink::proto::webrtc::{Response, ResponseMessage, Stream, request, response};
use farlink::transport::webrtc::{Limits, WebRtcTransport};
use prost::Message as _;
use raw::{Raw, memory_pair};
use tonic::{Code, Status};

async fn scene() -> (Raw, Channel) {
    let (caller, answerer) = memory_pair().await;
    let transport = WebRtcTransport::new(caller, Limits::default());
    (Raw { peer: answerer }, Channel::from_transport(transport))
}

fn hello() -> Vec<u8> {
    ProbeResponse { data: "hello".into(), ..Default::default() }.encode_to_vec()
}

type Reply = Result<ProbeResponse, Status>;

/// A unary call under way.
fn calling(channel: &Channel) -> tokio::task::JoinHandle<Reply> {
    let mut client = Probe::client(channel.clone());
    tokio::spawn(async move { client.unary(ProbeRequest::default()).await.map(tonic::Response::into_inner) })
}

async fn ok(call: tokio::task::JoinHandle<Reply>) {
    assert_eq!(call.await.unwrap().unwrap().data, "hello");
}

async fn failed(call: tokio::task::JoinHandle<Reply>, code: Code) -> Status {
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    status
}

/// The connection still works.
async fn lives(raw: &mut Raw, channel: &Channel) {
    let call = calling(channel);
    let (stream, method) = raw.whole_call().await;
    assert_eq!(method, "/farlink.test.v1.Probe/Unary");
    raw.respond_headers(stream).await;
    raw.respond_packet(stream, &hello(), true).await;
    raw.respond_trailers(stream, None).await;
    ok(call).await;
    assert_eq!(channel.stats().await.open_streams, 0);
}

async fn is_reset(raw: &mut Raw, stream: u64) {
    let next = raw.next_request().await;
    assert_eq!(next, (stream, request::Type::RstStream(true)));
}

#[tokio::test(start_paused = true)]
async fn absent_and_explicit_ok_are_both_ok() {
    let (mut raw, channel) = scene().await;
    for status in [None, Some((0, "")), Some((0, "fine"))] {
        let call = calling(&channel);
        let (stream, _) = raw.whole_call().await;
        raw.respond_headers(stream).await;
        raw.respond_packet(stream, &hello(), true).await;
        raw.respond_trailers(stream, status).await;
        ok(call).await;
    }
    lives(&mut raw, &channel).await;
}

#[tokio::test(start_paused = true)]
async fn ids_begin_at_one_and_count() {
    let (mut raw, channel) = scene().await;
    for expected in 1..4 {
        let call = calling(&channel);
        let (stream, _) = raw.whole_call().await;
        assert_eq!(stream, expected);
        raw.respond_trailers(stream, Some((5, ""))).await;
        failed(call, Code::NotFound).await;
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_alone_are_a_whole_response() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_trailers(stream, Some((12, "weg:\nä"))).await;
    assert_eq!(failed(call, Code::Unimplemented).await.message(), "weg:\nä");
    lives(&mut raw, &channel).await;
}

#[tokio::test(start_paused = true)]
async fn ok_without_a_message_is_internal() {
    let (mut raw, channel) = scene().await;
    for headers in [true, false] {
        let call = calling(&channel);
        let (stream, _) = raw.whole_call().await;
        if headers {
            raw.respond_headers(stream).await;
        }
        raw.respond_trailers(stream, None).await;
        failed(call, Code::Internal).await;
    }
    lives(&mut raw, &channel).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_after_a_unary_message_is_the_error() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_headers(stream).await;
    raw.respond_packet(stream, &hello(), true).await;
    raw.respond_trailers(stream, Some((10, "after all"))).await;
    assert_eq!(failed(call, Code::Aborted).await.message(), "after all");
}

#[tokio::test(start_paused = true)]
async fn a_unary_call_waits_for_its_trailers() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_headers(stream).await;
    raw.respond_packet(stream, &hello(), true).await;
    raw.silence().await;
    assert!(!call.is_finished());
    raw.respond_trailers(stream, None).await;
    ok(call).await;
}

#[tokio::test(start_paused = true)]
async fn headers_that_come_twice_fail_the_call_and_reset_it() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_headers(stream).await;
    raw.respond_headers(stream).await;
    failed(call, Code::Internal).await;
    is_reset(&mut raw, stream).await;
    lives(&mut raw, &channel).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_before_headers_fails_the_call_and_resets_it() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_packet(stream, &hello(), true).await;
    let status = failed(call, Code::Internal).await;
    assert!(status.message().contains("headers not yet received"), "{status}");
    is_reset(&mut raw, stream).await;
    lives(&mut raw, &channel).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_without_its_packet_fails_the_call_and_resets_it() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_headers(stream).await;
    raw.respond(stream, response::Type::Message(ResponseMessage { packet_message: None })).await;
    failed(call, Code::Internal).await;
    is_reset(&mut raw, stream).await;
    lives(&mut raw, &channel).await;
}

#[tokio::test(start_paused = true)]
async fn ok_inside_a_message_fails_the_call_and_an_error_there_is_the_error() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_headers(stream).await;
    raw.respond_packet(stream, &hello()[..3], false).await;
    raw.respond_trailers(stream, None).await;
    failed(call, Code::Internal).await;
    is_reset(&mut raw, stream).await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_headers(stream).await;
    raw.respond_packet(stream, &hello()[..3], false).await;
    raw.respond_trailers(stream, Some((13, "broke"))).await;
    assert_eq!(failed(call, Code::Internal).await.message(), "broke");
    lives(&mut raw, &channel).await;
}

#[tokio::test(start_paused = true)]
async fn late_frames_and_strange_frames_are_dropped_and_counted() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_headers(stream).await;
    raw.respond_packet(stream, &hello(), true).await;
    raw.respond_trailers(stream, None).await;
    raw.respond_packet(stream, &hello(), true).await;
    raw.respond_trailers(stream, Some((2, "late"))).await;
    raw.respond_headers(99).await;
    raw.send(&b"\xff\xff"[..]).await;
    raw.send(&b""[..]).await;
    ok(call).await;
    lives(&mut raw, &channel).await;
    assert_eq!(channel.stats().await.frames_dropped, 5);
    // Nothing is said about any of it.
    raw.silence().await;
}

#[tokio::test(start_paused = true)]
async fn what_only_a_newer_robot_says_is_ignored() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    let mut newer = Response { stream: Some(Stream { id: stream }), r#type: None }.encode_to_vec();
    newer.extend_from_slice(&[0x7a, 1, b'k']);
    raw.send(newer).await;
    raw.respond_headers(stream).await;
    raw.respond_packet(stream, &hello(), true).await;
    raw.respond_trailers(stream, None).await;
    ok(call).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_reset_once_and_micro_rdks_ok_to_that_is_not_surfaced() {
    let (mut raw, channel) = scene().await;
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    call.abort();
    is_reset(&mut raw, stream).await;
    raw.respond_headers(stream).await;
    raw.respond_trailers(stream, Some((0, ""))).await;
    assert!(call.await.unwrap_err().is_cancelled());
    raw.silence().await;
    lives(&mut raw, &channel).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_sent_enforced_and_followed_by_a_reset() {
    let (mut raw, channel) = scene().await;
    let mut client: ProbeClient<_> = Probe::client(channel.clone());
    let call = tokio::spawn(async move {
        let mut request = tonic::Request::new(ProbeRequest::default());
        request.set_timeout(std::time::Duration::from_secs(3));
        client.unary(request).await
    });
    let began = tokio::time::Instant::now();
    let (stream, kind) = raw.next_request().await;
    let request::Type::Headers(headers) = kind else { panic!("{kind:?}") };
    let timeout = headers.timeout.unwrap();
    assert_eq!((timeout.seconds, timeout.nanos), (3, 0));
    assert!(headers.metadata.unwrap().md.is_empty());
    let _message = raw.next_request().await;
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(began.elapsed().as_secs(), 3);
    is_reset(&mut raw, stream).await;
    // The robot's own opinion comes late.
    raw.respond_trailers(stream, Some((1, "context canceled"))).await;
    lives(&mut raw, &channel).await;
}

#[tokio::test(start_paused = true)]
async fn messages_cut_in_any_way_are_put_together() {
    let (mut raw, channel) = scene().await;
    let hello = hello();
    let call = calling(&channel);
    let (stream, _) = raw.whole_call().await;
    raw.respond_headers(stream).await;
    for byte in &hello {
        raw.respond_packet(stream, &[*byte], false).await;
    }
    raw.respond_packet(stream, &[], true).await;
    raw.respond_trailers(stream, None).await;
    ok(call).await;
}
