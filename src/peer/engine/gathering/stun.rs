//! STUN messages, RFC 8489, as far as gathering and TURN need them: written, signed, read.
//!
//! HMAC-SHA1 and the key come from `stun-types`; the rest is here, because what anybody can send must neither
//! panic nor log.
//!
//! # Invariant
//! Reading is total: any bytes are a message or are not, and an attribute that does not fit is not there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use stun_types::attribute::MessageIntegrity;
use stun_types::message::{IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
/// Of a MESSAGE-INTEGRITY attribute, header included.
const INTEGRITY: usize = 24;

/// Names one request and its response.
pub(super) type TransactionId = [u8; 12];

/// A transaction ID that nobody can guess: it is what tells a response from a forgery.
pub(super) fn transaction_id() -> TransactionId {
    let random = u128::from(stun_types::message::TransactionId::generate());
    let mut id = [0; 12];
    id.copy_from_slice(random.to_be_bytes().last_chunk::<12>().unwrap_or(&[0; 12]));
    id
}

/// The methods in use, RFC 8489 and RFC 8656.
pub(super) mod method {
    pub(in super::super) const BINDING: u16 = 0x001;
    pub(in super::super) const ALLOCATE: u16 = 0x003;
    pub(in super::super) const REFRESH: u16 = 0x004;
    pub(in super::super) const SEND: u16 = 0x006;
    pub(in super::super) const DATA: u16 = 0x007;
    pub(in super::super) const CREATE_PERMISSION: u16 = 0x008;
    pub(in super::super) const CHANNEL_BIND: u16 = 0x009;
}

/// The attributes in use, RFC 8489 and RFC 8656.
pub(super) mod attribute {
    pub(in super::super) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(in super::super) const USERNAME: u16 = 0x0006;
    pub(in super::super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(in super::super) const ERROR_CODE: u16 = 0x0009;
    pub(in super::super) const CHANNEL_NUMBER: u16 = 0x000c;
    pub(in super::super) const LIFETIME: u16 = 0x000d;
    pub(in super::super) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(in super::super) const DATA: u16 = 0x0013;
    pub(in super::super) const REALM: u16 = 0x0014;
    pub(in super::super) const NONCE: u16 = 0x0015;
    pub(in super::super) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(in super::super) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(in super::super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(in super::super) const ALTERNATE_SERVER: u16 = 0x8023;
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Request,
    Indication,
    Success,
    Error,
}

impl Class {
    /// Its two bits, where they lie in the type.
    fn bits(self) -> u16 {
        match self {
            Self::Request => 0x000,
            Self::Indication => 0x010,
            Self::Success => 0x100,
            Self::Error => 0x110,
        }
    }
}

/// Signs messages with a long-term credential, RFC 8489 9.2. No `Debug`: it is a secret.
#[derive(Clone)]
pub(super) struct Key(IntegrityKey);

impl Key {
    pub(super) fn new(username: &str, password: &str, realm: &str) -> Self {
        let credentials = LongTermKeyCredentials::new(username.into(), password.into(), realm.into());
        Self(credentials.make_key(IntegrityAlgorithm::Sha1))
    }
}

/// A message that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) class: Class,
    pub(super) method: u16,
    pub(super) id: TransactionId,
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// `None` when these bytes are not a STUN message of RFC 8489. Trailing bytes are left out.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        let [high, low, length_high, length_low, c0, c1, c2, c3, id @ ..] = *header;
        let kind = u16::from_be_bytes([high, low]);
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        if kind & 0xc000 != 0 || [c0, c1, c2, c3] != COOKIE || !length.is_multiple_of(4) {
            return None;
        }
        let class = match kind & 0x110 {
            0x000 => Class::Request,
            0x010 => Class::Indication,
            0x100 => Class::Success,
            _ => Class::Error,
        };
        let method = (kind & 0x000f) | (kind & 0x00e0) >> 1 | (kind & 0x3e00) >> 2;
        Some(Self { class, method, id, bytes: bytes.get(..HEADER.checked_add(length)?)? })
    }

    /// The first attribute of this type that stands before MESSAGE-INTEGRITY: what comes after is not signed.
    pub(super) fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        let (_, range) = self.find(wanted)?;
        self.bytes.get(range)
    }

    /// Where in the message the value of this attribute lies.
    pub(super) fn range(&self, wanted: u16) -> Option<std::ops::Range<usize>> {
        self.find(wanted).map(|(_, range)| range)
    }

    /// Where the attribute begins, and where its value lies.
    fn find(&self, wanted: u16) -> Option<(usize, std::ops::Range<usize>)> {
        let mut at = HEADER;
        loop {
            let [t0, t1, l0, l1] = *self.bytes.get(at..)?.first_chunk::<4>()?;
            let kind = u16::from_be_bytes([t0, t1]);
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let value = at.checked_add(4)?;
            let end = value.checked_add(length)?;
            if kind == wanted {
                return (end <= self.bytes.len()).then_some((at, value..end));
            }
            if kind == attribute::MESSAGE_INTEGRITY {
                return None;
            }
            at = end.checked_next_multiple_of(4)?;
        }
    }

    /// A number of four bytes.
    pub(super) fn number(&self, wanted: u16) -> Option<u32> {
        self.attribute(wanted)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// An address as it stands.
    pub(super) fn address(&self, wanted: u16) -> Option<SocketAddr> {
        self.unmask(wanted, [0; 16])
    }

    /// An address that is hidden from NATs that rewrite what they know, RFC 8489 14.2.
    pub(super) fn xor_address(&self, wanted: u16) -> Option<SocketAddr> {
        self.unmask(wanted, mask(&self.id))
    }

    fn unmask(&self, wanted: u16, mask: [u8; 16]) -> Option<SocketAddr> {
        let (head, address) = self.attribute(wanted)?.split_first_chunk::<4>()?;
        let [_, family, port @ ..] = *head;
        let [m0, m1, ..] = mask;
        let port = u16::from_be_bytes(port) ^ u16::from_be_bytes([m0, m1]);
        let ip: IpAddr = match family {
            1 => Ipv4Addr::from(xored(*address.first_chunk::<4>()?, &mask)).into(),
            2 => Ipv6Addr::from(xored(*address.first_chunk::<16>()?, &mask)).into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// The code and the words of an error response, the words cut to what a log can bear.
    pub(super) fn error(&self) -> Option<(u16, String)> {
        /// Characters.
        const WORDS: usize = 80;
        let (head, words) = self.attribute(attribute::ERROR_CODE)?.split_first_chunk::<4>()?;
        let [_, _, class, number] = *head;
        let code = u16::from(class & 7).checked_mul(100)?.checked_add(u16::from(number))?;
        let words = String::from_utf8_lossy(words);
        Some((code, words.chars().filter(|c| !c.is_control()).take(WORDS).collect()))
    }

    /// Whether it was signed with this key, RFC 8489 14.5.
    pub(super) fn is_signed_with(&self, key: &Key) -> bool {
        let Some((at, value)) = self.find(attribute::MESSAGE_INTEGRITY) else { return false };
        let (Some(hmac), Some(signed)) = (self.bytes.get(value), self.bytes.get(..at)) else { return false };
        let Some((start, rest)) = signed.split_first_chunk::<4>() else { return false };
        let Ok(hmac) = <&[u8; 20]>::try_from(hmac) else { return false };
        let Some(length) = signed_length(at) else { return false };
        let [t0, t1, ..] = *start;
        let [l0, l1] = length.to_be_bytes();
        MessageIntegrity::verify(&[&[t0, t1, l0, l1], rest], &key.0, hmac)
    }
}

/// The length that a message has in its header while it is signed: up to the end of MESSAGE-INTEGRITY, which
/// begins at `at`.
fn signed_length(at: usize) -> Option<u16> {
    u16::try_from(at.checked_add(INTEGRITY)?.checked_sub(HEADER)?).ok()
}

/// What addresses are hidden with: cookie and transaction ID.
fn mask(id: &TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    let (cookie, rest) = mask.split_at_mut(4);
    cookie.copy_from_slice(&COOKIE);
    rest.copy_from_slice(id);
    mask
}

fn xored<const N: usize>(mut bytes: [u8; N], mask: &[u8; 16]) -> [u8; N] {
    bytes.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    bytes
}

/// A message that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    id: TransactionId,
}

impl Writer {
    /// A message without attributes.
    pub(super) fn new(class: Class, method: u16, id: TransactionId) -> Self {
        let kind = class.bits() | (method & 0x00f) | (method & 0x070) << 1 | (method & 0xf80) << 2;
        let mut bytes = Vec::with_capacity(160);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(&id);
        Self { bytes, id }
    }

    /// Appends an attribute. A value that is longer than any attribute can be is cut.
    pub(super) fn add(mut self, kind: u16, value: &[u8]) -> Self {
        let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Appends an address, hidden as RFC 8489 14.2 has it.
    pub(super) fn add_xor_address(self, kind: u16, address: SocketAddr) -> Self {
        let mask = mask(&self.id);
        let [m0, m1, ..] = mask;
        let [p0, p1] = (address.port() ^ u16::from_be_bytes([m0, m1])).to_be_bytes();
        let (family, ip) = match address.ip() {
            IpAddr::V4(ip) => (1, xored(ip.octets(), &mask).to_vec()),
            IpAddr::V6(ip) => (2, xored(ip.octets(), &mask).to_vec()),
        };
        self.add(kind, &[&[0, family, p0, p1], ip.as_slice()].concat())
    }

    /// Signs what is there, RFC 8489 14.5, and ends the message.
    pub(super) fn sign(self, key: &Key) -> Vec<u8> {
        let unsigned = self.bytes.len();
        let mut signed = self.add(attribute::MESSAGE_INTEGRITY, &[0; 20]).finish();
        let hmac = signed.get(..unsigned).and_then(|bytes| MessageIntegrity::compute(&[bytes], &key.0).ok());
        if let (Some(hmac), Some(place)) = (hmac, signed.last_chunk_mut::<20>()) {
            *place = hmac;
        }
        signed
    }

    /// Ends the message.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u16::try_from(self.bytes.len().saturating_sub(HEADER)).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(2..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5769 2.4: a request with long-term authentication. Its password there is after SASLprep.
    const SAMPLE: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383\
                          e382afe382b900000015001c662f2f3439396b3935346436 4f4c33346f4c3946535476793634734100140\
                          00b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn the_request_of_rfc_5769_is_read_and_its_signature_holds() {
        let sample = bytes(SAMPLE);
        let message = Message::read(&sample).unwrap();
        assert_eq!((message.class, message.method), (Class::Request, method::BINDING));
        let username = std::str::from_utf8(message.attribute(attribute::USERNAME).unwrap()).unwrap();
        assert_eq!(message.attribute(attribute::REALM).unwrap(), b"example.org");
        assert!(message.is_signed_with(&Key::new(username, "TheMatrIX", "example.org")));
        assert!(!message.is_signed_with(&Key::new(username, "TheMatrix", "example.org")));
    }

    #[test]
    fn what_is_signed_here_is_the_message_of_rfc_5769() {
        let sample = bytes(SAMPLE);
        let message = Message::read(&sample).unwrap();
        let username = message.attribute(attribute::USERNAME).unwrap();
        let key = Key::new(std::str::from_utf8(username).unwrap(), "TheMatrIX", "example.org");
        let written = Writer::new(Class::Request, method::BINDING, message.id)
            .add(attribute::USERNAME, username)
            .add(attribute::NONCE, message.attribute(attribute::NONCE).unwrap())
            .add(attribute::REALM, b"example.org")
            .sign(&key);
        assert_eq!(written, sample);
    }

    #[test]
    fn addresses_of_both_families_come_back() {
        let id = transaction_id();
        for address in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
            let address: SocketAddr = address.parse().unwrap();
            let written = Writer::new(Class::Success, method::ALLOCATE, id)
                .add_xor_address(attribute::XOR_RELAYED_ADDRESS, address)
                .finish();
            let message = Message::read(&written).unwrap();
            assert_eq!(message.xor_address(attribute::XOR_RELAYED_ADDRESS), Some(address));
            assert_ne!(message.address(attribute::XOR_RELAYED_ADDRESS), Some(address));
        }
    }

    #[test]
    fn every_method_and_class_survives_its_odd_encoding() {
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            for method in [1, 3, 9, 0x0f, 0x7f, 0xfff] {
                let written = Writer::new(class, method, [7; 12]).finish();
                let message = Message::read(&written).unwrap();
                assert_eq!((message.class, message.method, message.id), (class, method, [7; 12]));
            }
        }
    }

    #[test]
    fn what_stands_after_the_signature_is_not_believed() {
        let key = Key::new("u", "p", "r");
        let mut written = Writer::new(Class::Success, method::BINDING, [1; 12]).sign(&key);
        let tail = Writer::new(Class::Success, method::BINDING, [1; 12])
            .add_xor_address(attribute::XOR_MAPPED_ADDRESS, ([1, 2, 3, 4], 5).into())
            .finish();
        written.extend_from_slice(&tail[HEADER..]);
        let length = u16::try_from(written.len() - HEADER).unwrap();
        written[2..4].copy_from_slice(&length.to_be_bytes());
        let message = Message::read(&written).unwrap();
        assert!(message.is_signed_with(&key));
        assert_eq!(message.xor_address(attribute::XOR_MAPPED_ADDRESS), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), cookie: bool) {
            if cookie && bytes.len() >= HEADER {
                let length = u16::try_from((bytes.len() - HEADER) / 4 * 4).unwrap();
                bytes[0] &= 0x3f;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&COOKIE);
                prop_assert!(Message::read(&bytes).is_some());
            }
            if let Some(message) = Message::read(&bytes) {
                for kind in 0..0x30 {
                    let _ = (message.attribute(kind), message.address(kind), message.xor_address(kind));
                    let _ = (message.number(kind), message.error(), message.range(kind));
                }
                let _ = message.is_signed_with(&Key::new("u", "p", "r"));
            }
        }
    }
}
