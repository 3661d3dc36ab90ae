use proptest::prelude::*;
use tonic::Code;

use super::*;
use crate::proto::google_rpc::Status as WireStatus;
use crate::proto::webrtc::{PacketMessage, RequestHeaders, ResponseHeaders, ResponseTrailers};

fn packet(data: &'static [u8], eom: bool) -> Option<PacketMessage> {
    Some(PacketMessage { data: Bytes::from_static(data), eom })
}

fn message(has_message: bool, packet_message: Option<PacketMessage>, eos: bool) -> RequestKind {
    Some(request::Type::Message(RequestMessage { has_message, packet_message, eos }))
}

/// Feeds the frames; returns the messages' payloads and whether the stream half-closed.
fn run(frames: Vec<RequestKind>) -> Result<(Vec<Bytes>, bool), Violation> {
    let mut stream = RequestStream::new(100);
    let mut messages = Vec::new();
    let mut half_closed = false;
    for frame in frames {
        let event = stream.step(frame)?;
        messages.extend(event.message.map(|message| message.slice(5..)));
        half_closed |= event.half_close;
    }
    Ok((messages, half_closed))
}

#[test]
fn every_half_close_habit_of_the_field_is_read() {
    let hello = || vec![Bytes::from_static(b"hello")];
    // goutils, unary: on every packet, also inside the message.
    let frames = vec![message(true, packet(b"hel", false), true), message(true, packet(b"lo", true), true)];
    assert_eq!(run(frames), Ok((hello(), true)));
    // goutils, streams: alone, with an empty packet.
    let frames = vec![message(true, packet(b"hello", true), false), message(false, packet(b"", true), true)];
    assert_eq!(run(frames), Ok((hello(), true)));
    // rust-utils: alone, without a packet.
    let frames = vec![message(true, packet(b"hello", true), false), message(false, None, true)];
    assert_eq!(run(frames), Ok((hello(), true)));
    // TypeScript, unary: never.
    assert_eq!(run(vec![message(true, packet(b"hello", true), false)]), Ok((hello(), false)));
    // Flutter: on the last packet.
    let frames = vec![message(true, packet(b"hel", false), false), message(true, packet(b"lo", true), true)];
    assert_eq!(run(frames), Ok((hello(), true)));
}

#[test]
fn an_empty_message_is_a_message_and_a_half_close_is_not() {
    assert_eq!(run(vec![message(true, packet(b"", true), false)]), Ok((vec![Bytes::new()], false)));
    assert_eq!(run(vec![message(true, packet(b"", true), true)]), Ok((vec![Bytes::new()], true)));
    assert_eq!(run(vec![message(false, packet(b"", true), true)]), Ok((vec![], true)));
    assert_eq!(run(vec![message(false, None, false)]), Ok((vec![], false)));
}

#[test]
fn what_comes_after_the_half_close_is_ignored() {
    let frames = vec![
        message(true, packet(b"a", true), true),
        message(true, packet(b"b", true), true),
        message(true, None, false),
    ];
    assert_eq!(run(frames), Ok((vec![Bytes::from_static(b"a")], true)));
}

#[test]
fn a_caller_that_breaks_the_rules_is_told_how() {
    let headers = Some(request::Type::Headers(RequestHeaders::default()));
    assert_eq!(run(vec![headers]), Err(Violation::HeadersTwice));
    assert_eq!(run(vec![message(true, None, false)]), Err(Violation::MessageWithoutPacket));
    let frames = vec![message(true, packet(b"a", false), false), message(false, None, true)];
    assert_eq!(run(frames), Err(Violation::HalfCloseInsideMessage));
    assert_eq!(Violation::HeadersTwice.request_status().code(), Code::InvalidArgument);
    assert_eq!(Violation::HeadersTwice.request_status().message(), "headers already received");
}

#[test]
fn a_message_over_the_limit_is_resource_exhausted_at_both_ends() {
    let big = Bytes::from(vec![0; 101]);
    let frame = message(true, Some(PacketMessage { data: big.clone(), eom: true }), true);
    let violation = run(vec![frame]).unwrap_err();
    assert_eq!(violation.request_status().code(), Code::ResourceExhausted);

    let mut stream = ResponseStream::new(100);
    stream.step(response_headers()).unwrap();
    let frame = ResponseMessage { packet_message: Some(PacketMessage { data: big, eom: true }) };
    let violation = stream.step(Some(response::Type::Message(frame))).unwrap_err();
    assert_eq!(violation.response_status().code(), Code::ResourceExhausted);
}

#[test]
fn a_reset_counts_whatever_its_value_and_the_unknown_is_ignored() {
    for value in [true, false] {
        let mut stream = RequestStream::new(100);
        assert!(stream.step(Some(request::Type::RstStream(value))).unwrap().reset);
    }
    assert_eq!(RequestStream::new(100).step(None), Ok(RequestEvent::default()));
    assert!(ResponseStream::new(100).step(None).unwrap().is_none());
}

fn response_headers() -> ResponseKind {
    Some(response::Type::Headers(ResponseHeaders { metadata: None }))
}

fn response_message(data: &'static [u8], eom: bool) -> ResponseKind {
    Some(response::Type::Message(ResponseMessage { packet_message: packet(data, eom) }))
}

fn trailers(status: Option<WireStatus>) -> ResponseKind {
    Some(response::Type::Trailers(ResponseTrailers { status, metadata: None }))
}

#[test]
fn a_response_is_headers_messages_trailers() {
    let mut stream = ResponseStream::new(100);
    assert!(matches!(stream.step(response_headers()), Ok(Some(ResponseEvent::Headers(_)))));
    assert!(matches!(stream.step(response_message(b"a", false)), Ok(None)));
    assert_eq!(stream.buffered(), 1);
    let Ok(Some(ResponseEvent::Message(message))) = stream.step(response_message(b"b", true)) else {
        panic!()
    };
    assert_eq!(&message[..], b"\0\0\0\0\x02ab");
    let Ok(Some(ResponseEvent::Trailers { status, only, .. })) = stream.step(trailers(None)) else {
        panic!()
    };
    assert_eq!((status.code(), only), (Code::Ok, false));
    assert!(matches!(stream.step(response_message(b"late", true)), Ok(None)));
    assert!(matches!(stream.step(response_headers()), Ok(None)));
}

#[test]
fn trailers_alone_are_a_response() {
    let wire = WireStatus { code: 5, message: "no".into(), details: vec![] };
    let event = ResponseStream::new(100).step(trailers(Some(wire)));
    let Ok(Some(ResponseEvent::Trailers { status, only, .. })) = event else { panic!() };
    assert_eq!((status.code(), only), (Code::NotFound, true));
}

#[test]
fn a_robot_that_breaks_the_rules_fails_the_call() {
    let first = ResponseStream::new(100).step(response_message(b"", true));
    assert_eq!(first.unwrap_err(), Violation::MessageBeforeHeaders);

    let mut stream = ResponseStream::new(100);
    stream.step(response_headers()).unwrap();
    assert_eq!(stream.step(response_headers()).unwrap_err(), Violation::HeadersTwice);

    let mut stream = ResponseStream::new(100);
    stream.step(response_headers()).unwrap();
    stream.step(response_message(b"half", false)).unwrap();
    assert_eq!(stream.step(trailers(None)).unwrap_err(), Violation::EndInsideMessage);
    assert_eq!(Violation::EndInsideMessage.response_status().code(), Code::Internal);
}

fn any_packet() -> impl Strategy<Value = Option<PacketMessage>> {
    let data = prop::collection::vec(any::<u8>(), 0..60);
    prop::option::of((data, any::<bool>()).prop_map(|(data, eom)| PacketMessage { data: data.into(), eom }))
}

proptest! {
    #[test]
    fn no_sequence_of_frames_holds_more_than_the_limit(
        frames in prop::collection::vec((any::<bool>(), any_packet(), any::<bool>()), 0..50),
    ) {
        let mut caller = RequestStream::new(100);
        let mut robot = ResponseStream::new(100);
        let _ = robot.step(response_headers());
        for (has_message, packet, eos) in frames {
            let _ = caller.step(message(has_message, packet.clone(), eos));
            let _ = robot.step(Some(response::Type::Message(ResponseMessage { packet_message: packet })));
            prop_assert!(caller.buffered() <= 100 && robot.buffered() <= 100);
        }
    }
}
