//! Two SCTP associations, and between them a peer who knows the tags and sends what it likes.
#![no_main]

use farlink::peer::engine::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| fuzzing::association(script));
