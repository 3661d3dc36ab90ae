//! Numbers off the front of a slice, in network byte order.

/// What is read, and what is left. `None` when the slice is too short.
pub(super) fn take_u8(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(first, rest)| (*first, rest))
}

/// As [`take_u8`].
pub(super) fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*head), rest))
}

/// As [`take_u8`].
pub(super) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*head), rest))
}

/// Splits off a value of `length` bytes with the padding behind it. Padding that the packet's end cuts off
/// is forgiven: nothing is in it.
pub(super) fn take_padded(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (value, rest) = bytes.split_at_checked(length)?;
    let padding = length.wrapping_neg() % 4;
    Some((value, rest.get(padding..).unwrap_or(&[])))
}

/// Whole `u16` values of a slice; an odd byte at the end is left out.
pub(super) fn all_u16(bytes: &[u8]) -> impl ExactSizeIterator<Item = u16> + Clone + '_ {
    bytes.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair))
}
