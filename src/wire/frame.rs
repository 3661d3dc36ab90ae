//! Frames: one `Request` or one `Response` is one data channel message.
//!
//! Floor 0. The smallest layer: bytes to a stream's id and what it says, and back. What is legal when is
//! [`stream`](super::stream)'s business.
//!
//! # Invariant
//! No frame that is built here is longer than [`MAX_FRAME`]. What cannot be made to fit is an error
//! ([`request_headers`], [`response_headers`]) or loses its least important parts
//! ([`response_trailers`]).
//!
//! Contract: goutils `rpc/wrtc_base_channel.go`, `rpc/wrtc_client_channel.go`, `rpc/wrtc_server_channel.go`.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use super::message::Packet;
use super::{status, timeout};
use crate::proto::webrtc::{
    Metadata, PacketMessage, Request, RequestHeaders, RequestMessage, Response, ResponseHeaders,
    ResponseMessage, ResponseTrailers, Stream, request, response,
};

/// The longest data channel message, in bytes: Go peers read into a buffer of this size.
pub const MAX_FRAME: usize = 65_535;

/// What a caller says on a stream. `None`: something that this version does not know.
pub type RequestKind = Option<request::Type>;

/// What a robot says on a stream. `None`: something that this version does not know.
pub type ResponseKind = Option<response::Type>;

/// Reads a caller's frame. `None` for one that does not decode or names no stream: drop it, the connection
/// lives on.
pub fn decode_request(frame: Bytes) -> Option<(u64, RequestKind)> {
    let request = Request::decode(frame).ok()?;
    Some((request.stream?.id, request.r#type))
}

/// Reads a robot's frame. `None` for one that does not decode or names no stream: drop it, the connection
/// lives on.
pub fn decode_response(frame: Bytes) -> Option<(u64, ResponseKind)> {
    let response = Response::decode(frame).ok()?;
    Some((response.stream?.id, response.r#type))
}

/// Opens a stream.
///
/// # Errors
/// [`HeadersTooLarge`] when the metadata does not fit into a frame.
pub fn request_headers(
    stream: u64,
    method: &str,
    metadata: Metadata,
    left: Option<Duration>,
) -> Result<Bytes, HeadersTooLarge> {
    let headers = RequestHeaders {
        method: method.to_owned(),
        metadata: Some(metadata),
        timeout: left.map(timeout::encode),
    };
    fitting(encode_request(stream, request::Type::Headers(headers)))
}

/// A packet of a message; `eos` half-closes with it and may be set on a message's last packet only.
pub fn request_packet(stream: u64, packet: Packet, eos: bool) -> Bytes {
    let Packet { data, eom } = packet;
    let message = RequestMessage {
        has_message: true,
        packet_message: Some(PacketMessage { data, eom }),
        eos: eos && eom,
    };
    encode_request(stream, request::Type::Message(message))
}

/// Half-closes without a message, spelled as goutils spells it.
pub fn request_half_close(stream: u64) -> Bytes {
    let message = RequestMessage {
        has_message: false,
        packet_message: Some(PacketMessage { data: Bytes::new(), eom: true }),
        eos: true,
    };
    encode_request(stream, request::Type::Message(message))
}

/// Ends a call before its trailers.
pub fn request_reset(stream: u64) -> Bytes {
    encode_request(stream, request::Type::RstStream(true))
}

/// The response's headers; sent once, before anything else on the stream.
///
/// # Errors
/// [`HeadersTooLarge`] when the metadata does not fit into a frame.
pub fn response_headers(stream: u64, metadata: Metadata) -> Result<Bytes, HeadersTooLarge> {
    let headers = ResponseHeaders { metadata: Some(metadata) };
    fitting(encode_response(stream, response::Type::Headers(headers)))
}

/// A packet of a message.
pub fn response_packet(stream: u64, packet: Packet) -> Bytes {
    let Packet { data, eom } = packet;
    let message = ResponseMessage { packet_message: Some(PacketMessage { data, eom }) };
    encode_response(stream, response::Type::Message(message))
}

/// Ends a stream. Too large for a frame, it loses first its details, then its metadata, then the end of its
/// message: a call must always end.
pub fn response_trailers(stream: u64, status: &Status, metadata: Metadata) -> Bytes {
    let mut trailers = ResponseTrailers { status: status::encode(status), metadata: Some(metadata) };
    for _ in 0..3 {
        let frame = encode_response(stream, response::Type::Trailers(trailers.clone()));
        if frame.len() <= MAX_FRAME {
            return frame;
        }
        shorten(&mut trailers);
    }
    encode_response(stream, response::Type::Trailers(trailers))
}

fn shorten(trailers: &mut ResponseTrailers) {
    /// What of a message is kept when nothing else helps.
    const MESSAGE: usize = 8 * 1024;
    if let Some(status) = trailers.status.as_mut().filter(|status| !status.details.is_empty()) {
        status.details.clear();
    } else if trailers.metadata.as_ref().is_some_and(|metadata| !metadata.md.is_empty()) {
        trailers.metadata = None;
    } else if let Some(status) = &mut trailers.status {
        let end = (0..=MESSAGE).rev().find(|end| status.message.is_char_boundary(*end));
        status.message.truncate(end.unwrap_or(0));
    }
}

fn fitting(frame: Bytes) -> Result<Bytes, HeadersTooLarge> {
    if frame.len() > MAX_FRAME { Err(HeadersTooLarge { length: frame.len() }) } else { Ok(frame) }
}

fn encode_request(stream: u64, kind: request::Type) -> Bytes {
    Request { stream: Some(Stream { id: stream }), r#type: Some(kind) }.encode_to_vec().into()
}

fn encode_response(stream: u64, kind: response::Type) -> Bytes {
    Response { stream: Some(Stream { id: stream }), r#type: Some(kind) }.encode_to_vec().into()
}

/// Metadata that does not fit into one frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("headers of {length} bytes do not fit into a frame of {MAX_FRAME}: send less metadata")]
pub struct HeadersTooLarge {
    length: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;
    use crate::proto::webrtc::Strings;
    use crate::wire::message::{MAX_PACKET_DATA, Packets};

    fn metadata(value: String) -> Metadata {
        Metadata { md: [("x".to_owned(), Strings { values: vec![value] })].into() }
    }

    /// Bytes as goutils sends and reads them, worked out from the field numbers of the contract.
    #[test]
    fn frames_are_the_bytes_that_goutils_sends() {
        assert_eq!(request_reset(1).as_ref(), [0x0a, 2, 8, 1, 0x20, 1]);
        assert_eq!(request_half_close(1).as_ref(), [0x0a, 2, 8, 1, 0x1a, 6, 0x12, 2, 0x10, 1, 0x18, 1]);
        let packet = |data: &'static [u8], eom| Packet { data: Bytes::from_static(data), eom };
        assert_eq!(
            request_packet(2, packet(b"hi", true), true).as_ref(),
            [0x0a, 2, 8, 2, 0x1a, 12, 8, 1, 0x12, 6, 0x0a, 2, b'h', b'i', 0x10, 1, 0x18, 1]
        );
        assert_eq!(response_packet(0, packet(b"", true)).as_ref(), [0x0a, 0, 0x1a, 4, 0x0a, 2, 0x10, 1]);
        assert_eq!(
            response_trailers(1, &Status::ok(""), Metadata::default()).as_ref(),
            [0x0a, 2, 8, 1, 0x22, 2, 0x12, 0]
        );
    }

    #[test]
    fn stream_id_0_is_present_and_a_missing_stream_is_dropped() {
        assert_eq!(decode_request(request_reset(0)).unwrap().0, 0);
        assert_eq!(decode_request(Bytes::from_static(&[0x20, 1])), None);
        assert_eq!(decode_response(Bytes::from_static(&[0x1a, 0])), None);
    }

    #[test]
    fn an_unknown_kind_is_kept_apart_from_garbage() {
        // Field 5, a string: what a newer peer may send.
        let newer = Bytes::from_static(&[0x0a, 2, 8, 1, 0x2a, 1, b'k']);
        assert_eq!(decode_request(newer), Some((1, None)));
        assert_eq!(decode_request(Bytes::from_static(&[0xff])), None);
    }

    #[test]
    fn eos_is_never_set_inside_a_message() {
        let open = request_packet(1, Packet { data: Bytes::new(), eom: false }, true);
        let Some((_, Some(request::Type::Message(message)))) = decode_request(open) else { panic!() };
        assert!(!message.eos);
    }

    #[test]
    fn headers_that_do_not_fit_are_an_error() {
        let big = || metadata("x".repeat(MAX_FRAME));
        assert!(request_headers(1, "/a/b", big(), None).is_err());
        assert!(response_headers(1, big()).is_err());
    }

    #[test]
    fn trailers_always_fit_and_keep_their_code() {
        let status = Status::new(Code::Aborted, "ä".repeat(MAX_FRAME));
        let frame = response_trailers(u64::MAX, &status, metadata("x".repeat(MAX_FRAME)));
        assert!(frame.len() <= MAX_FRAME);
        let Some((u64::MAX, Some(response::Type::Trailers(trailers)))) = decode_response(frame) else {
            panic!()
        };
        let status = trailers.status.unwrap();
        assert_eq!(status.code, 10);
        assert!(status.message.len() > 8000);
    }

    proptest! {
        #[test]
        fn no_packet_makes_a_frame_over_16_kib(stream in any::<u64>(), length in 0..3 * MAX_PACKET_DATA) {
            for packet in Packets::new(Bytes::from(vec![0; length])) {
                prop_assert!(request_packet(stream, packet.clone(), true).len() <= 16 * 1024);
                prop_assert!(response_packet(stream, packet).len() <= 16 * 1024);
            }
        }

        #[test]
        fn nothing_a_peer_sends_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_request(bytes.clone().into());
            let _ = decode_response(bytes.into());
        }
    }
}
