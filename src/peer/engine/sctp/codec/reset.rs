//! The parameters of RE-CONFIG (RFC 6525 section 4).

use super::parameter::{Parameter, ParameterWriter};
use super::read::{all_u16, take_u32};

/// Types of RE-CONFIG parameters.
mod parameter {
    pub(super) const OUTGOING: u16 = 13;
    pub(super) const INCOMING: u16 = 14;
    pub(super) const SSN_TSN: u16 = 15;
    pub(super) const RESPONSE: u16 = 16;
    pub(super) const ADD_OUTGOING: u16 = 17;
    pub(super) const ADD_INCOMING: u16 = 18;
}

/// A request or a response of stream reconfiguration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset<'a> {
    /// Outgoing SSN Reset Request: the sender starts streams of its own anew.
    Outgoing {
        /// Number of this request.
        request: u32,
        /// Number of the request of ours that this follows from; otherwise the number before our next one.
        response: u32,
        /// The last TSN that was used before the reset.
        last: u32,
        /// Which ones; none means all.
        streams: Streams<'a>,
    },
    /// Incoming SSN Reset Request: the sender asks us to start streams of ours anew.
    Incoming {
        /// Number of this request.
        request: u32,
        /// Which ones; none means all.
        streams: Streams<'a>,
    },
    /// Re-configuration Response.
    Response {
        /// The number of the request.
        request: u32,
        /// What became of it.
        result: ResetResult,
    },
    /// A request that we know and do not grant: new TSNs, more streams.
    Other {
        /// Number of this request.
        request: u32,
    },
}

/// Results of a request (RFC 6525 4.4), known and unknown ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResetResult(pub(crate) u32);

impl ResetResult {
    /// Success, there was nothing to do.
    pub(crate) const NOTHING_TO_DO: Self = Self(0);
    /// Success, done.
    pub(crate) const PERFORMED: Self = Self(1);
    /// Denied.
    pub(crate) const DENIED: Self = Self(2);
    /// Error: a request is in progress already.
    pub(crate) const BUSY: Self = Self(4);
    /// Error: the request's number is not the next one.
    pub(crate) const BAD_NUMBER: Self = Self(5);
    /// In progress: ask again.
    pub(crate) const IN_PROGRESS: Self = Self(6);
}

/// Stream identifiers in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streams<'a>(&'a [u8]);

impl<'a> Streams<'a> {
    /// In the order of the request; may hold any stream more than once.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = u16> + Clone + use<'a> {
        all_u16(self.0)
    }
}

impl<'a> Reset<'a> {
    /// Reads a parameter. `None`: not one of RFC 6525, or too short.
    pub(crate) fn parse(one: &Parameter<'a>) -> Option<Self> {
        let (request, rest) = take_u32(one.value)?;
        match one.kind {
            parameter::OUTGOING => {
                let (response, rest) = take_u32(rest)?;
                let (last, rest) = take_u32(rest)?;
                Some(Self::Outgoing { request, response, last, streams: Streams(rest) })
            }
            parameter::INCOMING => Some(Self::Incoming { request, streams: Streams(rest) }),
            parameter::RESPONSE => Some(Self::Response { request, result: ResetResult(take_u32(rest)?.0) }),
            parameter::SSN_TSN | parameter::ADD_OUTGOING | parameter::ADD_INCOMING => {
                Some(Self::Other { request })
            }
            _ => None,
        }
    }

    /// Appends an Outgoing SSN Reset Request.
    pub(crate) fn write_outgoing(to: &mut Vec<u8>, request: u32, response: u32, last: u32, streams: &[u16]) {
        to.parameter(parameter::OUTGOING, |value| {
            for number in [request, response, last] {
                value.extend_from_slice(&number.to_be_bytes());
            }
            value.extend(streams.iter().flat_map(|stream| stream.to_be_bytes()));
        });
    }

    /// Appends an Incoming SSN Reset Request.
    #[cfg(test)]
    pub(crate) fn write_incoming(to: &mut Vec<u8>, request: u32, streams: &[u16]) {
        to.parameter(parameter::INCOMING, |value| {
            value.extend_from_slice(&request.to_be_bytes());
            value.extend(streams.iter().flat_map(|stream| stream.to_be_bytes()));
        });
    }

    /// Appends a Re-configuration Response.
    pub(crate) fn write_response(to: &mut Vec<u8>, request: u32, result: ResetResult) {
        to.parameter(parameter::RESPONSE, |value| {
            value.extend_from_slice(&request.to_be_bytes());
            value.extend_from_slice(&result.0.to_be_bytes());
        });
    }
}
