//! A quick hash of paths.
//!
//! Every call asks the table, and the standard hash alone takes longer than the whole question may. Its
//! defence against keys that collide on purpose is not needed: keys come from the program and its descriptors,
//! a peer's path is only looked for.

use std::hash::{BuildHasherDefault, Hasher};

pub(super) type ByWords = BuildHasherDefault<Words>;

/// Eight bytes at a time; the last eight overlap what came before.
#[derive(Debug, Default, Clone)]
pub(super) struct Words(u64);

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        let mix = |hash: u64, word: [u8; 8]| {
            (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        let (words, rest) = bytes.as_chunks::<8>();
        let hash = words.iter().fold(self.0 ^ bytes.len() as u64, |hash, word| mix(hash, *word));
        self.0 = match bytes.last_chunk::<8>() {
            Some(last) => mix(hash, *last),
            None => rest.iter().fold(hash, |hash, byte| mix(hash, [*byte; 8])),
        };
    }

    /// What `str` writes after itself, so that texts in a row do not run into each other. There is only one.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
