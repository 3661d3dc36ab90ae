//! SCTP packets, as bytes.
#![no_main]

use farlink::peer::engine::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| fuzzing::packet(packet));
