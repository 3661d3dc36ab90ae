//! HTTP bodies into messages, messages into packets, packets into messages.
//!
//! The first byte chooses how the body is cut into chunks, which must not matter.
#![no_main]

use bytes::Bytes;
use farlink::wire::message::{Assembler, Packets, SplitError, Splitter};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Some((size, body)) = data.split_first() else { return };
    let whole = split(body, body.len().max(1));
    assert_eq!(split(body, usize::from(*size).max(1)), whole);
    for message in whole.0 {
        let mut assembler = Assembler::new(LIMIT);
        let packets = Packets::new(message.clone()).collect::<Vec<_>>();
        let (last, rest) = packets.split_last().unwrap();
        for packet in rest {
            assert_eq!(assembler.push(&packet.data, packet.eom), Ok(None));
        }
        let back = assembler.push(&last.data, last.eom).unwrap().unwrap();
        assert_eq!(back.get(5..), Some(&message[..]));
        assert!(!assembler.is_inside_message());
    }
});

fn split(body: &[u8], chunk: usize) -> (Vec<Bytes>, Result<(), SplitError>) {
    let mut splitter = Splitter::new(LIMIT);
    let mut messages = Vec::new();
    for chunk in body.chunks(chunk) {
        splitter.push(Bytes::copy_from_slice(chunk));
        loop {
            match splitter.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
    }
    let end = splitter.finish();
    (messages, end)
}
