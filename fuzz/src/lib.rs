//! What the targets share.

use bytes::Bytes;

/// The longest message of a stream under test, in bytes: short, so that it is reached.
pub const LIMIT: usize = 256;

/// Cuts the input into frames: two bytes of length (little endian), then as many bytes.
pub fn frames(mut data: &[u8]) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        data = rest;
        Some(Bytes::copy_from_slice(frame))
    })
}

/// A message for an HTTP body: within the limit, and with the prefix that says its length.
pub fn check_message(message: &Bytes) {
    let (prefix, rest) = message.split_first_chunk::<5>().expect("a prefix");
    let [flags, length @ ..] = *prefix;
    assert_eq!(flags, 0);
    assert_eq!(u32::from_be_bytes(length) as usize, rest.len());
    assert!(rest.len() <= LIMIT);
}
