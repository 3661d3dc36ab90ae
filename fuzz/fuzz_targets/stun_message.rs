//! STUN messages, and the streams that TURN servers send over TCP, however they are cut.
#![no_main]

use farlink::peer::engine::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::message(bytes));
