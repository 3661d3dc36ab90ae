//! Transmission sequence numbers, and their arithmetic.
//!
//! Floor 1, engine, the lowest part of `recovery`.
//!
//! # Invariant
//! A comparison is between two numbers less than 2^31 apart, RFC 1982; that is so for all that one ledger holds.

use std::fmt;

/// The number of a chunk of data, RFC 9260 3.3.1. It wraps, so it has no order, only `is_before` and `is_after`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tsn(pub(crate) u32);

impl Tsn {
    /// The number after this one.
    pub(crate) const fn next(self) -> Self {
        self.add(1)
    }

    /// The number before this one.
    pub(crate) const fn previous(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }

    /// The number `count` after this one.
    pub(crate) const fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// How far this number is after `base`; negative when it is before it.
    pub(crate) const fn distance(self, base: Self) -> i32 {
        self.0.wrapping_sub(base.0).cast_signed()
    }

    /// Whether this number comes before `other`, RFC 1982 3.2.
    pub(crate) const fn is_before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// Whether this number comes after `other`.
    pub(crate) const fn is_after(self, other: Self) -> bool {
        self.distance(other) > 0
    }
}

impl fmt::Debug for Tsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tsn({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_over_the_wrap() {
        let last = Tsn(u32::MAX);
        assert_eq!(last.next(), Tsn(0));
        assert_eq!(Tsn(0).previous(), last);
        assert!(last.is_before(Tsn(0)) && Tsn(0).is_after(last));
        assert_eq!(Tsn(4).distance(Tsn(u32::MAX - 5)), 10);
        assert_eq!(Tsn(u32::MAX - 5).distance(Tsn(4)), -10);
        assert!(!last.is_before(last) && !last.is_after(last));
    }
}
