//! What the fuzz targets call of gathering: they reach no private room themselves. Tests feed the same from seeds.
//!
//! In `gathering`. Here is what reads bytes; [`gathering`] is a whole gatherer among servers.
//!
//! # Invariant
//! What panics here is a fault of the code under test, never of the bytes.

mod answers;
mod checks;
mod world;

pub use self::world::gathering;

use super::framing::{Framer, OutOfStep};
use super::stun::{Key, Message, Writer, attribute};
use crate::peer::engine::fuzzing::Orders;

/// The longest message of a stream, in bytes: STUN with all that its length can say.
const MOST: usize = 20 + 65_536;

/// Reads what a server may send: as one STUN message, and as a stream, at once and in pieces.
///
/// # Panics
/// When readers contradict each other, a forged message passes for signed, or it matters how a stream is cut.
pub fn message(bytes: &[u8]) {
    let mut orders = Orders(bytes);
    let (at, flip) = (orders.number() | orders.number() << 8, orders.number());
    let count = orders.number() & 7;
    let cuts = orders.take(count);
    let bytes = orders.0;
    if let Some(message) = Message::read(bytes) {
        attributes(&message, bytes);
        signature(&message, at, flip);
    }
    stream(bytes, cuts);
}

/// Every reader of every attribute that is in use, and of its neighbours.
fn attributes(message: &Message<'_>, bytes: &[u8]) {
    for kind in (0..0x30).chain(0x8020..0x8030) {
        let value = message.attribute(kind);
        assert_eq!(value, message.range(kind).map(|range| &bytes[range]));
        assert_eq!(message.number(kind).is_some(), value.is_some_and(|value| value.len() >= 4));
        assert_eq!(message.address(kind).is_some(), message.xor_address(kind).is_some());
        if let Some(address) = message.xor_address(kind) {
            let again = Writer::new(message.class, message.method, message.id).add_xor_address(kind, address);
            let again = again.finish();
            assert_eq!(Message::read(&again).and_then(|again| again.xor_address(kind)), Some(address));
        }
    }
    if let Some((code, words)) = message.error() {
        assert!(code < 1000 && words.chars().count() <= 80 && !words.contains(char::is_control), "{words:?}");
    }
    let _ = message.is_signed_with(&Key::new("alice", "wonder", "lab"));
}

/// What is read, written again and signed says the same; with any bit turned over it is a forgery.
fn signature(message: &Message<'_>, at: usize, flip: usize) {
    let key = Key::new("alice", "wonder", "lab");
    let kept = [attribute::USERNAME, attribute::REALM, attribute::NONCE, attribute::DATA];
    let mut writer = Writer::new(message.class, message.method, message.id);
    for (kind, value) in kept.iter().filter_map(|kind| Some((*kind, message.attribute(*kind)?))) {
        // A copy of each may be longer than one message, where the originals lie within one another.
        if value.len() < 16_000 {
            writer = writer.add(kind, value);
        }
    }
    let mut signed = writer.sign(&key);
    let again = Message::read(&signed);
    assert!(again.is_some_and(|again| again.is_signed_with(&key)), "what was signed is not read as signed");
    let length = signed.len();
    let (byte, flip) = (&mut signed[at % length], flip as u8);
    *byte ^= flip;
    if let Some(forged) = Message::read(&signed).filter(|_| flip != 0) {
        // Only the length in the header is not signed as it stands; where it cuts the signature off, it is none.
        assert!(!forged.is_signed_with(&key) || (2..4).contains(&(at % length)), "forged");
    }
}

/// What came out of a stream: each message after its length, what is kept, and whether it is in step.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    messages: Vec<u8>,
    held: Option<Vec<u8>>,
}

/// Feeds pieces of these lengths, and then the rest at once.
fn feed(bytes: &[u8], lengths: impl Iterator<Item = usize>) -> Outcome {
    let (mut bytes, mut framer, mut messages) = (bytes.to_vec(), Framer::default(), Vec::new());
    let (mut rest, mut lengths) = (bytes.as_mut_slice(), lengths);
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(usize::MAX).min(rest.len());
        let (piece, after) = rest.split_at_mut(length);
        let in_step = framer.feed(piece, |message| {
            messages.extend_from_slice(&message.len().to_be_bytes());
            messages.extend_from_slice(message);
        });
        assert!(framer.held().len() < MOST);
        if in_step == Err(OutOfStep) {
            return Outcome { messages, held: None };
        }
        rest = after;
    }
    Outcome { messages, held: Some(framer.held().to_vec()) }
}

/// However a stream is cut, the same comes out of it.
fn stream(bytes: &[u8], cuts: &[u8]) {
    /// Up to here each place for one cut is tried.
    const EACH: usize = 64;
    let whole = feed(bytes, std::iter::empty());
    let pieces = cuts.iter().cycle().map(|length| usize::from(*length) + 1);
    assert_eq!(feed(bytes, pieces), whole);
    for at in 1..bytes.len().min(EACH) {
        assert_eq!(feed(bytes, std::iter::once(at)), whole, "cut at {at}");
    }
}
