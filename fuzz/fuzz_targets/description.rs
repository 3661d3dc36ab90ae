//! Descriptions from signaling and from the `negotiation` channel.
#![no_main]

use farlink::wire::sdp::{Description, MAX_DESCRIPTION};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(description) = Description::decode(text) {
        assert!(!description.sdp.is_empty());
        let again = description.encode();
        if again.len() <= MAX_DESCRIPTION {
            assert_eq!(Description::decode(&again), Ok(description));
        }
    }
});
