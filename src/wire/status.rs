//! How a call ended: gRPC trailers on one side, `google.rpc.Status` on the other.
//!
//! Floor 0. OK travels as an absent status, as goutils has it (micro-rdk sends code 0: both are read).
//! Code, message (any UTF-8, line breaks too) and details survive both ways.
//!
//! Contract: goutils `rpc/wrtc_server_stream.go`.

use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;
use tonic::{Code, Status};

use crate::proto::google_rpc::Status as WireStatus;

/// What travels for a status: nothing when it is OK.
pub fn encode(status: &Status) -> Option<WireStatus> {
    if status.code() == Code::Ok {
        return None;
    }
    // tonic keeps details as an encoded google.rpc.Status; only its details are taken, so that code and
    // message cannot disagree.
    let details = WireStatus::decode(status.details()).map(|wire| wire.details).unwrap_or_default();
    Some(WireStatus { code: status.code().into(), message: status.message().to_owned(), details })
}

/// What a peer's status means. Absent is OK; a code that gRPC does not have is UNKNOWN.
pub fn decode(wire: Option<WireStatus>) -> Status {
    let Some(wire) = wire else { return Status::ok("") };
    let code = Code::from_i32(wire.code);
    if wire.details.is_empty() || code == Code::Ok {
        return Status::new(code, wire.message);
    }
    let details = Bytes::from(wire.encode_to_vec());
    Status::with_details(code, wire.message, details)
}

/// The status in these trailers (or in the headers of a trailers-only response), if they have one.
pub fn from_headers(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

/// Writes the status into trailers, as gRPC over HTTP/2 spells it.
pub fn to_headers(status: &Status, headers: &mut HeaderMap) {
    if status.add_header(headers).is_err() {
        // Only metadata inside the status can fail here, and what we write has none.
        headers.insert("grpc-status", http::HeaderValue::from(i32::from(Code::Internal)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> WireStatus {
        let detail = prost_types::Any { type_url: "type.googleapis.com/x.Y".into(), value: vec![1, 2] };
        WireStatus { code: 5, message: "weg:\nnicht da, größer 100%".into(), details: vec![detail] }
    }

    #[test]
    fn code_message_and_details_survive_the_way_through_http_trailers() {
        let mut trailers = HeaderMap::new();
        to_headers(&decode(Some(wire())), &mut trailers);
        let status = from_headers(&trailers).unwrap();
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "weg:\nnicht da, größer 100%");
        assert_eq!(encode(&status), Some(wire()));
    }

    #[test]
    fn ok_is_absent_on_the_wire_and_both_spellings_are_read() {
        assert_eq!(encode(&Status::ok("")), None);
        assert_eq!(decode(None).code(), Code::Ok);
        let explicit = WireStatus { code: 0, message: "fine".into(), details: vec![] };
        assert_eq!(decode(Some(explicit)).code(), Code::Ok);
    }

    #[test]
    fn a_code_that_grpc_does_not_have_is_unknown() {
        let odd = WireStatus { code: 99, message: "?".into(), details: vec![] };
        assert_eq!(decode(Some(odd)).code(), Code::Unknown);
        let negative = WireStatus { code: -1, message: "?".into(), details: vec![] };
        assert_eq!(decode(Some(negative)).code(), Code::Unknown);
    }

    #[test]
    fn details_that_are_not_a_status_are_dropped_and_the_rest_stays() {
        let status = Status::with_details(Code::Aborted, "m", Bytes::from_static(&[0xff, 0xff]));
        let wire = encode(&status).unwrap();
        assert_eq!((wire.code, wire.message.as_str(), wire.details.len()), (10, "m", 0));
    }
}
