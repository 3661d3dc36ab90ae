//! A caller's frames, one stream after the other, as a robot reads them.
//!
//! The input is frames with two bytes of length before each.
#![no_main]

use std::collections::HashMap;

use farlink::proto::webrtc::request;
use farlink::wire::stream::RequestStream;
use farlink::wire::{frame, metadata, timeout};
use farlink_fuzz::{LIMIT, check_message, frames};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut streams = HashMap::new();
    for bytes in frames(data) {
        let Some((id, kind)) = frame::decode_request(bytes) else { continue };
        let Some(stream) = streams.get_mut(&id) else {
            if let Some(request::Type::Headers(headers)) = kind {
                metadata::decode(headers.metadata, &mut HeaderMap::new());
                let _ = timeout::decode(headers.timeout.as_ref());
                streams.insert(id, RequestStream::new(LIMIT));
            }
            continue;
        };
        let over = match stream.step(kind) {
            Ok(event) => {
                event.message.iter().for_each(check_message);
                event.reset
            }
            Err(violation) => {
                assert_ne!(violation.request_status().code(), tonic::Code::Ok);
                true
            }
        };
        assert!(stream.buffered() <= LIMIT);
        if over {
            streams.remove(&id);
        }
    }
});
