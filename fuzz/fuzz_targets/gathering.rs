//! A gatherer among STUN and TURN servers that answer as they like.
#![no_main]

use farlink::peer::engine::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| fuzzing::gathering(script));
