//! A robot's frames, one stream after the other, as a caller reads them.
//!
//! The input is frames with two bytes of length before each.
#![no_main]

use std::collections::HashMap;

use farlink::wire::frame;
use farlink::wire::stream::{ResponseEvent, ResponseStream};
use farlink_fuzz::{LIMIT, check_message, frames};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut streams = HashMap::new();
    for bytes in frames(data) {
        let Some((id, kind)) = frame::decode_response(bytes) else { continue };
        let stream = streams.entry(id).or_insert_with(|| ResponseStream::new(LIMIT));
        let over = match stream.step(kind) {
            Ok(Some(ResponseEvent::Message(message))) => {
                check_message(&message);
                false
            }
            Ok(Some(ResponseEvent::Trailers { .. })) => true,
            Ok(_) => false,
            Err(violation) => {
                assert_ne!(violation.response_status().code(), tonic::Code::Ok);
                true
            }
        };
        assert!(stream.buffered() <= LIMIT);
        if over {
            streams.remove(&id);
        }
    }
});
