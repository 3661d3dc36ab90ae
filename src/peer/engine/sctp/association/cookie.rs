//! The state cookie: what we must remember between INIT and COOKIE ECHO, kept by the peer (RFC 9260 5.1.3).

use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::peer::engine::sctp::Seed;
use crate::peer::engine::sctp::codec::Abilities;

/// Bytes of a SHA-256 MAC.
const MAC: usize = 32;

/// Bytes in front of the MAC.
const CONTENT: usize = 32;

/// What a cookie says. Only our own cookies are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cookie {
    /// When it was made, since the association was.
    pub(super) made: Duration,
    /// Our tag.
    pub(super) local_tag: u32,
    /// The peer's tag.
    pub(super) peer_tag: u32,
    /// The peer's first TSN.
    pub(super) peer_tsn: u32,
    /// The peer's window, bytes.
    pub(super) window: u32,
    /// Streams that the peer wants to send on.
    pub(super) outbound: u16,
    /// Streams that the peer takes.
    pub(super) inbound: u16,
    /// What the peer can do.
    pub(super) abilities: Abilities,
}

/// Makes and checks cookies. Also where the association's random numbers come from.
pub(super) struct Key(Hmac<Sha256>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// From the association's seed.
    pub(super) fn new(seed: &Seed) -> Self {
        // HMAC itself pads a short key with zeros (RFC 2104).
        let mut block = [0; 64];
        block.iter_mut().zip(seed.0).for_each(|(byte, of_seed)| *byte = of_seed);
        Self(<Hmac<Sha256> as Mac>::new((&block).into()))
    }

    /// A number that the peer cannot guess, another one for each label.
    pub(super) fn number(&self, label: &str) -> u32 {
        let bytes = self.0.clone().chain_update(label.as_bytes()).finalize().into_bytes();
        bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    /// A cookie as bytes, with its MAC.
    pub(super) fn seal(&self, cookie: &Cookie) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CONTENT + MAC);
        let made = u64::try_from(cookie.made.as_micros()).unwrap_or(u64::MAX);
        bytes.extend_from_slice(&made.to_be_bytes());
        for number in [cookie.local_tag, cookie.peer_tag, cookie.peer_tsn, cookie.window] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&cookie.outbound.to_be_bytes());
        bytes.extend_from_slice(&cookie.inbound.to_be_bytes());
        let can = cookie.abilities;
        let each = [can.interleaving, can.reset, can.forward, can.zero_checksum];
        bytes.extend(each.map(u8::from));
        let mac = self.0.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        bytes
    }

    /// A cookie of ours. `None` for any other.
    pub(super) fn open(&self, bytes: &[u8]) -> Option<Cookie> {
        let (content, mac) = bytes.split_at_checked(CONTENT)?;
        self.0.clone().chain_update(content).verify_slice(mac).ok()?;
        let (made, rest) = content.split_first_chunk::<8>()?;
        let (numbers, rest) = rest.split_first_chunk::<16>()?;
        let mut numbers = numbers.as_chunks().0.iter().map(|number| u32::from_be_bytes(*number));
        let (streams, flags) = rest.split_first_chunk::<4>()?;
        let [a, b, c, d] = *streams;
        let flag = |index: usize| flags.get(index).is_some_and(|flag| *flag != 0);
        Some(Cookie {
            made: Duration::from_micros(u64::from_be_bytes(*made)),
            local_tag: numbers.next()?,
            peer_tag: numbers.next()?,
            peer_tsn: numbers.next()?,
            window: numbers.next()?,
            outbound: u16::from_be_bytes([a, b]),
            inbound: u16::from_be_bytes([c, d]),
            abilities: Abilities {
                interleaving: flag(0),
                reset: flag(1),
                forward: flag(2),
                zero_checksum: flag(3),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie() -> Cookie {
        Cookie {
            made: Duration::from_micros(1_234_567),
            local_tag: 1,
            peer_tag: 2,
            peer_tsn: 3,
            window: 4,
            outbound: 5,
            inbound: 6,
            abilities: Abilities { interleaving: true, zero_checksum: true, ..Abilities::default() },
        }
    }

    #[test]
    fn a_cookie_comes_back_as_it_was() {
        let key = Key::new(&Seed([7; 32]));
        assert_eq!(key.open(&key.seal(&cookie())), Some(cookie()));
    }

    #[test]
    fn a_cookie_with_any_bit_changed_is_not_ours() {
        let key = Key::new(&Seed([7; 32]));
        let sealed = key.seal(&cookie());
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&changed), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key.open(&sealed[..length]), None, "length {length}");
        }
        assert_eq!(Key::new(&Seed([8; 32])).open(&sealed), None, "another association's");
    }
}
