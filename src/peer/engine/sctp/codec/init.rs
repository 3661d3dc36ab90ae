//! INIT and INIT ACK (RFC 9260 3.3.2 and 3.3.3), and what each side says that it can do.

use super::chunk::kind;
use super::parameter::{Parameter, ParameterWriter, Parameters};
use super::read::{take_u16, take_u32};

/// Types of parameters (IANA, "SCTP parameters").
mod parameter {
    pub(super) const IPV4: u16 = 5;
    pub(super) const IPV6: u16 = 6;
    pub(super) const COOKIE: u16 = 7;
    pub(super) const UNRECOGNIZED: u16 = 8;
    pub(super) const COOKIE_PRESERVATIVE: u16 = 9;
    pub(super) const HOST_NAME: u16 = 11;
    pub(super) const ADDRESS_TYPES: u16 = 12;
    /// RFC 9653.
    pub(super) const ZERO_CHECKSUM: u16 = 0x8001;
    /// RFC 5061.
    pub(super) const SUPPORTED_EXTENSIONS: u16 = 0x8008;
    /// RFC 3758.
    pub(super) const FORWARD_TSN: u16 = 0xc000;
}

/// RFC 9653: DTLS below sees to it that nothing arrives changed.
const OVER_DTLS: u32 = 1;

/// INIT or INIT ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Init<'a> {
    /// The tag that packets to its sender must carry.
    pub(crate) tag: u32,
    /// Receive window, bytes.
    pub(crate) window: u32,
    /// Streams that its sender wants to send on.
    pub(crate) outbound: u16,
    /// Streams that it takes at most.
    pub(crate) inbound: u16,
    /// The TSN of its first chunk of data.
    pub(crate) tsn: u32,
    /// The rest.
    pub(crate) parameters: Parameters<'a>,
}

/// What one side can do beyond RFC 9260.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Abilities {
    /// I-DATA (RFC 8260).
    pub(crate) interleaving: bool,
    /// RE-CONFIG (RFC 6525).
    pub(crate) reset: bool,
    /// FORWARD-TSN (RFC 3758).
    pub(crate) forward: bool,
    /// Takes packets without a checksum (RFC 9653).
    pub(crate) zero_checksum: bool,
}

impl<'a> Init<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (tag, value) = take_u32(value)?;
        let (window, value) = take_u32(value)?;
        let (outbound, value) = take_u16(value)?;
        let (inbound, value) = take_u16(value)?;
        let (tsn, value) = take_u32(value)?;
        Some(Self { tag, window, outbound, inbound, tsn, parameters: Parameters::new(value) })
    }

    /// Without parameters.
    pub(crate) fn new(tag: u32, window: u32, outbound: u16, inbound: u16, tsn: u32) -> Self {
        Self { tag, window, outbound, inbound, tsn, parameters: Parameters::new(&[]) }
    }

    /// Appends the fixed fields. Parameters follow.
    pub(crate) fn write_fields(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.tag.to_be_bytes());
        to.extend_from_slice(&self.window.to_be_bytes());
        to.extend_from_slice(&self.outbound.to_be_bytes());
        to.extend_from_slice(&self.inbound.to_be_bytes());
        to.extend_from_slice(&self.tsn.to_be_bytes());
    }

    /// The state cookie of an INIT ACK.
    pub(crate) fn cookie(&self) -> Option<&'a [u8]> {
        self.parameters.into_iter().find(|one| one.kind == parameter::COOKIE).map(|one| one.value)
    }

    /// What the sender can do.
    pub(crate) fn abilities(&self) -> Abilities {
        let mut abilities = Abilities::default();
        for one in self.parameters {
            match one.kind {
                parameter::FORWARD_TSN => abilities.forward = true,
                parameter::ZERO_CHECKSUM => {
                    abilities.zero_checksum |=
                        take_u32(one.value).is_some_and(|(method, _)| method == OVER_DTLS);
                }
                parameter::SUPPORTED_EXTENSIONS => {
                    abilities.interleaving |= one.value.contains(&kind::I_DATA);
                    abilities.reset |= one.value.contains(&kind::RE_CONFIG);
                    abilities.forward |= one.value.contains(&kind::FORWARD_TSN);
                }
                _ => {}
            }
        }
        abilities
    }

    /// The parameters that the sender wants to hear about because we do not know them (RFC 9260 3.2.1), up
    /// to the first that says to stop there.
    pub(crate) fn unrecognized(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        let mut goes_on = true;
        self.parameters
            .filter(|one| !is_known(one.kind))
            .take_while(move |one| std::mem::replace(&mut goes_on, one.unknown().skip))
            .filter(|one| one.unknown().report)
    }
}

impl Abilities {
    /// Appends the parameters that tell of them.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        if self.forward {
            to.parameter(parameter::FORWARD_TSN, |_| {});
        }
        to.parameter(parameter::SUPPORTED_EXTENSIONS, |value| {
            let each = [
                (self.reset, kind::RE_CONFIG),
                (self.forward, kind::FORWARD_TSN),
                (self.interleaving, kind::I_DATA),
                (self.interleaving && self.forward, kind::I_FORWARD_TSN),
            ];
            value.extend(each.iter().filter(|(can, _)| *can).map(|(_, kind)| *kind));
        });
        if self.zero_checksum {
            to.parameter(parameter::ZERO_CHECKSUM, |value| value.extend_from_slice(&OVER_DTLS.to_be_bytes()));
        }
    }
}

/// Appends the state cookie.
pub(crate) fn write_cookie(to: &mut Vec<u8>, cookie: &[u8]) {
    to.parameter(parameter::COOKIE, |value| value.extend_from_slice(cookie));
}

/// Appends what we did not know in the peer's INIT.
pub(crate) fn write_unrecognized(to: &mut Vec<u8>, one: &Parameter<'_>) {
    to.parameter(parameter::UNRECOGNIZED, |value| one.copy_to(value));
}

/// Known, though some of them mean nothing to one who has DTLS below: addresses, how long a cookie lives.
fn is_known(kind: u16) -> bool {
    matches!(
        kind,
        parameter::IPV4
            | parameter::IPV6
            | parameter::COOKIE
            | parameter::UNRECOGNIZED
            | parameter::COOKIE_PRESERVATIVE
            | parameter::HOST_NAME
            | parameter::ADDRESS_TYPES
            | parameter::ZERO_CHECKSUM
            | parameter::SUPPORTED_EXTENSIONS
            | parameter::FORWARD_TSN
    )
}
