//! Parameters: the parts of INIT, INIT ACK and RE-CONFIG, and the shape of causes (RFC 9260 3.2.1).

use super::chunk::Unknown;
use super::read::{take_padded, take_u16};
use super::write::{pad, set_length};

/// A parameter or a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameter<'a> {
    /// Its type, or its cause code.
    pub(crate) kind: u16,
    /// What stands between header and padding.
    pub(crate) value: &'a [u8],
}

impl Parameter<'_> {
    /// What to do if the type is not known.
    pub(crate) fn unknown(&self) -> Unknown {
        let [high, _] = self.kind.to_be_bytes();
        Unknown::from_bits(high)
    }

    /// Appends it whole.
    pub(crate) fn copy_to(&self, to: &mut Vec<u8>) {
        to.parameter(self.kind, |value| value.extend_from_slice(self.value));
    }
}

/// Parameters one after the other. Ends at the first whose length does not fit, for nothing behind it can
/// be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameters<'a>(&'a [u8]);

impl<'a> Parameters<'a> {
    /// Of the bytes that hold them.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Parameter<'a>;

    fn next(&mut self) -> Option<Parameter<'a>> {
        let (kind, rest) = take_u16(std::mem::take(&mut self.0))?;
        let (length, rest) = take_u16(rest)?;
        let (value, rest) = take_padded(rest, usize::from(length).checked_sub(4)?)?;
        self.0 = rest;
        Some(Parameter { kind, value })
    }
}

/// Appends parameters and causes.
pub(crate) trait ParameterWriter {
    /// One whose value `fill` appends. The padding comes before the next one: that of the last parameter
    /// is the chunk's, whose length leaves it out (RFC 9260 3.2).
    fn parameter(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>));
}

impl ParameterWriter for Vec<u8> {
    fn parameter(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        pad(self);
        let at = self.len();
        self.extend_from_slice(&kind.to_be_bytes());
        self.extend_from_slice(&[0; 2]);
        fill(self);
        set_length(self, at);
    }
}
