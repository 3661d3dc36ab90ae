//! ChannelData, RFC 8656 12.4: what most datagrams travel in, four bytes longer.

use std::ops::Range;

const HEADER: usize = 4;

/// The channel, and where in these bytes the datagram lies. `None` when it is no ChannelData, or is cut off.
pub(super) fn read(bytes: &[u8]) -> Option<(u16, Range<usize>)> {
    let [n0, n1, l0, l1] = *bytes.first_chunk::<HEADER>()?;
    let number = u16::from_be_bytes([n0, n1]);
    let end = HEADER.checked_add(u16::from_be_bytes([l0, l1]).into())?;
    ((0x4000..0x8000).contains(&number) && end <= bytes.len()).then_some((number, HEADER..end))
}

/// Appends `datagram` as ChannelData, with padding where a stream needs it, RFC 8656 12.5. `false`, and nothing
/// appended, when it is too long.
pub(super) fn write(number: u16, datagram: &[u8], stream: bool, out: &mut Vec<u8>) -> bool {
    let Ok(length) = u16::try_from(datagram.len()) else { return false };
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(datagram);
    if stream {
        let padding = datagram.len().next_multiple_of(4) - datagram.len();
        out.extend_from_slice([0; 4].get(..padding).unwrap_or_default());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_pads() {
        for (stream, length) in [(false, 4 + 5), (true, 4 + 8)] {
            let mut out = Vec::new();
            assert!(write(0x4001, b"hello", stream, &mut out));
            assert_eq!(out.len(), length);
            let (number, payload) = read(&out).unwrap();
            assert_eq!((number, &out[payload]), (0x4001, b"hello".as_slice()));
        }
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_not_channel_data() {
        for bytes in
            [&b""[..], b"\x40\x00\x00", b"\x40\x00\x00\x05four", b"\x16\xfe\x00\x00", b"\x80\x00\x00\x00"]
        {
            assert_eq!(read(bytes), None);
        }
        assert!(!write(0x4000, &[0; 70_000], true, &mut Vec::new()));
    }
}
