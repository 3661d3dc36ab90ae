//! Error causes of ABORT and ERROR (RFC 9260 3.3.10).

use super::parameter::{ParameterWriter, Parameters};

/// Cause codes (IANA, "SCTP parameters").
pub(crate) mod code {
    #![allow(missing_docs)]
    pub(crate) const INVALID_STREAM: u16 = 1;
    pub(crate) const MISSING_PARAMETER: u16 = 2;
    pub(crate) const STALE_COOKIE: u16 = 3;
    pub(crate) const OUT_OF_RESOURCE: u16 = 4;
    pub(crate) const UNRECOGNIZED_CHUNK: u16 = 6;
    pub(crate) const INVALID_PARAMETER: u16 = 7;
    pub(crate) const UNRECOGNIZED_PARAMETERS: u16 = 8;
    pub(crate) const NO_USER_DATA: u16 = 9;
    pub(crate) const USER_ABORT: u16 = 12;
    pub(crate) const PROTOCOL_VIOLATION: u16 = 13;
}

/// The causes of an ABORT or ERROR, in order. A cause has the shape of a parameter, with its code as the kind.
pub(crate) type Causes<'a> = Parameters<'a>;

/// Appends a cause.
pub(crate) fn write_cause(to: &mut Vec<u8>, code: u16, information: &[u8]) {
    to.parameter(code, |value| value.extend_from_slice(information));
}
