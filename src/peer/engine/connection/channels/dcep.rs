//! The messages that open a data channel in band (RFC 8832 5), and the payload protocol identifiers of all
//! messages (RFC 8831 8).

use bytes::{BufMut as _, Bytes, BytesMut};

/// Opens and acknowledges channels.
pub(super) const DCEP: u32 = 50;
pub(super) const TEXT: u32 = 51;
pub(super) const BINARY: u32 = 53;
/// SCTP has no empty messages: one byte stands for none.
pub(super) const TEXT_EMPTY: u32 = 56;
pub(super) const BINARY_EMPTY: u32 = 57;

const ACK: u8 = 2;
const OPEN: u8 = 3;

/// The longest label and the longest protocol that are taken, in bytes. The wire's limit is 65,535.
pub(super) const MAX_NAME: usize = 1024;

/// A message of DCEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Ack,
    Open(Open),
}

/// What a channel is to be like. Reliability and priority are told to us, not to our sender: it is always
/// reliable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Open {
    /// Names it.
    pub(crate) label: String,
    /// The subprotocol; mostly empty.
    pub(crate) protocol: String,
    /// Whether the peer wants its messages as they come.
    pub(crate) unordered: bool,
    /// 0 to 65,535; RFC 8831 6.4 names 128, 256 (normal), 512 and 1024.
    pub(crate) priority: u16,
}

impl Message {
    /// Reads one. `None` for what is not one: it is ignored (RFC 8832 6).
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [ACK, ..] => Some(Self::Ack),
            [OPEN, kind, p0, p1, _, _, _, _, l0, l1, n0, n1, ref names @ ..] => {
                let length = usize::from(u16::from_be_bytes([l0, l1]));
                let (label, rest) = names.split_at_checked(length)?;
                let protocol = rest.get(..usize::from(u16::from_be_bytes([n0, n1])))?;
                if label.len() > MAX_NAME || protocol.len() > MAX_NAME {
                    return None;
                }
                Some(Self::Open(Open {
                    label: String::from_utf8_lossy(label).into_owned(),
                    protocol: String::from_utf8_lossy(protocol).into_owned(),
                    unordered: kind & 0x80 != 0,
                    priority: u16::from_be_bytes([p0, p1]),
                }))
            }
            _ => None,
        }
    }

    /// As it travels; `None` when a name is too long.
    pub(super) fn encode(&self) -> Option<Bytes> {
        let Self::Open(open) = self else { return Some(Bytes::from_static(&[ACK])) };
        let (label, protocol) = (open.label.as_bytes(), open.protocol.as_bytes());
        if label.len() > MAX_NAME || protocol.len() > MAX_NAME {
            return None;
        }
        let mut bytes = BytesMut::with_capacity(12 + label.len() + protocol.len());
        bytes.put_u8(OPEN);
        bytes.put_u8(if open.unordered { 0x80 } else { 0 });
        bytes.put_u16(open.priority);
        bytes.put_u32(0);
        bytes.put_u16(u16::try_from(label.len()).ok()?);
        bytes.put_u16(u16::try_from(protocol.len()).ok()?);
        bytes.put_slice(label);
        bytes.put_slice(protocol);
        Some(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for open in [
            Open { label: "data".into(), protocol: String::new(), unordered: false, priority: 256 },
            Open { label: String::new(), protocol: "p\u{e9}".into(), unordered: true, priority: 0 },
        ] {
            let bytes = Message::Open(open.clone()).encode().unwrap();
            assert_eq!(Message::parse(&bytes), Some(Message::Open(open)));
            for length in 0..bytes.len() {
                assert_eq!(Message::parse(&bytes[..length]), None, "cut to {length}");
            }
        }
        assert_eq!(Message::parse(&Message::Ack.encode().unwrap()), Some(Message::Ack));
    }

    #[test]
    fn a_known_open_is_written_as_the_rfc_has_it() {
        let open = Open { label: "ab".into(), protocol: "c".into(), unordered: false, priority: 256 };
        let bytes = Message::Open(open).encode().unwrap();
        assert_eq!(&bytes[..], b"\x03\x00\x01\x00\x00\x00\x00\x00\x00\x02\x00\x01abc");
    }

    #[test]
    fn names_that_are_too_long_are_refused_both_ways() {
        let open = Open { label: "x".repeat(MAX_NAME + 1), ..Open::default() };
        assert_eq!(Message::Open(open).encode(), None);
        let mut bytes = vec![OPEN, 0, 0, 0, 0, 0, 0, 0, 0x04, 0x01, 0, 0];
        bytes.extend([b'x'; MAX_NAME + 1]);
        assert_eq!(Message::parse(&bytes), None);
        assert_eq!(Message::parse(&[7]), None);
    }
}
